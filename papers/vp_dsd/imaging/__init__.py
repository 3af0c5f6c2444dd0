"""Holograms: the physics, the simulated set, recorded sets."""
