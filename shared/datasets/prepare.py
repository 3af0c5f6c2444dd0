"""Prepare a dataset by the ways of data/sources.csv in turn, until one gives the recorded arrays."""

import shutil
from pathlib import Path

from shared.datasets.catalogue import Absent, DatasetError, Recipe, Source, say
from shared.datasets.download import ensure_space
from shared.datasets.places import data_root
from shared.datasets.recipes import recipe_of
from shared.datasets.store import describe, fingerprint, lock, place, recover, verify
from shared.files import listed, sentence_of


def fetch(
    name: str, root: str | Path | None = None, sources: str | Path | None = None, way: str | None = None
) -> str | None:
    """Prepare a dataset unless it is there and whole; what was there stays until the new one is complete.

    Parameters
    ----------
    name : str
        A key of `RECIPES`.
    root, sources : path, optional
        The data root (see `data_root`) and the table of sources (default ``data/sources.csv``).
    way : str, optional
        Try only this way: ``mirror``, ``official``, ``npm`` or ``generated``.

    Returns
    -------
    str or None
        The way taken; None if there was nothing to do.

    Raises
    ------
    DatasetError
        If no way gives the recorded data. A wrong file in the mirror ends the search: its owner must mend it.
    """
    recipe, ways = recipe_of(name, sources)
    ways = tuple(source for source in ways if way in (None, source.how))
    if not ways:
        raise DatasetError(f"{name} has no way {way!r} in the table of sources")
    root = data_root(root)
    try:
        if not _wrong(name, root, sources):
            return None
        root.mkdir(parents=True, exist_ok=True)
        with lock(root, name):
            recover(root, name)
            wrong = _wrong(name, root, sources)
            if not wrong:
                return None
            if listed(root / name, "*"):
                say(f"to be made again: {wrong}")
            ensure_space(root, recipe.space, name)
            return _first_open_way(recipe, ways, root)
    except OSError as error:
        raise DatasetError(f"{name}: {sentence_of(error, root)}") from error


def _first_open_way(recipe: Recipe, ways: tuple[Source, ...], root: Path) -> str:
    reasons = []
    for source in ways:
        work = root / f".{source.name}.work"
        try:
            arrays = recipe.make(source, work)
            manifest = describe(recipe, source, fingerprint(arrays))
            if source.sha256 and manifest["sha256"] != source.sha256:
                remedy = "; replace the files in the mirror" if source.how == "mirror" else ""
                raise DatasetError(
                    f"{source.name}: the arrays of {source.how} have sha256 {manifest['sha256']} where {source.sha256} "
                    f"is recorded{remedy}"
                )
        except DatasetError as error:
            if len(ways) == 1 or (source.how == "mirror" and not isinstance(error, Absent)):
                raise
            say(f"{source.name}: {source.how}: {error}")
            reasons.append(f"{source.how}: {error}")
        else:
            place(root, manifest, arrays)
            shutil.rmtree(work, ignore_errors=True)
            say(f"{source.name}: ready in {root / source.name} ({source.how}, sha256 {manifest['sha256']})")
            return source.how
    mirrored = [name for source in ways for name in source.mirror.split()]
    advice = f"; put {' or '.join(mirrored)} into a folder and set LLP_MIRROR to it" if mirrored else ""
    raise DatasetError(f"{ways[0].name} could not be obtained; {'; '.join(reasons)}{advice}")


def _wrong(name: str, root: Path, sources: str | Path | None) -> DatasetError | None:
    try:
        verify(name, root, sources)
    except DatasetError as error:
        return error
    return None
