"""Write notes for the workflow on datasets that may be absent: `ready` or why not, in place of the data themselves."""

from pathlib import Path

from shared.datasets.catalogue import DatasetError
from shared.datasets.places import data_root, mirror_root
from shared.datasets.recipes import RECIPES
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
    return any((folder / name).is_dir() for folder in (data_root(), mirror_root()) if folder)


def note_on(name: str, features: bool = False) -> str:
    """Return where in the repository the note on a dataset, or on its cached features, lies."""
    return f".work/data/{'features/' if features else ''}{name}.txt"


def write_note(path: Path, text: str) -> None:
    """Write a note of one line, whole or not at all."""
    write_text(path, " ".join(text.split()) + "\n")


def forget_untrue(name: str, folder: Path) -> None:
    """Remove the notes under ``folder`` on a dataset that a person has fetched or removed since they were written."""
    plain, cached = folder / note_on(name), folder / note_on(name, features=True)
    there = is_prepared(name)
    said = [path.read_text(encoding="utf-8").strip() == READY for path in (plain, cached) if path.exists()]
    built = (data_root() / "features" / name / "manifest.json").exists()
    if any(ready != there for ready in said) or (there and not built and cached.exists()):
        plain.unlink(missing_ok=True)
        cached.unlink(missing_ok=True)
