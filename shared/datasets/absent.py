"""Write notes for the workflow on datasets that may be absent: `ready` or why not, in place of the data themselves."""

from pathlib import Path

from shared.datasets.catalogue import DatasetError, Source, read_sources
from shared.datasets.download import find_in_mirror
from shared.datasets.places import data_root, mirror_root, says_not_mirrored
from shared.datasets.recipes import RECIPES, recipe_of
from shared.datasets.store import load
from shared.files import write_text

OPTIONAL = tuple(name for name, recipe in RECIPES.items() if recipe.optional)
READY = "ready"


def is_prepared(name: str) -> bool:
    """Tell whether `load` opens a dataset."""
    try:
        load(name)
    except DatasetError:
        return False
    return True


def at_hand(name: str) -> bool:
    """Tell whether a dataset that runs look for themselves, one without a recipe, has a folder prepared or mirrored."""
    ways = read_sources().get(name, ())
    return any((folder / name).is_dir() for folder in (data_root(), mirror_root()) if folder) or any(
        map(_mirrored, ways)
    )


def note_on(name: str, features: bool = False) -> str:
    """Return where in the repository the note on a dataset, or on its cached features, lies."""
    return f".work/data/{'features/' if features else ''}{name}.txt"


def write_note(path: Path, text: str) -> None:
    """Write a note of one line, whole or not at all."""
    write_text(path, " ".join(text.split()) + "\n")


def forget_untrue(name: str, folder: Path) -> None:
    """Remove the notes under ``folder`` on a dataset that a person has fetched or removed since they were written.

    A note of absence is untrue, too, once the mirror has what it had not, or has it changed.
    """
    plain, cached = folder / note_on(name), folder / note_on(name, features=True)
    there = is_prepared(name)
    said = [path.read_text(encoding="utf-8").strip() for path in (plain, cached) if path.exists()]
    built = (data_root() / "features" / name / "manifest.json").exists()
    untrue = any((text == READY) != there for text in said) or (there and not built and cached.exists())
    if untrue or (said and not there and _is_news(name, plain if plain.exists() else cached)):
        plain.unlink(missing_ok=True)
        cached.unlink(missing_ok=True)


def _is_news(name: str, note: Path) -> bool:
    """Tell whether the mirror has a dataset that it had not when a note was written, or has had it changed since."""
    place = next((place for source in recipe_of(name)[1] if (place := _mirrored(source))), None)
    if place is None:
        return False
    if says_not_mirrored(note.read_text(encoding="utf-8")):
        return True
    written = note.stat().st_mtime
    return any(path.lstat().st_ctime > written for path in (place, *(place.rglob("*") if place.is_dir() else ())))


def _mirrored(source: Source) -> Path | None:
    try:
        return find_in_mirror(source) if source.mirror else None
    except DatasetError:
        return None
