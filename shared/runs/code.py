"""Which code a module runs, found by following its imports, and a hash of it that comments do not change."""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.config.files import repository

PACKAGES = ("papers", "shared")
DATA = "shared.datasets"  # what it yields is pinned by checksums in every record, so its code need not be
# What carries a spec to a run and its result to disk: it computes nothing, and the record holds what it carried.
CARRIERS = ("shared.config", "shared.files", "shared.records", "shared.runs")


def sources(module: str, root: Path | None = None, carriers: bool = True) -> list[Path]:
    """Return the files of `papers` and `shared` that importing `module` runs and that compute something, sorted.

    Imports inside functions count; those under ``if __name__ == "__main__"`` do not, so that a module's command line
    is not part of what it computes. A package's ``__init__`` that only passes names on is seen through: of
    ``from package import name`` only the module that `name` comes from counts, so that a new module in a package
    outdates nothing. Nothing is followed from elsewhere into `shared.datasets` nor, unless `carriers`, into what only
    carries specs and records.
    """
    root = root or repository()
    found: set[Path] = set()
    todo: list[tuple[str, str | None]] = [(module, None)]
    seen, outside = set(todo), (DATA,) if carriers else (DATA, *CARRIERS)
    while todo:
        more: list[tuple[str, str | None]] = []
        for path in _files(*todo.pop(), root, more):
            if path not in found:
                found.add(path)
                more += _imports(path)
        for target in more:
            left = _within(target[0], outside) or _within(f"{target[0]}.{target[1]}", outside)
            if target not in seen and (_within(module, outside) or not left):
                seen.add(target)
                todo.append(target)
    if not found:
        raise ModuleNotFoundError(f"{module} is not a module of {' or '.join(PACKAGES)}")
    return sorted(found)


def _within(module: str, packages: tuple[str, ...]) -> bool:
    return f"{module}.".startswith(tuple(f"{package}." for package in packages))


def _files(module: str, name: str | None, root: Path, more: list) -> list[Path]:
    """The files that ``import module`` or ``from module import name`` runs; what they pass on is added to `more`."""
    parts = module.split(".")
    if parts[0] not in PACKAGES:
        return []
    inits = [root.joinpath(*parts[:i], "__init__.py") for i in range(1, len(parts) + 1)]
    passed_on = _passed_on(inits[-1])
    if name is None:
        more += (passed_on or {}).values()
    elif passed_on and passed_on.get(name, (module, name)) != (module, name):
        more.append(passed_on[name])
    elif _is_module(root.joinpath(*parts, name)):
        more.append((f"{module}.{name}", None))
    candidates = [path for path in inits if _passed_on(path) is None]
    return [path for path in [*candidates, root.joinpath(*parts).with_suffix(".py")] if path.is_file()]


def _is_module(stem: Path) -> bool:
    return stem.with_suffix(".py").is_file() or (stem / "__init__.py").is_file()


def _passed_on(path: Path) -> dict[str, tuple[str, str]] | None:
    """{name: (module, its name there)} of an ``__init__`` that does nothing else; None of any other file."""
    if not path.is_file():
        return None
    names = {}
    for node in _tree(path)[1].body:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
        elif not (
            (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
            or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__")
        ):
            return None
    return names


def _once(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Let a function of a file read it once, until it changes."""
    known = functools.cache(lambda path, mtime, size: read(path))

    @functools.wraps(read)
    def reading(path: Path) -> Any:
        stat = path.stat()
        return known(path, stat.st_mtime_ns, stat.st_size)

    return reading


@_once
def _tree(path: Path) -> tuple[str, ast.Module]:
    text = path.read_text(encoding="utf-8")
    return text, ast.parse(text, str(path))


@_once
def _imports(path: Path) -> list[tuple[str, str | None]]:
    """(module, None) of every ``import module``, (module, name) of every ``from module import name``."""
    found, todo = [], [_tree(path)[1]]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [(node.module, alias.name) for alias in node.names]
        todo += _within_statement(node)
    return found


def _within_statement(node: ast.AST) -> list[ast.AST]:
    """The statements, handlers and cases in the blocks of a node; no expression holds any."""
    return [
        child for block in ("body", "orelse", "handlers", "finalbody", "cases") for child in getattr(node, block, ())
    ]


def code_hash(module: str, root: Path | None = None) -> str:
    """Return a hash of what a module computes with: `sources` without comments, docstrings and blank lines."""
    root = root or repository()
    digest = hashlib.sha256()
    for path in sources(module, root, carriers=False):
        digest.update(f"{path.relative_to(root).as_posix()}\n{_bare(path)}\n".encode())
    return digest.hexdigest()[:16]


def _blank(lines: list[str], node: ast.stmt) -> None:
    """Remove a statement, and nothing else on its first and last line; its columns count bytes."""
    head = lines[node.lineno - 1].encode()[: node.col_offset].decode()
    tail = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
    lines[node.lineno - 1 : node.end_lineno] = [head + tail] + [""] * (node.end_lineno - node.lineno)


@_once
def _bare(path: Path) -> str:
    text, tree = _tree(path)
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        todo += _within_statement(node)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                _blank(lines, first)
    return "\n".join(line.rstrip() for line in lines if line.strip())
