"""How far a run is: every training with its evaluation, from results, heartbeats, logs and SLURM's queue.

Locks are not visible from another host; there, the heartbeat counts: `updated` in work/.../progress.json.
"""

import platform
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lct.cluster import slurm
from lct.cluster.attempts import last_lines
from lct.files.atomic import read_json_or_empty
from lct.files.formatting import format_duration
from lct.files.lock import is_held
from lct.files.records import run_path
from lct.plan import files as stage_files
from lct.plan.plan import OWN_RUNS, Plan

FRESH_SECONDS = 120.0  # a younger heartbeat means that its training runs
RUN_STATES = (
    "done",
    "outdated",
    "evaluating",
    "running",
    "hung?",
    "queued",
    "interrupted",
    "stuck",
    "failed",
    "waiting",
)
_SMALL = ("autoencoder", "extractor")  # trainings of a dataset, below work/
_NUMBERS = ("step", "total", "attempt", "loss", "steps_per_second", "eta_seconds", "updated", "gpu_seconds")
_SHOWN = ("step", "total", "attempt", "loss", "steps_per_second", "eta_seconds")  # of a heartbeat


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """One run and training seed."""

    run: str
    seed: int
    state: str  # one of RUN_STATES
    cells: list[str]  # table.subtable.row of the cells that show it
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
    unlisted: str | None = None  # why the tables do not show it, if they do not
    log: str | None = None

    def line(self) -> str:
        facts = [
            None if self.step is None else f"step {self.step} of {self.total}",
            None if self.steps_per_second is None else f"{self.steps_per_second:.3g} steps/s",
            None if self.eta_seconds is None else f"{format_duration(self.eta_seconds)} left",
            None if self.loss is None else f"loss {self.loss:.4g}",
            f"{self.gpu_hours:.2f} GPU h" if self.gpu_hours else None,
            f"attempt {self.attempt}" if (self.attempt or 1) > 1 else None,
            None if self.silent_seconds is None else f"silent for {format_duration(self.silent_seconds)}",
            self.where,
            self.note,
            self.unlisted,
            None if self.log is None else f"log {self.log}",
        ]
        return f"  {self.state:<11}  {self.run} s{self.seed}: {', '.join(fact for fact in facts if fact) or '-'}"


def overview(
    plan: Plan, root: Path, hung_after: float, outdated: Callable[[str], list[str]]
) -> tuple[dict[str, Any], list[str]]:
    """Value and lines of `lct status`: what is computed, and every training. For the arguments see `statuses`."""
    planned = stage_files.report_metrics(plan, "tables")
    computed = sum((root / path).exists() for path in planned)
    runs, queue_error = statuses(plan, root, hung_after, outdated)
    counts = Counter(status.state for status in runs)
    summary = ", ".join(f"{counts[state]} {state}" for state in RUN_STATES if counts[state])
    lines = [f"{plan.scale_name}: {computed} of {len(planned)} metrics files computed; trainings: {summary}"]
    lines += [status.line() for status in sorted(runs, key=lambda s: (RUN_STATES.index(s.state), s.run, s.seed))]
    lines += [line for kind in _SMALL for line in small_trainings(root / "work" / plan.scale_name / kind)]
    lines += [f"SLURM does not answer ({queue_error}); what is queued looks like waiting"] if queue_error else []
    value = {"scale": plan.scale_name, "planned": len(planned), "computed": computed}
    return value | {"trainings": [asdict(status) for status in runs], "queue_unseen": queue_error}, lines


def small_trainings(folder: Path) -> list[str]:
    """A line for each autoencoder or extractor that is not finished."""
    lines = []
    for path in sorted(folder.rglob("progress.json")):
        state = read_json_or_empty(path)
        age = time.time() - state.get("updated", 0)
        what, where = str(path.parent.relative_to(folder.parent)), f"on {state.get('host')}"
        word = "running" if age < FRESH_SECONDS else "interrupted"
        lines.append(f"  {word:<11}  {what}: step {state.get('step')} of {state.get('total')}, {where}")
    return lines


def statuses(
    plan: Plan, root: Path, hung_after: float, outdated: Callable[[str], list[str]], now: float | None = None
) -> tuple[list[RunStatus], str | None]:
    """Every run and seed of the scale's tables, and why SLURM's queue is not in it, if it should be.

    hung_after: seconds of silence after which a training that holds its lock, or its SLURM job, counts as hung.
    outdated:   why a finished file is not what today's configuration, inputs and sources make; [] where it is.
    """
    now = time.time() if now is None else now
    jobs: list[slurm.QueuedJob] = []
    queue_error = None
    if slurm.has_command("squeue"):
        try:
            jobs = slurm.queued_jobs(root)
        except slurm.UnansweredError as error:
            queue_error = str(error)
    runs = {(s.run, s.seed) for cell in plan.cells_of("tables") for s in cell.sets}
    runs |= set() if plan.only else plan.unlisted_trainings(root)
    listed = [_status(plan, root, run, seed, jobs, hung_after, outdated, now) for run, seed in sorted(runs)]
    return listed, queue_error


def _status(
    plan: Plan,
    root: Path,
    run: str,
    seed: int,
    queue: list[slurm.QueuedJob],
    hung_after: float,
    outdated: Callable[[str], list[str]],
    now: float,
) -> RunStatus:
    names = {cell.name for cell in plan.cells_of("tables") if cell.run == run}
    facts: dict[str, Any] = {"run": run, "seed": seed, "cells": sorted(names)}
    if all(cell.table == OWN_RUNS for cell in plan.cells if cell.run == run):
        facts["unlisted"] = "in no table"
    elif seed not in plan.seeds_of(run):
        facts["unlisted"] = "a seed that no table lists"
    milestones, sampled = plan.milestones(run), plan.sampled_milestones(run)
    if sampled:  # further ones are trained when they are asked for
        milestones = milestones[: milestones.index(sampled[-1]) + 1]
    total = sum(plan.steps_of(run, at) for at in milestones) if plan.runs[run].is_trained else None
    ahead = [at for at in milestones if not _is_trained(plan, root, run, seed, at)]
    published = [run_path(root / path) for at in milestones for path in stage_files.trained(plan, run, seed, at)]
    costs = [read_json_or_empty(path).get("cost") for path in published]
    if not ahead:
        facts["gpu_hours"] = _gpu_hours(costs)
        facts["step"] = facts["total"] = total
        metrics = stage_files.metrics(plan, run, seed)
        if all((root / path).exists() for path in metrics):
            reasons = [reason for path in metrics for reason in outdated(path)]
            return RunStatus(state="outdated" if reasons else "done", note=reasons[0] if reasons else None, **facts)
        jobs = [job for job in queue if _evaluates(job.comment, plan, run, seed)]
        state = "evaluating" if any(j.state == "RUNNING" for j in jobs) else "queued" if jobs else "waiting"
        return RunStatus(state=state, where=_where(None, jobs), note="trained", **facts)
    suffix = plan.suffix(run, ahead[0])
    jobs = [job for job in queue if job.comment == f"rule_train_{_rule(run + suffix)}_wildcards_{seed}"]
    beat = _heartbeat(root / plan.paths.work(run, f"s{seed}"), now)
    log = plan.paths.log("train", run, f"s{seed}{suffix}.log")
    facts |= {name: beat.get(name) for name in _SHOWN}
    if not beat and ahead != milestones:
        facts |= {"step": total - sum(plan.steps_of(run, at) for at in ahead), "total": total}
    facts |= {"gpu_hours": _gpu_hours([*costs, beat]), "log": log if (root / log).exists() else None}
    state, note = _state(root / log, beat, jobs, hung_after)
    if state not in ("running", "hung?"):
        facts["eta_seconds"] = facts["steps_per_second"] = None
    silent = beat.get("silent") if state in ("hung?", "interrupted") else None
    return RunStatus(state=state, note=note, silent_seconds=silent, where=_where(beat, jobs), **facts)


def _is_trained(plan: Plan, root: Path, run: str, seed: int, at: str) -> bool:
    """Whether the weights of a milestone, or images made elsewhere, are here."""
    if plan.runs[run].samples is not None:
        return all((root / path).exists() for path in stage_files.samples(plan, run, seed))
    names = plan.sampled_weights(run, at) or plan.weights_at(run, at)[:1]
    return all((root / plan.paths.weights(run, seed, name)).exists() for name in names)


def _state(log: Path, beat: dict[str, Any], jobs: list[slurm.QueuedJob], hung_after: float) -> tuple[str, str | None]:
    """(state, note) of a training that has not finished."""
    if beat.get("stuck"):
        return "stuck", beat["stuck"]
    silent = beat.get("silent")
    fresh = silent is not None and silent < FRESH_SECONDS and not beat.get("unlocked_here")
    if beat.get("locked") or fresh or any(job.state == "RUNNING" for job in jobs):
        return ("hung?" if silent is not None and silent > hung_after else "running"), None
    if jobs:
        return "queued", jobs[0].reason.strip("()")
    if errors := re.findall(r"ERROR (error: .*)", "\n".join(last_lines(log))):
        return "failed", errors[-1][:300]
    return ("interrupted" if beat else "waiting"), None


def _heartbeat(work: Path, now: float) -> dict[str, Any]:
    """The newest progress.json under a run's work folder, whatever keys it has, with: silent, seconds since it was
    written; locked; unlocked_here, written on this host by a process that is gone; stuck, the text of the marker."""
    newest: dict[str, Any] = {}
    for path in work.glob("*/progress.json"):
        values = {
            name: value
            for name, value in read_json_or_empty(path).items()
            if isinstance(value, int | float if name in _NUMBERS else str) and not isinstance(value, bool)
        }
        updated = values.get("updated", path.stat().st_mtime if path.exists() else 0.0)
        if newest and updated <= newest["at"]:
            continue
        locked = is_held(path.parent.with_name(f"{path.parent.name}.lock"))
        newest = values | {"at": updated, "silent": max(0.0, now - updated), "locked": locked}
        newest["unlocked_here"] = not locked and values.get("host") in (None, platform.node())
        marker = path.parent / "stuck"
        if marker.exists():
            newest["stuck"] = " ".join(marker.read_text(errors="replace").split())[:400]
    return newest


def _evaluates(comment: str, plan: Plan, run: str, seed: int) -> bool:
    """Whether a job samples or scores a run: alone, or both as a group, whose comment lacks the seed."""
    for at in plan.sampled_milestones(run):
        rules = [f"{stage}_{_rule(run + plan.suffix(run, at))}" for stage in ("sample", "score", "distance")]
        groups = (*rules, "_".join(rules[:2]))
        if comment in {*(f"rule_{rule}_wildcards_{seed}" for rule in rules), *(f"rule_evaluate_{of}" for of in groups)}:
            return True
    return False


def _rule(run: str) -> str:
    return run.replace("-", "_")


def _where(beat: dict[str, Any] | None, jobs: list[slurm.QueuedJob]) -> str | None:
    host = (beat or {}).get("host")
    parts = ([f"on {host}"] if host else []) + ([f"job {jobs[0].id}"] if jobs else [])
    return " ".join(parts) or None


def _gpu_hours(costs: list[Any]) -> float | None:
    """Of all costs together, as far as they tell."""
    seconds = [cost.get("gpu_seconds") for cost in costs if isinstance(cost, dict)]
    numbers = [number / 3600 for number in seconds if isinstance(number, int | float)]
    return sum(numbers) if numbers else None
