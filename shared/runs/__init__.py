"""The runner: one run here, the sweep and its workers, the code's hash, provenance, verification."""
