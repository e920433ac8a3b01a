"""Numbers of training curves: how much a loss scatters, and how large residuals are by stage."""

import math
import statistics
from collections.abc import Iterable
from pathlib import Path

from lct.files.atomic import read_json
from lct.schedules import residual_by_stage

FEWEST = 5  # logged points of a stage that give a spread


def relative_spread(path: Path) -> float | None:
    """Standard deviation of the logged loss over its mean, in the last stage of the curriculum.

    path: a curves.json. None where it is absent, or its last stage has fewer than 5 points."""
    if not path.exists():
        return None
    curve = read_json(path)
    points = zip(curve["loss"], curve["intervals"], strict=True)
    losses = [loss for loss, intervals in points if intervals == curve["intervals"][-1]]
    if len(losses) < FEWEST or not statistics.fmean(losses) > 0:
        return None
    return statistics.stdev(losses) / statistics.fmean(losses)


def residuals(paths: Iterable[Path]) -> dict[int, float]:
    """Intervals s -> RMS of an element of the residual in that stage, over the trainings whose curves.json exists."""
    squares: dict[int, list[float]] = {}
    for curve in (read_json(path) for path in paths if path.exists()):
        for s, rms in residual_by_stage(curve).items():
            squares.setdefault(s, []).append(rms**2)
    return {s: math.sqrt(statistics.fmean(values)) for s, values in squares.items()}
