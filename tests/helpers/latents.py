"""Statistics of latents that a test makes."""

from torch import Tensor

from lct.data.latents import LatentMoments, LatentStatistics, from_moments
from lct.data.settings import Encoding


def statistics(latents: Tensor, encoding: Encoding) -> LatentStatistics:
    """Statistics of (N, C, H, W) latents, per element or per channel as `encoding` says."""
    return from_moments(LatentMoments.of(latents), encoding)
