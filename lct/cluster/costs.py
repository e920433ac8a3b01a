"""What each run has cost: over all attempts, from the records beside its outputs, joined with SLURM's accounting.

Costs differ from machine to machine, so they are no part of tables.json; the report shows them behind the numbers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lct.cluster import slurm
from lct.cluster.resources import Cluster, demand
from lct.files.atomic import read_json_or_empty
from lct.files.records import run_path
from lct.plan import files as stage_files
from lct.plan.plan import Plan

_ESTIMATED_FOR = Cluster(gpu_partition="any")


@dataclass(frozen=True)
class Job:
    """One job that wrote outputs of a run, as its own records tell it."""

    seconds: float  # of wall time, over all attempts
    gpu_seconds: float
    attempts: int
    slurm_ids: tuple[str, ...]


def costs(plan: Plan, root: Path, runs: list[str]) -> dict[str, str]:
    """Run -> its cost in words, for runs of which anything is recorded."""
    found = {run: [job for *_, job in jobs(plan, root, run)] for run in runs}
    accounted = _accounted(sorted({one for made in found.values() for job in made for one in job.slurm_ids}))
    return {run: _words(plan, run, made, accounted) for run, made in found.items() if made}


def _words(plan: Plan, run: str, jobs: list[Job], accounted: dict[str, list[slurm.Attempt]]) -> str:
    known = [job for job in jobs if job.slurm_ids and accounted.keys() >= set(job.slurm_ids)]
    own = [job for job in jobs if job not in known]
    starts = [start for one in {one for job in known for one in job.slurm_ids} for start in accounted[one]]
    gpu_hours = sum(start.gpu_hours for start in starts) + sum(job.gpu_seconds for job in own) / 3600
    hours = (sum(start.seconds for start in starts) + sum(job.seconds for job in own)) / 3600
    attempts = len(starts) + sum(job.attempts for job in own)
    source = " and ".join(["SLURM's accounting"] * bool(known) + ["the jobs' own records"] * bool(own))
    seeds = len(plan.seeds_of(run))
    over = f"{attempts} starts of jobs, {seeds} training seed{'s' if seeds > 1 else ''}; {source}"
    if not gpu_hours:
        return f"{hours:.3g} h without a GPU ({over})"
    stages = ["train", "sample", "score"] if plan.runs[run].weights is None else ["sample", "score"]
    demands = [demand(stage, plan, run, _ESTIMATED_FOR) for stage in stages]
    estimated = seeds * sum(one.seconds * one.gpus for one in demands) / 3600
    return f"{gpu_hours:.3g} GPU h ({over}); estimated beforehand, for no GPU in particular: {estimated:.3g}"


def jobs(plan: Plan, root: Path, run: str) -> list[tuple[str, int, Job]]:
    """(stage, seed, job) of what made what there is of a run: a training, a sampling and a scoring for each seed."""
    found = []
    for seed in plan.seeds_of(run):
        stages = {
            "train": [f"{plan.paths.train(run, seed)}/curves.json"],
            "sample": stage_files.samples(plan, run, seed),
            "score": stage_files.metrics(plan, run, seed),
        }
        for stage, outputs in stages.items():
            records = [record for output in outputs if (record := read_json_or_empty(run_path(root / output)))]
            found += [(stage, seed, _job(records))] if records else []
    return found


def _job(records: list[dict[str, Any]]) -> Job:
    """From the records of a job's outputs: each has the seconds since its own start."""
    seconds: dict[str, float] = {}
    for record in records:
        started = str(record.get("started"))
        seconds[started] = max(seconds.get(started, 0.0), float(record.get("seconds", 0.0)))
    total = sum(seconds.values())
    last = records[-1]
    cost = last.get("cost") or {}
    ids = [str(one) for one in cost.get("jobs", ()) if one] or [(last.get("slurm") or {}).get("SLURM_JOB_ID")]
    return Job(
        seconds=float(cost.get("seconds", total)),
        gpu_seconds=float(cost.get("gpu_seconds", total if last.get("device") == "cuda" else 0.0)),
        attempts=int(cost.get("attempts", 1)),
        slurm_ids=tuple(one for one in ids if one),
    )


def _accounted(ids: list[str]) -> dict[str, list[slurm.Attempt]]:
    """Job -> its starts in SLURM's accounting; empty where there is none."""
    found: dict[str, list[slurm.Attempt]] = {}
    if ids and slurm.there_is("sacct"):
        try:
            for attempt in slurm.attempts(ids):
                found.setdefault(attempt.job, []).append(attempt)
        except slurm.Unanswered:
            return {}
    return found
