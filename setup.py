"""Build the library `bagwise` out of a checkout: its pieces and what these import, under one name.

`shared.x` and `papers.y` become `bagwise.x` and `bagwise.y`, in imports and in words; nothing else of a file changes.
"""

import ast
import re
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).resolve().parent
TABLE = runpy.run_path(str(ROOT / "bagwise" / "__init__.py"))
PIECES = {**TABLE["PIECES"], **TABLE["EXTRA"]}
ROOMS = re.compile(r"(?<![\w./])(?:shared|papers)\.(?=[a-z])")


def imported(path: Path) -> Iterator[str]:
    """Yield the modules of `shared` and `papers` that a file imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if ROOMS.match(alias.name))
        elif isinstance(node, ast.ImportFrom) and ROOMS.match(f"{node.module}."):
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def taken() -> list[Path]:
    """Return the files that the pieces need, below the repository."""
    found, todo = set(), list(PIECES)
    while todo:
        *package, last = todo.pop().split(".")
        stems = [ROOT.joinpath(*package[:depth], "__init__") for depth in range(2, len(package) + 1)]
        stems += [ROOT.joinpath(*package, last), ROOT.joinpath(*package, last, "__init__")]
        new = {file for stem in stems if (file := stem.with_suffix(".py")).is_file()} - found
        found |= new
        todo += (module for file in new for module in imported(file))
    return sorted(path.relative_to(ROOT) for path in found)


class Build(build_py):
    """Write the library into the folder that setuptools packs."""

    def run(self) -> None:
        library = Path(self.build_lib, "bagwise")
        shutil.rmtree(library, ignore_errors=True)  # of an earlier build
        super().run()
        for path in [Path("bagwise/__init__.py"), *taken()]:
            target = library.joinpath(*path.parts[1:])
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(ROOMS.sub("bagwise.", (ROOT / path).read_text(encoding="utf-8")), encoding="utf-8")
        names = (f"from {module} import {name} as {name}" for module in PIECES for name in PIECES[module])
        stub = "\n".join([*names, "__version__: str\n"])
        (library / "__init__.pyi").write_text(ROOMS.sub("bagwise.", stub), encoding="utf-8")
        (library / "py.typed").touch()

    def get_source_files(self) -> list[str]:
        """Name what a source distribution holds beside pyproject.toml, setup.py and the licence."""
        return ["bagwise/__init__.py", *map(str, taken())]


class Refuse(editable_wheel):
    """An editable install would put `shared` and `papers` at the top of site-packages."""

    def run(self) -> None:
        raise SystemExit(
            f"bagwise is built, not linked: use `pip install {ROOT}`, or work in it with PYTHONPATH={ROOT}"
        )


setup(cmdclass={"build_py": Build, "editable_wheel": Refuse})
