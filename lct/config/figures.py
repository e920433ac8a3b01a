"""What config/figures/*.yaml may hold: figures of values and of temporal differences. Torch-free."""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from lct.checks import require
from lct.config.model import TrainingChanges
from lct.config.schema import Name

MEASURED = ("box-plots", "losses", "couplings")  # kinds made by jobs of their own, for each dataset
_require = partial(require, advice="correct it in config/figures/")


@dataclass(frozen=True, kw_only=True)
class FigureScale:
    """What a figure costs at one scale."""

    images: int = 1  # training images looked at, evenly spaced; box-plots: both networks are trained on them
    values: int = 4096  # values of each image that are pooled, at most, evenly spaced
    pairs: int = 1  # box-plots: temporal differences computed after training; couplings: pairs per size; rounded up
    # to full batches
    training: TrainingChanges = field(default_factory=dict)  # such as steps and network

    def __post_init__(self):
        for name in ("images", "values", "pairs"):
            _require(getattr(self, name) >= 1, name, "a positive count", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class RandomLatents:
    """Normal latents of another shape, coupled beside those of the scale."""

    shape: tuple[int, int, int]  # C, H, W
    group: int = 128  # size of the groups in which pairs are sought
    pairs: int = 1024  # as many are drawn

    def __post_init__(self):
        _require(min(self.shape) >= 1, "random.shape", "positive numbers", self.shape)
        _require(2 <= self.group <= self.pairs, "random", "2 <= group <= pairs", (self.group, self.pairs))


@dataclass(frozen=True, kw_only=True)
class Figure:
    """config/figures/*.yaml: one figure of the report.

    box-plots: pixel and latent values, and the temporal differences of one network each; settings of both trainings:
               defaults < config/methods < config/scales < `training` < `scales.SCALE.training`
    losses:    the robust losses and their derivatives, at the c of a dataset's latents
    couplings: distances and variances of pairs of latents and noise, with and without transport, measured
    schedules: c by stage of the curriculum, and FID by epoch; drawn from tables.json
    samples:   sample grids of table rows, side by side; drawn from tables.json"""

    title: str  # heading
    caption: str  # what is shown, how it was made, and what of it is our reading
    kind: Literal["box-plots", "losses", "couplings", "schedules", "samples"] = "box-plots"  # what is drawn
    rows: tuple[str, ...] = ()  # samples: TABLE.SUBTABLE.ROW of each grid
    groups: tuple[int, ...] = ()  # couplings: sizes of the groups in which pairs are sought
    random: RandomLatents | None = None  # couplings: normal latents that are paired as well
    method: str = "ilct"  # box-plots: a file in config/methods/, the objective of both trainings
    seed: int = 0  # of both trainings, or of the pairs drawn
    training: TrainingChanges = field(default_factory=dict)  # differences from it
    scales: dict[Name, FigureScale]  # scale -> its cost; a scale that is missing here does not make the figure

    def __post_init__(self):
        _require(bool(self.rows) == (self.kind == "samples"), "rows", "rows with `kind: samples` alone", self.rows)
        sizes = bool(self.groups) and min(self.groups) >= 2
        _require(sizes == (self.kind == "couplings"), "groups", "sizes from 2 on, of `couplings` alone", self.groups)
        alone = self.random is None or self.kind == "couplings"
        _require(alone, "random", "it with `kind: couplings` alone", self.random)
