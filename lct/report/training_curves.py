"""Numbers of a training's curve: how much its loss scatters."""

import statistics
from pathlib import Path

from lct.files.atomic import read_json

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
