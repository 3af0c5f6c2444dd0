"""What tests of several rooms share: small datasets, generated once in a temporary folder."""

import sys

import pytest

GENERATED = ("digits", "two_moons", "simulated_images")


@pytest.fixture(scope="session")
def generated_data(tmp_path_factory):
    """A data root with the datasets that need no download."""
    from shared.datasets import fetch

    root = tmp_path_factory.mktemp("data")
    for name in GENERATED:
        fetch(name, root)
    return root


@pytest.fixture
def data_root(generated_data, monkeypatch):
    """The same root, as what LLP_DATA names during one test; no paper keeps a dataset of another root."""
    monkeypatch.setenv("LLP_DATA", str(generated_data))
    for name, module in list(sys.modules.items()):
        if name.startswith(("papers.", "shared.training")) and hasattr(module, "data_of"):
            getattr(module.data_of, "cache_clear", lambda: None)()
    return generated_data
