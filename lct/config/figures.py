"""What config/figures/*.yaml may hold: figures of values and of temporal differences. Torch-free."""

from dataclasses import dataclass, field
from typing import Any

from lct.training.settings import Training


def _require(condition: bool, where: str, expected: str, found: object) -> None:
    if not condition:
        raise ValueError(f"{where}: expected {expected}, found {found}; correct it in config/figures/")


@dataclass(frozen=True, kw_only=True)
class FigureScale:
    """What a figure costs at one scale."""

    images: int  # training images looked at, evenly spaced; both networks are trained on them
    values: int = 4096  # values of each image that are pooled, at most, evenly spaced
    pairs: int  # temporal differences computed after training, rounded up to full batches
    training: dict[str, Any] = field(default_factory=dict, metadata={"partial": Training})  # such as steps and network

    def __post_init__(self):
        for name in ("images", "values", "pairs"):
            _require(getattr(self, name) >= 1, name, "a positive count", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Figure:
    """config/figures/*.yaml: box plots of pixel and latent values, and of the temporal differences of one network each.

    Settings of both trainings: defaults < config/methods < config/scales < `training` < `scales.SCALE.training`."""

    title: str  # heading
    caption: str  # what is shown, how it was made, and what of it is our reading
    method: str = "ilct"  # a file in config/methods/: the objective of both trainings
    seed: int = 0  # of both trainings
    training: dict[str, Any] = field(default_factory=dict, metadata={"partial": Training})  # differences from it
    scales: dict[str, FigureScale]  # scale -> its cost; a scale that is missing here does not make the figure
