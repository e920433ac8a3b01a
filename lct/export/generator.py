"""The files of a generator that is exported."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lct.plan.paths import AUTOENCODER_FILES


@dataclass(frozen=True, kw_only=True)
class GeneratorFiles:
    """Files of a trained network and its autoencoder, and the settings of the job that samples from them."""

    weights: Path
    statistics: Path  # mean and standard deviation of the latents
    vae: Path  # diffusers folder of the autoencoder
    settings: dict[str, Any]  # of the sampling job: network, scaling, grid, sampling, samplers, encoding

    @property
    def files(self) -> list[Path]:
        return [self.weights, self.statistics, *(self.vae / name for name in AUTOENCODER_FILES)]
