"""What a scale will cost, by table and cell; what its runs have cost, and what was planned against what they took.

Costs are taken over all attempts, from the records beside outputs, joined with SLURM's accounting. They differ from
machine to machine, so they are no part of tables.json; the report shows them behind the numbers.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

from lct.cluster import slurm
from lct.cluster.cost_model import SAVE_MINUTES, CostModel, PlannedJob, minutes_between_states, state_bytes
from lct.cluster.rates import card
from lct.files.atomic import read_json_or_empty
from lct.files.formatting import format_size
from lct.files.records import JobCost, job_costs, run_path
from lct.plan import files as stage_files
from lct.plan.plan import Cell, Plan

LEFT_OUT = (
    "not counted: downloads, preparing images, damaged images, figures, the report; a cell's cost is that of every job "
    "it needs"
)


def forecast_row(model: CostModel, cells: list[Cell], devices: int, price: float | None) -> dict[str, Any]:
    """What some cells cost together on so many devices, as JSON; price: of an hour of one device."""
    jobs = model.needed(cells)
    cost = model.total(jobs)
    hours = cost.seconds / 3600
    row = {
        "hours": hours,
        "share_estimated": cost.estimated / cost.seconds if cost.seconds else 0.0,
        "wall_hours": model.wall(jobs, devices) / 3600,
        "disk_bytes": round(cost.disk),
        "not_measured": sorted(cost.unknown),
    }
    return row | ({} if price is None else {"price": hours * price})


def _line(name: str, row: dict[str, Any]) -> str:
    mark, more = "~" if row["share_estimated"] else " ", "+?" if row["not_measured"] else "  "
    columns = [name, *(f"{mark}{_hours(3600 * row[key])}{more}" for key in ("hours", "wall_hours"))]
    columns += [f"{format_size(row['disk_bytes']):>9}", *([f"{row['price']:>10.2f}"] if "price" in row else [])]
    return "  ".join(columns)


def forecast(
    model: CostModel, root: Path, which: str, devices: int, price: float | None, max_hours: float | None
) -> tuple[dict[str, Any], list[str]]:
    """Value and lines of `lct plan`: `which` tables on so many devices, at a price per device and hour."""
    plan, device = model.plan, model.machine
    every_cell = plan.cells_of(which)
    jobs, all_rows = model.needed(every_cell), forecast_row(model, every_cell, devices, price)
    cost = model.total(jobs)
    tables: dict[str, dict[str, Any]] = {}
    cells: dict[str, dict[str, Any]] = {}
    rows: dict[str, dict[str, Any]] = {}  # as they are printed
    for name in plan.tables_of(which):
        of_table = [cell for cell in every_cell if cell.table == name]
        rows[name] = tables[name] = forecast_row(model, of_table, devices, price)
        for cell in of_table:
            rows[f"  {cell.name}"] = cells[cell.name] = forecast_row(model, [cell], devices, price)
    rows[f"{'the pilot' if model.pilot else 'all'} of {plan.scale_name}"] = all_rows
    width = max(map(len, rows))
    lines = [f"{plan.scale_name} on {devices} x {device.name}"]
    lines.append(f"{'':<{width}}  {'GPU h' if device.gpu else 'core h':>9}    {'wall':>9}    {'disk':>9}")
    lines[-1] += "" if price is None else f"  {'price':>10}"
    lines += [*(_line(f"{name:<{width}}", row) for name, row in rows.items()), "", "rates:"]
    lines += [f"  {work}: {source}" for work, source in sorted(cost.sources.items())]
    lines += [f"  {work}: not measured, left out of the hours (+?)" for work in sorted(cost.unknown)]
    if cost.assumed:
        hours = _hours(cost.seconds + cost.assumed).strip()
        lines.append(f"with what is not measured, by the low rates that requests assume: {hours} in all")
    lines.append(f"~ holds estimates; {LEFT_OUT}")
    written, minutes = states_per_hour(plan, which)
    if written:
        way = "" if plan.main.save_minutes else "; --config save_minutes=30 sets the minutes, whatever that writes"
        lines.append(
            f"states of a training: up to {format_size(written)} an hour, one every {minutes:.3g} minutes{way}"
        )
    sizes = CostModel(plan.whole, device)  # a rehearsal asks for the memory of the whole scale
    memory, of = max(((sizes.memory(job), f"{job.stage} of {job.owner}") for job in jobs), default=(0.0, ""))
    if of:
        lines.append(f"main memory, beyond Python and torch: up to {format_size(memory)} ({of})")
    actual = compare(model, root, which)
    value = {
        "scale": plan.scale_name,
        "device": device.name,
        "devices": devices,
        "total": all_rows,
        "tables": tables,
        "cells": cells,
        "rates": cost.sources,
        "not_measured": sorted(cost.unknown),
        "assumed_hours": cost.assumed / 3600,
        "state_bytes_per_hour": round(written),
        "memory_bytes": round(memory),
        "actual": actual,
    }
    lines += _comparison(actual)
    hours = cost.seconds / 3600
    if max_hours is not None and hours > max_hours:
        value["warning"] = f"{hours:.4g} hours planned, {max_hours:g} wanted at most"
        lines.append(f"warning: {value['warning']}; fewer tables, seeds or epochs in config/scales/ cost less")
    return value, lines


def states_per_hour(plan: Plan, which: str) -> tuple[float, float]:
    """Most bytes that a training writes in an hour to save its states, and the minutes between two of them."""
    trained = [run for run in plan.runs_of(which) if plan.runs[run].is_trained]
    intervals = [(minutes_between_states(plan, run), state_bytes(plan, run)) for run in trained]
    return max(((60 * size / minutes, minutes) for minutes, size in intervals), default=(0.0, SAVE_MINUTES))


def compare(model: CostModel, root: Path, which: str) -> dict[str, dict[str, Any]]:
    """Run -> planned and actual seconds of its finished jobs, together and by stage, and the number of jobs."""
    plan, runs = model.plan, {}
    for run in plan.runs_of(which):
        stages: dict[str, dict[str, float]] = {}
        recorded = recorded_jobs(plan, root, run)
        for job, costs in recorded.items():
            stage = stages.setdefault(job.stage, {"planned_seconds": 0.0, "actual_seconds": 0.0})
            stage["planned_seconds"] += model.seconds_without_start(job)
            stage["actual_seconds"] += sum(cost.seconds for cost in costs)
        if recorded:
            of = len(recorded.keys() | {job for seed in plan.seeds_of(run) for job in model.chain(run, seed)})
            runs[run] = {"jobs": len(recorded), "of": of, **_summed(stages), "stages": stages}
    return runs


def _summed(parts: dict[str, dict[str, Any]]) -> dict[str, float]:
    return {key: sum(part[key] for part in parts.values()) for key in ("planned_seconds", "actual_seconds")}


def _comparison(runs: dict[str, dict[str, Any]]) -> list[str]:
    if not runs:
        return []
    lines = ["", "planned against actual, finished jobs of each run, without the start of Python:"]
    for name, sums in [*runs.items(), ("all", _summed(runs))]:
        planned, actual = sums["planned_seconds"], sums["actual_seconds"]
        ratio = f"x {actual / planned:.2f}" if planned else ""
        jobs = f", {sums['jobs']} of {sums['of']} jobs" if "jobs" in sums else ""
        lines.append(f"  {name:<{max(map(len, runs))}}  {_hours(planned)}  {_hours(actual)}  {ratio}{jobs}")
    return lines


def _hours(seconds: float) -> str:
    """A time in the unit that it is read in, 9 wide."""
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (200 * 3600, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:>5.3g} {unit:<3}"
    return f"{seconds / 86400:>5.4g} d  "


def costs(plan: Plan, root: Path, runs: list[str]) -> dict[str, str]:
    """Run -> its cost in words, for runs of which anything is recorded."""
    recorded = {run: sum(recorded_jobs(plan, root, run).values(), []) for run in runs}
    accounted: dict[str, list[slurm.JobStart]] = {}  # job -> its starts; empty where nothing is accounted
    with suppress(slurm.UnansweredError):
        for start in slurm.job_starts([i for jobs in recorded.values() for job in jobs for i in job.slurm_ids]):
            accounted.setdefault(start.job, []).append(start)
    return {run: _sentence(plan, run, jobs, accounted) for run, jobs in recorded.items() if jobs}


def recorded_jobs(plan: Plan, root: Path, run: str) -> dict[PlannedJob, list[JobCost]]:
    """Cost of every training, sampling and scoring of a run that has left records, whole or in parts."""
    recorded = {}
    for job, paths in recorded_outputs(plan, run).items():
        records = (read_json_or_empty(run_path(root / path)) for path in paths)
        if jobs := job_costs(record for record in records if record):
            recorded[job] = jobs
    return recorded


def recorded_outputs(plan: Plan, run: str) -> dict[PlannedJob, list[str]]:
    """Every training, sampling and scoring of a run, and what its pilot measures -> the outputs whose records tell when
    it was."""
    outputs = {}
    for seed in plan.seeds_of(run):
        for milestone in plan.milestones(run):
            at = milestone if plan.suffix(run, milestone) else None
            if plan.runs[run].is_trained:
                outputs[PlannedJob("train", run, seed, at)] = stage_files.trained(plan, run, seed, milestone)
            outputs[PlannedJob("sample", run, seed, at)] = stage_files.samples(plan, run, seed, milestone)
            if (run, milestone) in plan.pilot_milestones:
                outputs[PlannedJob("distance", run, seed, at)] = stage_files.distances(plan, run, seed, milestone)
            outputs[PlannedJob("score", run, seed, at)] = stage_files.metrics(plan, run, seed, milestone)
    return outputs


def _sentence(plan: Plan, run: str, jobs: list[JobCost], accounted: dict[str, list[slurm.JobStart]]) -> str:
    by_slurm = [job for job in jobs if job.slurm_ids and accounted.keys() >= set(job.slurm_ids)]
    by_records = [job for job in jobs if job not in by_slurm]
    starts = [start for slurm_id in {i for job in by_slurm for i in job.slurm_ids} for start in accounted[slurm_id]]
    gpu_hours = sum(start.gpu_hours for start in starts) + sum(job.gpu_seconds for job in by_records) / 3600
    hours = (sum(start.seconds for start in starts) + sum(job.seconds for job in by_records)) / 3600
    attempts = len(starts) + sum(job.attempts for job in by_records)
    source = " and ".join(["SLURM's accounting"] * bool(by_slurm) + ["the jobs' own records"] * bool(by_records))
    seeds = plan.seeds_of(run)
    basis = f"{attempts} starts of jobs, {len(seeds)} training seed{'s' if len(seeds) > 1 else ''}; {source}"
    if not gpu_hours:
        return f"{hours:.3g} h without a GPU ({basis})"
    model = CostModel(plan, card(None))
    expected = model.total(job for seed in seeds for job in model.chain(run, seed))
    estimate = (expected.seconds + expected.assumed) / 3600
    return f"{gpu_hours:.3g} GPU h ({basis}); estimated beforehand, for no GPU in particular: {estimate:.3g}"
