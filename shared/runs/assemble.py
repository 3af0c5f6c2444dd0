"""The one place that makes a record: what was asked for, what came out, what it took, where it came from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shared.config import Run
from shared.runs.provenance import commit, environment, numerics

if TYPE_CHECKING:
    from shared.training.frame import Result


def record_of(run: Run, code: str, wall: float, result: Result) -> dict:
    """Return the record of a run that took `wall` seconds, `code` being the hash of the code it ran."""
    steps = {"steps": result.steps} if result.steps else {}
    return {
        "id": run.id,
        "method": run.method,
        "stand_in": run.stand_in,
        "differs": run.differs,
        "spec": run.spec.canonical(),
        "spec_hash": run.spec.hash,
        "code": {"hash": code, **commit()},
        "data": result.data,
        "bags": result.bags,
        "cluster": result.cluster,
        "metrics": result.metrics,
        "convergence": result.convergence,
        "curves": result.curves,
        "cost": {"wall_s": round(wall, 3), **result.cost},
        "environment": {**environment(), **numerics(), "device": result.device, **steps},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
