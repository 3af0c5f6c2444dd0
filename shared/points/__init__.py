"""Points in images: matching detections with objects."""
