"""Samplers: noise in, latents out; and images by them, with per-image seeds in fixed padded batches.

Shapes (B, C, H, W); noise levels in units of the normalised latents. Any sharding gives the same bytes.

Sources: multistep consistency sampling (arXiv:2303.01469, Algorithm 1); EDM solvers (arXiv:2206.00364, without churn).
"""

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from lct.sampling.settings import ConsistencySampler, OdeSampler, Sampler, Sampling
from lct.schedules import NoiseGrid
from lct.streams import generator

Denoiser = Callable[[Tensor, Tensor], Tensor]  # f(x, sigma): (B, C, H, W), (B,) -> (B, C, H, W)
Noise = Callable[[int], Tensor]  # k -> fresh unit noise (B, C, H, W) for the k-th re-noising


def sample(f: Denoiser, sampler: Sampler, grid: NoiseGrid, noise: Noise) -> Tensor:
    """Latents drawn by `sampler`. noise(0) starts the chain, noise(1).. re-noise it."""
    if isinstance(sampler, OdeSampler):
        return sample_ode(f, sampler, grid, noise(0))
    return sample_consistency(f, sampler, grid, noise)


def middle_sigmas(sampler: ConsistencySampler, grid: NoiseGrid) -> list[float]:
    """Noise levels to which a consistency sampler returns, noisiest first."""
    levels = [grid.sigma(index, sampler.grid_points) for index in sampler.middle_indices]
    return levels or list(sampler.middle_sigmas)


def sample_consistency(f: Denoiser, sampler: ConsistencySampler, grid: NoiseGrid, noise: Noise) -> Tensor:
    """x0 = f(sigma_max n, sigma_max); then x0 = f(x0 + sqrt(sigma^2 - sigma_min^2) n', sigma) for each middle sigma."""
    x = _denoise(f, grid.sigma_max * noise(0), grid.sigma_max, sampler.clamp)
    for k, sigma in enumerate(middle_sigmas(sampler, grid), start=1):
        x = _denoise(f, x + math.sqrt(sigma**2 - grid.sigma_min**2) * noise(k), sigma, sampler.clamp)
    return x


def sample_ode(f: Denoiser, sampler: OdeSampler, grid: NoiseGrid, noise: Tensor) -> Tensor:
    """Euler or Heun on dx/dsigma = (x - f(x, sigma)) / sigma from sigma_max to zero."""
    sigmas = [*grid.sigmas(sampler.steps).tolist(), 0.0]
    x = sigmas[0] * noise
    for sigma, following in zip(sigmas[:-1], sigmas[1:], strict=True):
        slope = (x - _denoise(f, x, sigma, sampler.clamp)) / sigma
        moved = x + (following - sigma) * slope
        if sampler.solver == "heun" and following > 0:
            slope_there = (moved - _denoise(f, moved, following, sampler.clamp)) / following
            moved = x + (following - sigma) * (slope + slope_there) / 2
        x = moved
    return x


def _denoise(f: Denoiser, x: Tensor, sigma: float, clamp: float | None) -> Tensor:
    x0 = f(x, torch.full((len(x),), sigma, dtype=x.dtype, device=x.device))
    return x0 if clamp is None else x0.clamp(-clamp, clamp)


def image_noise(draw: int, step: int, images: range, shape: tuple[int, ...]) -> Tensor:
    """Unit noise (len(images), *shape); row i depends on (draw, step, image index) alone."""
    rows = [torch.randn(shape, generator=generator(draw, "sample-noise", step, index)) for index in images]
    return torch.stack(rows)


def starts(settings: Sampling) -> range:
    """First index of every batch, in order."""
    return range(0, settings.count, settings.batch)


@torch.inference_mode()
def generate(
    f: Denoiser,
    decode: Callable[[Tensor], np.ndarray],
    sampler: Sampler,
    settings: Sampling,
    grid: NoiseGrid,
    draw: int,
    shape: tuple[int, int, int],
    device: torch.device,
    batches: Iterable[int] | None = None,
) -> Iterator[np.ndarray]:
    """Yield images (H, W, 3) uint8 in index order: `settings.count`, or those of `batches`.

    f:      consistency function or denoiser of the normalised latents.
    decode: normalised latents (B, C, H, W) -> images (B, H, W, 3) uint8.
    batches: first indices, of `starts(settings)`, of the batches to make: a batch depends on no other one.
    Raises FloatingPointError naming the first image whose latents are not finite.
    """
    for start in starts(settings) if batches is None else batches:
        images = range(start, start + settings.batch)  # the last batch is padded: its surplus is computed and dropped
        latents = sample(f, sampler, grid, lambda step, i=images: image_noise(draw, step, i, shape).to(device))
        finite = torch.isfinite(latents).flatten(1).all(1)
        if not bool(finite.all()):
            bad = start + int((~finite).nonzero()[0])
            raise FloatingPointError(
                f"image {bad} of draw {draw}: expected finite latents, found NaN or infinity; train again"
            )
        yield from decode(latents)[: settings.count - start]
