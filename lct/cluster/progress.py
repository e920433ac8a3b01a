"""How far trainings are that have not finished, from the progress files they write."""

from pathlib import Path
from typing import Any

from lct.files.atomic import read_json
from lct.files.lock import is_held


def unfinished(work: Path) -> list[dict[str, Any]]:
    """Every training that has state under `work`: name, running (is its lock held?), step, total, loss, eta_seconds."""
    found = []
    for path in sorted(work.glob("*/s*/*/progress.json")):
        run, seed = path.parts[-4:-2]
        lock = path.parent.with_name(f"{path.parent.name}.lock")
        found.append({"name": f"{run} {seed}", "running": is_held(lock), **read_json(path)})
    return found
