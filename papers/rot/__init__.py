"""Deep multi-class learning from label proportions (Dulac-Arnold, Zeghidour, Cuturi, Beyer & Vert 2019)."""
