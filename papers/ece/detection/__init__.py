"""Detect from sparse shots by a network of ultralytics (AGPL-3.0), which nothing outside this package imports."""
