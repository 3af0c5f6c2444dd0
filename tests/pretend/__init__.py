"""The device `pretend` is not the CPU and needs no hardware: see `tests.pretend.device`."""


def compute_as_elsewhere(monkeypatch):
    """Let the CPU take the ways of other devices, without compiled loops, so that numbers agree to the last bit."""
    from papers.mle_llp import lattice, loss, poisson_binomial
    from shared.methods import small
    from shared.transport import scaling

    monkeypatch.setattr(small, "MOST", 0)
    monkeypatch.setattr(scaling, "_bag_by_bag", scaling._together)
    for module in (lattice, loss, poisson_binomial):
        monkeypatch.setattr(module, "plain", lambda *problem, **more: None)
