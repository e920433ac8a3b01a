"""`lct show`: the resolved settings of a run, or the settings that differ between two runs."""

import argparse
import json
from typing import Any

from lct.cli.options import overrides, scale_argument
from lct.cli.verb import Result
from lct.config.folder import ConfigFolder
from lct.config.model import Run
from lct.config.resolve import dataset_settings, main_settings, run_exists, run_settings, scale_settings
from lct.config.schema import plain
from lct.files.nested import flatten
from lct.plan.facts import facts


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run of config/runs/; with two, what differs")
    scale_argument(parser)


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
    runs = [run_settings(config, name, scale) for name in arguments.runs]
    if len(runs) == 2:
        return _compare(runs[0], runs[1], scale_name)
    dataset, _ = dataset_settings(config, runs[0].dataset, scale, f"run {runs[0].id}: dataset")
    return _show(runs[0], facts(runs[0], dataset, scale_name))


def _show(run: Run, run_facts: dict[str, Any]) -> Result:
    settings = {k: {"value": v, "source": run.sources.get(k, "default")} for k, v in _flat(run).items()}
    width = max(map(len, [*settings, *run_facts]))
    lines = [f"{key:<{width}}  {_text(value)}" for key, value in run_facts.items()]
    lines += ["", *(f"{key:<{width}}  {_text(e['value']):<24}  {e['source']}" for key, e in settings.items())]
    return 0, {"facts": run_facts, "settings": settings}, "\n".join(lines)


def _compare(a: Run, b: Run, scale_name: str) -> Result:
    left, right = _flat(a), _flat(b)
    differing = {
        key: {a.id: left.get(key, "-"), b.id: right.get(key, "-")}
        for key in left | right
        if left.get(key, "-") != right.get(key, "-")
    }
    width = max(map(len, differing), default=0)
    lines = [f"{f'scale {scale_name}':<{width}}  {a.id:<24}  {b.id}"]
    lines += [f"{key:<{width}}  {_text(pair[a.id]):<24}  {_text(pair[b.id])}" for key, pair in differing.items()]
    return 0, differing, "\n".join(lines)


def _flat(run: Run) -> dict[str, Any]:
    """Dotted key -> value of the training settings."""
    return flatten(plain(run.training))


def _text(value: Any) -> str:
    return json.dumps(value) if not isinstance(value, str) else value
