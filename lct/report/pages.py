"""The page of a row: samples beside those of the other methods, nearest training images, metrics by step, training
curves, settings with their sources, files, cost, and the commands that make just this. And the page that sorts all
measured rows and lays curves over each other: its tables hold the data that its script draws, so that it is whole
without the script, and works from disk."""

import functools
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lct.report.images import curve, inside
from lct.report.tables import ByStep, by_step
from lct.report.text import QUANTITIES, count, seed_name, thinned
from lct.report.view import Report, RowView, SubtableView, TableView, training_curves

POINTS = 120  # of a curve, at most


def row_pages(shown: Report, root: Path, up: str) -> dict[str, dict[str, Any]]:
    """File name -> what the page of a row may show, of every row that has one.

    up: from the report's folder to the root that paths in tables.json start from."""
    rows = [
        (table, subtable, row)
        for table in shown.tables
        for subtable in table.subtables
        for row in (*subtable.rows, *subtable.floors)
        if row.data.page
    ]
    draw_curves = functools.cache(training_curves)  # rows of one run share them
    steps = functools.cache(functools.partial(_draw_by_step, shown, by_step(row.data for *_, row in rows)))
    pages = {}
    for i, (table, subtable, row) in enumerate(rows):
        run, others = row.data.run or "", [other for other in subtable.galleries if other.data.page != row.data.page]
        entries = tuple(entry for entry in subtable.data.curves if entry.run == run)
        title = f"Training curves of {run}: loss, intervals, c and gradient norm against the step"
        curves, missing = draw_curves(entries, root, "curves", title)
        svg, note = steps(run, row.data.sampler or "", row.data.ema)
        pages[row.data.page] = {
            "row": row,
            "subtable": subtable,
            "table": table,
            "run": shown.runs.get(run),
            "before": rows[i - 1][2] if i else None,
            "after": rows[i + 1][2] if i + 1 < len(rows) else None,
            # rows of this sub-table with samples of the same noise, it first
            "others": [(other, *other.samples[0]) for other in ([row] if row.samples else []) + others],
            "steps": svg,  # metrics by step as SVG, or empty
            "steps_note": note,  # what was measured at which steps
            "curves": curves,  # training curves as SVG, or empty
            "curves_missing": missing,
            "files": _files(row, subtable, root, up),
        }
    return pages


def _draw_by_step(shown: Report, measured: ByStep, run: str, sampler: str, ema: str) -> tuple[str, str]:
    """Metrics of a run at each step that some row measures with this sampler and EMA: an SVG, and what was measured."""
    points = measured.get((run, sampler, ema), [])
    steps = ", ".join(f"step {count(step)}" for step, _ in points)
    if not points:
        return "", "Measured at no step yet."
    if len(points) < 2:
        return "", f"Measured at {steps} only: this run keeps no other step that a table asks for."
    from lct.report import paper_figures, plotting  # matplotlib takes half a second to import

    labels = {metric.id: metric.label for metric in shown.data.metrics if metric.id in ("fd", "recall")}
    draw = functools.partial(paper_figures.by_step, points, labels)
    return plotting.embedded(draw, "steps", f"Metrics of {run} by step"), f"Measured at {steps}."


def _files(row: RowView, subtable: SubtableView, root: Path, up: str) -> list[tuple[str, str, str]]:
    """Files that the numbers of a row are made of: what, path, and href from the page, empty if it is not there."""
    files: list[tuple[str, str]] = []
    for value in row.files:
        seed = "" if row.is_floor else f", {seed_name(value.seed, value.draw)}"
        files.append((f"metrics{seed}", value.metrics))
        files.append((f"settings and inputs of their job{seed}", f"{value.metrics}.settings.json"))
        files.append((f"run of their job: when, where, versions, cost{seed}", f"{value.metrics}.run.json"))
    for path in dict.fromkeys(row.data.weights_files):
        files += [("weights", path), ("settings and inputs of the training", f"{path}.settings.json")]
        files.append(("run of the training: when, where, versions, cost", f"{path}.run.json"))
    files += [(f"training curve, seed {c.seed}", c.path) for c in subtable.data.curves if c.run == row.data.run]
    files += [(f"sample grid, {name}", picture.path) for name, picture in row.samples if picture.path]
    return [(what, path, quote(f"../{up}/{path}") if inside(root, path)[0] else "") for what, path in files]


def explore_page(shown: Report, root: Path) -> dict[str, Any]:
    """What the page shows: every measured row once, every training curve, metrics by step where there are several."""
    rows: dict[tuple[str, ...], tuple[TableView, SubtableView, RowView]] = {}
    files: dict[str, str] = {}
    for table in shown.tables:
        for subtable in table.subtables:
            files |= {entry.path: f"{entry.run}, seed {entry.seed}" for entry in subtable.data.curves}
            for row in subtable.ours:
                if row.measured:
                    rows.setdefault(tuple(value.metrics for value in row.files), (table, subtable, row))
    series = [_curves(name, lists) for path, name in files.items() if isinstance(lists := curve(root, path), dict)]
    by_step_of_rows = _by_step(shown, [row for *_, row in rows.values()])
    return {"rows": list(rows.values()), "series": series + by_step_of_rows}


def _curves(name: str, lists: dict[str, list]) -> dict[str, Any]:
    """Numbers of one training: name, columns, and lines of a step, then a number or nothing for each column."""
    keys = [key for key in QUANTITIES if key in lists]
    lines = [
        (_text(lists["step"][i]), *(_text(lists[key][i]) for key in keys)) for i in thinned(len(lists["step"]), POINTS)
    ]
    return {"name": name, "columns": [QUANTITIES[key] for key in keys], "lines": lines}


def _by_step(shown: Report, rows: list[RowView]) -> list[dict[str, Any]]:
    """The same of the metrics of every run, sampler and EMA against the step of the weights."""
    columns = [f"{metric.label} by step" for metric in shown.data.metrics]
    series = []
    for (run, sampler, ema), points in by_step(row.data for row in rows).items():
        lines = tuple((str(step), *(_text(of.get(metric.id)) for metric in shown.data.metrics)) for step, of in points)
        if len(lines) > 1:
            series.append({"name": f"{run}, {sampler}, EMA {ema}", "columns": columns, "lines": lines})
    return series


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else ""
