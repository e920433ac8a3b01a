"""`lct status`, `lct rm`: how far trainings are, and taking away the results and the work of a run."""

import argparse
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lct.checks import invalid, require
from lct.cli.options import Result, argument
from lct.cli.plans import with_unlisted
from lct.cluster.status import overview
from lct.config.schema import ID_PATTERN
from lct.files.lock import is_held
from lct.lineage import registry
from lct.lineage.cells import auditor
from lct.lineage.record import RUN_LOCK, training, unrecorded
from lct.plan.names import nearest
from lct.plan.plan import Plan

# folders under results/{scale}/, one for each run, and under logs/{scale}/
_KINDS = ("train", "sample", "features", "metrics", "neighbours", "pilot")
_STAGES = ("train", "take", "sample", "score", "neighbours", "distance")


@argument("--watch", action="store_true", help="show it again every few seconds, until all is computed")
@argument("--hung-after", type=float, default=10.0, metavar="MINUTES", help="silence that counts as hung (default: 10)")
def status(arguments: argparse.Namespace) -> Result:
    """What is computed, and how far running trainings are."""
    return watch(lambda: _status(arguments)) if arguments.watch else _status(arguments)


def _status(arguments: argparse.Namespace) -> Result:
    plan = with_unlisted(arguments)
    outdated = auditor(plan, arguments.root).outdated
    value, lines = overview(plan, arguments.root, 60 * arguments.hung_after, outdated)
    lines.append(f"what remains, and why: snakemake -n {plan.snakemake_options}")
    paths = unrecorded(arguments.root, plan.scale_name)
    undeclared = [path for path in paths if (of := training(path)) and of[0] not in plan.runs]
    stale = [path for path in paths if path not in undeclared and outdated(path)]
    if count := len(paths) - len(undeclared) - len(stale):
        lines.append(f"{count} outputs are not recorded: lct record {plan.lct_options}")
    if stale:
        lines.append(f"{len(stale)} outputs are outdated, such as {stale[0]}: snakemake {plan.snakemake_options}")
    if undeclared:
        names = sorted({of[0] for path in undeclared if (of := training(path))})
        command = f"lct rm {names[0]} {plan.lct_options}"
        lines.append(f"config/runs/ has no {', '.join(names)}, whose results are here: {command} removes them")
    return 0, value | {"unrecorded": paths}, "\n".join(lines)


def watch(show: Callable[[], Result], every_seconds: float = 5.0) -> Result:
    """Show a status again and again, in place on a terminal, until everything is computed or Ctrl-C."""
    clear = "\x1b[H\x1b[2J" if sys.stdout.isatty() else ""
    while True:
        code, value, text = show()
        print(clear, end="")
        if value["computed"] >= value["planned"]:
            return code, value, text
        print(text, flush=True)
        try:
            time.sleep(every_seconds)
        except KeyboardInterrupt:
            return code, value, "the last status is above"


@argument("run", metavar="RUN", help="a run, of a table or of none")
@argument("--yes", action="store_true", help="remove; without it only what would go is printed")
def remove(arguments: argparse.Namespace) -> Result:
    """Remove the results and the work of a run that is not recorded.

    Refuses what is recorded, and anything while snakemake runs."""
    root, run, plan = arguments.root, arguments.run, with_unlisted(arguments)
    folders = _folders(root, plan, run)
    if is_held(root / RUN_LOCK):
        raise ValueError("expected no running snakemake, found one; wait for it, or stop it with Ctrl-C")
    if held := [lock for folder in folders for lock in folder.rglob("*.lock") if is_held(lock)]:
        raise ValueError(f"run {run}: expected no running training, found {held[0]} held; wait for it, or end its job")
    recorded = [path for path in registry.read(root, plan.scale_name) if (of := training(path)) and of[0] == run]
    given, record = f"{len(recorded)} recorded files; nothing was removed", f"`lct record {plan.lct_options}`"
    advice = f"take it out of config/runs/ and its tables, then {record}, then remove it"
    require(not recorded, f"run {run}", "one that is not recorded", given, advice)
    names = [str(folder.relative_to(root)) for folder in folders]
    if not arguments.yes:
        line = f"nothing was removed: lct rm {run} {plan.lct_options} --yes does it"
        return 0, {"would_remove": names}, "\n".join([*names, line])
    for folder in folders:
        shutil.rmtree(folder)
    return 0, {"removed": names}, "\n".join(f"removed {name}" for name in names)


def _folders(root: Path, plan: Plan, run: str) -> list[Path]:
    """Folders of a run that exist. Raises ValueError naming the nearest run when there is none."""
    kinds = [root / "results" / plan.scale_name / kind for kind in _KINDS]
    parts = ((run,), ("sample", run), ("metrics", run))  # the last two of killed jobs
    work = [root / plan.paths.work(*of) for of in parts]
    folders = [*(kind / run for kind in kinds), *work, *(root / plan.paths.log(stage, run) for stage in _STAGES)]
    folders = [folder for folder in folders if folder.is_dir()]
    if run == "reference" or not re.match(ID_PATTERN, run) or not folders:
        here = {path.name for kind in kinds if kind.is_dir() for path in kind.iterdir()} - {"reference"}
        raise invalid(run, f"a run with results at {plan.scale_name} scale", "none", nearest(run, sorted(here)))
    return folders
