"""docs/promises.md names tests that exist, each for one promise."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.findall(r"\| (tests/\S+\.py)::(\w+) \|", (ROOT / "docs/promises.md").read_text(encoding="utf-8"))


def test_every_promise_is_held_by_a_test():
    missing = [
        f"{path}::{name}"
        for path, name in NAMED
        if not (ROOT / path).is_file() or f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8")
    ]
    rows = [line for line in (ROOT / "docs/promises.md").read_text(encoding="utf-8").splitlines() if "::" in line]
    assert missing == [] and len(rows) == len(NAMED) > 20
