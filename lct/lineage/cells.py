"""The cells of a scale's tables as an audit takes them: by id, by the start of an id, or all that a report shows."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lct.checks import invalid
from lct.lineage import chain, dvc, registry
from lct.lineage.audit import Auditor, Target
from lct.plan.names import beginning_with, nearest
from lct.plan.paths import FLOORS, METRICS
from lct.plan.plan import Plan
from lct.plan.settings import planned

_FLOOR_TITLES = {"heldout": "held-out images", "reconstruction": "held-out images through the VAE"}


def targets(plan: Plan) -> dict[str, Target]:
    """Every cell of a scale, floors included, by its id, in the order of the tables."""
    cells: dict[str, Target] = {}

    def add(row: str, title: str, files: tuple[tuple[int, int, str], ...]) -> None:
        for metric in METRICS:
            cells[f"{row}.{metric}"] = Target(f"{row}.{metric}", metric, title, files)

    for cell in plan.cells:
        files = tuple((s.seed, s.draw, plan.paths.metrics(*s, plan.protocol.id)) for s in cell.sets)
        title = f"run {cell.run}, weights {cell.weights}, sampler {cell.sampler}, {plan.scale_name} scale"
        add(cell.name, title, files)
    for table in plan.tables:
        for subtable, dataset in plan.scale.subtables.items():
            for floor in FLOORS:
                files = ((0, 0, plan.paths.floor_metrics(dataset, floor, plan.protocol.id)),)
                title = f"{_FLOOR_TITLES[floor]} of {dataset}, {plan.scale_name} scale"
                add(f"{table}.{subtable}.floor-{floor}", title, files)
    return cells


def chosen(names: Iterable[str], cells: Mapping[str, Target]) -> list[Target]:
    """Cells by id, by the parts that an id starts with (a row, a sub-table), or by any start that a single one has.

    Raises ValueError naming the nearest ids."""
    selection: dict[str, Target] = {}
    for name in names:
        matching = beginning_with(name, cells)
        if not matching:
            raise invalid(f"cell {name!r}", "table.sub-table.row.metric", "no such cell", nearest(name, cells))
        selection |= {id: cells[id] for id in matching}
    return list(selection.values())


def auditor(
    plan: Plan,
    root: Path,
    deep: bool = False,
    rendered: Mapping[str, Mapping[str, list[float]]] | None = None,
    live: bool = False,
) -> Auditor:
    """Everything that an audit of cells reads.

    deep:     hash big files too.
    rendered: report file -> cell -> the values that it shows.
    live:     only what is in the workspace, as before any recording."""
    tables = [plan.paths.tables(which) for which in ("tables", "all")]
    return Auditor(
        root=root,
        archive={} if live else registry.read(root, plan.scale_name),
        lock=None if live else dvc.read_lock(root),
        planned=planned(plan),
        tables=tuple(path for path in tables if (root / path).exists()),
        shown=dict(rendered or {}),
        deep=deep,
    )


def audits(auditor: Auditor, plan: Plan, selection: Iterable[Target] | None = None) -> dict[str, Any]:
    """Audits of cells as JSON; without a selection, of every cell that was computed or recorded.

    Keys: scale, options (of a verb, that mean this plan), notes, cells (see Auditor.audit), not_run (ids of cells
    without any file)."""
    cells = list(targets(plan).values() if selection is None else selection)

    def is_present(path: str) -> bool:
        return path in auditor.archive or (auditor.root / path).exists()

    absent = [target for target in cells if selection is None and not any(is_present(f) for *_, f in target.files)]
    notes = []
    if not auditor.archive:
        name, record = f"lineage/{plan.scale_name}.jsonl", f"lct record {plan.lct_options}"
        notes.append(f"{name}: no archive yet, so only the records in results/ were looked at; `{record}` makes one")
    if auditor.lock is None:
        notes.append("dvc.lock: none yet, so nothing was compared with DVC's own record")
    audited = [auditor.audit(target) for target in cells if target not in absent]
    return {
        "scale": plan.scale_name,
        "options": plan.lct_options,
        "notes": notes,
        "cells": audited,
        "not_run": [target.id for target in absent],
    }


def report_audits(plan: Plan, root: Path, ids: Iterable[str]) -> dict[str, Any]:
    """Audits of the cells that a report shows, as the workspace has them before any recording: what the report's audit
    page is rendered from. The keys of `audits`, and `cost`: of all their jobs together."""
    cells, checks = targets(plan), auditor(plan, root, live=True)
    listed = audits(checks, plan, [cells[name] for name in ids if name in cells])
    paths = dict.fromkeys(path for cell in listed["cells"] for path in cell["links"])
    return listed | {"notes": [], "cost": chain.cost([checks.records.of(path) for path in paths])}
