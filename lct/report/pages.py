"""The page of a row: samples beside those of the other methods, nearest training images, metrics by step, training
curves, settings with their sources, files, cost, and the commands that make just this. And the page that sorts all
measured rows and lays curves over each other: its tables hold the data that its script draws, so that it is whole
without the script, and works from disk."""

import functools
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lct.report.images import Picture, curve, inside
from lct.report.tables import by_step
from lct.report.text import anchor, count, seed_name, thinned
from lct.report.view import Report, RowView, RunView, SubtableView, TableView, training_curves

QUANTITIES = {  # key in curves.json -> title
    "loss": "Training loss",
    "c": "Robustness constant c",
    "residual_rms": "Residual, RMS",
    "intervals": "Discretisation intervals",
    "gradient_norm": "Gradient norm",
}
POINTS = 120  # of a curve, at most


@dataclass(frozen=True)
class Page:
    """Everything that the page of a row may show."""

    row: RowView
    subtable: SubtableView
    table: TableView
    run: RunView | None
    before: RowView | None
    after: RowView | None
    others: tuple[tuple[RowView, str, Picture], ...]  # rows of this sub-table with samples of the same noise, it first
    steps: str  # metrics by step as SVG, or empty
    steps_note: str  # what was measured at which steps
    curves: str  # training curves as SVG, or empty
    curves_missing: tuple[str, ...]
    files: tuple[dict[str, str], ...]  # what, path, and href from the page: empty if the file is not there
    cost: tuple[tuple[str, str], ...]
    make: str  # command that brings this row's files up to date
    recompute: str  # command that measures its samples again
    trace: str  # command that checks its chain
    export: str  # command that makes a pipeline of its weights
    audit: str  # anchor on the audit page


class Pages:
    """Pages of one report. up: from the report's folder to the root that paths in tables.json start from."""

    def __init__(self, shown: Report, root: Path, up: str):
        self.shown, self.root, self.up = shown, root, up
        self.rows = [
            (table, subtable, row)
            for table in shown.tables
            for subtable in table.subtables
            for row in (*subtable.rows, *subtable.floors)
            if row.data.page
        ]
        self._curves: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {}
        self._drawn_by_step = functools.cache(self._draw_by_step)  # rows of one run share it

    def all(self) -> dict[str, Page]:
        """File name -> page of every row that has one."""
        rows = [None, *(row for _, _, row in self.rows), None]
        return {
            row.data.page: self._page(table, subtable, row, rows[i], rows[i + 2])
            for i, (table, subtable, row) in enumerate(self.rows)
        }

    def _page(
        self, table: TableView, subtable: SubtableView, row: RowView, before: RowView | None, after: RowView | None
    ) -> Page:
        others = [other for other in subtable.galleries if other.data.page != row.data.page]
        curves, missing = self._training(subtable, row.data.run) if row.data.run else ("", ())
        steps, note = self._by_step(row)
        files, options = list(dict.fromkeys(value.metrics for value in row.files)), self.shown.options
        cell = shlex.quote(row.place)
        return Page(
            row=row,
            subtable=subtable,
            table=table,
            run=self.shown.runs.get(row.data.run or ""),
            before=before,
            after=after,
            others=tuple((other, *other.samples[0]) for other in ([row] if row.samples else []) + others),
            steps=steps,
            steps_note=note,
            curves=curves,
            curves_missing=missing,
            files=tuple(self._files(row, subtable)),
            cost=_cost(row),
            make=f"snakemake {' '.join([*map(shlex.quote, files), self.shown.config])}",
            recompute=f"lct verify --recompute {cell} {options}",
            trace=f"lct audit {cell} {options}",
            export=f"lct export {cell} --to diffusers {options}",
            audit=f"row-{anchor(row.place)}",
        )

    def _training(self, subtable: SubtableView, run: str) -> tuple[str, tuple[str, ...]]:
        key = (subtable.anchor, run)
        if key not in self._curves:
            entries = tuple(entry for entry in subtable.data.curves if entry.run == run)
            title = f"Training curves of {run}: loss, intervals, c and gradient norm against the step"
            self._curves[key] = training_curves(entries, self.root, "curves", title)
        return self._curves[key]

    def _by_step(self, row: RowView) -> tuple[str, str]:
        """Metrics of the run at every step that some row measures with this sampler and EMA."""
        if not row.data.run or row.is_floor:
            return "", ""
        return self._drawn_by_step((row.data.run, row.data.sampler or "", row.data.ema))

    def _draw_by_step(self, key: tuple[str, str, str]) -> tuple[str, str]:
        points = by_step(row.data for _, _, row in self.rows).get(key, {})
        steps = ", ".join(f"step {count(step)}" for step in sorted(points))
        if not points:
            return "", "Measured at no step yet."
        if len(points) < 2:
            return "", f"Measured at {steps} only: this run keeps no other step that a table asks for."
        from lct.report import paper_figures, plotting  # matplotlib takes half a second to import

        labels = {metric.id: metric.label for metric in self.shown.data.metrics if metric.id in ("fd", "recall")}
        draw = functools.partial(paper_figures.by_step, [(step, points[step].means) for step in sorted(points)], labels)
        return plotting.embedded(draw, "steps", f"Metrics of {key[0]} by step"), f"Measured at {steps}."

    def _files(self, row: RowView, subtable: SubtableView) -> list[dict[str, str]]:
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
        links = {path: quote(f"../{self.up}/{path}") if inside(self.root, path)[0] else "" for _, path in files}
        return [{"what": what, "path": path, "href": links[path]} for what, path in files]


def _cost(row: RowView) -> tuple[tuple[str, str], ...]:
    """What the row costs by its settings; what it did cost stands in its runs and on the audit page."""
    facts, data = [], row.data
    if data.steps and data.batch:
        images = count(data.steps * data.batch)
        text = f"{count(data.steps)} steps of {count(data.batch)}: {images} latents seen, for each seed"
        facts.append(("training", text))
    if data.run and data.nfe:
        facts.append(("sampling", f"{count(data.nfe)} network evaluations an image"))
    return tuple(facts)


@dataclass(frozen=True)
class Series:
    """Numbers of one training, or of one run's metrics, against the step."""

    name: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]  # step, then a number or nothing for each column


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
    series = [_curves(name, curve(root, path)) for path, name in files.items()]
    by_step_of_rows = _by_step(shown, [row for *_, row in rows.values()])
    return {"rows": list(rows.values()), "series": [*filter(None, series), *by_step_of_rows]}


def _curves(name: str, lists: dict[str, list] | str) -> Series | None:
    if isinstance(lists, str):
        return None
    keys = [key for key in QUANTITIES if key in lists]
    lines = [
        (_text(lists["step"][i]), *(_text(lists[key][i]) for key in keys)) for i in thinned(len(lists["step"]), POINTS)
    ]
    return Series(name, tuple(QUANTITIES[key] for key in keys), tuple(lines))


def _by_step(shown: Report, rows: list[RowView]) -> list[Series]:
    """Metrics of every run, sampler and EMA against the step of the weights."""
    columns = tuple(f"{metric.label} by step" for metric in shown.data.metrics)
    series = []
    for (run, sampler, ema), points in by_step(row.data for row in rows).items():
        means = [(step, points[step].means) for step in sorted(points)]
        lines = tuple((str(step), *(_text(of.get(metric.id)) for metric in shown.data.metrics)) for step, of in means)
        if len(lines) > 1:
            series.append(Series(f"{run}, {sampler}, EMA {ema}", columns, lines))
    return series


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else ""
