"""Shards: a paper's runs dealt into parts, each a job of its own; records are files, so that nothing is merged.

A shard is a function of the plan alone, by the seconds that config.yaml declares: all jobs agree on it whatever was
recorded when each began. Runs that share a stage are one group and go to one shard, which trains the stage once.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.config import Run

SLACK = 1.1  # a shard is full at this many times the mean


@dataclass
class _Group:
    name: str
    runs: list[Run] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(run.seconds for run in self.runs)


def stages_of(run: Run) -> list[tuple[str, str]]:
    """Return (name, hash of what it depends on) of each stage that a run may share with others."""
    return [(name, run.spec.stage(name).hash) for name in run.spec.stage_names]


def _groups(runs: Iterable[Run]) -> list[_Group]:
    of: dict[tuple[str, str], _Group] = {}
    found: dict[int, _Group] = {}
    for run in runs:
        keys = stages_of(run) or [("run", run.id)]
        known = list({id(of[key]): of[key] for key in keys if key in of}.values())
        group = known[0] if known else _Group("/".join(keys[0]))
        for other in known[1:]:
            group.runs += found.pop(id(other)).runs
            of |= {key: group for key, value in of.items() if value is other}
        group.runs.append(run)
        found[id(group)] = group
        of |= dict.fromkeys(keys, group)
    return list(found.values())


def deal(runs: list[Run], n: int) -> list[list[Run]]:
    """Return the runs in `n` shards, each in the order of the plan; some are empty where groups are fewer.

    Rendezvous hashing with bounded loads: the longest group first, each to the shard of the least hash of both names
    that it does not fill beyond `SLACK` times the mean, else to the one with least. So a run that is added moves few
    others, for which a shard may be a tenth longer than the mean, or as long as its longest group.
    """
    dealt = sorted(_groups(runs), key=lambda group: (-group.seconds, group.name))
    left, shards = sum(group.seconds for group in dealt), n
    for group in dealt:  # one that is longer than the mean has a shard to itself, and the mean is of the others
        if shards == 1 or group.seconds <= left / shards:
            break
        left, shards = left - group.seconds, shards - 1
    full, loads = SLACK * left / shards, [0.0] * n
    shard_of: dict[str, int] = {}
    for group in dealt:
        liked = sorted(range(n), key=lambda shard: _hash(group.name, shard))
        fits = (shard for shard in liked if loads[shard] + group.seconds <= full)
        shard = next(fits, min(liked, key=loads.__getitem__))
        loads[shard] += group.seconds
        shard_of |= {run.id: shard for run in group.runs}
    return [[run for run in runs if shard_of[run.id] == shard] for shard in range(n)]


def _hash(name: str, shard: int) -> bytes:
    return hashlib.sha256(f"{name} {shard}".encode()).digest()


def parse_shard(text: str) -> tuple[int, int]:
    """Return (i, N) of "i/N", shard i of N counted from 1, or refuse it as an option's value."""
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a shard; write 1/4 to 4/4 for the four parts of a plan")
    return int(match[1]), int(match[2])
