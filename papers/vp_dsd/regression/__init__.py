"""Predict proportions from images and from oracle detections: Table 3."""
