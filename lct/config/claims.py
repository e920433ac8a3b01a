"""What config/claims/*.yaml holds: statements of the paper, or one's own, as comparisons of table rows. Torch-free."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Discriminator

from lct.checks import require
from lct.config.schema import Name

BOXES = ("pixels", "reduced", "z", "x", "td-pixels", "td-latents")  # of figure 1
Metric = Literal["fid", "recall"]


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
    share: float  # of the gap, 0 to 1
    metric: Metric = "fid"  # always FID

    @property
    def rows(self) -> tuple[str, ...]:
        return (self.row, self.start, self.goal)

    def __post_init__(self):
        allowed = len(set(self.rows)) == 3 and 0 < self.share <= 1 and self.metric == "fid"
        given = f"{', '.join(self.rows)}, {self.share} and {self.metric}"
        require(allowed, f"gap of {self.row}", "three different rows, a share in (0, 1] and metric fid", given)


@dataclass(frozen=True, kw_only=True)
class Trend:
    """The metric improves from each row to the next."""

    kind: Literal["trend"] = "trend"
    trend: tuple[str, ...]  # rows in the order in which they improve
    metric: Metric = "fid"  # what improves

    @property
    def rows(self) -> tuple[str, ...]:
        return self.trend

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
    parts: tuple[Part, ...]  # all of them must hold
    note: str | None = None  # what a reader should know
    ours: bool = False  # a statement of this project, not of the paper

    def __post_init__(self):
        require(self.parts, f"claim {self.id}", "one part or more", "none", "add a comparison")


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
