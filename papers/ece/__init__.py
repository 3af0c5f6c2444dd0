"""Sparse-shot learning with exclusive cross-entropy (Panteli et al. 2021)."""
