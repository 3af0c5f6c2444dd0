"""Word the bounds of a claim, the same on pages, in figures and in the reasons of verdicts."""

import math

OPEN = ("greater", "ranking", "monotone")  # kinds of claims whose bound itself is not claimed


def bounds_in_words(kind: str, low: float, high: float) -> str:
    """Return where an estimate must lie for a claim of a kind to hold; bounds of a ratio are ratios."""
    if math.isinf(high):
        return f"{'above' if kind in OPEN else 'at least'} {low:g}"
    if low == (0 if kind == "ratio" else -math.inf):
        return f"at most {high:g}"
    return f"within [{low:g}, {high:g}]"
