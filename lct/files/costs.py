"""What jobs took, from the run records of their outputs: lineage, cluster and report sum these and nothing else."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class JobCost:
    """What one job took, over all its attempts."""

    seconds: float  # wall time
    cpu_seconds: float  # of the last attempt
    gpu_seconds: float
    attempts: int
    slurm_ids: tuple[str, ...]  # of all attempts; empty without SLURM


def job_costs(runs: Iterable[dict[str, Any]]) -> list[JobCost]:
    """The jobs that wrote some outputs, from the outputs' run records.

    Records of one process count together: each has the seconds since its own `started`, and CPU seconds that run on
    from record to record. A job of several attempts records their sums itself, under `cost`."""
    processes: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        processes.setdefault(repr((run.get("host"), run.get("command"), _slurm_id(run))), []).append(run)
    return [_job_cost(records) for records in processes.values()]


def _job_cost(records: list[dict[str, Any]]) -> JobCost:
    seconds: dict[str, float] = {}
    for record in records:
        started = str(record.get("started"))
        seconds[started] = max(seconds.get(started, 0.0), float(record.get("seconds") or 0))
    total = sum(seconds.values())
    cost = next((record["cost"] for record in reversed(records) if record.get("cost")), {})
    return JobCost(
        seconds=float(cost.get("seconds", total)),
        cpu_seconds=max(float(record.get("cpu_seconds") or 0) for record in records),
        gpu_seconds=float(cost.get("gpu_seconds", total if records[-1].get("device") == "cuda" else 0.0)),
        attempts=int(cost.get("attempts", 1)),
        slurm_ids=tuple(str(job) for job in cost.get("jobs") or [_slurm_id(records[-1])] if job),
    )


def _slurm_id(run: dict[str, Any]) -> str | None:
    return (run.get("slurm") or {}).get("SLURM_JOB_ID")
