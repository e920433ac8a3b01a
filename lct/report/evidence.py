"""What we know and do not: facts, conflicts and the authors' logged evaluations, from config/evidence/, as one page."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

from lct.config.claims import Certainty, Evidence
from lct.config.folder import load_yaml
from lct.config.schema import build
from lct.report.text import NOT_GIVEN, number
from lct.report.view import Report

FOLDER = Path("config/evidence")
SETTINGS = ("dataset", "loss", "ot", "c_schedule", "norm", "diff_threshold")  # columns that tell trainings apart
ON_REQUEST = ("readings",)  # tables that only `snakemake all_tables` makes


@dataclass(frozen=True)
class LoggedRun:
    """One training in the authors' log: everything that was logged of it with one EMA and sampler."""

    name: str
    assigned: str  # empty: the lines name it; else how sure we are that it is this one
    settings: str
    ema: str
    sampling: str
    lines: int
    last: str  # FID at the last epoch
    epochs: str
    path: str  # of its small curve: minus log FID against the epoch, an SVG path; empty for fewer than three epochs
    box: str  # the part of the plane that it fills, as an SVG's viewBox
    spoken: str


def read(root: Path) -> tuple[Evidence, list[dict[str, str]]]:
    """Facts and log lines; ValueError with one line if a file is damaged."""
    where = root / FOLDER / "facts.yaml"
    evidence = build(Evidence, load_yaml(where), str(where))
    log = root / FOLDER / "authors_runs.csv"
    with open(log, encoding="utf-8", newline="") as handle:
        lines = list(csv.DictReader(handle))
    if not lines or not {"experiment", "epoch", "ema", "sampling", "fid", "era", *SETTINGS} <= lines[0].keys():
        raise ValueError(f"{log}: expected the columns of the authors' log, found others; git checkout -- {log}")
    return evidence, lines


def page(evidence: Evidence, lines: list[dict[str, str]], shown: Report) -> dict[str, Any]:
    """What the page shows. lines: of the authors' log."""
    rows = {row.place: row for table in shown.tables for subtable in table.subtables for row in subtable.rows}
    topics = groupby(evidence.facts, key=lambda fact: fact.topic)
    return {
        "rows": rows,
        "topics": [(topic, list(facts)) for topic, facts in topics],
        "conflicts": [(conflict, commands(conflict.settled_by)) for conflict in evidence.conflicts],
        "counts": {kind: sum(fact.certainty == kind for fact in evidence.facts) for kind in get_args(Certainty)},
        "unknown": [fact for fact in evidence.facts if fact.certainty == "not known"],
        "runs": logged_runs(lines),
        "lines": lines,
    }


def commands(places: Sequence[str]) -> list[str]:
    """What computes these rows, each table.sub-table.row, at paper scale."""
    targets = dict.fromkeys("all_tables " * (place.partition(".")[0] in ON_REQUEST) for place in places)
    return [f"snakemake {target}--config scale=paper" for target in targets]


def logged_runs(lines: list[dict[str, str]]) -> list[LoggedRun]:
    """Trainings of the paper's time in the log, best last FID first."""
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for line in lines:
        name = line["experiment"] or line["inferred_experiment"]
        if name and line["era"] == "paper":
            assigned = "" if line["experiment"] else line["inference_strength"] or "weak"
            key = (name, assigned, *(line[column] for column in SETTINGS), line["ema"], line["sampling"])
            groups.setdefault(key, []).append(line)
    runs = []
    for (name, assigned, *settings, ema, sampling), of in groups.items():
        points = sorted({(float(e), float(line["fid"])) for line in of if (e := line["epoch"]).isdigit()})
        named = zip(SETTINGS, settings, strict=True)
        text = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in named if value)
        last = span = NOT_GIVEN
        spoken = path = box = ""
        if points:
            (first, start), (end, fid) = points[0], points[-1]
            last, span = number(fid), f"{first:.0f} to {end:.0f}"
            spoken = f"FID {number(start)} at epoch {first:.0f}, {last} at {end:.0f}"
        if len({epoch for epoch, _ in points}) >= 3:
            heights = [-math.log(fid) for _, fid in points]
            path = "M" + "L".join(f"{epoch:.0f} {y:.4f}" for (epoch, _), y in zip(points, heights, strict=True))
            box = f"{first:.0f} {min(heights):.4f} {end - first:.0f} {(max(heights) - min(heights)) or 1:.4f}"
        runs.append(LoggedRun(name, assigned, text, ema, sampling, len(of), last, span, path, box, spoken))
    return sorted(
        runs,
        key=lambda run: (run.last == NOT_GIVEN, float(run.last) if run.last != NOT_GIVEN else 0, run.name, run.ema),
    )
