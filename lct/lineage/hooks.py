"""What the graph calls when a run ends, and when the next one starts."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lct.files.atomic import read_json_or_empty, write_json
from lct.files.lock import is_held
from lct.files.records import run_path, settings_path
from lct.lineage import dvc
from lct.lineage.record import RUN_LOCK
from lct.plan.plan import Plan
from lct.plan.selection import option_words

PENDING = ".snakemake/lct-record.json"  # a recording that has not ended well: {"config", "scale"}
_SWITCHES = ("record", "allow_retrain", "save_minutes", "keep_images")  # keys that no output depends on


def record_run(root: Path, config: dict[str, Any], scale: str, step: Sequence[str] = ()) -> str:
    """Record what a finished or failed run has made, and say how that went. Never raises: a run does not fail because
    its record did. `lct record` is a process of its own, since it plans the graph again. A recording that fails or is
    interrupted is tried again when the next run starts.

    step: words before the command, such as srun's, that start it on another node."""
    with contextlib.suppress(OSError):
        write_json(root / PENDING, {"config": config, "scale": scale})
    settings = json.dumps({key: value for key, value in config.items() if key not in _SWITCHES})
    try:
        dvc.check(root)
        report, fault = _lct(root, "record", "--in-run", "--scale", scale, "--config", settings, step=step)
    except KeyboardInterrupt:
        return f"Lineage not recorded: interrupted; the next run records, or `lct record --scale {scale}` does"
    except ValueError as error:
        report, fault = "", " ".join(str(error).split())
    if report:
        with contextlib.suppress(OSError):
            (root / PENDING).unlink(missing_ok=True)
        return f"Lineage: {report}"
    return f"Lineage not recorded: {fault}"


def _lct(root: Path, *words: str, step: Sequence[str] = ()) -> tuple[str, str]:
    """What a verb prints in a process of its own, and its last line about errors. Never raises."""
    command = [*step, sys.executable, "-m", "lct.cli.main", *words]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except OSError as error:
        return "", " ".join(str(error).split())
    lines = done.stderr.strip().splitlines()
    return done.stdout.strip(), lines[-1] if lines else f"lct {words[0]} ended without a word"


def record_earlier_run(root: Path, say: Callable[[str], None]) -> None:
    """Record what an earlier run has made, where its recording failed or was interrupted, and no run goes on now."""
    pending = read_json_or_empty(root / PENDING) if (root / PENDING).exists() else {}
    if isinstance(pending.get("config"), dict) and isinstance(pending.get("scale"), str):
        if not is_held(root / RUN_LOCK):
            say(f"Of an earlier run: {record_run(root, pending['config'], pending['scale'])}")


def print_table(root: Path, plan: Plan, names: list[str]) -> str:
    """The results of rows, or of all, as `lct table` prints them. Never raises."""
    own = set(names) & set(plan.unlisted())  # they had no results when the plan was made
    table, fault = _lct(root, "table", "--scale", plan.scale_name, *option_words(plan, own), *names)
    return table or f"warning: no table printed: {fault}"


def render_report(root: Path, plan: Plan, which: str) -> str:
    """Render the report of what exists, as `lct report` does, and say where it is. Never raises: a run ends with the
    failure of its jobs. Records of an earlier report are removed, so that the graph renders this one again."""
    index = plan.paths.report("index.html", which)
    every = ["--all"] if which == "all" else []
    with contextlib.suppress(OSError):
        for record in (settings_path(index), run_path(index)):
            (root / record).unlink(missing_ok=True)
    report, fault = _lct(root, "report", "--scale", plan.scale_name, *option_words(plan), *every)
    return f"A report of what exists is at {index}" if report else f"warning: no report rendered: {fault}"
