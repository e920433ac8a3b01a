"""The page behind a row: samples beside those of the other methods, nearest training images, metrics by step, training
curves, settings with their sources, files, cost, and the command that makes just this."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from lct.report.images import Picture, curve, inside
from lct.report.text import anchor, as_float, count
from lct.report.view import Report, Row, Run, Subtable, Table, config_words

FOLDER = "cells"


@dataclass(frozen=True)
class FileLink:
    """A file behind a number."""

    what: str
    path: str
    href: str  # from the page; empty if the file is not there


@dataclass(frozen=True)
class Page:
    """Everything that the page of a row may show."""

    row: Row
    subtable: Subtable
    table: Table
    run: Run | None
    before: Row | None
    after: Row | None
    others: tuple[
        tuple[Row, str, Picture], ...
    ]  # rows of this sub-table with samples of the same noise, this one first
    steps: str  # metrics by step as SVG, or empty
    steps_told: str  # what was measured at which steps
    curves: str  # training curves as SVG, or empty
    curves_missing: tuple[str, ...]
    files: tuple[FileLink, ...]
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
        self.runs = {run.id: run for run in shown.runs}
        self.rows = [
            (table, subtable, row)
            for table in shown.tables
            for subtable in table.subtables
            for row in (*subtable.rows, *subtable.floors)
            if row.page
        ]
        self._curves: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {}
        self._steps: dict[tuple[str, str, str], tuple[str, str]] = {}

    def all(self) -> dict[str, Page]:
        """File name -> page of every row that has one."""
        found = {}
        for i, (table, subtable, row) in enumerate(self.rows):
            before = self.rows[i - 1][2] if i else None
            after = self.rows[i + 1][2] if i + 1 < len(self.rows) else None
            found[row.page] = self._page(table, subtable, row, before, after)
        return found

    def _page(self, table: Table, subtable: Subtable, row: Row, before: Row | None, after: Row | None) -> Page:
        samples = [one for one in subtable.galleries if one.page != row.page]
        same = ([row] if row.samples else []) + samples
        curves, missing = self._training(subtable, row.run) if row.run else ("", ())
        steps, told = self._by_step(row)
        files = list(dict.fromkeys(value.metrics for value in row.files))
        scale, own = config_words(self.shown.scale, self.shown.own), self.shown.own
        options = f"--scale {shlex.quote(self.shown.scale)}" + (f" --dataset {shlex.quote(own)}" if own else "")
        return Page(
            row=row,
            subtable=subtable,
            table=table,
            run=self.runs.get(row.run),
            before=before,
            after=after,
            others=tuple((one, *one.samples[0]) for one in same),
            steps=steps,
            steps_told=told,
            curves=curves,
            curves_missing=missing,
            files=tuple(self._files(row, subtable)),
            cost=self._cost(row),
            make=f"snakemake {' '.join(map(shlex.quote, files))} {scale}" if files else f"snakemake {scale}",
            recompute=f"lct verify --recompute {shlex.quote(row.place)} {options}",
            trace=f"lct audit {shlex.quote(row.place)} {options}",
            export=f"lct export {shlex.quote(row.place)} --to diffusers {options}",
            audit=f"row-{anchor(row.place)}",
        )

    def _training(self, subtable: Subtable, run: str) -> tuple[str, tuple[str, ...]]:
        key = (subtable.anchor, run)
        if key not in self._curves:
            mine = [(name, seed, path) for name, seed, path in subtable.paths_of_curves if name == run]
            read = [(name, seed, path, curve(self.root, path)) for name, seed, path in mine]
            drawable = [(name, seed, lists) for name, seed, _, lists in read if isinstance(lists, dict)]
            svg = ""
            if drawable:
                from lct.report.plotting import training_curves  # matplotlib takes half a second to import

                said = f"Training curves of {run}: loss, intervals, c and gradient norm against the step"
                svg = training_curves(drawable, "curves", said)
            self._curves[key] = svg, tuple(f"{path}: {why}" for _, _, path, why in read if isinstance(why, str))
        return self._curves[key]

    def _by_step(self, row: Row) -> tuple[str, str]:
        """Metrics of the run at every step that some row measures with this sampler and EMA."""
        if not row.run or row.is_floor:
            return "", ""
        key = (row.run, row.sampler, row.weights.partition("-ema")[2])
        if key not in self._steps:
            self._steps[key] = self._draw_by_step(key)
        return self._steps[key]

    def _draw_by_step(self, key: tuple[str, str, str]) -> tuple[str, str]:
        run, points = key[0], {}
        for _, _, other in self.rows:
            step, _, ema = other.weights.removeprefix("step").partition("-ema")
            if (other.run, other.sampler, ema) == key and step.isdigit() and other.measured:
                means = {
                    cell.metric: sum(as_float(v.exact_value) for v in cell.values) / cell.n
                    for cell in other.cells
                    if cell.present
                }
                points[int(step)] = means
        told = ", ".join(f"step {count(step)}" for step in sorted(points))
        if not points:
            return "", "Measured at no step yet."
        if len(points) < 2:
            return "", f"Measured at {told} only: this run keeps no other step that a table asks for."
        from lct.report import paper_figures

        labels = {m["id"]: m["label"] for m in self.shown.metrics if m["id"] in ("fd", "recall")}
        svg = paper_figures.embedded(
            paper_figures.by_step(sorted(points.items()), labels), "steps", f"Metrics of {run} by step"
        )
        return svg, f"Measured at {told}."

    def _files(self, row: Row, subtable: Subtable) -> list[FileLink]:
        found: list[tuple[str, str]] = []
        for value in row.files:
            seed = "" if row.is_floor else f", seed {value.seed}" + (f", draw {value.draw}" if value.draw else "")
            found.append((f"metrics{seed}", value.metrics))
            found.append((f"settings and inputs of their job{seed}", f"{value.metrics}.settings.json"))
            found.append((f"run of their job: when, where, versions, cost{seed}", f"{value.metrics}.run.json"))
        for path in dict.fromkeys(row.weights_files):
            found += [("weights", path), ("settings and inputs of the training", f"{path}.settings.json")]
            found.append(("run of the training: when, where, versions, cost", f"{path}.run.json"))
        found += [
            (f"training curve, seed {seed}", path) for run, seed, path in subtable.paths_of_curves if run == row.run
        ]
        found += [(f"sample grid, {name}", picture.path) for name, picture in row.samples if picture.path]
        return [FileLink(what, path, self._href(path)) for what, path in found]

    def _href(self, path: str) -> str:
        return quote(f"../{self.up}/{path}") if inside(self.root, path)[0] is not None else ""

    def _cost(self, row: Row) -> tuple[tuple[str, str], ...]:
        """What the row costs by its settings; what it did cost stands in its runs and on the audit page."""
        facts = []
        if row.step_count and row.batch_count:
            seen = count(row.step_count * row.batch_count)
            facts.append(("training", f"{row.steps} steps of {row.batch}: {seen} latents seen, for each seed"))
        if row.run and row.nfe_count:
            facts.append(("sampling", f"{row.nfe} network evaluations an image"))
        return tuple(facts)
