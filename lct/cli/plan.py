"""`lct plan`: what a scale would cost, before; and after, what was planned against what it took."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lct.cli.options import overrides, plan_arguments
from lct.cluster.costs import Job, jobs
from lct.cluster.estimate import Cost, Estimate, Key
from lct.cluster.rates import machine
from lct.files.formatting import format_size
from lct.plan.plan import Plan

Result = tuple[int, Any, str]
LEFT_OUT = "not counted: downloads, preparing images, figures, the report; a cell's cost is that of every job it needs"


def arguments(parser: argparse.ArgumentParser) -> None:
    plan_arguments(parser)
    parser.add_argument("--all", action="store_true", help="with the tables that only `snakemake all_tables` makes")
    parser.add_argument("--device", help="of config/devices/, or a GPU such as a100 (default: this machine)")
    parser.add_argument("--gpus", type=int, default=1, help="devices that work at once (default: 1)")
    parser.add_argument("--price", type=float, help="money per device and hour")
    parser.add_argument("--max-gpu-hours", type=float, help="warn when the scale costs more; nothing is refused")


@dataclass(frozen=True)
class Line:
    """One line of the plan."""

    name: str
    cost: Cost
    wall: float  # seconds

    def value(self, price: float | None) -> dict[str, Any]:
        hours = self.cost.seconds / 3600
        made = {
            "hours": hours,
            "share_estimated": self.cost.estimated / self.cost.seconds if self.cost.seconds else 0.0,
            "wall_hours": self.wall / 3600,
            "disk_bytes": round(self.cost.disk),
            "not_measured": sorted(self.cost.unknown),
        }
        return made | ({"price": hours * price} if price is not None else {})

    def words(self, width: int, price: float | None) -> str:
        value = self.value(price)
        mark = "~" if value["share_estimated"] > 0 else " "
        more = "+?" if self.cost.unknown else "  "
        columns = [
            f"{self.name:<{width}}",
            f"{mark}{_hours(self.cost.seconds)}{more}",
            f"{mark}{_hours(self.wall)}{more}",
        ]
        columns += [f"{format_size(self.cost.disk):>9}"] + ([f"{value['price']:>10.2f}"] if price is not None else [])
        return "  ".join(columns)


def plan_verb(arguments: argparse.Namespace) -> Result:
    if arguments.gpus < 1:
        raise ValueError(f"--gpus: expected 1 or more, found {arguments.gpus}")
    plan = Plan(arguments.root, overrides(arguments))
    device = machine(arguments.root, arguments.device)
    estimate, which, price = Estimate(plan, device), "all" if arguments.all else "tables", arguments.price

    def line(name: str, needed: set[Key]) -> Line:
        return Line(name, estimate.cost(needed), estimate.wall(needed, arguments.gpus))

    tables, cells = {}, {}
    for name in plan.tables_of(which):
        mine = [cell for cell in plan.cells_of(which) if cell.table == name]
        tables[name] = line(name, estimate.needed(mine))
        cells[name] = [line(f"  {c.table}.{c.subtable}.{c.row}", estimate.needed([c])) for c in mine]
    everything = estimate.needed(plan.cells_of(which))
    total = line(f"all of {plan.scale_name}", everything)
    width = max(len(one.name) for one in [total, *tables.values(), *(c for found in cells.values() for c in found)])
    unit = "GPU h" if device.gpu else "core h"
    price_title = f"  {'price':>10}" if price is not None else ""
    lines = [f"{plan.scale_name} on {arguments.gpus} x {device.name}"]
    lines.append(f"{'':<{width}}  {unit:>9}    {'wall':>9}    {'disk':>9}{price_title}")
    for name, found in tables.items():
        lines += [found.words(width, price), *(cell.words(width, price) for cell in cells[name])]
    lines += [total.words(width, price), "", "rates:"]
    lines += [f"  {work}: {source}" for work, source in sorted(total.cost.sources.items())]
    lines += [f"  {work}: not measured, left out of the hours (+?)" for work in sorted(total.cost.unknown)]
    lines.append(f"~ holds estimates; {LEFT_OUT}")
    value = {
        "scale": plan.scale_name,
        "device": device.name,
        "devices": arguments.gpus,
        "total": total.value(price),
        "tables": {name: found.value(price) for name, found in tables.items()},
        "cells": {cell.name.strip(): cell.value(price) for found in cells.values() for cell in found},
        "rates": total.cost.sources,
        "not_measured": sorted(total.cost.unknown),
    }
    took, said = _actual(estimate, arguments.root, which)
    value["actual"], lines = took, lines + said
    if arguments.max_gpu_hours is not None and total.cost.seconds / 3600 > arguments.max_gpu_hours:
        value["warning"] = f"{total.cost.seconds / 3600:.4g} hours planned, {arguments.max_gpu_hours:g} wanted at most"
        lines.append(f"warning: {value['warning']}; fewer tables, seeds or epochs in config/scales/ cost less")
    lines.append(f"the graph it is about: snakemake -n --config scale={plan.scale_name}")
    return 0, value, "\n".join(lines)


def _actual(estimate: Estimate, root: Path, which: str) -> tuple[dict[str, Any], list[str]]:
    """Planned against actual seconds of what has finished, by run."""
    plan, found = estimate.plan, {}
    for run in plan.runs_of(which):
        finished = {(stage, run, seed): job for stage, seed, job in jobs(plan, root, run)}
        if finished:
            planned = sum(estimate.recorded(key) for key in finished)
            took = sum(job.seconds for job in finished.values())
            of = sum(len(estimate.chain(run, seed)) for seed in plan.seeds_of(run))
            found[run] = {"jobs": len(finished), "of": of, "planned_seconds": planned, "actual_seconds": took}
            found[run]["stages"] = _stages(estimate, finished)
    if not found:
        return {}, []
    lines = ["", "planned against actual, finished jobs of each run, without the start of Python:"]
    width = max(map(len, found))
    totals = [sum(one[key] for one in found.values()) for key in ("planned_seconds", "actual_seconds")]
    for run, one in [*found.items(), ("all", {"planned_seconds": totals[0], "actual_seconds": totals[1]})]:
        planned, took = one["planned_seconds"], one["actual_seconds"]
        ratio = f"x {took / planned:.2f}" if planned else ""
        jobs_done = f", {one['jobs']} of {one['of']} jobs" if "jobs" in one else ""
        lines.append(f"  {run:<{width}}  {_hours(planned)}  {_hours(took)}  {ratio}{jobs_done}")
    return found, lines


def _stages(estimate: Estimate, finished: dict[Key, Job]) -> dict[str, dict[str, float]]:
    """The same by stage."""
    stages: dict[str, dict[str, float]] = {}
    for key, job in finished.items():
        one = stages.setdefault(key[0], {"planned_seconds": 0.0, "actual_seconds": 0.0})
        one["planned_seconds"] += estimate.recorded(key)
        one["actual_seconds"] += job.seconds
    return stages


def _hours(seconds: float) -> str:
    """A time in the unit that it is read in, 9 wide."""
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (200 * 3600, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:>5.3g} {unit:<3}"
    return f"{seconds / 86400:>5.4g} d  "
