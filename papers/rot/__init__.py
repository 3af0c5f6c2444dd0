"""Learn deep multi-class models from label proportions (Dulac-Arnold, Zeghidour, Cuturi, Beyer & Vert 2019)."""
