"""Segmentation: the network and the method that trains it on crops."""
