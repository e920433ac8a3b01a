"""What config/claims/ and config/evidence/ hold. Torch-free.

Claims are statements of the paper, or one's own, as comparisons of table rows; they and repeated runs are checked
against the rows that they name. Evidence is what is known about the paper's runs, and where sources contradict.
"""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field

from lct.checks import did_you_mean, require, require_once
from lct.config.folder import ConfigFolder, load_yaml
from lct.config.published import PublishedRow, PublishedTable, TableSpec
from lct.config.schema import Name, build

BOXES = ("pixels", "reduced", "z", "x", "td-pixels", "td-latents")  # of figure 1
Metric = Literal["fid", "recall"]
FOLDER = Path("config/claims")
REPEATS = Path("config/evidence/repeats.yaml")
Certainty = Literal["print", "script", "log", "computed", "measured", "inferred", "not known"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`better` beats `worse`: a lower FID, or a higher recall, in rows of one dataset."""

    kind: Literal["beats"] = "beats"
    better: str  # row that is said to win, as TABLE.SUBTABLE.ROW
    worse: str  # row that it is compared with
    metric: Metric = "fid"  # what is compared
    factor: float = 1.0  # FID only: `better` is at most so many times `worse`

    @property
    def rows(self) -> tuple[str, ...]:
        return (self.better, self.worse)

    def __post_init__(self):
        require(self.better != self.worse, "comparison", "two different rows", f"{self.better} twice")
        allowed = 0 < self.factor < math.inf and (self.metric == "fid" or self.factor == 1.0)
        require(allowed, f"comparison of {self.better}", "a finite factor > 0, 1 for recall", self.factor)


@dataclass(frozen=True, kw_only=True)
class Gap:
    """`row` closes at least `share` of the distance between `start` and `goal`, in FID."""

    kind: Literal["gap"] = "gap"
    row: str  # row that closes the gap, as TABLE.SUBTABLE.ROW
    start: str  # where the gap begins: the worse row
    goal: str  # where it ends: the better row
    share: Annotated[float, Field(gt=0, le=1)]  # of the gap
    metric: Literal["fid"] = "fid"  # always FID

    @property
    def rows(self) -> tuple[str, ...]:
        return (self.row, self.start, self.goal)

    def __post_init__(self):
        require(len(set(self.rows)) == 3, f"gap of {self.row}", "three different rows", list(self.rows))


@dataclass(frozen=True, kw_only=True)
class Trend:
    """The metric improves from each row to the next."""

    kind: Literal["trend"] = "trend"
    trend: tuple[str, ...]  # rows in the order in which they improve
    metric: Metric = "fid"  # what improves

    @property
    def rows(self) -> tuple[str, ...]:
        return self.trend

    @property
    def steps(self) -> tuple[Comparison, ...]:
        """Each row against the one before it."""
        return tuple(Comparison(better=b, worse=w, metric=self.metric) for w, b in itertools.pairwise(self.trend))

    def __post_init__(self):
        different = 3 <= len(self.trend) == len(set(self.trend))
        require(different, "trend", "three different rows or more", list(self.trend))


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A number that a figure or a training curve holds is larger for one thing than for another, over all datasets."""

    kind: Literal["measured"] = "measured"
    source: Literal["figure1", "curves"]  # where the numbers are: figure 1's boxes, or the curves of trainings
    quantity: str  # figure1: a number of each box, such as beyond_outer; curves: relative_sd (of the loss)
    larger: str  # box of figure 1, or row whose training has the larger number
    smaller: str  # box or row whose number is smaller

    def __post_init__(self):
        allowed = {"figure1": ("beyond_outer", "excess_kurtosis"), "curves": ("relative_sd",)}[self.source]
        expected = f"a quantity of {list(allowed)} for {self.source}, of two different things"
        given = f"{self.quantity!r} of {self.larger} and {self.smaller}"
        require(self.quantity in allowed and self.larger != self.smaller, "measurement", expected, given)
        known_boxes = self.source != "figure1" or {self.larger, self.smaller} <= set(BOXES)
        expected, given = f"boxes of figure 1, {list(BOXES)}", f"{self.larger!r} and {self.smaller!r}"
        require(known_boxes, "measurement", expected, given)

    @property
    def rows(self) -> tuple[str, ...]:
        return (self.larger, self.smaller) if self.source == "curves" else ()


Part = Annotated[Comparison | Gap | Trend | Measurement, Discriminator("kind")]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement, and what must hold for it: every part."""

    id: Name  # a name of a-z, 0-9, _ and -
    statement: str  # in our own words
    place: str  # where the paper makes it
    parts: Annotated[tuple[Part, ...], Field(min_length=1)]  # all of them must hold
    note: str | None = None  # what a reader should know
    ours: bool = False  # a statement of this project, not of the paper


@dataclass(frozen=True, kw_only=True)
class ClaimFile:
    """config/claims/*.yaml."""

    claims: tuple[Claim, ...]  # judged in this order


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """Published runs of equal settings: what they differ by is noise between trainings."""

    rows: tuple[str, ...]  # as TABLE.SUBTABLE.ROW
    why: str  # why they count as equal

    def __post_init__(self):
        require(len(set(self.rows)) > 1, "repeat", "two different rows or more", list(self.rows), "add one")


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """config/evidence/repeats.yaml."""

    repeats: tuple[Repeat, ...]  # at least one


class PublishedRows:
    """Rows of every table that has published numbers, by TABLE.SUBTABLE.ROW."""

    def __init__(self, config: ConfigFolder):
        self._config = config
        self._tables: dict[str, PublishedTable] = {}

    def row(self, name: str, where: str) -> PublishedRow:
        """One row. ValueError naming `where` if the table, sub-table or row does not exist."""
        parts = name.split(".")
        require(len(parts) == 3, where, "a row as TABLE.SUBTABLE.ROW", repr(name), "fix it")
        table, subtable, row = parts
        rows = self.table(table, where).rows_of(subtable)
        if row not in rows:
            names = [f"{table}.{s.id}.{r.id}" for s in self.table(table, where).subtables for r in s.rows]
            hint = did_you_mean(name, names) or f"give one of config/tables/{table}.yaml"
            raise ValueError(f"{where}: expected a row of table {table}, found {name!r}; {hint}")
        return rows[row]

    def table(self, name: str, where: str) -> PublishedTable:
        """The published numbers that a table of config/tables/ is compared with."""
        if name not in self._tables:
            published = self._config.read(TableSpec, "tables", name, where).published
            require(published is not None, where, "rows of a table with `published`", f"rows of {name}", "name others")
            where = f"config/tables/{name}.yaml: published"
            self._tables[name] = self._config.read(PublishedTable, "published", published, where)
        return self._tables[name]


def read_claims(config: ConfigFolder, rows: PublishedRows) -> list[Claim]:
    """Every claim of config/claims/, in the order of the files.

    Raises ValueError with one line on a damaged file, a row that does not exist, a metric that its table does not have,
    a part whose rows are of different datasets or protocols, or a published number that cannot be compared."""
    claims, homes = [], {}
    for name in config.names("claims"):
        for claim in config.read(ClaimFile, "claims", name, str(FOLDER)).claims:
            where = f"{FOLDER / name}.yaml: {claim.id}"
            require(claim.id not in homes, where, "an id of its own", homes.get(claim.id), "rename one")
            for part in claim.parts:
                _check(part, rows, where)
            claims.append(claim)
            homes[claim.id] = where
    return claims


def _check(part: Part, rows: PublishedRows, where: str) -> None:
    """The rows of a part exist, have its metric, and were measured alike: by one protocol, on as many images."""
    metric, named, protocols = getattr(part, "metric", None), ", ".join(part.rows), set()
    for name in part.rows:
        row, (table, subtable, _) = rows.row(name, where), name.split(".")
        fid, published = row.fid, rows.table(table, where)
        require(fid is None or 0 < fid < math.inf, where, f"a number above 0 as FID of {name}", fid, "correct its row")
        metrics = [m.id for m in published.metrics]
        has_it = metric is None or metric in metrics
        require(has_it, where, f"a metric of {metrics}, which {name} has", repr(metric), "fix it")
        if fid is not None or row.recall is not None:
            images = {of.id: of.generated for of in published.subtables}[subtable] or published.generated
            protocols.add(f"{published.protocol} on {images} images")
    letters, expected = {name.split(".")[1] for name in part.rows}, "rows of one sub-table, that is of one dataset"
    require(len(letters) < 2, where, expected, named, "compare rows of the same letter")
    expected, given = "published numbers of one protocol", f"{' and '.join(sorted(protocols))} in {named}"
    require(len(protocols) < 2, where, expected, given, "compare rows that were measured alike")


def read_repeats(config: ConfigFolder, rows: PublishedRows) -> tuple[Repeat, ...]:
    """Published runs that were trained alike. ValueError with one line on a row without a FID."""
    where = str(REPEATS)
    repeats = build(Repeats, load_yaml(config.root / where), where).repeats
    for name in (name for repeat in repeats for name in repeat.rows):
        if rows.row(name, where).fid is None:
            raise ValueError(f"{where}: expected rows with a published FID, found {name} without; take another")
    return repeats


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Something known, or known to be unknown, about the paper's runs."""

    topic: str  # heading it stands under
    text: str  # in our own words
    certainty: Certainty  # what it rests on
    provenance: str  # where
    key: str | None = None  # setting of the final CelebA-HQ run (celebahq-lct) that it is about
    dataset_key: str | None = None  # setting of the dataset CelebA-HQ, likewise
    value: str | float | int | bool | None = None  # what that setting is here; a test compares it with the
    # configuration
    settled_by: tuple[str, ...] = ()  # rows of config/tables/, as TABLE.SUBTABLE.ROW, whose runs test it

    def __post_init__(self):
        if (self.key is not None or self.dataset_key is not None) != (self.value is not None):
            raise ValueError(f"fact {self.text!r}: expected a value with a key, and none without; add or remove one")


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """Sources that contradict each other, or themselves: a pitfall for a reproduction."""

    id: str  # P1, P2, ...
    title: str  # in a few words
    text: str  # in our own words
    provenance: str  # where
    settled_by: tuple[str, ...] = ()  # rows of config/tables/, as TABLE.SUBTABLE.ROW, whose runs settle it
    settles: str | None = None  # how they do
    resolved: str | None = None  # what this project does, where no run is needed

    def __post_init__(self):
        settled = bool(self.settled_by) == (self.settles is not None) and (self.settles or self.resolved)
        require(settled, f"conflict {self.id}", "settled_by with settles, or resolved", "neither", "add it")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """config/evidence/facts.yaml: what is known about the paper's runs, and what contradicts what."""

    facts: tuple[Fact, ...]  # by topic, in the order of the page
    conflicts: tuple[Conflict, ...]  # pitfalls, in the order of their numbers

    def __post_init__(self):
        require_once([conflict.id for conflict in self.conflicts], "config/evidence/facts.yaml: conflicts", "id")
