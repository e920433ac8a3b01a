"""`lct show`: what a scale holds, the rows of a table, the resolved settings of a run, or what differs between two."""

import argparse
import json
from typing import Any

from lct.cli.options import Result, argument
from lct.cli.plans import selected
from lct.config.folder import ConfigFolder
from lct.config.model import Dataset, Run
from lct.config.resolve import dataset_settings, main_settings, run_exists, run_settings, scale_settings
from lct.config.schema import plain
from lct.files.records import MISSING, differences, flatten
from lct.plan import listing
from lct.plan.listing import facts
from lct.plan.names import cells_named
from lct.plan.plan import Cell, Plan
from lct.plan.selection import overrides


@argument("names", nargs="*", metavar="NAME", help="a run, or a table, sub-table or row; with two runs, what differs")
def show(arguments: argparse.Namespace) -> Result:
    """Resolved settings of a run, or what differs between two.

    An overview; the rows of a table; dotted settings of a run with their sources; or the differing ones of two."""
    if len(arguments.names) > 2:
        raise ValueError(f"expected two names at most, found {len(arguments.names)}; compare two at a time")
    config = ConfigFolder(arguments.root)
    scale_name = main_settings(config, overrides(arguments)).scale
    _, scale = scale_settings(config, scale_name)
    names = arguments.names
    if not names or not all(run_exists(config, name, scale) for name in names):
        plan, _ = selected(arguments, names)
        if not names:
            return _overview(plan)
        cells = [cells_named(plan.cells, [name], scale_name) for name in names]
        if any(len(of) > 1 for of in cells):
            return _rows([cell for of in cells for cell in of])
        names = [of[0].run for of in cells]
    runs = [run_settings(config, name, scale) for name in names]
    if len(runs) == 2:
        return _compare(runs[0], runs[1], scale_name)
    dataset, sources = dataset_settings(config, runs[0].dataset, scale, f"run {runs[0].id}: dataset")
    return _show(runs[0], facts(runs[0], dataset, scale_name), _data(dataset, sources))


def _overview(plan: Plan) -> Result:
    """What the scale holds, and how to see more."""
    unlisted = [name for name in plan.unlisted() if name not in plan.own_runs]
    lines = [
        *plan.scale.banner,
        *listing.dry_run_lines(plan),
        f"runs that no table lists: {', '.join(unlisted) or 'none'}",
        "lct show NAME: rows or a run; lct table: results; lct plan: cost; snakemake --list: targets",
    ]
    own = plan.main.dataset
    data = _data(plan.datasets[own], plan.dataset_sources[own]) if own else {}
    lines += _lines(data)
    tables = {name: [cell.name for cell in plan.cells if cell.table == name] for name in plan.tables}
    value = {"scale": plan.scale_name, "tables": tables, "unlisted_runs": unlisted, "data": data}
    return 0, value, "\n".join(lines)


def _rows(cells: list[Cell]) -> Result:
    """Which run, weights and sampler answer each row."""
    keys = ("run", "weights", "sampler")
    value = {
        cell.name: {key: getattr(cell, key) for key in keys} | {"seeds": sorted({s.seed for s in cell.sets})}
        for cell in cells
    }
    rows = [(name, *(of[key] for key in keys)) for name, of in value.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return 0, value, "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


Sourced = dict[str, dict[str, Any]]  # dotted key -> {"value", "source"}


def _data(dataset: Dataset, sources: dict[str, str]) -> Sourced:
    """Settings of a dataset; what it sets for trainings is among those of the run."""
    values = {key: value for key, value in flatten(plain(dataset)).items() if not key.startswith("training.")}
    return {f"data.{key}": {"value": v, "source": sources.get(key, "default")} for key, v in values.items()}


def _lines(settings: Sourced, width: int = 0) -> list[str]:
    width = max([width, *map(len, settings)])
    return [f"{key:<{width}}  {_text(e['value']):<24}  {e['source']}" for key, e in settings.items()]


def _show(run: Run, run_facts: dict[str, Any], data: Sourced) -> Result:
    applied = flatten(run.applied)
    settings = {k: {"value": v, "source": run.sources.get(k, "default")} for k, v in applied.items()} | data
    width = max(map(len, [*settings, *run_facts]))
    lines = [f"{key:<{width}}  {_text(value)}" for key, value in run_facts.items()]
    lines += ["", *_lines(settings, width)]
    return 0, {"facts": run_facts, "settings": settings}, "\n".join(lines)


def _compare(a: Run, b: Run, scale_name: str) -> Result:
    pairs = differences(flatten(a.applied), flatten(b.applied))
    sides = {key: ["-" if value is MISSING else value for value in pair] for key, pair in pairs.items()}
    differing = {key: dict(zip((a.id, b.id), of, strict=True)) for key, of in sides.items()}
    width = max(map(len, differing), default=0)
    lines = [f"{f'scale {scale_name}':<{width}}  {a.id:<24}  {b.id}"]
    lines += [f"{key:<{width}}  {_text(left):<24}  {_text(right)}" for key, (left, right) in sides.items()]
    return 0, differing, "\n".join(lines)


def _text(value: Any) -> str:
    return json.dumps(value) if not isinstance(value, str) else value
