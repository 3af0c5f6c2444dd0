"""What runs are worth: groups that fill a reported number or decide a claim, in the order that buys most a second."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from shared.comparison.claims import concerns, read_claims
from shared.comparison.fills import read_fills, without_seed
from shared.config import Run, plan, repository
from shared.runs.shards import stages_of

CELL, CLAIM = 4.0, 1.0  # a reported number filled, in claims decided


@dataclass(eq=False)
class Group:
    """Runs that are worth something together: all seeds of a cell, all sides of a claim.

    Attributes
    ----------
    cells, claims : names of what they fill and decide, with the paper in front.
    runs : of these all, in the order of the plan; what they stand on is not among them.
    """

    name: str
    cells: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    runs: list[Run] = field(default_factory=list)

    @property
    def worth(self) -> float:
        """How much it is worth, in claims."""
        return CELL * len(self.cells) + CLAIM * len(self.claims)


@dataclass(frozen=True)
class Purchase:
    """A group in its place in the order, the runs it adds to those before, what they take, and whether that fits."""

    group: Group
    runs: list[Run]
    seconds: float
    fits: bool


def groups_of(paper: str, tier: str) -> list[Group]:
    """Return the groups of a paper's tier: by what they fill, then by claim, then each run with its seeds."""
    planned, cells = plan(paper, tier), read_fills(paper, tier)
    alike: dict[str, list[Run]] = {}
    for run in planned:
        alike.setdefault(without_seed(run.id), []).append(run)
    sides: dict[str, set[str]] = {}
    for name, filled in cells.items():
        for cell in filled:
            sides.setdefault(f"{paper}/{cell}", set()).add(name)
    for claim in read_claims(repository() / "papers" / paper / "claims.yaml"):
        names = {
            name
            for name, (run, *_) in alike.items()
            if concerns(claim, {**run.spec.values(), "method": run.method, "tier": tier})
        }
        if names:
            sides[f"{paper}: {claim.id}"] = names
    # Cells and claims of the very same runs are one group.
    found: dict[frozenset[str], Group] = {frozenset([name]): Group(name) for name in alike}
    for said, names in sides.items():
        group = found.setdefault(frozenset(names), Group(said))
        if ": " in said:
            group.claims += (said,)
        else:
            group.cells += (said,)
    for shared, group in found.items():
        group.runs = [run for name in alike if name in shared for run in alike[name]]
    return list(found.values())


def standing_on(planned: Iterable[Run]) -> dict[str, list[Run]]:
    """Return {run id: the runs that train the stages it shares}: of each stage the first that the plan has."""
    first: dict[tuple[str, str], Run] = {}
    found = {}
    for run in planned:
        carriers = [first.setdefault(stage, run) for stage in stages_of(run)]
        found[run.id] = [carrier for carrier in dict.fromkeys(carriers) if carrier is not run]
    return found


def ordered(
    groups: Iterable[Group],
    due: Mapping[str, float],
    below: Mapping[str, list[Run]],
    seconds: float,
    lost: Collection[str] = (),
    begun: Collection[str] = (),
) -> list[Purchase]:
    """Return the groups with runs that are due: begun ones, then by worth a second, those that fit before all others.

    What is worth nothing comes last, in the order of the plan.

    Parameters
    ----------
    due : {id of a run without a record that can be had here: how long it may take}.
    below : {run id: the runs it stands on}; their time counts for the first group that needs them.
    seconds : that there are for all, one after the other.
    lost : ids of runs without a record that cannot be had here; a group is worth as much less as it has of them.
    begun : ids of runs with a checkpoint.
    """
    needs: dict[Group, dict[str, Run]] = {}
    for group in groups:
        runs = [one for run in group.runs if run.id in due for one in (*below.get(run.id, ()), run)]
        if own := {run.id: run for run in runs if run.id in due}:
            needs[group] = own
    had = {group: 1 - sum(run.id in lost for run in group.runs) / len(group.runs) for group in needs}
    worth = {group: group.worth * had[group] for group in needs}
    first = {group: any(run_id in begun for run_id in own) and worth[group] > 0 for group, own in needs.items()}
    left, taken, found = seconds, set(), []
    open_, rest = [group for group in needs if worth[group]], [group for group in needs if not worth[group]]
    costs = {group: sum(due[run_id] for run_id in needs[group]) for group in needs}
    while open_ or rest:
        if open_:
            best = max(open_, key=lambda g: (first[g], costs[g] <= left, worth[g] / max(costs[g], 1e-9)))
            open_.remove(best)
        else:
            best = rest.pop(0)
        new = [run for run_id, run in needs[best].items() if run_id not in taken]
        cost, fits = sum(due[run.id] for run in new), costs[best] <= left
        left -= cost if fits else 0.0
        taken |= {run.id for run in new}
        found.append(Purchase(best, new, cost, fits))
        changed = {run.id for run in new}
        for group in open_ if changed else ():
            if not changed.isdisjoint(needs[group]):
                costs[group] = sum(due[run_id] for run_id in needs[group] if run_id not in taken)
    return found
