"""What a paper needs to be trained, shown and reached, and which of it one lacks: known before anything trains."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

from shared.config.files import ConfigError, read_yaml, repository
from shared.config.outputs import JUDGED, read_outputs
from shared.config.plan import plan, read_config
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
        found += _of_stage(paper, stages[paper]) if paper in stages else [f"dvc.yaml lacks the stage {paper}"]
        if absent:
            return found
        outputs = read_outputs(paper, root)
        config = read_config(paper, root)
        if "smoke" not in config.tiers:
            found.append(f"{at}/config.yaml lacks the tier smoke, which tests run")
        for tier in config.tiers:
            plan(paper, tier, root)
        if config.unsaid:
            mark = "`one_of`, the list of all values it may have, or `free`, what it is in words"
            found.append(f"{config.at}: {', '.join(config.unsaid)}: a text must have {mark}")
        found += _of_others(paper, root)
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


def _of_stage(paper: str, stage: object) -> list[str]:
    """Return a sentence for each part of a stage of dvc.yaml that is not of this paper: it was copied of another's."""
    said: dict = stage if isinstance(stage, dict) else {}
    deps = set(map(str, said.get("deps") or []))
    outs = [path for out in said.get("outs") or [] for path in (out if isinstance(out, dict) else [out])]
    at, found = f"dvc.yaml: the stage {paper}", []
    if paper not in str(said.get("cmd")).split():
        found.append(f"{at} does not run it; its `cmd` must name {paper}")
    if not {"papers", f"papers/{paper}"} & deps:
        found.append(f"{at} lacks papers/{paper} among its `deps`")
    if not any(str(path).endswith(f"/{paper}") for path in outs):
        found.append(f"{at} lacks its folder of results among its `outs`")
    return found


def _of_others(paper: str, root: Path) -> list[str]:
    """Return a sentence for each call that says whose runs, tables or figures these are, and names another paper."""
    found = []
    for name in ("train.py", "tables.py", "figures.py"):
        for node in ast.walk(_tree(root / "papers" / paper / name)):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                call, of = ast.unparse(node.func).rpartition(".")[2], node.args[0].value
                if call in ("framed", "main") and of != paper:
                    at = f"papers/{paper}/{name}, line {node.lineno}"
                    found.append(f"{at}: {call}({of!r}) is of another paper; write {call}({paper!r})")
    return found


def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"), str(path))
    except SyntaxError as error:
        raise ConfigError(f"{path}, line {error.lineno}: {error.msg}") from None


def _functions(path: Path) -> set[str]:
    tree = _tree(path)
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    imported = [alias for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assigned = [t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)]
    return names | {alias.asname or alias.name for alias in imported} | set(assigned)
