"""`lct table`, `lct score`: results in the terminal, and of images of any origin."""

import argparse
from pathlib import Path
from typing import Any

from lct.cli.options import Result, argument, run_job
from lct.cli.plans import selected
from lct.files.atomic import read_json
from lct.plan.paths import METRICS
from lct.report.collect import collect
from lct.report.tables import dump, dumps, loads
from lct.report.terminal import aligned, results
from lct.report.text import number


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


@argument("images", type=Path, metavar="IMAGES", help="a folder, zip, tar, npz or npy of images")
@argument("--like", required=True, metavar="CELL", help="row whose protocol and real images are taken")
def score(arguments: argparse.Namespace) -> Result:
    """Measure a folder, zip or npz of images of any origin by the protocol of a row.

    By every protocol of the scale, beside the numbers of the row, where it has some."""
    plan, cells = selected(arguments, [arguments.like])
    cell, images = cells[0], arguments.images.absolute()
    dataset = plan.runs[cell.run].dataset
    measured = run_job(arguments, "score_images", "--of", dataset, str(images))
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
