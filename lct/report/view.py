"""What every format shows, said once: the words of each cell, its place, its marks. Computes nothing from metrics."""

import re
import shlex
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from lct.report.images import Picture, curve, picture
from lct.report.text import NOT_GIVEN, PLUS_MINUS, anchor, as_float, count, exact, flatten, number, printed

PAPER = "Improved Training Technique for Latent Consistency Models"
PAPER_URL = "https://arxiv.org/abs/2502.01441"
COMPARABLE = ("paper",)  # scales whose numbers may be set against published ones
STATUS_WORDS = {"complete": "measured", "partial": "partial", "not run": "not run", "quoted": "quoted"}

MODEL_NAMES = {"Ours": "Ours (LCT)"}  # beside numbers of our own, the paper's "Ours" would be misread


@dataclass(frozen=True)
class Value:
    """One measurement: one image set of one training seed."""

    seed: int
    draw: int
    text: str
    exact: str
    metrics: str
    sha256: str
    command: str


@dataclass(frozen=True)
class Cell:
    """One metric of one row."""

    metric: str  # id
    label: str
    text: str  # what the table shows
    finite: bool
    present: bool
    anchor: str = ""
    id: str = ""
    n: int = 0
    n_words: str = ""  # "n=1, no spread"
    values: tuple[Value, ...] = ()
    mean: str = ""  # empty when the values themselves are shown
    sd: str = ""
    axis: str = ""
    protocol: str = ""
    mark: str = ""  # set where the protocol is not the first of its sub-table


@dataclass(frozen=True)
class Row:
    """One line of a sub-table."""

    id: str
    anchor: str  # of the section behind it; empty if there is none
    group: str
    model: str
    citation: str
    dagger: bool
    status: str  # complete, partial, not run, quoted
    status_word: str
    why: str
    published_nfe: str
    published: dict[str, str]  # fid, recall
    epochs: str
    batch_size: str
    nfe: str
    cells: tuple[Cell, ...]
    n_words: str
    axis: str
    run: str
    sampler: str
    steps: str
    batch: str
    extra: tuple[tuple[str, str], ...]
    samples: tuple[tuple[str, Picture], ...]  # ("seed 0", picture)
    is_floor: bool = False
    origin: str = ""  # beside a number that is not in print: "log, L", "not published"
    origin_words: str = ""  # where it is known from, in full

    @property
    def name(self) -> str:
        """Model and NFE: what tells rows of one sub-table apart for a reader."""
        return self.model if self.nfe == NOT_GIVEN else f"{self.model}, {self.nfe} NFE"

    @property
    def measured(self) -> bool:
        return any(cell.present for cell in self.cells)

    @property
    def files(self) -> tuple[Value, ...]:
        """One value per metrics file, for the list of files and commands."""
        found = {value.metrics: value for cell in self.cells for value in cell.values}
        return tuple(found.values())


@dataclass(frozen=True)
class Protocol:
    hash: str
    anchor: str
    mark: str
    line: str  # what was compared with what, in words
    behind: bool  # its numbers stand behind the rows, not in the table
    settings: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Subtable:
    id: str
    anchor: str
    table: str
    paper_dataset: str
    dataset: str
    dataset_title: str
    dataset_note: str
    resolution: str
    groups: tuple[tuple[str, tuple[Row, ...]], ...]
    floors: tuple[Row, ...]
    protocols: tuple[Protocol, ...]  # those of the table's numbers first
    axis: str
    reconstructions: Picture | None
    curves: str  # SVG, or empty
    curves_missing: tuple[str, ...]
    outside: tuple[tuple[str, str], ...]
    readings: tuple[tuple[str, str], ...] = ()  # run, which reading of the sources it is

    @property
    def printed(self) -> bool:
        """Whether every number beside ours stands in print."""
        return not any(row.origin for row in self.rows)

    @property
    def shown_protocols(self) -> tuple[Protocol, ...]:
        """Those of the numbers in the table."""
        return tuple(protocol for protocol in self.protocols if not protocol.behind)

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(row for _, rows in self.groups for row in rows)

    @property
    def ours(self) -> tuple[Row, ...]:
        """Rows that this project trains: all but the quoted ones."""
        return tuple(row for row in self.rows if row.status != "quoted")

    @property
    def measured(self) -> tuple[Row, ...]:
        return tuple(row for row in (*self.rows, *self.floors) if row.measured)

    @property
    def galleries(self) -> tuple[Row, ...]:
        return tuple(row for row in self.ours if row.samples)


@dataclass(frozen=True)
class Note:
    text: str
    rows: tuple[str, ...]
    outcome: str
    provenance: str


@dataclass(frozen=True)
class Table:
    id: str
    anchor: str
    title: str
    caption: str
    subtables: tuple[Subtable, ...]
    notes: tuple[Note, ...]
    note: str = ""  # what this scale does to the numbers of this table

    @property
    def heading(self) -> str:
        """The title without its number, which LaTeX counts itself."""
        return re.sub(r"^(Table|Ablation) \w+[.:]\s+", "", self.title)

    def counted(self, *statuses: str) -> int:
        """Rows with one of these statuses."""
        return sum(row.status in statuses for subtable in self.subtables for row in subtable.rows)


@dataclass(frozen=True)
class Drawing:
    """A figure's picture and numbers for one dataset."""

    dataset: str
    dataset_title: str
    path: str  # of the numbers
    svg: str  # empty if the numbers are not there
    picture: str  # path of the PNG beside the numbers
    rows: tuple[tuple[str, ...], ...]  # one per box; see BOX_COLUMNS
    about: str = ""  # how many images, steps


@dataclass(frozen=True)
class Figure:
    id: str
    anchor: str
    title: str
    caption: str
    drawings: tuple[Drawing, ...]


BOX_COLUMNS = ("Values", "pooled", "beyond inner fences", "beyond outer fences", "excess kurtosis", "largest, in SD")


@dataclass(frozen=True)
class Run:
    id: str
    anchor: str
    facts: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str, str], ...]  # dotted key, value, source
    weights: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """Everything a template may show."""

    scale: str
    banner: tuple[str, ...]
    watermark: str
    comparable: bool
    metrics: tuple[dict[str, Any], ...]
    tables: tuple[Table, ...]
    runs: tuple[Run, ...]
    figures: tuple[Figure, ...] = ()
    left_out: tuple[dict[str, str], ...] = ()  # tables that this report does not hold
    box_columns: tuple[str, ...] = BOX_COLUMNS
    paper: str = PAPER
    paper_url: str = PAPER_URL


def report(tables: dict[str, Any], root: Path) -> Report:
    """The view of a checked tables dict; pictures and curves are read from under `root`."""
    return Report(
        scale=tables["scale"],
        banner=tuple(tables["banner"]),
        watermark=tables.get("watermark") or "",
        comparable=tables["scale"] in COMPARABLE,
        metrics=tuple(tables["metrics"]),
        tables=tuple(_table(table, tables, root) for table in tables["tables"]),
        runs=tuple(_run(run, values, tables.get("costs", {}).get(run)) for run, values in tables["runs"].items()),
        figures=tuple(_figure(figure) for figure in tables.get("figures", ())),
        left_out=tuple(tables.get("left_out", ())),
    )


def _figure(figure: dict[str, Any]) -> Figure:
    place = f"figure-{anchor(figure['id'])}"
    drawings = tuple(_drawing(entry, figure["title"], place) for entry in figure["datasets"])
    return Figure(figure["id"], place, figure["title"], figure["caption"], drawings)


def _drawing(entry: dict[str, Any], title: str, place: str) -> Drawing:
    numbers, path = entry["numbers"], entry["path"]
    letter = f"({entry['subtable']}) " if entry.get("subtable") else ""
    heading = letter + (entry.get("dataset_title") or entry["dataset"])
    made = Drawing(entry["dataset"], heading, path, "", "", ())
    if numbers is None:
        return made
    from lct.report.plots import embedded_box_plots  # matplotlib takes half a second to import

    rows = tuple(
        (
            f"{box['panel']}: {' '.join(box['label'].split())}",
            count(box["count"]),
            f"{number(100 * box['beyond_inner'])} %",
            f"{number(100 * box['beyond_outer'])} %",
            number(box["excess_kurtosis"]),
            number(box["max_abs"]),
        )
        for box in numbers["boxes"]
    )
    svg = embedded_box_plots(numbers, f"{place}-{anchor(made.dataset)}", f"{title}, {made.dataset_title}")
    about = f"{count(numbers.get('images'))} images; each network trained for {count(numbers['steps'])} steps"
    return replace(made, svg=svg, picture=path.removesuffix("json") + "png", rows=rows, about=about)


def _table(table: dict[str, Any], tables: dict[str, Any], root: Path) -> Table:
    notes = [
        Note(note["text"], tuple(note.get("rows", ())), note.get("outcome", ""), note["provenance"])
        for note in [*table.get("remarks", ()), *table.get("cross_checks", ())]
    ]
    subtables = tuple(_subtable(subtable, table, tables, root) for subtable in table["subtables"])
    note = table.get("note") or ""
    return Table(table["id"], anchor(table["id"]), table["title"], table["caption"], subtables, tuple(notes), note)


def _subtable(subtable: dict[str, Any], table: dict[str, Any], tables: dict[str, Any], root: Path) -> Subtable:
    place = anchor(f"{table['id']}.{subtable['id']}")
    protocols = tuple(
        Protocol(
            p["hash"],
            f"protocol-{place}-{anchor(p['hash'])}",
            "" if i == 0 else f"p{i + 1}",
            p.get("line", ""),
            p.get("behind", False),
            tuple(flatten(p["settings"])),
        )
        for i, p in enumerate(sorted(subtable["protocols"], key=lambda p: p.get("behind", False)))
    )
    marks = {protocol.hash: protocol.mark for protocol in protocols}
    rows = [_row(row, place, marks, tables, root) for row in subtable["rows"]]
    floors = [_row(row, place, marks, tables, root, is_floor=True) for row in subtable.get("floors", ())]
    axes = dict.fromkeys(cell.axis for row in rows for cell in row.cells if cell.present)
    read = [(c["run"], c.get("seed", 0), c["path"], curve(root, c["path"])) for c in subtable.get("curves", ())]
    drawable = [(run, seed, lists) for run, seed, _, lists in read if isinstance(lists, dict)]
    svg = ""
    if drawable:
        from lct.report.plots import training_curves  # matplotlib takes half a second to import

        title = (
            f"Training curves of sub-table ({subtable['id']}): loss, intervals, c and gradient norm against the step"
        )
        svg = training_curves(drawable, f"curves-{place}", title)
    grid = subtable.get("reconstructions")
    resolution = subtable.get("resolution")
    return Subtable(
        id=subtable["id"],
        anchor=place,
        table=table["id"],
        paper_dataset=subtable["paper_dataset"],
        dataset=subtable["dataset"] or "",
        dataset_title=subtable.get("dataset_title") or subtable["dataset"] or "",
        dataset_note=subtable.get("dataset_note") or "",
        resolution=f"{resolution} × {resolution}" if resolution else "",
        groups=tuple((group, tuple(members)) for group, members in groupby(rows, key=lambda row: row.group)),
        floors=tuple(floors),
        protocols=protocols,
        axis=", ".join(axes) or "training seed",
        reconstructions=picture(root, grid["grid"]) if grid else None,
        curves=svg,
        curves_missing=tuple(f"{path}: {why}" for _, _, path, why in read if isinstance(why, str)),
        outside=tuple(flatten(subtable.get("outside", {}))) if subtable.get("outside") else (),
        readings=tuple((reading["run"], reading["note"]) for reading in subtable.get("readings", ())),
    )


def _row(
    row: dict[str, Any], place: str, marks: dict[str, str], tables: dict[str, Any], root: Path, is_floor: bool = False
) -> Row:
    published, quoted = row.get("published") or {}, row["status"] == "quoted"
    cells = tuple(_cell(metric, row, marks, tables["scale"]) for metric in tables["metrics"])
    measured = any(cell.present for cell in cells)
    floor = "floor." if is_floor else ""  # a floor and a model may share an id
    samples = tuple((_sample_name(sample), picture(root, sample.get("grid"))) for sample in row.get("samples", ()))
    extra = row.get("extra") or {}
    return Row(
        id=row["id"],
        anchor=f"row-{place}.{floor}{anchor(row['id'])}" if measured else "",
        group=row["group"],
        model=MODEL_NAMES.get(row["model"], row["model"]),
        citation=row.get("citation") or "",
        dagger=bool(row.get("dagger")),
        status=row["status"],
        status_word=STATUS_WORDS[row["status"]],
        why=row.get("why") or "",
        published_nfe=count(published.get("nfe")),
        published={name: printed(published.get(name)) for name in ("fid", "recall")},
        epochs=published.get("epochs_as_printed") or NOT_GIVEN,
        batch_size=count(published.get("batch_size")),
        nfe=NOT_GIVEN if quoted else count(row.get("nfe")),
        cells=cells,
        n_words=" / ".join(dict.fromkeys(cell.n_words for cell in cells if cell.present)),
        axis=", ".join(dict.fromkeys(cell.axis for cell in cells if cell.present)),
        run=row.get("run") or "",
        sampler=row.get("sampler") or "",
        steps=count(row.get("steps")),
        batch=count(row.get("batch")),
        extra=(*(flatten(extra) if extra else ()), *_cost(tables, row.get("run"))),
        samples=samples,
        is_floor=is_floor,
        origin=_origin(published.get("origin")),
        origin_words=_origin_words(published.get("origin")),
    )


def _origin(origin: dict[str, Any] | None) -> str:
    """Empty for a number in print."""
    kind = (origin or {}).get("kind", "published table")
    return {"published table": "", "authors' log": f"log, {(origin or {}).get('status')}"}.get(kind, kind)


def _origin_words(origin: dict[str, Any] | None) -> str:
    if not origin or origin.get("kind") != "authors' log":
        return ""
    return f"authors' log, {origin['place']}: {origin['line']}"


def _sample_name(sample: dict[str, Any]) -> str:
    seed, draw = sample.get("seed"), sample.get("draw")
    named = ([f"seed {seed}"] if seed is not None else []) + ([f"draw {draw}"] if draw else [])
    return ", ".join(named) or "samples"


def _cell(metric: dict[str, Any], row: dict[str, Any], marks: dict[str, str], scale: str) -> Cell:
    found = row["cells"].get(metric["id"])
    if found is None or not found["values"]:
        absent = {"not run": "not run", "partial": "not run", "complete": "missing"}.get(row["status"], NOT_GIVEN)
        return Cell(metric["id"], metric["label"], absent, finite=True, present=False)
    values = tuple(
        Value(
            seed=value["seed"],
            draw=value.get("draw", 0),
            text=number(value["value"]),
            exact=exact(as_float(value["value"])),
            metrics=value["metrics"],
            sha256=value["sha256"],
            command=f"snakemake {shlex.quote(value['metrics'])} --config scale={shlex.quote(scale)}",
        )
        for value in found["values"]
    )
    n, mean, sd = found["n"], found["mean"], found["sd"]
    shown_mean = shown_sd = ""
    if n <= 2:  # two values say more than their mean, and give no spread worth the name
        text = " / ".join(value.text for value in values)
    else:
        shown_mean = number(mean) if mean is not None else "no mean"
        shown_sd = number(sd) if sd is not None else ""
        text = f"{shown_mean} {PLUS_MINUS} {shown_sd}" if shown_sd else shown_mean
    words = "n=1, no spread" if n == 1 else f"n={n}"
    finite = all(abs(as_float(value["value"])) < float("inf") for value in found["values"])
    return Cell(
        metric=metric["id"],
        label=metric["label"],
        text=text,
        finite=finite,
        present=True,
        anchor=f"cell-{anchor(found['id'])}",
        id=found["id"],
        n=n,
        n_words=words,
        values=values,
        mean=shown_mean,
        sd=shown_sd,
        axis=found["axis"],
        protocol=found["protocol"],
        mark=marks.get(found["protocol"], "other protocol"),
    )


def _cost(tables: dict[str, Any], run: str | None) -> tuple[tuple[str, str], ...]:
    """What the run behind a row has cost, where that is known."""
    words = tables.get("costs", {}).get(run)
    return (("cost of the run", words),) if words else ()


def _run(run: str, values: dict[str, Any], cost: str | None) -> Run:
    facts = [("method", values.get("method")), ("dataset", values.get("dataset")), ("reading", values.get("note"))]
    facts.append(("weights taken from", values.get("given")))
    parameters = values.get("parameters")
    facts.append(("parameters", count(parameters) if isinstance(parameters, int) else None))
    facts.append(("cost", cost))
    sources = values.get("sources") or {}
    settings = tuple((key, text, _source(sources, key)) for key, text in flatten(values.get("settings") or {}) if key)
    weights = tuple(str(path) for path in values.get("weights") or ())
    return Run(run, f"run-{anchor(run)}", tuple((k, str(v)) for k, v in facts if v), settings, weights)


def _source(sources: dict[str, str], key: str) -> str:
    """Where a setting comes from; a list or a mapping may be recorded as a whole."""
    while key:
        if key in sources:
            return str(sources[key])
        key = key.rpartition(".")[0]
    return "not recorded"
