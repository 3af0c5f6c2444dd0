"""Match points in images: detections with objects."""
