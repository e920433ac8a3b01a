"""Everything random in a training step, as functions of (seed, step): never of rank, resume or earlier calls."""

import functools

import numpy as np
import torch
from torch import Tensor

from lct.streams import generator


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, num_images: int) -> Tensor:
    return torch.randperm(num_images, generator=generator(seed, "shuffle", epoch))


def rows(seed: int, step: int, num_images: int, batch: int) -> Tensor:
    """(batch,) rows of the data for a step: a fresh permutation per epoch, its incomplete last batch dropped."""
    epoch, position = divmod(step, num_images // batch)
    return _permutation(seed, epoch, num_images)[position * batch : (position + 1) * batch]


def noise(seed: int, step: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Unit Gaussian noise of `shape` for a step."""
    return torch.randn(shape, generator=generator(seed, "noise", step, device=device), device=device)


def indices(seed: int, step: int, probabilities: np.ndarray, batch: int) -> Tensor:
    """(batch,) grid indices i drawn with P(i) = probabilities[i], with replacement, by inverting the distribution."""
    uniform = torch.rand(batch, generator=generator(seed, "index", step), dtype=torch.float64).numpy()
    cumulative = np.cumsum(probabilities)
    drawn = np.searchsorted(cumulative / cumulative[-1], uniform, side="right")
    return torch.from_numpy(drawn.astype(np.int64))
