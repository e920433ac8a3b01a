"""How far a run is: every training with its evaluation, from results, heartbeats, logs and SLURM's queue.

Locks are not seen from another host; what counts there is the heartbeat, `updated` in work/.../progress.json.
"""

import platform
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lct.cluster import slurm
from lct.files.atomic import read_json_or_empty
from lct.files.formatting import format_duration
from lct.files.lock import is_held
from lct.files.records import run_path
from lct.plan import files as stage_files
from lct.plan.plan import Plan

FRESH_SECONDS = 120.0  # a heartbeat that is younger says that its training runs
STATES = ("done", "evaluating", "running", "hung?", "queued", "interrupted", "stuck", "failed", "waiting")


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """One run and training seed."""

    run: str
    seed: int
    state: str  # one of STATES
    cells: list[str]  # cells whose value it gives
    step: int | None = None  # steps done
    total: int | None = None
    steps_per_second: float | None = None
    eta_seconds: float | None = None
    loss: float | None = None
    gpu_hours: float | None = None  # over all attempts
    attempt: int | None = None
    silent_seconds: float | None = None  # since the last heartbeat
    where: str | None = None  # host and SLURM job
    note: str | None = None  # why it waits, failed or is stuck
    log: str | None = None

    def line(self) -> str:
        facts = [f"step {self.step} of {self.total}" if self.step is not None else None]
        facts += [None if self.steps_per_second is None else f"{self.steps_per_second:.3g} steps/s"]
        facts += [None if self.eta_seconds is None else f"{format_duration(self.eta_seconds)} left"]
        facts += [None if self.loss is None else f"loss {self.loss:.4g}"]
        facts += [f"{self.gpu_hours:.2f} GPU h" if self.gpu_hours else None]
        facts += [f"attempt {self.attempt}" if (self.attempt or 1) > 1 else None]
        facts += [None if self.silent_seconds is None else f"silent for {format_duration(self.silent_seconds)}"]
        facts += [self.where, self.note, None if self.log is None else f"log {self.log}"]
        return f"  {self.state:<11}  {self.run} s{self.seed}: {', '.join(fact for fact in facts if fact) or '-'}"


def statuses(plan: Plan, root: Path, hung_after: float, now: float | None = None) -> tuple[list[RunStatus], str | None]:
    """Every run and seed of the scale's tables, and why SLURM's queue is not in it, if it should be.

    hung_after: seconds of silence after which a training that holds its lock, or its SLURM job, counts as hung.
    """
    now = time.time() if now is None else now
    jobs: list[slurm.QueuedJob] = []
    unseen = None
    if slurm.there_is("squeue"):
        try:
            jobs = slurm.queued(root)
        except slurm.Unanswered as error:
            unseen = str(error)
    runs = {(s.run, s.seed) for cell in plan.cells_of("tables") for s in cell.sets}
    return [_status(plan, root, run, seed, jobs, hung_after, now) for run, seed in sorted(runs)], unseen


def _status(plan: Plan, root: Path, run: str, seed: int, jobs: list[slurm.QueuedJob], hung_after: float, now: float):
    cells = [cell for cell in plan.cells_of("tables") if cell.run == run]
    train = [job for job in jobs if job.comment == f"rule_train_{_rule(run)}_wildcards_{seed}"]
    evaluate = [job for job in jobs if _evaluates(job.comment, run, seed)]
    beat = _heartbeat(root / plan.paths.work(run, seed), now)
    log = plan.paths.log("train", run, f"s{seed}.log")
    names = sorted({f"{cell.table}.{cell.subtable}.{cell.row}" for cell in cells})
    facts: dict[str, Any] = {"run": run, "seed": seed, "cells": names}
    curves = root / plan.paths.train(run, seed) / "curves.json"
    trained = all((root / plan.paths.weights(run, seed, name)).exists() for name in plan.sampled_weights(run))
    if trained:
        facts["gpu_hours"] = _gpu_hours(read_json_or_empty(run_path(curves)).get("cost"))
        if all((root / path).exists() for path in stage_files.metrics(plan, run, seed)):
            return RunStatus(state="done", **facts)
        where = _where(None, evaluate)
        state = "evaluating" if any(j.state == "RUNNING" for j in evaluate) else "queued" if evaluate else "waiting"
        return RunStatus(state=state, where=where, note="trained", **facts)
    facts |= {name: beat.get(name) for name in ("step", "total", "steps_per_second", "eta_seconds", "loss", "attempt")}
    facts |= {"gpu_hours": _gpu_hours(beat), "log": log if (root / log).exists() else None}
    state, note = _state(root, log, beat, train, hung_after)
    silent = beat.get("silent") if state in ("hung?", "interrupted") else None
    if state not in ("running", "hung?"):
        facts["eta_seconds"] = facts["steps_per_second"] = None
    return RunStatus(state=state, note=note, silent_seconds=silent, where=_where(beat, train), **facts)


def _state(root: Path, log: str, beat: dict[str, Any], jobs: list[slurm.QueuedJob], hung_after: float):
    """(state, note) of a training that has not finished."""
    if beat.get("stuck"):
        return "stuck", beat["stuck"]
    runs = any(job.state == "RUNNING" for job in jobs)
    silent = beat.get("silent")
    if beat.get("locked") or runs or (silent is not None and silent < FRESH_SECONDS and not beat.get("unlocked_here")):
        return ("hung?", None) if silent is not None and silent > hung_after else ("running", None)
    if jobs:
        return "queued", jobs[0].reason.strip("()")
    failure = _failure(root / log)
    if failure is not None:
        return "failed", failure
    return ("interrupted", None) if beat else ("waiting", None)


def _heartbeat(work: Path, now: float) -> dict[str, Any]:
    """The newest progress.json under a run's work folder, whatever keys it has, with: silent, seconds since it was
    written; locked; unlocked_here, written on this host by a process that is gone; stuck, the text of the marker."""
    found: dict[str, Any] = {}
    for path in work.glob("*/progress.json"):
        values = {
            name: value for name, value in read_json_or_empty(path).items() if not isinstance(value, bool | dict | list)
        }
        for name in ("step", "total", "attempt", "loss", "steps_per_second", "eta_seconds", "updated", "gpu_seconds"):
            if not isinstance(values.get(name), int | float):
                values.pop(name, None)
        updated = values.get("updated", path.stat().st_mtime if path.exists() else 0.0)
        if found and updated <= found["at"]:
            continue
        lock, marker = path.parent.with_name(f"{path.parent.name}.lock"), path.parent / "stuck"
        locked = is_held(lock)
        found = values | {"at": updated, "silent": max(0.0, now - updated), "locked": locked}
        found["unlocked_here"] = not locked and values.get("host") in (None, platform.node())
        if marker.exists():
            found["stuck"] = " ".join(marker.read_text(errors="replace").split())[:400]
    return found


def _evaluates(comment: str, run: str, seed: int) -> bool:
    """Whether a job samples or scores a run: alone, or both as a group, whose comment lacks the seed."""
    names = [f"{stage}_{_rule(run)}" for stage in ("sample", "score")]
    return (
        comment in [f"rule_{name}_wildcards_{seed}" for name in names] or comment == f"rule_evaluate_{'_'.join(names)}"
    )


def _rule(run: str) -> str:
    return run.replace("-", "_")


def _where(beat: dict[str, Any] | None, jobs: list[slurm.QueuedJob]) -> str | None:
    host = (beat or {}).get("host")
    job = jobs[0].id if jobs else None
    return " ".join(part for part in (f"on {host}" if host else "", f"job {job}" if job else "") if part) or None


def _gpu_hours(values: Any) -> float | None:
    seconds = values.get("gpu_seconds") if isinstance(values, dict) else None
    return seconds / 3600 if isinstance(seconds, int | float) else None


def _failure(log: Path) -> str | None:
    """The one-line error at the end of a job's log."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-20:]
    except OSError:
        return None
    errors = [match.group(1) for line in lines if (match := re.search(r"ERROR (error: .*)", line))]
    return errors[-1][:300] if errors else None
