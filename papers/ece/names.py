"""Names that several modules share."""

SIMULATED = "tissue_sim"  # drawn by each run from its seed
TASKS = ("segmentation", "detection")
