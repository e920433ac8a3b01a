"""What every format shows, said once: the words of each cell, its place, its marks. Computes nothing from metrics."""

import re
import shlex
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from lct.report.images import Picture, curve, picture
from lct.report.text import NOT_GIVEN, PLUS_MINUS, anchor, as_float, count, exact, flatten, number, printed, signed
from lct.report.verdicts import LABELS, NOT_RUN, PAIRS, is_comparable, judge

PAPER = "Improved Training Technique for Latent Consistency Models"
PAPER_URL = "https://arxiv.org/abs/2502.01441"
STATUS_WORDS = {"complete": "measured"}  # the others are their own words

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
    exact_value: Any = None  # as in tables.json


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
    sort: str = ""  # plain number to sort by, empty for a gap
    mark: str = ""  # set where the protocol is not the first of its sub-table


@dataclass(frozen=True)
class Verdict:
    """One published number and ours."""

    metric: str  # fid, recall
    label: str
    kind: str  # reproduced, within the band ..., differs, not run, not comparable
    css: str
    why: str
    published: str
    ours: str  # mean; empty where there is none
    n: int
    difference: str  # signed; empty where it must not be taken
    band: str
    sigma: str
    df: int

    @property
    def numbers(self) -> str:
        """Difference and band, or why there are none."""
        if not self.difference:
            return self.why
        if not self.band:
            return f"{self.difference}; {self.why}"
        return f"{self.difference}, band {PLUS_MINUS}{self.band}" + (f"; {self.why}" if self.why else "")

    @property
    def sentence(self) -> str:
        """All of it in words."""
        if self.kind == NOT_RUN:
            return f"{self.label} {self.published} in print; not run here" + (f": {self.why}" if self.why else "")
        said = f"{self.label} {self.published} in print, {self.kind}"
        return f"{said}: {self.numbers}" if self.numbers else said


@dataclass(frozen=True)
class Nearest:
    """Generated images above the training images nearest to them."""

    name: str  # "seed 0"
    picture: Picture
    rows: tuple[tuple[str, ...], ...]  # image, nearest, distance, in its radii, same pixels
    copies: int  # generated images with the pixels of a training image
    about: str


@dataclass(frozen=True)
class Row:
    """One line of a sub-table."""

    id: str
    anchor: str  # of the section behind it; empty if there is none
    group: str
    model: str
    citation: str
    dagger: bool
    status: str  # complete, partial, half-finished, failed, not run, quoted
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
    verdicts: tuple[Verdict, ...] = ()
    page: str = ""  # what stands behind it, a file beside the report; empty: its section in the report
    place: str = ""  # table.sub-table.row
    weights: str = ""  # (step, EMA) pair, or hash of given weights
    weights_files: tuple[str, ...] = ()
    neighbours: tuple[Nearest, ...] = ()
    nfe_count: int | None = None
    step_count: int | None = None
    batch_count: int | None = None
    published_nfe_count: int | None = None
    epochs_count: int | None = None
    published_batch_count: int | None = None

    @property
    def kinds(self) -> list[str]:
        """Verdicts of this row, then its status, to filter by."""
        judged = [one.kind for one in self.verdicts] if self.measured else []
        return list(dict.fromkeys([*judged, self.status]))

    @property
    def verdict_groups(self) -> list[tuple[str, Verdict]]:
        """(metrics, verdict) of each kind: "FID, Recall" where both are the same."""
        kinds: dict[str, list[Verdict]] = {}
        for one in self.verdicts:
            kinds.setdefault(one.kind, []).append(one)
        return [(", ".join(one.label for one in of), of[0]) for of in kinds.values()]

    @property
    def verdict_words(self) -> str:
        """For formats without colour: each verdict with its numbers."""
        return "; ".join(
            f"{one.label} {one.kind}" + (f" ({one.numbers})" if one.difference else "") for one in self.verdicts
        )

    @property
    def protocols(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cell.protocol for cell in self.cells if cell.present))

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
    paths_of_curves: tuple[tuple[str, int, str], ...] = ()  # run, seed, curves.json
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
    printed_in: str = ""  # where its published numbers stand

    @property
    def heading(self) -> str:
        """The title without its number, which LaTeX counts itself."""
        return re.sub(r"^(Table|Ablation) \w+[.:]\s+", "", self.title)

    @property
    def cells(self) -> tuple[int, int, int]:
        """Published numbers that are reproduced, run, and all of them."""
        found = [one.kind for subtable in self.subtables for row in subtable.ours for one in row.verdicts]
        return found.count("reproduced"), sum(kind != NOT_RUN for kind in found), len(found)

    def counted(self, *statuses: str) -> int:
        """Rows with one of these statuses."""
        return sum(row.status in statuses for subtable in self.subtables for row in subtable.rows)


BOX_COLUMNS = ("Values", "pooled", "beyond inner fences", "beyond outer fences", "excess kurtosis", "largest, in SD")


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
    columns: tuple[str, ...] = BOX_COLUMNS  # of its rows


@dataclass(frozen=True)
class Figure:
    id: str
    anchor: str
    title: str
    caption: str
    drawings: tuple[Drawing, ...]
    kind: str = "box-plots"
    svg: str = ""  # of a figure that no dataset has for itself
    grids: tuple[tuple[str, Picture], ...] = ()


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
    score: dict[str, int] | None = None  # cells reproduced, run, published
    own: str = ""  # the user's own dataset that all of it is about
    noise: tuple[tuple[str, str, str, int], ...] = ()  # dataset, metric, run-to-run SD, degrees of freedom
    paper: str = PAPER
    paper_url: str = PAPER_URL


def report(tables: dict[str, Any], root: Path, drawn: dict[str, bytes]) -> Report:
    """The view of a checked tables dict; pictures and curves are read from under `root`.

    drawn: file name -> content of the figures that are drawn from tables.json (`lct.report.render.pictures`)."""
    judged, labels = judge(tables), {metric["id"]: metric["label"] for metric in tables["metrics"]}
    tables = tables | {"_verdicts": judged["rows"]}
    return Report(
        score=judged["score"],
        own=tables.get("own") or "",
        noise=tuple(
            (e["dataset"], labels.get(PAIRS[e["metric"]], LABELS[e["metric"]]), number(e["sigma"]), e["df"])
            for e in judged["noise"]
        ),
        scale=tables["scale"],
        banner=tuple(tables["banner"]),
        watermark=tables.get("watermark") or "",
        comparable=is_comparable(tables),
        metrics=tuple(tables["metrics"]),
        tables=tuple(_table(table, tables, root) for table in tables["tables"]),
        runs=tuple(_run(run, values, tables.get("costs", {}).get(run)) for run, values in tables["runs"].items()),
        figures=tuple(_figure(figure, tables, root, drawn) for figure in tables.get("figures", ())),
        left_out=tuple(tables.get("left_out", ())),
    )


def _ordinal(k: int) -> str:
    tens = k % 100 // 10 == 1
    return f"{k}{'th' if tens else {1: 'st', 2: 'nd', 3: 'rd'}.get(k % 10, 'th')}"


def _figure(figure: dict[str, Any], tables: dict[str, Any], root: Path, drawn: dict[str, bytes]) -> Figure:
    place, kind = f"figure-{anchor(figure['id'])}", figure.get("kind", "box-plots")
    drawings = tuple(_drawing(entry, figure["title"], place, kind) for entry in figure["datasets"])
    made = Figure(figure["id"], place, figure["title"], figure["caption"], drawings, kind)
    if kind == "schedules":
        from lct.report.plotting import embed  # matplotlib takes half a second to import

        return replace(made, svg=embed(drawn[f"figures/{figure['id']}.svg"].decode(), place, figure["title"]))
    return replace(made, grids=_grids(figure, tables, root)) if kind == "samples" else made


def _grids(figure: dict[str, Any], tables: dict[str, Any], root: Path) -> tuple[tuple[str, Picture], ...]:
    """(row, grid) of each row of a figure of samples that has one."""
    found = []
    for table in tables["tables"]:
        for subtable in table["subtables"]:
            for row in subtable["rows"]:
                place = f"{table['id']}.{subtable['id']}.{row['id']}"
                for sample in row.get("samples", ())[:1] if place in figure["rows"] else ():
                    title = f"{MODEL_NAMES.get(row['model'], row['model'])}, {row.get('nfe')} NFE"
                    shown_on = subtable.get("dataset_title") or subtable["paper_dataset"]
                    found.append((f"{title}: {shown_on}", picture(root, sample.get("grid"))))
    return tuple(found)


def _drawing(entry: dict[str, Any], title: str, place: str, kind: str) -> Drawing:
    numbers, path = entry["numbers"], entry["path"]
    letter = f"({entry['subtable']}) " if entry.get("subtable") else ""
    heading = letter + (entry.get("dataset_title") or entry["dataset"])
    made = Drawing(entry["dataset"], heading, path, "", "", ())
    if numbers is None:
        return made
    if kind != "box-plots":
        from lct.report import paper_figures  # matplotlib takes half a second to import

        spoken = f"{title}, {made.dataset_title}"
        svg = paper_figures.embedded(paper_figures.DRAWERS[kind](numbers), f"{place}-{anchor(made.dataset)}", spoken)
        said, columns, rows = paper_figures.TOLD[kind](numbers)
        picture_path = path.removesuffix("json") + "png"
        return replace(made, svg=svg, picture=picture_path, rows=rows, about=said, columns=columns)
    from lct.report.plotting import embedded_box_plots  # matplotlib takes half a second to import

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
    made = Table(table["id"], anchor(table["id"]), table["title"], table["caption"], subtables, tuple(notes), note)
    return replace(made, printed_in=table.get("place") or "")


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
    named = f"{table['id']}.{subtable['id']}"
    rows = [_row(row, named, marks, tables, root) for row in subtable["rows"]]
    floors = [_row(row, named, marks, tables, root, is_floor=True) for row in subtable.get("floors", ())]
    axes = dict.fromkeys(cell.axis for row in rows for cell in row.cells if cell.present)
    read = [(c["run"], c.get("seed", 0), c["path"], curve(root, c["path"])) for c in subtable.get("curves", ())]
    drawable = [(run, seed, lists) for run, seed, _, lists in read if isinstance(lists, dict)]
    svg = ""
    if drawable:
        from lct.report.plotting import training_curves  # matplotlib takes half a second to import

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
        paths_of_curves=tuple((c["run"], c.get("seed", 0), c["path"]) for c in subtable.get("curves", ())),
        readings=tuple((reading["run"], reading["note"]) for reading in subtable.get("readings", ())),
    )


def _row(
    row: dict[str, Any], named: str, marks: dict[str, str], tables: dict[str, Any], root: Path, is_floor: bool = False
) -> Row:
    place = anchor(named)
    published, quoted = row.get("published") or {}, row["status"] == "quoted"
    cells = tuple(
        _cell(metric, row, marks, config_words(tables["scale"], tables.get("own"))) for metric in tables["metrics"]
    )
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
        status_word=STATUS_WORDS.get(row["status"], row["status"]),
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
        verdicts=_verdicts(tables["_verdicts"].get(f"{named}.{row['id']}", {})),
        page=row.get("page") or "",
        place=f"{named}.{row['id']}",
        weights=row.get("weights") or "",
        weights_files=tuple(row.get("weights_files") or ()),
        neighbours=tuple(_nearest(entry, root) for entry in row.get("neighbours") or ()),
        nfe_count=row.get("nfe"),
        step_count=row.get("steps"),
        batch_count=row.get("batch"),
        published_nfe_count=published.get("nfe"),
        epochs_count=published.get("epochs"),
        published_batch_count=published.get("batch_size"),
    )


_CSS = {"within the band, protocol differs": "within"}


def _verdicts(found: dict[str, dict[str, Any]]) -> tuple[Verdict, ...]:
    return tuple(
        Verdict(
            metric=metric,
            label=LABELS[metric],
            kind=one["kind"],
            css=_CSS.get(one["kind"], one["kind"].replace(" ", "-")),
            why=one["why"],
            published=printed(one["published"]),
            ours="" if one["ours"] is None else number(one["ours"]),
            n=one["n"],
            difference="" if one["difference"] is None else signed(one["difference"]),
            band="" if one["band"] is None else number(one["band"]),
            sigma="" if one["sigma"] is None else number(one["sigma"]),
            df=one["df"] or 0,
        )
        for metric, one in found.items()
    )


def _nearest(entry: dict[str, Any], root: Path) -> Nearest:
    numbers = entry["numbers"]
    rows, copies = [], 0
    for one in numbers["images"]:
        first = one["neighbours"][0]
        copies += any(other["same pixels"] for other in one["neighbours"])
        ratio = first["distance"] / first["radius"] if first["radius"] else float("inf")
        same = "yes" if first["same pixels"] else "no"
        rows.append((str(one["image"]), str(first["image"]), number(first["distance"]), number(ratio), same))
    about = (
        f"distances in {numbers['extractor']} to {count(numbers['reference'])} training images; a radius is the "
        f"distance of a training image to its {_ordinal(numbers['k'])} nearest training image"
    )
    return Nearest(_sample_name(entry), picture(root, entry["picture"]), tuple(rows), copies, about)


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


def config_words(scale: str, own: str | None) -> str:
    """What a snakemake command of this report needs beside its target."""
    return f"--config scale={shlex.quote(scale)}" + (f" dataset={shlex.quote(own)}" if own else "")


def _cell(metric: dict[str, Any], row: dict[str, Any], marks: dict[str, str], config: str) -> Cell:
    found = row["cells"].get(metric["id"])
    if found is None or not found["values"]:
        absent = {"partial": "not run", "complete": "missing", "quoted": NOT_GIVEN}.get(row["status"], row["status"])
        return Cell(metric["id"], metric["label"], absent, finite=True, present=False)
    values = tuple(
        Value(
            seed=value["seed"],
            draw=value.get("draw", 0),
            text=number(value["value"]),
            exact=exact(as_float(value["value"])),
            metrics=value["metrics"],
            sha256=value["sha256"],
            command=f"snakemake {shlex.quote(value['metrics'])} {config}",
            exact_value=value["value"],
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
        sort=_sortable(found),
        mark=marks.get(found["protocol"], "other protocol"),
    )


def _sortable(found: dict[str, Any]) -> str:
    """The mean as JavaScript reads it; infinity as a number that is larger than any other."""
    values = [as_float(value["value"]) for value in found["values"]]
    mean = sum(values) / len(values)
    return "" if mean != mean else repr(max(-1e300, min(1e300, mean)))


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
