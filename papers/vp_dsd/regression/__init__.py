"""Proportions predicted from images and from oracle detections: Table 3."""
