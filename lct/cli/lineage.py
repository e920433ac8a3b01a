"""The verbs of recording: record, restore, why; and what the graph calls when a run starts and ends."""

import argparse
import json

from lct.cli.options import Result, argument
from lct.cli.plans import selected, selected_plan
from lct.lineage import guard, merge, record, registry, restore
from lct.lineage.snakemake_adapter import plan_jobs
from lct.plan.plan import Plan
from lct.plan.selection import overrides, plan_of

_FOLLOWS = ("input will be made again", "made from ")  # reasons that follow from another artifact's
_SHOWN = 12  # lines of a list that people are shown


@argument("--config", type=json.loads, default={}, help=argparse.SUPPRESS)  # that of the run, as JSON
@argument("--in-run", action="store_true", help=argparse.SUPPRESS)  # called by the run that ends
@argument("--commit", action="store_true", help="also commit the recorded state to git")
def record_verb(arguments: argparse.Namespace) -> Result:
    """Record what a run finished: DVC's lock, settings, runs, Snakemake's metadata.

    Exit code 1 when something that was made is left out."""
    config = {**arguments.config, **overrides(arguments)}
    scale = Plan(arguments.root, config).scale_name
    config["scale"] = scale
    report = record.record(arguments.root, config, scale, arguments.in_run, wait_seconds=60)
    lines = [f"{scale}: {len(report.recorded)} jobs recorded, {report.kept} were already"]
    if report.recorded or report.dropped:
        lines[0] += f"; in lineage/{scale}.jsonl and dvc.lock"
    lines += _list("no longer declared, so no longer recorded (git has it)", report.dropped)
    lines += [f"{report.dirty} of them were made from changed sources: their records say so"] if report.dirty else []
    causes_first = sorted(report.left_out.items(), key=lambda item: (item[1].startswith(_FOLLOWS), *item))
    lines += _list("left out", [f"{path}: {why}" for path, why in causes_first])
    if arguments.commit:
        record.commit(arguments.root, scale)
    elif report.recorded or report.dropped:
        paths = " ".join(record.state_paths(arguments.root))
        lines.append(f"to keep it: git add {paths} && git commit -m 'Record {scale}'; to share it: dvc push")
    lines += merge.install_quietly(arguments.root)
    return int(bool(report.left_out)), vars(report), "\n".join(lines)


@argument("cells", nargs="*", metavar="CELL", help="only what these cells were made from, and they")
@argument("--pull", action="store_true", help="call `dvc pull` first, for what is wanted only")
def restore_verb(arguments: argparse.Namespace) -> Result:
    """Bring recorded artifacts back, so that nothing is planned.

    Exit code 1 when some are absent or differ."""
    root, reports = arguments.root, []
    if arguments.cells:
        plan, rows = selected(arguments, arguments.cells)
        paths = [path for cell in rows for path in guard.metrics_of(plan, cell)]
        if not set(paths) & registry.read(root, plan.scale_name).keys():
            raise ValueError(f"expected recorded cells, found nothing recorded of {', '.join(arguments.cells)}")
        reports.append(restore.restore(root, plan.scale_name, paths, arguments.pull))
    else:
        scales = registry.scales(root) if arguments.scale is None else [selected_plan(arguments).scale_name]
        for scale in scales:  # the first fetches what all of them have recorded
            reports.append(restore.restore(root, scale, None, arguments.pull and scale == scales[0]))
    lines = [] if reports else ["nothing is recorded here: lineage/ is empty"]
    for report in reports:
        lines.append(f"{report.scale}: {report.restored} files are as recorded ({report.linked} linked now)")
        for title, paths in (
            ("not recorded by this revision, taken away (the cache keeps it)", report.removed),
            ("recorded, but not on this machine; `dvc pull` or `lct restore --pull` fetches it", report.absent),
            ("not what is recorded, and nowhere else: left alone; move it away, then restore", report.differing),
        ):
            lines += _list(title, paths)
    lines += merge.install_quietly(arguments.root)
    wrong = any(report.absent or report.differing for report in reports)
    return int(wrong), [vars(report) for report in reports], "\n".join(lines)


@argument(
    "--ours",
    nargs="*",
    metavar="PATH",
    help="take the current branch's content of these files and folders where both differ (no PATH: everywhere)",
)
@argument("--theirs", nargs="*", metavar="PATH", help="the same with the other branch's content (no PATH: everywhere)")
@argument(
    "--install",
    action="store_true",
    help="let git merge recordings by itself in this clone; `lct record` and `lct restore` do so too",
)
def merge_verb(arguments: argparse.Namespace) -> Result:
    """Join the recorded states of two branches, where git reports conflicts in them.

    Exit code 1 when a conflict is left to decide."""
    if arguments.install:
        line = merge.install(arguments.root)
        return 0, {"installed": line is not None}, line or "git merges recordings file by file in this clone already"
    chosen = {side: getattr(arguments, side) for side in ("ours", "theirs")}
    prefixes = {side: tuple(paths or [""]) if paths is not None else () for side, paths in chosen.items()}
    if set(prefixes["ours"]) & set(prefixes["theirs"]):
        raise ValueError("--ours, --theirs: expected a single side for a path, found both; leave out one of them")
    report = merge.merge(arguments.root, **prefixes)
    if report.conflicts:
        lines = _list("recorded on both sides with other content", report.conflicts)
        lines.append("nothing is written; `lct merge --ours PATH` or `--theirs PATH` decides for a file or a folder")
        return 1, vars(report), "\n".join(lines)
    lines = [
        f"recorded files joined: {report.ours} changes of ours, {report.theirs} of theirs, {report.twice} made twice"
    ]
    lines += _list("taken away on one side, so no longer recorded (git has it)", report.removed)
    lines += _list("of one side only; `snakemake` makes them again, of all rows", report.views)
    lines += _list("not recorded state: merge these yourself, then git add", report.unmerged)
    lines.append(f"next: {report.next}; lct restore --pull; snakemake -n")
    return 0, vars(report), "\n".join(lines)


@argument("cells", nargs="+", metavar="CELL", help="a row, or the start of its name: table1.a.lct-1")
def why_verb(arguments: argparse.Namespace) -> Result:
    """Why a cell would run again.

    Exit code 0 either way."""
    plan, rows = selected(arguments, arguments.cells)
    jobs = plan_jobs(arguments.root, plan_of(plan))
    value = {cell.name: guard.why(arguments.root, plan, jobs, cell) for cell in rows}
    lines = []
    for name, causes in value.items():
        verdict = "would run again:" if causes else "would not run again: everything it was made from is up to date"
        lines.append(f"{name} {verdict}")
        for job, why in causes.items():
            lines += [f"  {job}", *(f"    {cause}" for cause in why)]
    return 0, value if len(value) > 1 else next(iter(value.values())), "\n".join(lines)


def _list(title: str, items: list[str]) -> list[str]:
    if not items:
        return []
    more = [f"  ... and {len(items) - _SHOWN} more (--json has all)"] if len(items) > _SHOWN else []
    return [f"{title}: {len(items)}", *(f"  {item}" for item in items[:_SHOWN]), *more]
