"""The verbs of `lct`: each returns (exit code, value for --json, text for people)."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from lct.cli import cluster
from lct.cli.options import overrides, plan_arguments, scale_argument
from lct.cluster.status import overview
from lct.config.folder import ConfigFolder, Layer
from lct.config.model import Run
from lct.config.resolve import dataset_settings, main_settings, run_exists, run_settings, scale_settings
from lct.config.schema import plain
from lct.files.nested import flatten
from lct.lineage.record import unrecorded
from lct.losses.settings import ROBUST
from lct.networks.layout import parameters
from lct.plan.plan import Plan

Result = tuple[int, Any, str]


def show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run of config/runs/; with two, what differs")
    scale_argument(parser)


def report_arguments(parser: argparse.ArgumentParser) -> None:
    plan_arguments(parser)
    parser.add_argument("--all", action="store_true", help="with the tables that only `snakemake all_tables` makes")
    parser.add_argument("--tables", type=Path, metavar="FILE", help="a tables.json to render instead of what exists")


def show(arguments: argparse.Namespace) -> Result:
    """Dotted settings with their sources, or the differing ones of two runs."""
    if len(arguments.runs) > 2:
        raise ValueError(f"expected one run or two, found {len(arguments.runs)}; compare two at a time")
    config = ConfigFolder(arguments.root)
    scale_name = main_settings(config, overrides(arguments)).scale
    _, scale = scale_settings(config, scale_name)
    for name in arguments.runs:
        if not run_exists(config, name, scale):
            raise ValueError(f"expected runs of {sorted(config.run_entries())}, found {name!r}; fix the name")
    resolved = [run_settings(config, name, scale) for name in arguments.runs]
    tables = [
        {
            key: {"value": value, "source": run.sources.get(key, "default")}
            for key, value in flatten(plain(run.training)).items()
        }
        for run in resolved
    ]
    if len(tables) == 1:
        facts = _facts(config, resolved[0], scale_name, scale)
        width = max(map(len, [*tables[0], *facts]))
        lines = [f"{key:<{width}}  {_text(value)}" for key, value in facts.items()]
        lines += ["", *(f"{key:<{width}}  {_text(e['value']):<24}  {e['source']}" for key, e in tables[0].items())]
        return 0, {"facts": facts, "settings": tables[0]}, "\n".join(lines)
    keys = [key for key in tables[0] | tables[1] if _value(tables[0], key) != _value(tables[1], key)]
    width = max(map(len, keys), default=0)
    a, b = arguments.runs
    lines = [f"{f'scale {scale_name}':<{width}}  {a:<24}  {b}"]
    lines += [f"{key:<{width}}  {_text(_value(tables[0], key)):<24}  {_text(_value(tables[1], key))}" for key in keys]
    return 0, {key: {a: _value(tables[0], key), b: _value(tables[1], key)} for key in keys}, "\n".join(lines)


def _facts(config: ConfigFolder, run: Run, scale_name: str, scale: Layer) -> dict[str, Any]:
    """What follows from a run's settings: sizes, steps, stages."""
    dataset, _ = dataset_settings(config, run.dataset, scale, f"run {run.id}: dataset")
    training, count = run.training, dataset.count
    facts: dict[str, Any] = {"scale": scale_name, "run": run.id, "dataset": run.dataset, "method": run.method}
    facts |= {"reading": run.note} if run.note else {}
    facts |= {"weights": f"{run.weights.path} (no training)"} if run.weights else {}
    side = dataset.resolution // dataset.autoencoder.downsampling
    channels = dataset.autoencoder.latent_channels
    total, trainable = parameters(training.network, channels, side)
    facts |= {"latents": [channels, side, side], "parameters": total, "trainable parameters": trainable}
    facts["samplers"] = {name: f"{sampler.nfe} NFE" for name, sampler in run.samplers.items()}
    if count is None and training.steps is None:
        return facts
    steps = training.schedule_steps(count or 0)
    facts |= {"steps of the schedule": steps, "steps taken": training.total_steps(count or 0)}
    if training.epochs:
        facts["steps per epoch"] = training.steps_per_epoch(count)
    if training.curriculum.kind == "ict":
        length, c0 = training.curriculum.stage_steps(steps), training.curriculum.s0
        stages = [training.curriculum.intervals(stage * length, steps) for stage in range(training.curriculum.stages)]
        facts |= {
            "steps of a stage": length,
            "intervals s by stage": stages,
            "points N by stage": [s + 1 for s in stages],
        }
        if training.objective.loss in ROBUST:
            scales = [training.objective.scale.c(s, c0, channels * side**2, training.grid) for s in stages]
            facts["c by stage"] = [float(f"{c:.4g}") for c in scales]
    return facts


def _value(table: dict[str, dict[str, Any]], key: str) -> Any:
    return table[key]["value"] if key in table else "-"


def _text(value: Any) -> str:
    return json.dumps(value) if not isinstance(value, str) else value


def status(arguments: argparse.Namespace) -> Result:
    """How far every run is, and what remains."""
    return cluster.watch(lambda: _status(arguments)) if arguments.watch else _status(arguments)


def _status(arguments: argparse.Namespace) -> Result:
    plan = Plan(arguments.root, overrides(arguments))
    value, lines = overview(plan, arguments.root, 60 * arguments.hung_after)
    lines.append(f"what remains, and why: snakemake -n --config scale={plan.scale_name}")
    new = unrecorded(arguments.root, plan.scale_name)
    if new:
        lines.append(f"{len(new)} outputs are not recorded: lct record --scale {plan.scale_name}")
    return 0, value | {"unrecorded": new}, "\n".join(lines)


def report(arguments: argparse.Namespace) -> Result:
    """Collect and render without the graph, by the graph's own job; cells that do not exist yet appear as not run."""
    plan = Plan(arguments.root, overrides(arguments))
    which = "all" if arguments.all else "tables"
    index = plan.paths.report("index.html", which)
    command = [sys.executable, "-m", "lct.jobs.report", "--scale", plan.scale_name]
    command += ["--dataset", plan.main.dataset] if plan.main.dataset else []
    command += ["--preview", "--tables", arguments.tables.absolute()] if arguments.tables else ["--collect", which]
    command += ["--out", plan.paths.report("", which)]
    done = subprocess.run(command, cwd=arguments.root, stdout=-1, stderr=-1, text=True, check=False)
    if done.returncode != 0:
        lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines()
        raise ValueError(lines[-1].removeprefix("error: ") if lines else "the report ended without a message")
    return 0, {"report": index}, f"{index}\nthe graph does the same when all cells exist: snakemake {index}"
