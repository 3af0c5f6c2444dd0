"""Which code a module runs, found by following its imports, and a hash of it that changes when what it computes may."""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from shared.config.files import repository
from shared.files import write_text

PACKAGES = ("papers", "shared")
DATA = "shared.datasets"  # what it yields is pinned by checksums in every record, so its code need not be
# What carries a spec to a run and its result to disk: it computes nothing, and the record holds what it carried.
CARRIERS = ("shared.config", "shared.files", "shared.records", "shared.runs")
MEMORY = Path(".work/code.json")  # in the repository, ignored by git
TYPES = ("collections.abc", "typing")  # what is imported from them computes nothing where it is not used

DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
UNCOUNTED: dict[type[ast.AST], tuple[str, ...]] = {
    ast.arg: ("annotation", "type_comment"),
    ast.FunctionDef: ("returns", "type_comment"),
    ast.AsyncFunctionDef: ("returns", "type_comment"),
    ast.Constant: ("kind",),
}

Target = tuple[str, str | None]  # (module, None) of ``import module``, else (module, name)


def sources(module: str, root: Path | None = None, carriers: bool = True) -> list[Path]:
    """Return the files of `papers` and `shared` that importing `module` runs and that compute something, sorted.

    Imports inside functions count; those under ``if __name__ == "__main__"`` do not, so that a module's command line
    is not part of what it computes. A package's ``__init__`` that only passes names on is seen through: of
    ``from package import name`` only the module that `name` comes from counts, so that a new module in a package
    outdates nothing. Nothing is followed from elsewhere into `shared.datasets` nor, unless `carriers`, into what only
    carries specs and records.
    """
    root = root or repository()
    question = f"sources of {module}" + ", without carriers" * (not carriers)
    found = _remembered(
        root, question, lambda: [path.relative_to(root).as_posix() for path in _sources(module, root, carriers)]
    )
    return [root / name for name in found]


def _sources(module: str, root: Path, carriers: bool) -> list[Path]:
    found: set[Path] = set()
    todo: list[Target] = [(module, None)]
    seen, outside = set(todo), (DATA,) if carriers else (DATA, *CARRIERS)
    while todo:
        more: list[Target] = []
        for path in _files(*todo.pop(), root, more):
            if path not in found:
                found.add(path)
                more += [_absolute(target, path.relative_to(root).parent.parts) for target in _imports(path)]
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


def _files(module: str, name: str | None, root: Path, more: list[Target]) -> list[Path]:
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
    names: dict[str, tuple[str, str]] = {}
    for node in _tree(path).body:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level and node.names[0].name != "*":
            names |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
        elif not (
            (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
            or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__")
        ):
            return None
    return names


def _remembered(root: Path, question: str, answer: Callable[[], Any]) -> Any:
    """Return an answer that the files of `PACKAGES` give, which is kept on disk until any of them changes."""
    paths = sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))
    known = _answers(root, tuple((path, (stat := path.stat()).st_mtime_ns, stat.st_size) for path in paths))
    if question not in known["answers"]:
        known["answers"][question] = answer()
        with contextlib.suppress(OSError):  # it can be had again
            (root / MEMORY).parent.mkdir(exist_ok=True)
            write_text(root / MEMORY, json.dumps(known))
    return known["answers"][question]


@functools.lru_cache(maxsize=4)
def _answers(root: Path, state: tuple[tuple[Path, int, int], ...]) -> dict[str, Any]:
    """Return {"of": a hash of the files, "answers": {question: answer}}, as they are on disk where that is of these."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path, *_ in state:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads((root / MEMORY).read_text(encoding="utf-8"))
        if known["of"] == digest.hexdigest() and isinstance(known["answers"], dict):
            return known
    return {"of": digest.hexdigest(), "answers": {}}


def _once(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Let a function of a file read it once, until it changes."""
    known = functools.cache(lambda path, mtime, size: read(path))

    @functools.wraps(read)
    def reading(path: Path) -> Any:
        stat = path.stat()
        return known(path, stat.st_mtime_ns, stat.st_size)

    return reading


@_once
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@_once
def _imports(path: Path) -> list[Target]:
    """The targets of every import statement, relative ones with their dots; all of a module is as the module."""
    found: list[Target] = []
    todo: list[ast.AST] = [_tree(path)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found += [(module, None if alias.name == "*" else alias.name) for alias in node.names]
        todo += _within_statement(node)
    return found


def _absolute(target: Target, package: tuple[str, ...]) -> Target:
    """Return a target by its whole name, which a module of `package` may have written with dots."""
    module = target[0].lstrip(".")
    if level := len(target[0]) - len(module):
        module = ".".join([*package[: len(package) - level + 1], *([module] if module else [])])
    return module, target[1]


def _within_statement(node: ast.AST) -> list[ast.AST]:
    """The statements, handlers and cases in the blocks of a node; no expression holds any."""
    return [
        child for block in ("body", "orelse", "handlers", "finalbody", "cases") for child in getattr(node, block, ())
    ]


def code_hash(module: str, root: Path | None = None) -> str:
    """Return a hash of what a module computes with.

    It is that of the syntax of its `sources`, so that neither comments nor the shape of lines count, without
    docstrings, annotations of functions and of their variables, and imports from `TYPES`. Annotations in the body of
    a class count, for they make the fields of a dataclass.
    """
    root = root or repository()
    return _remembered(root, f"hash of {module}", lambda: _code_hash(module, root))


def _code_hash(module: str, root: Path) -> str:
    digest = hashlib.sha256()
    for path in sources(module, root, carriers=False):
        digest.update(f"{path.relative_to(root).as_posix()}\n{_computing(path)}\n".encode())
    return digest.hexdigest()[:16]


@_once
def _computing(path: Path) -> str:
    return " ".join(_syntax(_tree(path)))


def _syntax(node: Any, in_function: bool = False) -> Iterator[str]:
    """Write a node and what is within it that computes, alike in every version of Python that can read it."""
    if isinstance(node, list):
        yield "["
        for child in node:
            yield from _syntax(child, in_function)
        yield "]"
    elif isinstance(node, ast.AnnAssign) and in_function:
        if node.value:
            yield from _syntax(ast.Assign([node.target], node.value))
    elif isinstance(node, ast.ImportFrom) and node.module in TYPES and not node.level:
        pass
    elif isinstance(node, ast.AST):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            in_function = not isinstance(node, ast.ClassDef)
        yield f"{type(node).__name__}("
        for name, value in ast.iter_fields(node):
            if name == "body" and isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
                value = value[1:]
            if isinstance(node, ast.JoinedStr):  # Python 3.12.0 and 3.12.1 put empty constants beside its values
                value = [child for child in value if not (isinstance(child, ast.Constant) and child.value == "")]
            if value not in (None, []) and name not in UNCOUNTED.get(type(node), ()):
                yield f"{name}="
                yield from _syntax(value, in_function)
        yield ")"
    else:
        yield repr(node)
