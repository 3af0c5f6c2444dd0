"""Every dataset by name: the recipes of the families and their rows in the table of sources."""

from pathlib import Path

from shared.datasets import cifar, simulated, toy
from shared.datasets.catalogue import DatasetError, Recipe, Source, read_sources

RECIPES: dict[str, Recipe] = {**cifar.RECIPES, **toy.RECIPES, **simulated.RECIPES}


def find(name: str, sources: str | Path | None = None) -> tuple[Recipe, tuple[Source, ...]]:
    """The recipe of a dataset and its ways, in order; raises DatasetError for an unknown name."""
    ways = read_sources(sources).get(name)
    if name not in RECIPES or not ways:
        raise DatasetError(f"there is no dataset {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name], ways
