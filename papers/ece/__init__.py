"""Learn from sparse shots with exclusive cross-entropy (Panteli et al. 2021)."""
