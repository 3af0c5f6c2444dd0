"""What tables, figures and verdicts are made of: the planned runs of a paper's tier, their records, and tidy rows.

Records are read once. A row's spec is the plan's, so that a record made before a neutral value was added has it, too.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas

from shared.config import Run, plan, repository
from shared.datasets import is_simulated
from shared.records import store

SELECTIONS = ("last", "bag-validation", "oracle")
COST = "cost"  # the selection under which rows hold durations and memory
CONVERGENCE = "convergence"  # and what measures still gained in the last quarter of training
DONE, NOT_RUN, FAILED = "done", "NOT RUN", "FAILED"
NOT_RECORDED = "metric not recorded"  # the status of a row for what a record does not have
OTHER_SPEC, OLD_SCHEMA = "record of another spec", "record of an earlier schema"


@dataclass(frozen=True, eq=False)
class Evidence:
    """The planned runs of a paper's tier and what is on disk of them.

    Attributes
    ----------
    paper, tier : their names.
    folder : ``results/<tier>/<paper>``.
    runs : the planned runs, most valuable first.
    records : {id: record} of those that have one.
    refused : {id: why, in few words} of records that are damaged, were changed by hand or are of another spec or an
        earlier schema, and so count as not run.
    index : what the index of the records says of each run.
    """

    paper: str
    tier: str
    folder: Path
    runs: tuple[Run, ...]
    records: Mapping[str, dict]
    refused: Mapping[str, str] = field(default_factory=dict)
    index: Mapping[str, dict] = field(default_factory=dict)

    @functools.cached_property
    def about(self) -> dict[str, dict]:
        """{id: the columns that all rows of a run share}: names, stand-ins, status, and the scalars of its spec."""
        return {run.id: self._about(run) for run in self.runs}

    def _about(self, run: Run) -> dict:
        """The columns of a run; what it is called here stands before a key of its spec that has the same name."""
        spec = {k: v for k, v in run.spec.values().items() if isinstance(v, str | int | float | bool)}
        status, why = self._status(run.id)
        return {
            **spec,
            "id": run.id,
            "paper": self.paper,
            "tier": self.tier,
            "method": run.method,
            "stand_in": run.stand_in,
            "differs": run.differs,
            "simulated": is_simulated(str(spec.get("dataset", ""))),
            "status": status,
            "why": why,
        }

    def _status(self, run_id: str) -> tuple[str, str]:
        if run_id in self.records:
            return DONE, ""
        why = self.index.get(run_id, {}).get("why", "")
        if run_id in self.refused:
            return NOT_RUN, "; ".join(filter(None, [self.refused[run_id], why]))
        if store.record_path(self.folder / "runs", run_id).with_suffix(".log").exists():
            return FAILED, ""
        return NOT_RUN, why

    @functools.cached_property
    def found(self) -> pandas.DataFrame:
        """One row for each record, selection and metric; `value` is a number.

        Costs stand under the selection `cost`, gains of the last quarter under `convergence`, with `gain_error` and
        `gain_epochs`.
        """
        rows = []
        for run_id, record in self.records.items():
            origin = {
                "commit": record["code"]["commit"],
                "code_hash": record["code"]["hash"],
                "device": record["environment"]["device"],
                "finished": record["finished"],
                "cluster": record.get("cluster", ""),
            }
            for selection, values in {**record["metrics"], COST: record["cost"]}.items():
                numbers = {k: v for k, v in values.items() if isinstance(v, int | float)}
                rows += [
                    {**self.about[run_id], **origin, "selection": selection, "metric": name, "value": float(value)}
                    for name, value in numbers.items()
                ]
            rows += [
                {**self.about[run_id], **origin, "selection": CONVERGENCE, "metric": name, "value": course["gain"]}
                | {"gain_error": course["error"], "gain_epochs": course["epochs"]}
                for name, course in record.get("convergence", {}).items()
            ]
        names = ["id", "method", "seed", "selection", "metric", "value", "status", "why"]
        return pandas.DataFrame(rows) if rows else pandas.DataFrame(columns=names)

    def rows(
        self,
        metrics: str | Iterable[str] = "accuracy",
        runs: Iterable[Run] | None = None,
        selections: Iterable[str] = SELECTIONS,
    ) -> pandas.DataFrame:
        """Return the rows of some metrics, in the order of the plan.

        A run without a record keeps a row for each metric and selection, its value empty and its `status` NOT RUN or
        FAILED; `why` says what the index knows of the reason.

        Parameters
        ----------
        runs : only of these runs; of all unless told.
        selections : only these.
        """
        metrics, selections = [metrics] if isinstance(metrics, str) else list(metrics), list(selections)
        ids = [run.id for run in (self.runs if runs is None else runs)]
        blank = [
            {**self.about[i], "selection": selection, "metric": metric, "value": float("nan")}
            for i in ids
            if i not in self.records
            for metric in metrics
            for selection in selections
        ]
        found = self.found
        found = found[found["id"].isin(ids) & found.metric.isin(metrics) & found.selection.isin(selections)]
        parts = [part for part in (found, pandas.DataFrame(blank)) if len(part)]
        rows = pandas.concat(parts, ignore_index=True) if parts else found
        order = {run_id: place for place, run_id in enumerate(ids)}
        return rows.sort_values("id", key=lambda column: column.map(order), kind="stable", ignore_index=True)

    def where(self, **wanted: object) -> list[Run]:
        """Return the planned runs whose spec holds these values; `method` is a run's, a list means one of its items."""
        return [run for run in self.runs if all(_agrees(run, key, value) for key, value in wanted.items())]

    def recorded(self, runs: Iterable[Run]) -> list[tuple[Run, dict]]:
        """Return (run, record) of those that have a record."""
        return [(run, self.records[run.id]) for run in runs if run.id in self.records]


def _agrees(run: Run, key: str, wanted: Any) -> bool:
    if key == "method":
        value = run.method
    elif key not in run.spec:
        return False
    else:
        value = run.spec.values()[key]
    return value in wanted if isinstance(wanted, list | tuple | set | dict) else value == wanted


def gather(paper: str, tier: str, results: Path | None = None, root: Path | None = None) -> Evidence:
    """Return the evidence on a paper's tier in `results` (the repository's unless told).

    Records that the plan does not ask for are left out; those that answer another spec or cannot be believed are
    `refused`, and of the last standard error says which and why.
    """
    folder = (results or repository() / "results") / tier / paper
    runs = tuple(plan(paper, tier, root))
    hashes = {run.id: run.spec_hash for run in runs}
    index = store.read_index(store.index_place(root or repository(), paper, tier, folder / "runs"))
    records, refused = {}, {}
    for run_id in hashes:
        kept = store.find_record(folder / "runs", run_id, index)
        if kept.why:
            print(kept.why, file=sys.stderr)
            refused[run_id] = kept.says
        elif kept.state == store.OUTDATED:
            refused[run_id] = OLD_SCHEMA
        elif kept.record and kept.record["spec_hash"] != hashes[run_id]:
            refused[run_id] = OTHER_SPEC
        elif kept.record:
            records[run_id] = kept.record
    return Evidence(paper, tier, folder, runs, records, refused, index or {})
