"""Segment by a network and a method that trains it on crops."""
