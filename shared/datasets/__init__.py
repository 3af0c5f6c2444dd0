"""Datasets: fetched from recorded sources, verified by recorded checksums, opened as memory maps."""

from shared.datasets.catalogue import DatasetError, read_sources
from shared.datasets.prepare import fetch
from shared.datasets.recipes import RECIPES
from shared.datasets.store import Dataset, Tensors, data_root, load, to_device, verify

__all__ = [
    "RECIPES",
    "Dataset",
    "DatasetError",
    "Tensors",
    "data_root",
    "fetch",
    "load",
    "read_sources",
    "to_device",
    "verify",
]
