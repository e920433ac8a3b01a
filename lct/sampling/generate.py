"""Images from weights: per-image seeds, fixed padded batches, so that any sharding gives the same bytes."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from lct.sampling.samplers import Denoiser, sample
from lct.sampling.settings import Sampler, Sampling
from lct.schedules import NoiseGrid
from lct.streams import generator


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

        def noise(step: int, images: range = images) -> Tensor:
            return image_noise(draw, step, images, shape).to(device)

        latents = sample(f, sampler, grid, noise)
        finite = torch.isfinite(latents).flatten(1).all(1)
        if not bool(finite.all()):
            bad = start + int((~finite).nonzero()[0])
            raise FloatingPointError(
                f"image {bad} of draw {draw}: expected finite latents, found NaN or infinity; train again"
            )
        yield from decode(latents)[: settings.count - start]
