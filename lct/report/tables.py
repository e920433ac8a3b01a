"""tables.json as types: every cell, table, run and figure that a report shows.

`lct.report.collect` fills these classes, `loads` reads and checks the file, the templates show them. JSON has no NaN,
so a metric value that is not finite is written as a word. Keys that are not named here are ignored.
"""

import functools
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    AliasChoices,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    with_config,
)
from typing_extensions import TypedDict

from lct.checks import require
from lct.config.published import CrossCheck, PublishedRow, Remark
from lct.files.formatting import NOT_FINITE, plain_number
from lct.files.hashing import canonical_json

FORMAT = 1  # raised when the meaning of a key changes
PAIRS = {"fid": "fd", "recall": "recall"}  # published metric -> ours
_REMEDY = "rebuild it with `snakemake`, or give the tables.json of this version"


def _float(value: Any) -> Any:
    return float(value) if isinstance(value, str) and value in NOT_FINITE else value


Number = Annotated[float, BeforeValidator(_float), PlainSerializer(plain_number)]  # may be NaN or infinite
Floats = list[float]
keeping_other_keys = with_config(ConfigDict(extra="allow"))  # of a dict that another job wrote
PagePath = Annotated[str, Field(pattern=r"^cells/[A-Za-z0-9_.-]+\.html$")]  # beside the report, never outside it


# --- cells --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class Value:
    """One measurement: one set of images of one training."""

    seed: int  # of the training
    draw: int = 0  # of the sampling
    value: Number
    metrics: str  # path of the metrics file
    sha256: str  # of that file


@dataclass(frozen=True, kw_only=True)
class CellValues:
    """One metric of one row."""

    id: str  # table.sub-table.row.metric
    values: tuple[Value, ...]
    n: Annotated[int, Field(ge=0)]  # number of values
    mean: Number | None
    sd: Number | None  # null below three values
    axis: str  # what differs between the values
    protocol: str  # first digits of its hash

    @property
    def shown(self) -> float:
        """The number that stands for the cell: the mean, or the only value."""
        return self.mean if self.n > 1 and self.mean is not None else self.values[0].value

    @property
    def by_seed(self) -> dict[int, float]:
        """Training seed -> mean over its sampling seeds."""
        seeds = dict.fromkeys(value.seed for value in self.values)
        values = {seed: [v.value for v in self.values if v.seed == seed] for seed in seeds}
        return {seed: statistics.fmean(of) for seed, of in values.items()}


VerdictKind = Literal["reproduced", "within the band, protocol differs", "differs", "not run", "not comparable"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A published number and ours, compared."""

    kind: VerdictKind
    why: str = ""  # reason, where there is no plain difference
    published: float
    ours: float | None = None  # mean over trainings; null: must not be compared
    n: int = 0  # trainings
    difference: float | None = None  # ours - published
    band: tuple[float, float] | None = None  # ends; around ours, for one training of the same law
    sigma: float | None = None  # run-to-run standard deviation that the band rests on; of log FID, so relative
    df: int | None = None  # degrees of freedom of sigma
    prior: bool = False  # sigma is that of the authors' repeated runs


@keeping_other_keys
class Neighbour(TypedDict):
    image: int
    distance: float
    radius: float


@keeping_other_keys
class ImageNeighbours(TypedDict):
    image: int
    neighbours: Annotated[list[Neighbour], Field(min_length=1)]


@keeping_other_keys
class NeighbourNumbers(TypedDict):
    extractor: str
    k: int
    reference: int
    images: list[ImageNeighbours]


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """Generated images and the training images nearest to them."""

    seed: int
    numbers: NeighbourNumbers
    picture: str  # path


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A picture of several images."""

    grid: str | None  # path
    seed: int | None = None
    draw: int | None = None


Status = Literal["complete", "partial", "half-finished", "failed", "not run", "quoted"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a sub-table."""

    id: str
    group: str  # heading above it
    model: str
    status: Status
    cells: dict[str, CellValues] = field(default_factory=dict)  # by metric
    citation: str | None = None
    dagger: bool = False
    quoted: bool = False  # taken over by the paper from the cited work, never trained here
    explanation: str | None = None  # of a reference row
    published: PublishedRow | None = None
    run: str | None = None
    sampler: str | None = None
    nfe: int | None = None
    steps: int | None = None  # of the training
    batch: int | None = None
    why: str | None = None  # reason of a status other than complete
    page: PagePath | None = None
    weights: str | None = None  # (step, EMA) pair, or hash of given weights
    weights_files: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)  # further numbers
    samples: tuple[Grid, ...] = ()
    neighbours: tuple[Nearest, ...] = ()

    @property
    def measured(self) -> bool:
        return any(cell.values for cell in self.cells.values())

    @property
    def means(self) -> dict[str, float]:
        """Metric -> the number that stands for its cell, where one is measured."""
        return {metric: cell.shown for metric, cell in self.cells.items() if cell.values}

    @property
    def ema(self) -> str:
        """Of its weights' name; empty for weights without one."""
        return (self.weights or "").partition("-ema")[2]


# --- tables -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class UsedProtocol:
    """How numbers were measured."""

    hash: str  # first digits
    settings: dict[str, Any]
    line: str = ""  # what was compared with what
    secondary: Annotated[bool, Field(validation_alias=AliasChoices("secondary", "behind"))] = False  # not in the table


@dataclass(frozen=True, kw_only=True)
class CurvesFile:
    run: str
    seed: int = 0
    path: str


@dataclass(frozen=True, kw_only=True)
class RunReading:
    """Which reading of the sources a run is."""

    run: str
    rows: tuple[str, ...]
    note: str


@dataclass(frozen=True, kw_only=True)
class DegradedRow:
    """Metrics of real images under one degradation."""

    id: str
    text: str  # which degradation
    values: dict[str, Number]  # by metric


@dataclass(frozen=True, kw_only=True)
class Degraded:
    """What the metrics read on real images that were damaged on purpose, by the protocol of the table."""

    images: str  # which ones
    count: int
    rows: tuple[DegradedRow, ...]
    path: str
    sha256: str  # of that file


@dataclass(frozen=True, kw_only=True)
class Subtable:
    """One block of a table: one dataset."""

    id: str  # letter in print
    paper_dataset: str
    dataset: str | None  # ours in its place; null: none at this scale
    protocols: tuple[UsedProtocol, ...]
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    dataset_title: str | None = None
    dataset_note: str | None = None
    resolution: int | None = None
    generated: int | None = None  # images that its published numbers were measured on; null: as the table says
    floors: tuple[Row, ...] = ()  # what the metrics read on real images
    degraded: Degraded | None = None  # and on damaged ones
    reconstructions: Grid | None = None
    readings: tuple[RunReading, ...] = ()
    curves: tuple[CurvesFile, ...] = ()
    outside: dict[str, Any] = field(default_factory=dict)  # measurements beside the table

    @property
    def has_print(self) -> bool:
        """Whether anything is published about its rows; without that, tables have no columns for it."""
        return any(row.published and row.published.origin.kind != "not published" for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class Table:
    id: str
    title: str
    caption: str
    subtables: Annotated[tuple[Subtable, ...], Field(min_length=1)]
    published: str = ""  # file in config/published/
    place: str | None = None  # where its published numbers are printed
    protocol: str | None = None  # id of the one that they follow; null: not known
    generated: int | None = None  # images that they were measured on; null: not known
    note: str | None = None  # what this scale changes
    remarks: tuple[Remark, ...] = ()
    cross_checks: tuple[CrossCheck, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Metric:
    id: str
    label: str
    better: Literal["lower", "higher"]
    definition: str


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A table that this report does not hold."""

    id: str
    title: str
    why: str
    command: str  # that makes it


# --- figures ------------------------------------------------------------------------------------------------------
@keeping_other_keys
class Box(TypedDict):
    panel: str
    label: str
    count: int
    quartiles: Annotated[Floats, Field(min_length=3)]
    drawn: Floats
    whiskers: Annotated[Floats, Field(min_length=2, max_length=2)]
    inner_fences: Annotated[Floats, Field(min_length=2, max_length=2)]
    outer_fences: Annotated[Floats, Field(min_length=2, max_length=2)]
    beyond_inner: float
    beyond_outer: float
    excess_kurtosis: float
    max_abs: float


@keeping_other_keys
class BoxNumbers(TypedDict):
    boxes: Annotated[list[Box], Field(min_length=1)]
    points: int
    steps: int


@keeping_other_keys
class LossCurve(TypedDict):
    name: str
    c: float
    value: Floats
    slope: Floats


@keeping_other_keys
class LossNumbers(TypedDict):
    residual: Annotated[Floats, Field(min_length=2)]
    curves: Annotated[list[LossCurve], Field(min_length=1)]


@keeping_other_keys
class Coupling(TypedDict):
    group: int
    distance: float
    cosine: float
    variance: float
    spread: float


@keeping_other_keys
class CouplingNumbers(TypedDict):
    couplings: Annotated[list[Coupling], Field(min_length=1)]
    histograms: dict[str, Any]


Kind, Content = TypeVar("Kind"), TypeVar("Content")


@dataclass(frozen=True, kw_only=True)
class FigureDataset(Generic[Content]):
    """A figure's numbers for one dataset."""

    dataset: str
    path: str
    numbers: Content | None  # null: not run
    dataset_title: str | None = None
    subtable: str | None = None


@dataclass(frozen=True, kw_only=True)
class LoggedFid:
    """The authors' FID at one epoch."""

    label: str
    epoch: int
    fid: float | None


@dataclass(frozen=True, kw_only=True)
class FigureResult(Generic[Kind, Content]):
    id: str
    title: str
    caption: str
    kind: Kind
    datasets: tuple[FigureDataset[Content], ...] = ()
    rows: tuple[str, ...] = ()  # of samples: which, as table.sub-table.row
    logged: tuple[LoggedFid, ...] = ()  # of schedules


AnyFigure = Annotated[
    FigureResult[Literal["box-plots"], BoxNumbers]
    | FigureResult[Literal["losses"], LossNumbers]
    | FigureResult[Literal["couplings"], CouplingNumbers]
    | FigureResult[Literal["schedules", "samples"], None],
    Field(discriminator="kind"),
]


# --- the whole ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class StageOfC:
    step: int  # first of the stage
    intervals: int
    c: float
    residual: float | None = None  # measured RMS of an element of the residual, over the seeds of the run


@dataclass(frozen=True, kw_only=True)
class Schedule:
    run: str
    stages: tuple[StageOfC, ...]


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One set of resolved training settings."""

    method: str | None = None
    dataset: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)  # dotted key -> file that decided it
    note: str | None = None
    parameters: int | None = None
    given: str | None = None  # weights that are not trained here, or images without any
    weights: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NoiseEstimate:
    """Run-to-run standard deviation of a metric on a dataset."""

    dataset: str
    metric: str  # published one
    sigma: float  # of log FID, so relative; of recall as it is
    df: int  # degrees of freedom


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    score: dict[str, int]  # printed numbers by what became of them; those of the authors' log with "log " before
    noise: tuple[NoiseEstimate, ...]
    rows: dict[str, dict[str, Verdict]]  # table.sub-table.row -> published metric -> verdict


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Everything of tables.json."""

    format: Literal[1]
    scale: str
    own: str | None = None  # the user's own dataset that all of it is about
    comparable: bool  # whether numbers of this scale may be compared with the paper
    banner: Annotated[tuple[str, ...], Field(min_length=1)]
    watermark: str | None = None
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)]
    tables: Annotated[tuple[Table, ...], Field(min_length=1)]
    figures: tuple[AnyFigure, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    runs: dict[str, RunSummary]
    verdicts: Verdicts = field(default_factory=lambda: Verdicts(score={}, noise=(), rows={}))

    @property
    def rows(self) -> Iterator[tuple[Table, Subtable, Row]]:
        """Every row of every table, reference rows included, in the order of the report."""
        for table in self.tables:
            for subtable in table.subtables:
                for row in (*subtable.rows, *subtable.floors):
                    yield table, subtable, row


def place(table: Table, subtable: Subtable, row: Row) -> str:
    """The name of a row: table.sub-table.row."""
    return f"{table.id}.{subtable.id}.{row.id}"


ByStep = dict[tuple[str, str, str], list[tuple[int, dict[str, float]]]]


def by_step(rows: Iterable[Row]) -> ByStep:
    """(run, sampler, EMA) -> (step of the weights, means by metric) each, of the rows that measure trained weights."""
    points: dict[tuple[str, str, str], dict[int, dict[str, float]]] = {}
    for row in rows:
        if row.run and row.steps and row.measured:
            points.setdefault((row.run, row.sampler or "", row.ema), {})[row.steps] = row.means
    return {key: sorted(of.items()) for key, of in points.items()}


# --- reading and writing ------------------------------------------------------------------------------------------
@functools.cache  # built from the types in 50 ms
def _adapter() -> TypeAdapter[Tables]:
    return TypeAdapter(Tables)


def dump(tables: Tables) -> dict[str, Any]:
    """The JSON object of tables.json."""
    return _adapter().dump_python(tables, mode="json")


def dumps(tables: Tables) -> str:
    """The text of tables.json, keys sorted."""
    return canonical_json(dump(tables))


def read(path: Path) -> Tables:
    """The content of a tables.json; ValueError with one line (file, place, expected, found, what to do)."""
    return loads(path.read_bytes(), str(path))


def loads(content: bytes | str, where: str = "tables") -> Tables:
    """The content of a tables.json; `where` opens the message of the ValueError."""
    try:
        tables = _adapter().validate_json(content, strict=True)
    except ValidationError as error:
        raise ValueError(f"{where}: {_first(error)}; {_REMEDY}") from error
    _check_references(tables, where)
    return tables


_JSON_TYPES = {"dataclass": "object", "dict": "object", "tuple": "array", "list": "array"}
_JSON_TYPES |= {"float": "number", "int": "integer", "bool": "boolean"}


def _first(error: ValidationError) -> str:
    """The place of the outermost fault, what was expected there and what was found."""
    faults = error.errors(include_url=False)
    faults = [f for f in faults if f["type"] != "too_short"] or faults  # a faulty entry is not counted in its list
    fault = min(faults, key=lambda f: (len(f["loc"]), [str(part) for part in f["loc"]]))
    kind, value, context = fault["type"], fault["input"], fault.get("ctx", {})
    place = ".".join(str(part) for part in fault["loc"][: -1 if kind == "missing" else None])
    if kind == "json_invalid":
        return f"expected JSON, found: {context['error']}"
    if kind == "missing":
        expected, value = f"key {fault['loc'][-1]!r}", sorted(value)
    elif kind == "literal_error":
        expected = f"one of {context['expected']}" if "or" in context["expected"] else context["expected"]
    elif kind == "too_short":
        expected, value = f"at least {context['min_length']} entry", context["actual_length"]
    elif kind.endswith("_type"):
        expected = _JSON_TYPES.get(kind.removesuffix("_type"), kind.removesuffix("_type"))
    elif kind == "value_error":
        return f"{place}: {context['error']}"
    else:
        expected = f"another value ({' '.join(fault['msg'].split())})"
    return f"{place}: expected {expected}, found {_short(value)}".removeprefix(": ")


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


def _check_references(tables: Tables, where: str) -> None:
    """What one part of the file says about another."""
    metrics, cell_ids = sorted(metric.id for metric in tables.metrics), set()
    for table, subtable, row in tables.rows:
        at = f"{where}: {place(table, subtable, row)}"
        listed = row.status not in ("complete", "partial") or not row.run or row.run in tables.runs
        require(listed, at, f"run {row.run!r} under runs", _short(list(tables.runs)), _REMEDY)
        agrees, expected = (row.status == "quoted") == row.quoted, f"quoted to agree with status {row.status!r}"
        require(agrees, at, expected, repr(row.quoted), _REMEDY)
        has_print = row.published is not None or row in subtable.floors
        require(has_print, at, "published values in a row of a published table", "none", _REMEDY)
        for metric, cell in row.cells.items():
            require(metric in metrics, at, f"metrics of {metrics}", repr(metric), _REMEDY)
            require(cell.n == len(cell.values), f"{at}.{metric}", f"n = {cell.n} values", len(cell.values), _REMEDY)
            require(cell.id not in cell_ids, f"{at}.{metric}", "a cell id of its own", f"{cell.id!r} again", _REMEDY)
            cell_ids.add(cell.id)
