"""`lct score`: images of any origin, measured like a cell."""

import argparse
import json
from pathlib import Path
from typing import Any

from lct.cli.options import Result, run_job, selected
from lct.files.atomic import read_json
from lct.plan.paths import METRICS
from lct.plan.plan import Cell, Plan
from lct.report.terminal import aligned
from lct.report.text import number


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", type=Path, metavar="IMAGES", help="a folder, zip, tar, npz or npy of images")
    parser.add_argument("--like", required=True, metavar="CELL", help="row whose protocol and real images are taken")


def score(arguments: argparse.Namespace) -> Result:
    """Measure a folder, zip or npz of images of any origin by the protocol of a row.

    By every protocol of the scale, beside the numbers of the row, where it has some."""
    plan, cells = selected(arguments, [arguments.like])
    cell, images = cells[0], arguments.images.absolute()
    dataset = plan.runs[cell.run].dataset
    measured = json.loads(run_job(arguments.root, plan, "score_images", "--of", dataset, str(images)).splitlines()[-1])
    first = plan.protocol.id
    lines = [["", *METRICS, "images"], _line(arguments.images.name, measured[first])]
    lines += [_line(f"{cell.name} seed {s}", content) for s, content in _of_cell(plan, arguments.root, cell)]
    texts = [*aligned(lines), f"protocol {first}, hash {measured[first]['protocol_hash'][:12]}, against {dataset}"]
    for name in list(measured)[1:]:
        texts += ["", *aligned([lines[0], _line(arguments.images.name, measured[name])]), f"protocol {name}"]
    return 0, measured, "\n".join(texts)


def _of_cell(plan: Plan, root: Path, cell: Cell) -> list[tuple[int, dict[str, Any]]]:
    """(seed, metrics file) of a row, those that exist."""
    paths = {s.seed: root / plan.paths.metrics(*s, plan.protocol.id) for s in reversed(cell.sets)}
    return [(seed, read_json(path)) for seed, path in sorted(paths.items()) if path.exists()]


def _line(name: str, content: dict[str, Any]) -> list[str]:
    values = [content["values"][metric] for metric in METRICS]
    return [name, *("-" if value is None else number(value) for value in values), str(content["num_images"])]
