"""`lct table`, `lct report`, `lct score`: results in the terminal, as a report, and of images of any origin."""

import argparse
import json
from pathlib import Path
from typing import Any

from lct.checks import require
from lct.cli.options import Result, all_tables, argument, run_job, selected, selected_plan
from lct.files.atomic import read_json
from lct.files.records import settings_path
from lct.plan.paths import METRICS
from lct.report.collect import collect
from lct.report.tables import dump, dumps, loads
from lct.report.terminal import aligned, results
from lct.report.text import number

PREVIEWS = "reports/preview"  # for reports of what exists, where the graph has rendered one already


@argument("cells", nargs="*", metavar="CELL", help="a table, sub-table, row or run (default: all results)")
def table(arguments: argparse.Namespace) -> Result:
    """Results in the terminal.

    Rows from the metrics files that exist; the rows that are named, with numbers or without."""
    plan, cells = selected(arguments, arguments.cells)
    names = {cell.name for cell in cells} if arguments.cells else None
    collected = loads(dumps(collect(plan, arguments.root, "all")))
    lines = results(collected, names) or [
        f"nothing is measured yet: snakemake {' '.join([*arguments.cells, ''])}{plan.snakemake_options}"
    ]
    return 0, dump(collected)["tables"], "\n".join(lines)


@all_tables
@argument("--tables", type=Path, metavar="FILE", help="a tables.json to render instead of what exists")
def report(arguments: argparse.Namespace) -> Result:
    """Render the report from whatever cells exist.

    Collects and renders without the graph; cells that do not exist yet appear as not run. A report of the graph,
    which has records, stays as it is: this one is then written beside it."""
    plan, tables = selected_plan(arguments), arguments.which
    graphs = index = plan.paths.report("index.html", tables)
    if settings_path(arguments.root / index).exists():
        index = f"{PREVIEWS}/{index.removeprefix('reports/')}"
    if arguments.tables:
        where, advice = f"--tables {arguments.tables}", f"some tables alone: lct report --only {arguments.tables.name}"
        require(arguments.tables.exists(), where, "a tables.json", "no such file", advice)
    words = ["--preview", "--tables", str(arguments.tables.absolute())] if arguments.tables else ["--collect", tables]
    run_job(arguments.root, plan, "report", *words, "--out", index.removesuffix("index.html"))
    beside = f"; {graphs} is that of the last run, as its records say" if graphs != index else ""
    command = f"snakemake {graphs} {plan.snakemake_options}"
    return 0, {"report": index}, f"{index}\nthe graph does the same when all cells exist: {command}{beside}"


@argument("images", type=Path, metavar="IMAGES", help="a folder, zip, tar, npz or npy of images")
@argument("--like", required=True, metavar="CELL", help="row whose protocol and real images are taken")
def score(arguments: argparse.Namespace) -> Result:
    """Measure a folder, zip or npz of images of any origin by the protocol of a row.

    By every protocol of the scale, beside the numbers of the row, where it has some."""
    plan, cells = selected(arguments, [arguments.like])
    cell, images = cells[0], arguments.images.absolute()
    dataset = plan.runs[cell.run].dataset
    measured = json.loads(run_job(arguments.root, plan, "score_images", "--of", dataset, str(images)).splitlines()[-1])
    first = plan.protocol.id
    lines = [["", *METRICS, "images"], _line(arguments.images.name, measured[first])]
    paths = {s.seed: arguments.root / plan.paths.metrics(*s, first) for s in reversed(cell.sets)}
    lines += [_line(f"{cell.name} seed {s}", read_json(of)) for s, of in sorted(paths.items()) if of.exists()]
    texts = [*aligned(lines), f"protocol {first}, hash {measured[first]['protocol_hash'][:12]}, against {dataset}"]
    for name in list(measured)[1:]:
        texts += ["", *aligned([lines[0], _line(arguments.images.name, measured[name])]), f"protocol {name}"]
    return 0, measured, "\n".join(texts)


def _line(name: str, content: dict[str, Any]) -> list[str]:
    values = [content["values"][metric] for metric in METRICS]
    return [name, *("-" if value is None else number(value) for value in values), str(content["num_images"])]
