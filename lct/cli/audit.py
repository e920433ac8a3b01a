"""The verbs that look back: audit, verify, diff. Each returns (exit code, value for --json, text for people)."""

import argparse
import dataclasses
import itertools
from pathlib import Path

from lct.cli.options import Result, argument, run_job
from lct.cli.plans import selected_plan
from lct.files.atomic import write_text
from lct.lineage import cells, format
from lct.lineage.diff import compare
from lct.lineage.verify import verify as check
from lct.plan.plan import Plan
from lct.plan.selection import overrides
from lct.report.readback import shown


@argument("cells", nargs="*", metavar="CELL", help="a cell, or the start of its name: table1.a.lct-1")
@argument("--all", action="store_true", help="every cell that was computed or recorded")
@argument("-v", "--verbose", action="store_true", help="print the chains of several rows, not a line each")
@argument("--deep", action="store_true", help="hash big files too")
@argument("--settings", action="store_true", help="print the settings of every link and the protocol too")
@argument("--html", type=Path, metavar="FILE", help="write a page as well")
def audit(arguments: argparse.Namespace) -> Result:
    """Where does a number come from? every link of its chain, checked."""
    if bool(arguments.cells) == arguments.all:
        raise ValueError("expected cells or --all, found " + ("both" if arguments.all else "neither"))
    plan = selected_plan(arguments)
    targets, rendered = cells.targets(plan), {}
    for which in ("tables", "all"):
        folder = arguments.root / plan.paths.report("", which)
        rendered |= {plan.paths.report(name, which): values for name, values in shown(folder, list(targets)).items()}
    auditor = cells.auditor(plan, arguments.root, arguments.deep, rendered)
    value = cells.audits(auditor, plan, None if arguments.all else cells.chosen(arguments.cells, targets))
    faults = format.faults(value["cells"])
    rows = [list(of) for _, of in itertools.groupby(value["cells"], key=lambda cell: cell["id"].rpartition(".")[0])]
    if len(rows) == 1 or arguments.verbose or arguments.settings:
        lines = [format.cell(cell, arguments.settings) for cell in value["cells"]]
    else:
        lines = [*map(format.row, rows), "the chain of each value: -v, or name a single row"]
    lines += [f"note: {note}" for note in value["notes"]]
    if arguments.html:
        from lct.report.audit import page as audit_page  # with pandas, which other uses need not load

        write_text(arguments.html, audit_page(value, watermark=plan.scale.watermark))
        lines.append(f"the page is at {arguments.html}")
    lines.append(
        f"{len(value['cells'])} cells audited, {len(value['not_run'])} not run, {len(faults)} different faults"
    )
    return int(bool(faults)), value, "\n".join(lines)


@argument("--deep", action="store_true", help="hash every file, DVC's cache and the remotes again")
@argument("--recompute", nargs="+", metavar="CELL", help="compute what these cells rest on once more")
@argument(
    "--from",
    dest="source",
    choices=("samples", "weights"),
    default="samples",
    help="recompute metrics from stored samples, or samples from stored weights (default: samples)",
)
def verify(arguments: argparse.Namespace) -> Result:
    """Do outputs agree with their records?"""
    plan = selected_plan(arguments)
    if arguments.recompute:
        return _recompute(arguments, plan)
    findings = check(cells.auditor(plan, arguments.root, arguments.deep), plan.scale_name)
    objects = "".join(f", {count} objects of the {place}" for place, count in findings.objects.items())
    lines = [*findings.faults, *(f"note: {note}" for note in findings.notes)]
    lines.append(f"{findings.checked} outputs{objects} checked, {len(findings.faults)} faults")
    if findings.faults:
        lines.append(
            f"to make one again, and what follows from it: snakemake --force FILE {plan.snakemake_options}; "
            f"then snakemake {plan.snakemake_options}"
        )
    return int(bool(findings.faults)), dataclasses.asdict(findings), "\n".join(lines)


def _recompute(arguments: argparse.Namespace, plan: Plan) -> Result:
    """Compute again and compare, in a process of its own, as every job is."""
    ids = [target.id for target in cells.chosen(arguments.recompute, cells.targets(plan))]
    outcomes = run_job(arguments, "recompute", "--source", arguments.source, *ids)
    wrong = sum(outcome["state"] == "differs" for outcome in outcomes)
    lines = [f"{outcome['state']:8}{outcome['text']}" for outcome in outcomes]
    lines.append(f"{len(outcomes)} outputs recomputed from {arguments.source}, {wrong} differ")
    return int(bool(wrong)), outcomes, "\n".join(lines)


@argument("old", metavar="REV1", help="a commit, branch or tag")
@argument("new", metavar="REV2", nargs="?", help="another one (default: the workspace)")
@argument("--html", type=Path, metavar="FILE", help="write a page as well, with the samples side by side")
def diff(arguments: argparse.Namespace) -> Result:
    """What differs between two recorded states, or one and the workspace.

    Cells, settings, protocols, files. Nothing is checked out."""
    value, pictures = compare(arguments.root, overrides(arguments), arguments.old, arguments.new)
    lines = format.diff(value)
    if arguments.html:
        from lct.report.audit import diff_page

        write_text(arguments.html, diff_page(value, pictures()))
        lines += f"\nthe page is at {arguments.html}"
    return 0, value, lines
