"""Names that need neither torch nor NumPy, for what only reads records."""

CLASSES = ("lymphocyte", "monocyte", "granulocyte")
SPLITS = ("train", "validation", "test")
SIMULATED = ("simulated_holograms", "wbc_holograms_synthetic")
HOLOGRAMS = (*SIMULATED, "wbc_holograms")
