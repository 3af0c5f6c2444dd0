"""The official files themselves, where LLP_MIRROR holds them: decoded, they are what data/sources.csv records."""

import numpy as np
import pytest

from shared.datasets import archives, cifar, fetch, load, read_sources
from shared.datasets.catalogue import Absent
from shared.datasets.download import find_in_mirror

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("name", "names"), [("cifar10", "label_names"), ("cifar100", "fine_label_names")])
def test_cifar(name, names, tmp_path):
    source = read_sources()[name][0]
    try:
        folder = find_in_mirror(source)
    except Absent as error:
        pytest.skip(str(error))
    assert fetch(name, tmp_path, way="mirror") == "mirror"
    dataset = load(name, tmp_path)
    assert dataset.sha256 == source.sha256 != ""
    assert (dataset.x_train.shape, dataset.x_test.shape) == ((50_000, 32, 32, 3), (10_000, 32, 32, 3))
    for labels in (dataset.y_train, dataset.y_test):
        assert set(np.bincount(labels)) == {len(labels) // dataset.n_classes}
    meta = folder / {"cifar10": "batches.meta", "cifar100": "meta"}[name]
    if meta.is_file():
        there = archives.read_pickle(meta.read_bytes(), str(meta))[names]
        assert tuple(each.decode() if isinstance(each, bytes) else each for each in there) == dataset.classes


def test_both_have_a_recorded_checksum():
    table = read_sources()
    assert all(len(source.sha256) == 64 for name in cifar.RECIPES for source in table[name])
