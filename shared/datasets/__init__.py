"""Datasets are registered once, fetched from recorded sources, verified by checksums, opened as memory maps."""

from shared.datasets.catalogue import DatasetError, is_simulated, read_sources
from shared.datasets.features import load_features, measured
from shared.datasets.places import data_root, portable
from shared.datasets.prepare import fetch
from shared.datasets.recipes import RECIPES
from shared.datasets.store import Dataset, load, verify

__all__ = [
    "RECIPES",
    "Dataset",
    "DatasetError",
    "data_root",
    "fetch",
    "is_simulated",
    "load",
    "load_features",
    "measured",
    "portable",
    "read_sources",
    "verify",
]
