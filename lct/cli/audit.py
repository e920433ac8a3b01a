"""The verbs that look back: audit, verify, diff. Each returns (exit code, value for --json, text for people)."""

import argparse
import dataclasses
import difflib
import tempfile
from pathlib import Path
from typing import Any

from lct.cli.options import overrides, plan_arguments
from lct.files.atomic import read_json, write_text
from lct.jobs.tables import rows_of
from lct.lineage import dvc_lock, format, planned, registry, revisions
from lct.lineage.audit import Auditor, Target
from lct.lineage.content import Contents
from lct.lineage.diff import diff as compare
from lct.lineage.verify import verify as check
from lct.plan.paths import FLOORS
from lct.plan.plan import Plan
from lct.report.collect import FLOOR_TITLES, METRICS
from lct.report.readback import shown

Result = tuple[int, Any, str]


def targets(plan: Plan) -> dict[str, Target]:
    """Every cell of a scale, floors included, by its id, in the order of the tables."""
    found: dict[str, Target] = {}

    def add(place: str, title: str, files: tuple[tuple[int, int, str], ...]) -> None:
        for metric in METRICS:
            found[f"{place}.{metric}"] = Target(f"{place}.{metric}", metric, title, files)

    for cell in plan.cells:
        files = tuple(
            (s.seed, s.draw, plan.paths.metrics(s.run, s.seed, s.weights, s.sampler, s.draw, plan.protocol))
            for s in cell.sets
        )
        title = f"run {cell.run}, weights {cell.weights}, sampler {cell.sampler}, {plan.scale_name} scale"
        add(f"{cell.table}.{cell.subtable}.{cell.row}", title, files)
    for table in plan.tables:
        for subtable, dataset in plan.scale.subtables.items():
            for floor in FLOORS:
                files = ((0, 0, plan.paths.floor_metrics(dataset, floor, plan.protocol)),)
                title = f"{FLOOR_TITLES[floor][0].lower()} of {dataset}, {plan.scale_name} scale"
                add(f"{table}.{subtable}.floor-{floor}", title, files)
    return found


def chosen(names: list[str], known: dict[str, Target]) -> list[Target]:
    """Cells by id, by the parts that an id starts with (a row, a sub-table), or by any start that only one has."""
    found: dict[str, Target] = {}
    for name in names:
        matching = [known[name]] if name in known else [t for t in known.values() if t.id.startswith(f"{name}.")]
        if not matching:
            matching = [t for t in known.values() if t.id.startswith(name)]
            if len(matching) > 1:
                raise ValueError(f"cell {name!r}: expected the start of one cell, found {_few(matching)}; add letters")
        if not matching:
            near = difflib.get_close_matches(name, known, n=4, cutoff=0.4)
            advice = f"near: {', '.join(near)}" if near else f"the first is {next(iter(known), 'none')}"
            raise ValueError(f"cell {name!r}: expected table.sub-table.row.metric, found no such cell; {advice}")
        found |= {target.id: target for target in matching}
    return list(found.values())


def _few(found: list[Target]) -> str:
    listed = ", ".join(target.id for target in found[:4])
    return f"{listed} and {len(found) - 4} more" if len(found) > 4 else listed


def auditor(plan: Plan, root: Path, deep: bool = False, live: bool = False) -> Auditor:
    """Everything an audit of this scale reads. `live`: only what is in the workspace, as before any recording."""
    tables = {}
    for which in ("tables", "all"):
        path = plan.paths.tables(which)
        if (root / path).exists():
            tables[path] = read_json(root / path)
    pages = {}
    for which in ("tables", "all"):
        for name, values in {} if live else shown(root / plan.paths.report("", which), list(targets(plan))).items():
            pages[plan.paths.report(name, which)] = values
    return Auditor(
        root=root,
        archive={} if live else registry.read(root, plan.scale_name),
        lock=None if live else dvc_lock.read_lock(root),
        planned=planned.settings(plan),
        tables=tables,
        shown=pages,
        deep=deep,
    )


def audit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cells", nargs="*", metavar="CELL", help="a cell, or the start of its name: table1.a.lct-1")
    plan_arguments(parser)
    parser.add_argument("--all", action="store_true", help="every cell that was computed or recorded")
    parser.add_argument("--deep", action="store_true", help="hash big files too")
    parser.add_argument("--settings", action="store_true", help="print the settings of every link and the protocol too")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page as well")


def page(plan: Plan, root: Path, collected: dict[str, Any]) -> str:
    """The page beside a report: every cell that the report shows, as the workspace has it, before any recording."""
    from lct.report.audit import page as render

    looked, known = auditor(plan, root, live=True), targets(plan)
    ids = [cell["id"] for row in rows_of(collected) for cell in row["cells"].values()]
    cells = [looked.audit(known[id_]) for id_ in ids if id_ in known]
    return render({"scale": plan.scale_name, "cells": cells, "notes": [], "not_run": []}, report="index.html")


def audit(arguments: argparse.Namespace) -> Result:
    """Trace cells from their numbers to the source of the images and check every link."""
    if bool(arguments.cells) == arguments.all:
        raise ValueError("expected cells or --all, found " + ("both" if arguments.all else "neither"))
    plan = Plan(arguments.root, overrides(arguments))
    known, book_of = targets(plan), auditor(plan, arguments.root, arguments.deep)
    wanted = list(known.values()) if arguments.all else chosen(arguments.cells, known)
    absent = [t for t in wanted if arguments.all and not any(_known(book_of, path) for *_, path in t.files)]
    audits = [book_of.audit(target) for target in wanted if target not in absent]
    found, notes = format.faults(audits), _notes(book_of, plan)
    value = {"scale": plan.scale_name, "notes": notes, "cells": audits, "not_run": [t.id for t in absent]}
    lines = [format.cell(one, arguments.settings) for one in audits]
    lines += [f"note: {note}" for note in notes]
    if arguments.html:
        from lct.report.audit import page as render

        write_text(arguments.html, render(value))
        lines.append(f"the page is at {arguments.html}")
    lines += [f"{len(audits)} cells audited, {len(absent)} not run, {len(found)} different faults"]
    return int(bool(found)), value, "\n".join(lines)


def _known(looked: Auditor, path: str) -> bool:
    return path in looked.archive or (looked.root / path).exists()


def _notes(looked: Auditor, plan: Plan) -> list[str]:
    """What the whole audit had to do without."""
    notes = []
    if not looked.archive:
        name = f"lineage/{plan.scale_name}.jsonl"
        notes.append(f"{name}: no archive yet, so only the records in results/ were looked at; `lct record` makes one")
    if looked.lock is None:
        notes.append("dvc.lock: none yet, so nothing was compared with DVC's own record")
    return notes


def verify_arguments(parser: argparse.ArgumentParser) -> None:
    plan_arguments(parser)
    parser.add_argument("--deep", action="store_true", help="hash every file, DVC's cache and the remotes again")
    parser.add_argument("--recompute", nargs="+", metavar="CELL", help="compute what these cells rest on once more")
    parser.add_argument(
        "--from",
        dest="source",
        choices=("samples", "weights"),
        default="samples",
        help="recompute metrics from stored samples, or samples from stored weights (default: samples)",
    )


def verify(arguments: argparse.Namespace) -> Result:
    """Every output with a record: is it there, and is it what was written?"""
    plan = Plan(arguments.root, overrides(arguments))
    looked = Auditor(
        root=arguments.root,
        archive=registry.read(arguments.root, plan.scale_name),
        lock=dvc_lock.read_lock(arguments.root),
        planned={},
        deep=arguments.deep,
    )
    if arguments.recompute:
        return _recomputed(looked, chosen(arguments.recompute, targets(plan)), arguments.source)
    found = check(looked, plan.scale_name)
    objects = "".join(f", {count} objects of the {place}" for place, count in found.objects.items())
    lines = [*found.faults, *(f"note: {note}" for note in found.notes)]
    lines.append(f"{found.checked} outputs{objects} checked, {len(found.faults)} faults")
    if found.faults:
        lines.append(
            f"to make one again, and what follows from it: snakemake --force FILE --config scale={plan.scale_name}; "
            f"then snakemake --config scale={plan.scale_name}"
        )
    return int(bool(found.faults)), dataclasses.asdict(found), "\n".join(lines)


def _recomputed(looked: Auditor, cells: list[Target], source: str) -> Result:
    """Compute again and compare; cells that share a job share the work."""
    from lct.jobs.recompute import Outcome, recompute

    outcomes: dict[str, Outcome] = {}
    seen: set[tuple[tuple[int, int, str], ...]] = set()
    for target in cells:
        if target.files not in seen:
            seen.add(target.files)
            outcomes |= {one.path: one for one in recompute(looked, target, source)}
    lines = [f"{one.state:8}{one.text}" for one in outcomes.values()]
    wrong = sum(one.state == "differs" for one in outcomes.values())
    lines.append(f"{len(outcomes)} outputs recomputed from {source}, {wrong} differ")
    return int(bool(wrong)), [dataclasses.asdict(one) for one in outcomes.values()], "\n".join(lines)


def diff_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", metavar="REV1", help="a commit, branch or tag")
    parser.add_argument("new", metavar="REV2", nargs="?", help="another one (default: the workspace)")
    plan_arguments(parser)
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page as well, with the samples side by side")


def diff(arguments: argparse.Namespace) -> Result:
    """What differs between two recorded states: cells, settings, protocols, files. Nothing is checked out."""
    root, given = arguments.root, overrides(arguments)
    scale = Plan(root, given).scale_name
    with tempfile.TemporaryDirectory(prefix="lct-diff-") as folder:
        states = []
        for name in (arguments.old, arguments.new):
            place = Path(folder) / str(len(states))
            place.mkdir()
            made = revisions.in_workspace(root, scale) if name is None else None
            states.append(made or revisions.at_revision(root, scale, name, place))
        old, new = states
        reader = revisions.Reader(root, Contents(root, deep=False).hashes)
        found = compare(old, new, tuple(_cells_of(state, {**given, "scale": scale}) for state in states), reader, scale)
        lines = format.diff(found)
        if arguments.html:
            from lct.report.diff import page as render

            pictures = [
                tuple(one[side] and reader.find(state, one[side]) for side, state in (("old", old), ("new", new)))
                for one in found["samples"]
            ]
            write_text(arguments.html, render(found, pictures))
            lines += f"\nthe page is at {arguments.html}"
    return 0, found, lines


def _cells_of(state: revisions.State, config: dict[str, Any]) -> dict[str, Target]:
    """Cells as the configuration of that state names them."""
    try:
        return targets(Plan(state.root, config))
    except ValueError as error:
        text = str(error).replace(f"{state.root}/", "")
        state.notes.append(
            f"{state.name}: its configuration is not one of this version, so its cells are left out: {text}"
        )
        return {}
