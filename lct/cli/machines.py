"""`lct plan`, `lct doctor`, `lct measure`: what a scale costs, and whether a machine or cluster is fit and how fast."""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from lct.checks import require
from lct.cli.options import Result, all_tables, argument
from lct.cli.plans import selected_plan
from lct.cluster import measure_options, timeline
from lct.cluster.checks import Finding
from lct.cluster.cost_model import CostModel
from lct.cluster.doctor import examine, summary
from lct.cluster.forecast import forecast
from lct.cluster.rates import planned_machine
from lct.files.atomic import write_text
from lct.lineage.dvc import place_fault


@all_tables
@argument(
    "--device", help="of config/devices/, or a GPU such as a100 (default: this machine, or an a100 at paper scale)"
)
@argument("--target", help="a target of snakemake instead of the tables: pilot, or a name as in --only")
@argument("--gpus", type=int, default=1, help="devices that work at once (default: 1)")
@argument("--price", type=float, help="money per device and hour")
@argument("--timeline", action="store_true", help="when each table appears, with the queue and wall limits")
@argument("--queue", type=float, default=timeline.QUEUE / 60, help="minutes that every job waits there (default: 5)")
@argument("--longest", type=float, default=timeline.LONGEST / 60, help="minutes that a job may run (default: 1440)")
@argument("--chart", type=Path, help="write the timeline as a drawing (SVG)")
@argument("--max-gpu-hours", type=float, help="warn when the scale costs more; nothing is refused")
def plan_verb(arguments: argparse.Namespace) -> Result:
    """What a scale costs: hours, wall time, disk and money per cell and table; afterwards, against what it took."""
    require(arguments.gpus >= 1, "--gpus", "1 or more", arguments.gpus)
    plan = selected_plan(arguments)
    graph = f"snakemake -n {plan.snakemake_options}"
    pilot = arguments.target == "pilot"
    has_it, expected = plan.pilot or not pilot, "a scale whose tables have a pilot"
    require(has_it, "--target pilot", expected, plan.scale_name, "take paper")
    if arguments.target is not None:
        rows = ",".join(plan.scale.pilot) if pilot else arguments.target
        graph = f"snakemake -n {arguments.target} {plan.snakemake_options}"
        plan = selected_plan(arguments, only=rows)
    model = CostModel(plan, planned_machine(arguments.root, arguments.device, plan.scale.needs_gpus), pilot)
    limits = (arguments.price, arguments.max_gpu_hours)
    value, lines = forecast(model, arguments.root, arguments.which, arguments.gpus, *limits)
    if arguments.timeline or arguments.chart:
        value["timeline"], more = _timeline(arguments, model)
        lines += ["", *more]
    return 0, value, "\n".join([*lines, f"the graph it is about: {graph}"])


def _timeline(arguments: argparse.Namespace, model: CostModel) -> tuple[dict[str, Any], list[str]]:
    allowed, given = arguments.queue >= 0 < arguments.longest, f"{arguments.queue:g} and {arguments.longest:g}"
    require(allowed, "--queue, --longest", "minutes, 0 or more and above 0", given)
    cells, queue = model.plan.cells_of(arguments.which), 60 * arguments.queue
    simulated = timeline.with_pilot(model, cells, arguments.gpus, queue, 60 * arguments.longest)
    taken = timeline.actual(model, arguments.root, cells)
    lines = timeline.lines(simulated, taken, arguments.gpus, model.machine.name, queue)
    if arguments.chart:
        title = f"{model.plan.scale_name} on {arguments.gpus} x {model.machine.name}"
        write_text(arguments.chart, timeline.chart(simulated, title))
        lines.append(f"  drawn: {arguments.chart}")
    appears = simulated.appears | {"everything": simulated.end}
    return {"appears_seconds": appears, "taken_seconds": taken, "jobs": len(simulated.jobs)}, lines


@argument("--profile", help="profile of a cluster, such as profiles/slurm (default: this machine alone)")
@argument(
    "--patience", type=float, default=10.0, metavar="MINUTES", help="wait for the probe job to start (default: 10)"
)
def doctor(arguments: argparse.Namespace) -> Result:
    """Is this machine, or the cluster of a profile, fit for a run?

    Exit code 1 when something would make a run fail."""
    plan = selected_plan(arguments)
    profile = None if arguments.profile is None else arguments.root / arguments.profile
    findings = examine(plan, arguments.root, profile, 60 * arguments.patience)
    if plan.main.record:
        fault = place_fault(arguments.root)
        why = fault or "git and DVC take what a run makes here"
        findings.append(Finding("fail" if fault else "ok", "recording", why))
    value, lines = summary(findings)
    return int(not value["ok"]), value, "\n".join(lines)


def measure(arguments: argparse.Namespace) -> Result:
    """How fast this machine does what the paper's jobs do, and which switches to turn on; 8 minutes on a GPU.

    Runs lct.jobs.measure, which brings torch, as a process of its own."""
    words = measure_options.words(arguments)
    done = subprocess.run(
        [sys.executable, "-m", "lct.jobs.measure", *words], stdout=subprocess.PIPE, text=True, check=False
    )
    lines = done.stdout.splitlines()
    text = "\n".join([*lines, f"the command behind it: python -m lct.jobs.measure {' '.join(words)}"])
    return done.returncode, {"lines": lines}, text
