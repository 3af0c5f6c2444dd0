"""Find every dataset by name: the recipes of the families and their rows in the table of sources."""

from pathlib import Path

from shared.datasets import cifar, images_of_groups, mnist, simulated, toy, wbc
from shared.datasets.catalogue import DatasetError, Recipe, Source, read_sources

RECIPES: dict[str, Recipe] = {
    **cifar.RECIPES,
    **mnist.RECIPES,
    **toy.RECIPES,
    **simulated.RECIPES,
    **images_of_groups.RECIPES,
    **wbc.RECIPES,
}


def recipe_of(name: str, sources: str | Path | None = None) -> tuple[Recipe, tuple[Source, ...]]:
    """Return the recipe of a dataset and its ways, in order; raise DatasetError for an unknown name."""
    table = read_sources(sources)
    if name not in RECIPES or name not in table:
        known = ", ".join(known for known in RECIPES if known in table)
        raise DatasetError(f"there is no dataset {name!r}; there are {known}")
    return RECIPES[name], table[name]
