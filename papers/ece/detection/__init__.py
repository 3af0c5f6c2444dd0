"""Sparse-shot detection: a network of ultralytics (AGPL-3.0), which nothing outside this package imports."""
