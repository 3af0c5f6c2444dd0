"""Two-stage training for learning from label proportions (PLOT; Liu, Wang, Shen, Qi & Tian 2021)."""
