"""Learn by the vertex proportion loss and the Deep Sparse Detector (Pacheco et al. 2024)."""
