"""What the graph calls when a run ends."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from lct.lineage import dvc

_SWITCHES = ("record", "allow_retrain", "save_minutes")  # keys of the configuration that no output depends on


def record_run(root: Path, config: dict[str, Any], scale: str) -> str:
    """Record what a finished or failed run has made, and say how that went. Never raises: a run does not fail because
    its record did. `lct record` is a process of its own, since it plans the graph again."""
    settings = json.dumps({key: value for key, value in config.items() if key not in _SWITCHES})
    command = [sys.executable, "-m", "lct.cli.main", "record", "--in-run", "--scale", scale, "--config", settings]
    try:
        dvc.check(root)
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except (ValueError, OSError) as error:
        return f"Lineage not recorded: {' '.join(str(error).split())}"
    if report := done.stdout.strip():
        return f"Lineage: {report}"
    lines = done.stderr.strip().splitlines()
    return f"Lineage not recorded: {lines[-1] if lines else 'lct record ended without a word'}"
