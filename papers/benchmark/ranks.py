"""Rank methods over problems, with the critical difference of mean ranks (Demsar 2006)."""

from __future__ import annotations

import pandas
from scipy import stats


def mean_ranks(values: pandas.DataFrame) -> pandas.DataFrame:
    """Return the mean rank of each method, 1 the best, over the problems that all of them have.

    Parameters
    ----------
    values : (problems, methods), larger is better; ties share their mean rank. A method with fewer than half of the
        problems is left out first, so that one that can rarely be had does not leave nothing to rank.

    Returns
    -------
    DataFrame with `method` and `mean_rank`, best first; ``attrs["problems"]`` is how many problems it is over.
    """
    common = values.dropna(axis=1, thresh=max(1, (len(values) + 1) // 2)).dropna()
    found = common.rank(axis=1, ascending=False).mean().sort_values(kind="stable")
    table = pandas.DataFrame({"method": found.index.astype(str), "mean_rank": found.to_numpy()})
    table.attrs["problems"] = len(common)
    return table


def critical_difference(methods: int, problems: int, alpha: float = 0.05) -> float:
    """Return by how much two mean ranks must differ for their methods to differ (Nemenyi; Demsar 2006, Section 3.2.2).

    Not a number for fewer than two methods or problems.
    """
    if methods < 2 or problems < 2:
        return float("nan")
    q = stats.studentized_range.ppf(1 - alpha, methods, 10**6) / 2**0.5
    return float(q * (methods * (methods + 1) / (6 * problems)) ** 0.5)
