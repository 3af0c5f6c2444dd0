"""Which code a module runs, found by following its imports, and a hash of it that comments do not change."""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import tokenize
from pathlib import Path

from shared.records.config import repository

PACKAGES = ("papers", "shared")
PINNED = "shared.datasets"  # what it yields is pinned by checksums in every record, so its code need not be


def sources(module: str, root: Path | None = None) -> list[Path]:
    """The files of `papers` and `shared` that importing `module` runs, in sorted order.

    Imports inside functions count; those under ``if __name__ == "__main__"`` do not, so that a module's command line
    is not part of what it computes. Nothing is followed from elsewhere into `shared.datasets`.
    """
    root = root or repository()
    seen: set[Path] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        for path in _files(name, root):
            if path not in seen:
                seen.add(path)
                names = _imports(path)
                todo += names if module.startswith(PINNED) else [n for n in names if not n.startswith(PINNED)]
    if not seen:
        raise ModuleNotFoundError(f"{module} is not a module of {' or '.join(PACKAGES)}")
    return sorted(seen)


def _files(name: str, root: Path) -> list[Path]:
    """The file of a dotted name and the __init__ of each package around it; nothing for what is not ours."""
    parts = name.split(".")
    if parts[0] not in PACKAGES:
        return []
    found = [root.joinpath(*parts[:i], "__init__.py") for i in range(1, len(parts) + 1)]
    found.append(root.joinpath(*parts).with_suffix(".py"))
    return [path for path in found if path.is_file()]


@functools.cache
def _parsed(path: Path, stamp: tuple[float, int]) -> tuple[str, ast.Module]:
    text = path.read_text()
    return text, ast.parse(text, str(path))


def _tree(path: Path) -> tuple[str, ast.Module]:
    stat = path.stat()
    return _parsed(path, (stat.st_mtime, stat.st_size))


def _imports(path: Path) -> list[str]:
    names, todo = [], [_tree(path)[1]]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        todo += ast.iter_child_nodes(node)
    return names


def code_hash(module: str, root: Path | None = None) -> str:
    """Hash of `sources(module)` without comments, docstrings and blank lines; equal on every Python."""
    root = root or repository()
    digest = hashlib.sha256()
    for path in sources(module, root):
        digest.update(f"{path.relative_to(root).as_posix()}\n{_bare(path)}\n".encode())
    return digest.hexdigest()[:16]


def _blank(lines: list[str], node: ast.stmt) -> None:
    """Remove a statement, and nothing else on its first and last line; its columns count bytes."""
    head = lines[node.lineno - 1].encode()[: node.col_offset].decode()
    tail = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
    lines[node.lineno - 1 : node.end_lineno] = [head + tail] + [""] * (node.end_lineno - node.lineno)


def _bare(path: Path) -> str:
    text, tree = _tree(path)
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                _blank(lines, first)
    return "\n".join(line.rstrip() for line in lines if line.strip())
