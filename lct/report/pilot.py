"""The pilot: the first milestones of a run against the authors' log, with a verdict and a page.

The logged values are read from config/evidence/authors_runs.csv, by the line that the row's origin names. An FID is on
the curve when the logged one lies in the band of one more training of the same law (lct.report.verdicts).
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lct.checks import require
from lct.claims.noise import band, scaled
from lct.files.atomic import read_json
from lct.plan.plan import Cell, Plan
from lct.report.claims import prior_noise
from lct.report.evidence import read

GO, LOOK, WAIT, UNLIKE = "go on", "look first", "not measured yet", "not comparable"
_LINE = re.compile(r"run (?P<experiment>\S+), epoch (?P<epoch>\d+), EMA (?P<ema>\S+)")


def logged_fid(plan: Plan, cell: Cell, lines: Sequence[dict[str, str]]) -> float:
    """FID that the authors logged for a row. Raises ValueError unless a single line of the log is the row's."""
    where = f"config/published: {cell.name}"
    origin = plan.published_rows.row(cell.name, where).origin
    named = _LINE.match(getattr(origin, "line", None) or "")
    require(named is not None, where, "a row of the authors' log as pilot", origin, "take another row")
    nfe = plan.runs[cell.run].samplers[cell.sampler].nfe
    fids = {
        float(line["fid"])
        for line in lines
        if all(line[key] == value for key, value in named.groupdict().items()) and line["sampling"] == f"{nfe}-step"
    }
    require(len(fids) == 1, where, f"a line of authors_runs.csv with {named[0]}", len(fids))
    return fids.pop()


def judge(plan: Plan, root: Path, cells: Sequence[Cell]) -> dict[str, Any]:
    """Every row of the pilot with its verdict, and that of all: go on, look first, not measured yet, or not comparable,
    where the scale measures no FID as the paper does."""
    _, lines = read(root)
    noise = prior_noise(plan.config, plan.published_rows)
    rows = [_row(plan, root, cell, logged_fid(plan, cell, lines), noise) for cell in cells]
    verdicts = [row["verdict"] for row in rows]
    verdict = next((kind for kind in (LOOK, WAIT, UNLIKE) if kind in verdicts), GO)
    return {"scale": plan.scale_name, "verdict": verdict, "noise": noise.source, "sigma": noise.sd, "rows": rows}


def _row(plan: Plan, root: Path, cell: Cell, logged: float, noise: Any) -> dict[str, Any]:
    half = math.exp(band(noise, 1))
    training = plan.runs[cell.run].training
    row: dict[str, Any] = {"row": cell.name, "run": cell.run, "weights": cell.weights, "logged": logged}
    row |= {"low": logged / half, "high": logged * half, "batch": training.batch, "ours": None, "verdict": WAIT}
    sets = cell.sets[0]
    path = plan.paths.distance(*sets, plan.protocol.id)
    if not (root / path).exists():
        return row
    content = read_json(root / path)
    ours = content["values"]["fd"]
    inside = ours is not None and ours > 0 and abs(scaled("fid", ours) - scaled("fid", logged)) <= band(noise, 1)
    verdict = (GO if inside else LOOK) if plan.scale.comparable and plan.scale.distance == "FID" else UNLIKE
    protocol = {"protocol": content["protocol"]["id"], "images": content["num_images"], "distance": path}
    return row | protocol | {"ours": ours, "verdict": verdict}
