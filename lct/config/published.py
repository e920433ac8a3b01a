"""What config/published/*.yaml and config/tables/*.yaml hold: printed tables, and which of our runs answers a row.

Published numbers live in these files only. Torch-free.
"""

from dataclasses import dataclass, field
from typing import Literal

from lct.checks import require, require_once
from lct.config.schema import Name
from lct.sampling.settings import Seeds
from lct.schedules import OPTIONAL


@dataclass(frozen=True, kw_only=True)
class PublishedMetric:
    """One column of numbers of a printed table."""

    id: Literal["fid", "recall"]  # field of PublishedRow that holds it
    label: str  # as the column is headed
    better: Literal["lower", "higher"]  # direction of improvement


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the numbers of a row are known from: print, the authors' evaluation log, or nowhere."""

    kind: Literal["published table", "authors' log", "not published"] = "published table"  # what holds the numbers
    status: Literal["L", "I+", "I", "I-"] | None = None  # log only: L: the line names its run; I: assigned by us
    place: str | None = None  # log only: commit and file
    line: str | None = None  # log only: which line, by run, epoch, EMA or sampler

    def __post_init__(self):
        log = self.kind == "authors' log"
        details = (self.status, self.place, self.line)
        expected = 'status, place and line with "authors\' log" alone'
        given = f"{self.kind!r} with {', '.join(map(str, details))}"
        require(all(log == (detail is not None) for detail in details), "origin", expected, given, "add or remove them")

    @property
    def words(self) -> str:
        """Beside a number: empty for print."""
        return {"published table": "", "authors' log": f"log, {self.status}"}.get(self.kind, self.kind)


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One printed row. None stands for a dash in print."""

    id: str  # unique within its sub-table; a row of config/tables/ with this id answers it
    group: str  # heading the row is printed under
    model: str  # name as printed
    citation: str | None = None  # work it is credited to, as printed
    nfe: int | None = None  # network evaluations per image; null only where nothing is published
    fid: float | None = None  # Frechet Inception distance, lower is better
    recall: float | None = None  # improved recall, 0 to 1, higher is better
    epochs: int | None = None  # passes over the training set
    epochs_as_printed: str | None = None  # the same, rounded as in print
    batch_size: int | None = None  # total over devices
    dagger: bool = False  # printed with a dagger: trained by the authors, same forward process, equivalent network
    retrained_by_authors: bool  # the authors trained it themselves; otherwise it is quoted from the cited work
    origin: Origin = field(default_factory=Origin)  # where the numbers are known from

    def __post_init__(self):
        where = f"published row {self.id!r}"
        kind, epochs = self.origin.kind, (self.epochs, self.epochs_as_printed)
        require(kind == "not published" if self.nfe is None else self.nfe >= 1, where, "nfe >= 1", self.nfe)
        require(self.fid is None or self.fid >= 0, where, "fid >= 0", self.fid)
        require(self.recall is None or 0 <= self.recall <= 1, where, "recall within 0..1", self.recall)
        together = epochs.count(None) != 1
        require(together, where, "epochs and epochs_as_printed together", "one", "add or remove the other")
        none = kind != "not published" or (self.fid is None and self.recall is None)
        require(none, where, "no numbers with origin `not published`", "some", "name their origin")
        logged = kind != "authors' log" or self.fid is not None
        require(logged, where, "fid with origin `authors' log`", "none", "add it or change the origin")
        retrained = self.retrained_by_authors or not self.dagger
        require(retrained, where, "a dagger row to be retrained_by_authors", "false", "correct one of them")

    @property
    def quoted(self) -> bool:
        """Taken over from the cited work: never retrained here either."""
        return not self.retrained_by_authors


@dataclass(frozen=True, kw_only=True)
class PublishedSubtable:
    """One block of a printed table: one dataset."""

    id: str  # letter in print
    dataset: str  # name in print
    resolution: int  # pixels per side
    generated: int | None = None  # generated images that its numbers were measured on; null: as the table says
    rows: tuple[PublishedRow, ...]  # in the order of print

    def __post_init__(self):
        require_once([row.id for row in self.rows], f"published sub-table {self.id!r}", "id")


@dataclass(frozen=True, kw_only=True)
class Remark:
    """Something a reader of the printed numbers should know."""

    text: str  # in our own words
    rows: tuple[str, ...] = ()  # rows it is about, as SUBTABLE.ROW
    provenance: str  # where we know it from


@dataclass(frozen=True, kw_only=True)
class CrossCheck:
    """A printed number compared with another record of it."""

    rows: tuple[str, ...]  # rows it is about, as SUBTABLE.ROW
    text: str  # what was compared and what came out, in our own words
    outcome: Literal["agrees", "agrees in part", "differs", "no record"]  # of the printed number with that record
    provenance: str  # the other record


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """config/published/*.yaml: a table as printed, with what is known about its numbers."""

    id: str  # same as the file's name
    paper: str  # the work it is printed in
    place: str  # where in that work
    provenance: str  # how the values came into this file
    protocol: str | None = None  # id of the protocol that follows how they were measured; null: not known, so that no
    # number of ours may be compared with them
    generated: int | None = None  # generated images that they were measured on; null: not known
    metrics: tuple[PublishedMetric, ...]  # columns of numbers
    subtables: tuple[PublishedSubtable, ...]  # in the order of print
    remarks: tuple[Remark, ...] = ()  # known slips and gaps
    cross_checks: tuple[CrossCheck, ...] = ()  # comparisons with other records

    def __post_init__(self):
        where = f"published table {self.id!r}"
        require_once([s.id for s in self.subtables], where, "id")
        places = {f"{s.id}.{row.id}" for s in self.subtables for row in s.rows}
        for entry in (*self.remarks, *self.cross_checks):
            unknown = sorted(set(entry.rows) - places)
            require(not unknown, where, f"rows of {sorted(places)[:3]}...", unknown, "correct them")

    def rows_of(self, subtable: str) -> dict[str, PublishedRow]:
        """Rows of one sub-table by id, in the order of print; empty for a letter the table does not have."""
        return {row.id: row for s in self.subtables if s.id == subtable for row in s.rows}


OWN_GROUP = "Measured here"


def row_without_print(id: str, group: str, model: str, nfe: int | None = None) -> PublishedRow:
    """A row that nothing is published about."""
    origin = Origin(kind="not published")
    return PublishedRow(id=id, group=group, model=model, nfe=nfe, retrained_by_authors=True, origin=origin)


def without_print(name: str, provenance: str, subtables: tuple[PublishedSubtable, ...]) -> PublishedTable:
    """What stands in the place of a printed table for one whose rows are nowhere published."""
    return PublishedTable(
        id=name,
        paper="none",
        place="not in the paper",
        provenance=provenance,
        metrics=(
            PublishedMetric(id="fid", label="FID", better="lower"),
            PublishedMetric(id="recall", label="Recall", better="higher"),
        ),
        subtables=subtables,
    )


@dataclass(frozen=True, kw_only=True)
class RowChange:
    """What one dataset answers a row with, where that differs from the others."""

    run: str | None = None  # instead of the row's run
    sampler: dict[Name, str | None] = field(default_factory=dict)  # scale -> sampler id, instead of the row's


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """Which of our runs answers a published row, at every scale."""

    run: str  # a run of config/runs/; "{dataset}" stands for the sub-table's dataset
    sampler: dict[Name, str | None]  # scale -> sampler id of that run; null: the row has no counterpart at that scale
    ema: dict[Name, float] = field(default_factory=dict)  # scale -> evaluation EMA; left out: the first that the run
    # keeps
    epoch: dict[Name, int] = field(default_factory=dict)  # scale -> a kept epoch; left out: the last
    datasets: dict[Name, RowChange] = field(default_factory=dict)  # dataset -> what is different there
    seeds: dict[Name, Seeds] | None = field(default=None, metadata=OPTIONAL)  # scale -> training seeds of
    # this row; left out: the scale's
    model: str | None = field(default=None, metadata=OPTIONAL)  # name in a table without `published`; left out: its id
    group: str | None = field(default=None, metadata=OPTIONAL)  # heading in such a table; left out: "Measured here"


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """config/tables/*.yaml: one table of the report."""

    id: str  # same as the file's name
    title: str  # heading in the report
    caption: str  # under the heading: what the table shows
    published: str | None = None  # a file in config/published/, which gives sub-tables, rows and their order; left out:
    # a table of the rows below alone, about which nothing is published
    rows: dict[Name, TableRow] = field(default_factory=dict)  # published row id -> ours; applies to every sub-table
