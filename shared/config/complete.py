"""What a paper needs to be trained, shown and reached, and which of it one lacks: known before anything trains."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping
from pathlib import Path

from shared.config.files import ConfigError, nearest, read_yaml, repository
from shared.config.outputs import JUDGED, read_outputs
from shared.config.plan import Config, plan, read_config
from shared.config.tiers import papers
from shared.files import listed

FILES = (
    "__init__.py",
    "README.md",
    "config.yaml",
    "names.py",
    "outputs.yaml",
    "reported.csv",
    "claims.yaml",
    "train.py",
    "tables.py",
    "figures.py",
)
DEFINED = {"names.py": ("method", "path"), "train.py": ("train",), "tables.py": ("cells",)}


def lacking(paper: str, root: Path | None = None) -> list[str]:
    """Return what adding a paper takes and this one lacks, a sentence each: its files, what they define, its stage."""
    root = root or repository()
    folder, at = root / "papers" / paper, f"papers/{paper}"
    absent = [name for name in FILES if not (folder / name).is_file()]
    found = [f"{at}/ lacks {', '.join(absent)}"] if absent else []
    try:
        stages = read_yaml(root / "dvc.yaml").get("stages") or {}
        found += [] if paper in stages else [f"dvc.yaml lacks the stage {paper}"]
        if absent:
            return found
        outputs = read_outputs(paper, root)
        config = read_config(paper, root)
        if "smoke" not in config.tiers:
            found.append(f"{at}/config.yaml lacks the tier smoke, which tests run")
        for tier in config.tiers:
            plan(paper, tier, root)
        found += _misspelt(config, root)
        wanted = DEFINED | {"figures.py": tuple(figure.name for figure in outputs.figures if figure not in JUDGED)}
        wanted["tables.py"] = ("cells", *outputs.csv())
        for name, functions in wanted.items():
            missing = [f for f in functions if f not in _functions(folder / name)]
            if missing:
                found.append(f"{at}/{name} does not define {', '.join(missing)}")
    except ConfigError as error:
        found.append(str(error))
    return found


def stamp(root: Path | None = None) -> str:
    """Return a hash of all that `lacking` looks at, of all papers: where it has not changed, nor has the answer."""
    root, digest = root or repository(), hashlib.sha256()
    looked_at = [root / "dvc.yaml", *listed(root / "config", "*.yaml"), *listed(root / "shared/config", "*.py")]
    looked_at += [root / "papers" / paper / name for paper in papers(root) for name in FILES]
    for path in sorted(looked_at):
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "absent"
        digest.update(f"{path.relative_to(root)} {content}\n".encode())
    return digest.hexdigest()


def _misspelt(config: Config, root: Path) -> list[str]:
    """Return a sentence for each value in a condition that no run has and that is nearly one that some run has."""
    asked = {key for section in config.layout.sections for way in section.when for key in way}
    taken: dict[str, set] = {key: set() for key in asked}
    for tier in config.tiers:
        for run in plan(config.layout.paper, tier, root):
            for key in asked.intersection(run.spec):
                if isinstance(value := run.spec.peek(key), str):
                    taken[key].add(value)
    found = []
    for section in config.layout.sections:
        for key, wanted in ((key, wanted) for way in section.when for key, wanted in way.items()):
            wanted = wanted["not"] if isinstance(wanted, Mapping) else wanted
            for value in wanted if isinstance(wanted, list) else [wanted]:
                close = nearest(value, taken[key], 0.8) if isinstance(value, str) else None
                if value not in taken[key] and close:
                    at = f"{config.at}: sections.{section.name}.when"
                    found.append(f"{at}: no run has the {key} {value!r}; did you mean {close!r}?")
    return found


def _functions(path: Path) -> set[str]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except SyntaxError as error:
        raise ConfigError(f"{path}, line {error.lineno}: {error.msg}") from None
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    imported = [alias for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assigned = [t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)]
    return names | {alias.asname or alias.name for alias in imported} | set(assigned)
