"""What a run reads is hashed before it trains: a byte that changed is found, and named."""

import pytest

from shared.runs.data import damaged_data
from tests.conftest import a_run
from tests.contract.paper_tier import toys


@pytest.mark.parametrize("harmed", ["cifar10/train_x.npy", "cifar10/train_y.npy", "features/cifar10/test.npy"])
def test_a_byte_that_changed_in_prepared_data_is_found_before_training(tmp_path, monkeypatch, harmed):
    """`load` looks at shapes and sizes alone: the whole of what `damaged_data` hashes was held by no test."""
    toys.use(tmp_path, monkeypatch)
    toys.images(tmp_path, "cifar10", 40, 10, 10, side=8)
    toys.features(tmp_path, "cifar10")
    plain, cached = a_run(0, dataset="cifar10"), a_run(1, dataset="cifar10", network="patch_features")
    runs = [plain, cached, a_run(2), a_run(3, dataset="digits")]
    assert damaged_data(runs) == {}
    path = tmp_path / harmed
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    found = damaged_data(runs)
    assert set(found) == {cached.id} | ({plain.id} if harmed.startswith("cifar10") else set())
    assert all((path.name in said and "has sha256" in said) or "have sha256" in said for said in found.values())
