"""How far running trainings are, from the progress files they write; reads nothing else."""

from pathlib import Path
from typing import Any

from lct.files.atomic import read_json


def running(work: Path) -> list[dict[str, Any]]:
    """Progress of every training that has state under `work`: name, step, total, loss, eta_seconds."""
    found = []
    for path in sorted(work.glob("*/s*/*/progress.json")):
        run, seed = path.parts[-4:-2]
        found.append({"name": f"{run} {seed}", **read_json(path)})
    return found
