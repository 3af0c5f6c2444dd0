"""Find cells: the Deep Sparse Detector, its baselines, matching, CSC."""
