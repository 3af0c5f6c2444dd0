"""Train in two stages to learn from label proportions (PLOT; Liu, Wang, Shen, Qi & Tian 2021)."""
