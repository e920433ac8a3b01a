"""The report as templates see it: the content of tables.json with its links, pictures and drawings beside it.

Each class holds a part of tables.json in `data`. Nothing is computed from metrics here.
"""

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from lct.claims.noise import contrast, pooled, scaled, spread
from lct.files.atomic import read_json_or_empty
from lct.plan.paths import Paths, manifest
from lct.report import tables as model
from lct.report.images import Picture, curve, picture, strip
from lct.report.tables import Tables, Verdict
from lct.report.text import MINUS, NOT_GIVEN, PLUS_MINUS, anchor, count, flatten, number, seed_name
from lct.report.verdicts import LABELS, NOT_COMPARABLE, NOT_RUN

PAPER = "Improved Training Technique for Latent Consistency Models"
PAPER_URL = "https://arxiv.org/abs/2502.01441"
DAMAGE = (
    "Real images, blurred or with noise, scored as generated ones are. A generator whose precision is near that of a "
    "damaged row may make images of that quality. A precision near 1 beside a recall near 0 is that of images which "
    "are all alike, in the middle of the real ones."
)
MODEL_NAMES = {"Ours": "Ours (LCT)"}  # beside numbers of our own, the paper's "Ours" would be misread
ABSENT = {"partial": "not run", "complete": "missing", "quoted": NOT_GIVEN}  # by status, in place of a number


def row_name(row: model.Row) -> str:
    """Model and NFE: what tells rows of one sub-table apart for a reader."""
    name = MODEL_NAMES.get(row.model, row.model)
    return name if row.nfe is None else f"{name}, {count(row.nfe)} NFE"


@dataclass(frozen=True)
class CellView:
    """One metric of one row."""

    metric: model.Metric
    data: model.CellValues | None  # None: nothing was measured
    mean: str  # what stands for the cell; "not run" for a gap
    spread: str = ""  # both values, or the standard deviation of more; empty for a single one
    mark: str = ""  # set where the protocol is not the first of its sub-table
    best: bool = False  # the best mean of its sub-table

    @property
    def text(self) -> str:
        """The mean and its spread, as every format shows them."""
        return f"{self.mean} {self.spread}".strip()

    @property
    def count_text(self) -> str:
        return "n=1, no spread" if self.data.n == 1 else f"n={self.data.n}"

    @property
    def finite(self) -> bool:
        return all(math.isfinite(value.value) for value in self.data.values)

    @property
    def sort(self) -> str:
        """The mean as JavaScript reads it; infinity as a number that is larger than any other; empty for a gap."""
        if self.data is None:
            return ""
        values = [value.value for value in self.data.values]
        mean = sum(values) / len(values)
        return "" if math.isnan(mean) else repr(max(-1e300, min(1e300, mean)))


@dataclass(frozen=True)
class RowView:
    """One line of a sub-table."""

    data: model.Row
    place: str  # table.sub-table.row
    anchor: str  # of its section behind the numbers; empty if there is none
    cells: tuple[CellView, ...]
    verdicts: dict[str, Verdict]  # by published metric
    samples: tuple[tuple[str, Picture], ...]  # ("seed 0", picture)
    neighbours: tuple[tuple[model.Nearest, Picture], ...]
    facts: tuple[tuple[str, Any], ...]  # further numbers, and the cost of the run
    is_floor: bool = False
    against: str = ""  # its first metric against the best of its sub-table, where nothing is published

    @property
    def model_name(self) -> str:
        return MODEL_NAMES.get(self.data.model, self.data.model)

    @property
    def name(self) -> str:
        return row_name(self.data)

    @property
    def measured(self) -> bool:
        return any(cell.data for cell in self.cells)

    @property
    def is_left_out(self) -> bool:
        """Whether no run of this scale computes it, or only= leaves it out."""
        return self.data.status == "not run" and self.data.run is None

    @property
    def count_text(self) -> str:
        return " / ".join(dict.fromkeys(cell.count_text for cell in self.cells if cell.data))

    @property
    def axis(self) -> str:
        return ", ".join(dict.fromkeys(cell.data.axis for cell in self.cells if cell.data))

    @property
    def protocols(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cell.data.protocol for cell in self.cells if cell.data))

    @property
    def kinds(self) -> list[str]:
        """Verdicts of this row, then its status, to filter by."""
        return list(dict.fromkeys([*(v.kind for v in self.verdicts.values() if self.measured), self.data.status]))

    @property
    def verdict_groups(self) -> list[tuple[str, str, Verdict]]:
        """(labels, metric, verdict) of each kind: "FID, Recall" where both are the same."""
        kinds: dict[str, list[str]] = {}
        for metric, verdict in self.verdicts.items():
            kinds.setdefault(verdict.kind, []).append(metric)
        return [(", ".join(LABELS[m] for m in of), of[0], self.verdicts[of[0]]) for of in kinds.values()]

    @property
    def log_line(self) -> str:
        """Where the authors' log holds the published number; empty for another origin."""
        origin = self.data.published.origin if self.data.published else None
        return f"authors' log, {origin.place}: {origin.line}" if origin and origin.line else ""

    @property
    def files(self) -> tuple[model.Value, ...]:
        """One value per metrics file."""
        return tuple({v.metrics: v for cell in self.cells if cell.data for v in cell.data.values}.values())


@dataclass(frozen=True)
class ProtocolView:
    data: model.UsedProtocol
    anchor: str
    mark: str


@dataclass(frozen=True)
class SubtableView:
    data: model.Subtable
    anchor: str
    rows: tuple[RowView, ...]
    floors: tuple[RowView, ...]
    protocols: tuple[ProtocolView, ...]  # those of the table's numbers first
    reconstructions: Picture | None
    curves: str  # SVG; empty where there are none, or a sub-table before this one shows them
    curves_missing: tuple[str, ...]
    images: dict[str, Any]  # the manifest of its training images, which counts copies and files that were not taken
    strip: tuple[tuple[str, Picture], ...]  # real images, then the first samples of each row
    stands_in: bool  # another dataset stands in the place of the paper's
    degraded: tuple[tuple[str, tuple[str, ...]], ...] = ()  # (images, one text for each metric), whole ones first
    caution: str = ""  # which damage of real images a metric does not see

    @property
    def title(self) -> str:
        """Of our dataset; empty where there is none."""
        return self.data.dataset_title or self.data.dataset or ""

    @property
    def short(self) -> str:
        """Its name in a sentence: what is really shown, not what it stands for."""
        if self.stands_in:
            return (self.data.dataset or "").replace("-", " ").capitalize()
        return self.title or self.data.paper_dataset

    @property
    def heading(self) -> str:
        """What is shown, and in place of what, where something is published."""
        of = f", in place of {self.data.paper_dataset}" if self.stands_in and self.data.has_print else ""
        return f"({self.data.id}) {self.short}{of}"

    @property
    def groups(self) -> list[tuple[str, list[RowView]]]:
        return [(group, list(rows)) for group, rows in groupby(self.rows, key=lambda row: row.data.group)]

    @property
    def axis(self) -> str:
        axes = dict.fromkeys(cell.data.axis for row in self.rows for cell in row.cells if cell.data)
        return ", ".join(axes) or "training seed"

    @property
    def printed(self) -> bool:
        """Whether every published number is printed in the paper."""
        return all(row.data.published.origin.kind == "published table" for row in self.rows)

    @property
    def shown_protocols(self) -> list[ProtocolView]:
        return [protocol for protocol in self.protocols if not protocol.data.secondary]

    @property
    def ours(self) -> list[RowView]:
        """Rows that this project trains: all but the quoted ones."""
        return [row for row in self.rows if row.data.status != "quoted"]

    @property
    def folded(self) -> str:
        """The rows that are folded at first, in words; empty where there are none."""
        counts = (
            (sum(row.data.quoted for row in self.rows), "that the paper quotes from other works"),
            (sum(row.is_left_out for row in self.rows), "that this report leaves out"),
        )
        return ", ".join(f"{n} row{'s' if n > 1 else ''} {what}" for n, what in counts if n)

    @property
    def incomparable(self) -> bool:
        """Whether one sentence says it for every row: none may be compared with the paper."""
        kinds = {verdict.kind for row in self.ours if row.measured for verdict in row.verdicts.values()}
        return kinds == {NOT_COMPARABLE} and self.stands_in

    @property
    def measured(self) -> list[RowView]:
        return [row for row in (*self.rows, *self.floors) if row.measured]

    @property
    def galleries(self) -> list[RowView]:
        return [row for row in self.ours if row.samples]


@dataclass(frozen=True)
class TableView:
    data: model.Table
    subtables: tuple[SubtableView, ...]
    own: bool = False  # about a dataset of the user's own

    @property
    def title(self) -> str:
        """Its title; of a report about a dataset of the user's own, the dataset."""
        return _capital(self.subtables[0].title) if self.own and self.subtables[0].title else self.data.title

    @property
    def heading(self) -> str:
        """The title without its number, which LaTeX counts itself."""
        return re.sub(r"^(Table|Ablation) \w+[.:]\s+", "", self.title)

    @property
    def notes(self) -> tuple[Any, ...]:
        """Remarks and cross-checks of its published numbers."""
        return (*self.data.remarks, *self.data.cross_checks)

    @property
    def cells(self) -> tuple[int, int, int]:
        """Published numbers that are reproduced, run, and all of them."""
        kinds = [v.kind for subtable in self.subtables for row in subtable.ours for v in row.verdicts.values()]
        return kinds.count("reproduced"), len(kinds) - kinds.count(NOT_RUN), len(kinds)

    def counted(self, *statuses: str) -> int:
        """Rows with one of these statuses."""
        return sum(row.data.status in statuses for subtable in self.subtables for row in subtable.rows)


@dataclass(frozen=True)
class Drawing:
    """A figure's picture and numbers for one dataset."""

    title: str
    path: str  # of the numbers
    svg: str = ""  # empty if the numbers are not there
    about: str = ""  # how many images, steps
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class FigureView:
    data: model.FigureResult
    anchor: str
    drawings: tuple[Drawing, ...]
    svg: str = ""  # of a figure that no dataset has for itself
    grids: tuple[tuple[str, Picture], ...] = ()


@dataclass(frozen=True)
class RunView:
    id: str
    data: model.RunSummary
    facts: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, Any, str], ...]  # dotted key, value, source


@dataclass(frozen=True)
class Report:
    """Everything that a template may show."""

    data: Tables
    tables: tuple[TableView, ...]
    runs: dict[str, RunView]
    figures: tuple[FigureView, ...]
    paper: str = PAPER
    paper_url: str = PAPER_URL
    damage: str = DAMAGE

    @property
    def title(self) -> str:
        """Of the first page: the paper, or the user's own dataset."""
        return self.tables[0].title if self.data.own else self.paper

    @property
    def config(self) -> str:
        """What a snakemake command of this report needs beside its target."""
        own = f" dataset={shlex.quote(self.data.own)}" if self.data.own else ""
        return f"--config scale={shlex.quote(self.data.scale)}{own}"

    @property
    def options(self) -> str:
        """The same for a verb of `lct`."""
        own = f" --dataset {shlex.quote(self.data.own)}" if self.data.own else ""
        return f"--scale {shlex.quote(self.data.scale)}{own}"

    def command(self, path: str) -> str:
        """The command that brings a file up to date."""
        return f"snakemake {shlex.quote(path)} {self.config}"

    @property
    def noise(self) -> list[tuple[str, model.NoiseEstimate]]:
        """(label of the metric, run-to-run standard deviation) where one is measured."""
        labels = {metric.id: metric.label for metric in self.data.metrics}
        return [(labels.get(model.PAIRS[e.metric], LABELS[e.metric]), e) for e in self.data.verdicts.noise]


def report(tables: Tables, root: Path, drawn: dict[str, bytes], costs: dict[str, str]) -> Report:
    """The view of `tables`; pictures and curves are read from under `root`.

    drawn: file name -> content of the figures that are drawn from tables.json (`lct.report.render.pictures`).
    costs: run -> what it has cost."""
    curves: set[str] = set()
    return Report(
        data=tables,
        tables=tuple(
            TableView(
                data=table,
                subtables=tuple(_subtable(part, table, tables, root, costs, curves) for part in table.subtables),
                own=tables.own is not None,
            )
            for table in tables.tables
        ),
        runs={name: _run(name, run, costs.get(name)) for name, run in tables.runs.items()},
        figures=tuple(_figure(figure, tables, root, drawn) for figure in tables.figures),
    )


def _subtable(
    subtable: model.Subtable, table: model.Table, tables: Tables, root: Path, costs: dict[str, str], drawn: set[str]
) -> SubtableView:
    """drawn: paths of the training curves that sub-tables before it show; those of this one are added."""
    at = anchor(f"{table.id}.{subtable.id}")
    protocols = tuple(
        ProtocolView(protocol, f"protocol-{at}-{anchor(protocol.hash)}", f"p{i + 1}" if i else "")
        for i, protocol in enumerate(sorted(subtable.protocols, key=lambda protocol: protocol.secondary))
    )
    marks = {protocol.data.hash: protocol.mark for protocol in protocols}

    best = best_cells(subtable.rows, tables.metrics)
    against = {} if subtable.has_print else _against(subtable, tables.metrics[0], best)

    def view(row: model.Row, is_floor: bool) -> RowView:
        place, cost = model.place(table, subtable, row), costs.get(row.run or "")
        floor = "floor." if is_floor else ""  # a floor and a model may share an id
        return RowView(
            data=row,
            place=place,
            anchor=f"row-{at}.{floor}{anchor(row.id)}" if row.measured else "",
            cells=tuple(_cell(metric, row, marks, best) for metric in tables.metrics),
            verdicts=tables.verdicts.rows.get(place, {}),
            samples=tuple(
                ("samples" if s.seed is None else seed_name(s.seed, s.draw), picture(root, s.grid)) for s in row.samples
            ),
            neighbours=tuple((entry, picture(root, entry.picture)) for entry in row.neighbours),
            facts=(*(flatten(row.extra) if row.extra else ()), *([("cost of the run", cost)] if cost else ())),
            is_floor=is_floor,
            against="" if is_floor else against.get(row.id, ""),
        )

    images = root / manifest(Paths(tables.scale).images(subtable.dataset or "", "train"))
    title = f"Training curves of sub-table ({subtable.id}): loss, intervals, c and gradient norm against the step"
    curves = () if all(entry.path in drawn for entry in subtable.curves) else subtable.curves
    drawn |= {entry.path for entry in curves}
    svg, missing = training_curves(curves, root, f"curves-{at}", title)
    return SubtableView(
        data=subtable,
        anchor=at,
        rows=tuple(view(row, False) for row in subtable.rows),
        floors=tuple(view(row, True) for row in subtable.floors),
        protocols=protocols,
        reconstructions=picture(root, subtable.reconstructions.grid) if subtable.reconstructions else None,
        curves=svg,
        curves_missing=missing,
        images=read_json_or_empty(images) if subtable.dataset else {},
        strip=_strip(subtable, root) if table is tables.tables[0] else (),
        stands_in=not tables.comparable and not tables.own and subtable.dataset is not None,
        degraded=_degraded(subtable, tables.metrics),
        caution=_caution(subtable),
    )


def _degraded(subtable: model.Subtable, metrics: tuple[model.Metric, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    damaged = subtable.degraded
    if damaged is None:
        return ()
    start = f"{_capital(damaged.images)}, {count(damaged.count)}"
    return (
        *((row.model, tuple(cell_text(metric, row) for metric in metrics)) for row in subtable.floors if row.measured),
        *((f"{start}: {r.text}", tuple(number(r.values[metric.id]) for metric in metrics)) for r in damaged.rows),
    )


def _caution(subtable: model.Subtable) -> str:
    """Damaged images that a metric does not tell from whole ones: a precision that is as high up to chance,
    1 / sqrt(number of images), or a distance that is no larger; empty where there are none."""
    damaged, whole = subtable.degraded, [row for row in subtable.floors if row.measured]
    if damaged is None or not whole:
        return ""
    floor, texts = {name: whole[0].cells[name].shown for name in ("precision", "fd")}, []
    precise = [row for row in damaged.rows if row.values["precision"] >= floor["precision"] - damaged.count**-0.5]
    near = [row for row in damaged.rows if row.values["fd"] <= floor["fd"]]
    for name, what, rows in (("precision", "precision", precise), ("fd", "the distance", near)):
        if rows:
            listed = "; ".join(f"{row.text}: {number(row.values[name])}" for row in rows)
            texts.append(
                f"{what} does not see this damage of real images ({listed}), whole ones have {number(floor[name])}"
            )
    return f"Caution: {'. '.join(map(_capital, texts))}. Look at the samples too." if texts else ""


def best_cells(rows: Sequence[model.Row], metrics: tuple[model.Metric, ...]) -> frozenset[str]:
    """Ids of the cells with the best mean of each metric, of two or more that share a protocol."""
    best = set()
    for metric in metrics:
        cells = [cell for row in rows if (cell := row.cells.get(metric.id)) and cell.values]
        finite = [cell for cell in cells if math.isfinite(cell.shown)]
        if len(finite) > 1 and len({cell.protocol for cell in finite}) == 1:
            pick = min if metric.better == "lower" else max
            value = pick(cell.shown for cell in finite)
            best |= {cell.id for cell in finite if cell.shown == value}
    return frozenset(best)


def _against(subtable: model.Subtable, metric: model.Metric, best: frozenset[str]) -> dict[str, str]:
    """Row -> its distance against that of the best row, in per cent, with the 95 % interval of the difference where
    some row has two training seeds or more: log distances, their noise pooled over all rows, Student's t."""
    cells = {row.id: row.cells[metric.id] for row in subtable.rows if row.measured and metric.id in row.cells}
    values = {name: list(cell.by_seed.values()) for name, cell in cells.items() if cell.values}
    first = next((name for name in values if cells[name].id in best), None)
    if first is None or any(not (math.isfinite(v) and v > 0) for of in values.values() for v in of):
        return {}
    spreads = {name: spread([scaled("fid", value) for value in of]) for name, of in values.items()}
    noise, texts = pooled(spreads.values()), {first: "best"}
    for name in (name for name in values if name != first):
        difference = spreads[name].level - spreads[first].level
        texts[name] = _percent(difference)
        if noise is not None:
            terms = [(sign, spreads[of].level, noise, len(values[of])) for sign, of in ((1, name), (-1, first))]
            low, high = contrast(terms).interval()
            texts[name] += f" ({_percent(low)} to {_percent(high)})"
    return texts


def _percent(difference: float) -> str:
    """A difference of logarithms, in per cent; as a factor where that would have many digits."""
    ratio = math.exp(min(difference, 50.0))
    return f"times {ratio:.3g}" if ratio >= 10 else f"{100 * (ratio - 1):+.0f} %".replace("-", MINUS)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _strip(subtable: model.Subtable, root: Path) -> tuple[tuple[str, Picture], ...]:
    """The first real images, then the first samples of every row, which start from the same noise."""
    if subtable.resolution is None:
        return ()
    real = subtable.reconstructions.grid if subtable.reconstructions else None
    named = [(row_name(row), row.samples[0].grid) for row in subtable.rows if row.samples]
    pictures = [(name, strip(root, path, subtable.resolution)) for name, path in [("real images", real), *named]]
    return tuple((name, shown) for name, shown in pictures if not shown.missing) if named else ()


def training_curves(
    curves: tuple[model.CurvesFile, ...], root: Path, name: str, title: str
) -> tuple[str, tuple[str, ...]]:
    """(SVG or nothing, why a file cannot be drawn) of curves.json files; `name` begins every id in it."""
    contents = [(entry, curve(root, entry.path)) for entry in curves]
    drawable = [(entry.run, entry.seed, lists) for entry, lists in contents if isinstance(lists, dict)]
    missing = tuple(f"{entry.path}: {reason}" for entry, reason in contents if isinstance(reason, str))
    if not drawable:
        return "", missing
    from lct.report import plotting  # matplotlib takes half a second to import

    return plotting.training_curves(drawable, name, title), missing


def _cell(metric: model.Metric, row: model.Row, marks: dict[str, str], best: frozenset[str]) -> CellView:
    cell, (mean, spread) = row.cells.get(metric.id), mean_and_spread(metric, row)
    if cell is None or not cell.values:
        return CellView(metric, None, mean)
    return CellView(metric, cell, mean, spread, marks.get(cell.protocol, "other protocol"), cell.id in best)


def mean_and_spread(metric: model.Metric, row: model.Row) -> tuple[str, str]:
    """What a table shows of one metric of a row: the mean, or why there is none, and both values or the SD of more."""
    cell = row.cells.get(metric.id)
    if cell is None or not cell.values:
        return ABSENT.get(row.status, row.status), ""
    mean = "no mean" if cell.mean is None else number(cell.shown)
    if cell.n == 2:  # two values say more than a standard deviation of them
        return mean, f"({', '.join(number(value.value) for value in cell.values)})"
    return mean, f"{PLUS_MINUS} {number(cell.sd)}" if cell.sd is not None and cell.n > 2 else ""


def cell_text(metric: model.Metric, row: model.Row) -> str:
    """What a table shows of one metric of a row, in one line."""
    return " ".join(mean_and_spread(metric, row)).strip()


def _figure(figure: model.FigureResult, tables: Tables, root: Path, drawn: dict[str, bytes]) -> FigureView:
    at = f"figure-{anchor(figure.id)}"
    drawings = tuple(_drawing(entries, figure, at) for entries in _alike(figure.datasets))
    if figure.kind == "schedules":
        from lct.report.plotting import embed  # matplotlib takes half a second to import

        svg = embed(drawn[f"figures/{figure.id}.svg"].decode(), at, figure.title)
        return FigureView(figure, at, drawings, svg)
    grids = tuple((f"{row_name(row)}: {of}", picture(root, path)) for row, of, path in first_grids(figure, tables))
    return FigureView(figure, at, drawings, grids=grids)


def first_grids(figure: model.FigureResult, tables: Tables) -> list[tuple[model.Row, str, str | None]]:
    """(row, its dataset, path of its first grid) of the rows that a figure of samples shows."""
    return [
        (row, subtable.dataset_title or subtable.paper_dataset, row.samples[0].grid)
        for table, subtable, row in tables.rows
        if row.samples and model.place(table, subtable, row) in figure.rows
    ]


def _alike(datasets: Sequence[model.FigureDataset]) -> list[list[model.FigureDataset]]:
    """Datasets whose numbers are the same, together: one drawing shows them all."""
    groups: list[list[model.FigureDataset]] = []
    for entry in datasets:
        same = [of for of in groups if entry.numbers is not None and of[0].numbers == entry.numbers]
        same[0].append(entry) if same else groups.append([entry])
    return groups


def _drawing(entries: list[model.FigureDataset], figure: model.FigureResult, at: str) -> Drawing:
    entry = entries[0]
    titles = [
        f"({e.subtable}) {e.dataset_title or e.dataset}" if e.subtable else e.dataset_title or e.dataset
        for e in entries
    ]
    title = ", ".join(titles)
    if entry.numbers is None:
        return Drawing(title, entry.path)
    from lct.report import paper_figures, plotting  # matplotlib takes half a second to import

    name, spoken = f"{at}-{anchor(entry.dataset)}", f"{figure.title}, {title}"
    svg = plotting.embedded(partial(paper_figures.DRAWERS[figure.kind], entry.numbers), name, spoken)
    return Drawing(title, entry.path, svg, *paper_figures.SUMMARIES[figure.kind](entry.numbers))


def _run(name: str, run: model.RunSummary, cost: str | None) -> RunView:
    parameters = count(run.parameters) if run.parameters is not None else None
    given = ("weights taken from" if run.weights else "images taken from", run.given)
    facts = [("method", run.method), ("dataset", run.dataset), ("reading", run.note), given]
    facts += [("parameters", parameters), ("cost", cost)]
    settings = tuple((key, value, _source(run.sources, key)) for key, value in flatten(run.settings) if key)
    return RunView(name, run, tuple((key, value) for key, value in facts if value), settings)


def _source(sources: dict[str, str], key: str) -> str:
    """Where a setting comes from; a list or a mapping may be recorded as a whole."""
    while key:
        if key in sources:
            return sources[key]
        key = key.rpartition(".")[0]
    return "not recorded"
