"""`lct rm`: takes away the results and the work of a run."""

import argparse
import re
import shutil
from pathlib import Path

from lct.cli.options import Result, with_unlisted
from lct.config.schema import ID_PATTERN
from lct.files.lock import is_held
from lct.lineage import registry
from lct.lineage.record import RUN_LOCK, training
from lct.plan.names import nearest
from lct.plan.plan import Plan

# folders under results/{scale}/, one for each run, and under logs/{scale}/
_KINDS = ("train", "sample", "features", "metrics", "neighbours", "pilot")
_STAGES = ("train", "take", "sample", "score", "neighbours", "distance")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run, of a table or of none")
    parser.add_argument("--yes", action="store_true", help="remove; without it only what would go is printed")


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
    if recorded:
        raise ValueError(
            f"run {run}: expected one that is not recorded, found {len(recorded)} recorded files; "
            "nothing was removed; take it out of config/runs/ and its tables, then "
            f"`lct record {plan.lct_options}`, then remove it"
        )
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
    work = [(root / plan.paths.work(run, 0)).parent]
    work += [root / "work" / plan.scale_name / kind / run for kind in ("sample", "metrics")]  # of killed jobs
    folders = [*(kind / run for kind in kinds), *work, *(root / plan.paths.log(stage, run) for stage in _STAGES)]
    folders = [folder for folder in folders if folder.is_dir()]
    if run == "reference" or not re.match(ID_PATTERN, run) or not folders:
        here = {path.name for kind in kinds if kind.is_dir() for path in kind.iterdir()} - {"reference"}
        raise ValueError(
            f"expected a run with results at {plan.scale_name} scale, found none of {run!r}; "
            f"{nearest(run, sorted(here))}"
        )
    return folders
