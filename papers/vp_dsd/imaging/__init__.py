"""Make and read holograms: the physics, the simulated set, recorded sets."""
