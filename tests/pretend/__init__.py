"""The device `pretend` is not the CPU and needs no hardware: see `tests.pretend.device`."""
