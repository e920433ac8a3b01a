"""Images from weights: per-image seeds, fixed padded batches, so that any sharding gives the same bytes."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lct.sampling.samplers import Denoiser, sample
from lct.sampling.settings import Sampler, Sampling
from lct.schedules import NoiseGrid
from lct.streams import generator


def image_noise(draw: int, step: int, images: range, shape: tuple[int, ...]) -> Tensor:
    """Unit noise (len(images), *shape); row i depends on (draw, step, image index) alone."""
    rows = [torch.randn(shape, generator=generator(draw, "sample-noise", step, index)) for index in images]
    return torch.stack(rows)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """An image (H, W, 3) uint8 as it comes back from a JPEG file of this quality, written by Pillow."""
    with io.BytesIO() as file:
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file).convert("RGB"))


@dataclass(frozen=True)
class Maker:
    """Everything that makes images, but for their indices: a batch is a function of where it starts."""

    f: Denoiser  # consistency function or denoiser of the normalised latents
    decode: Callable[[Tensor], np.ndarray]  # normalised latents (B, C, H, W) -> images (B, H, W, 3) uint8
    sampler: Sampler
    settings: Sampling
    grid: NoiseGrid
    draw: int  # sampling seed
    shape: tuple[int, int, int]  # (C, H, W) of the latents
    device: torch.device

    @torch.inference_mode()
    def batch(self, start: int) -> list[np.ndarray]:
        """Images (H, W, 3) uint8 of the batch from index `start` on. The last batch is padded: its surplus is computed
        and dropped. Raises FloatingPointError naming the first image whose latents are not finite."""
        images = range(start, start + self.settings.batch)
        latents = sample(
            self.f,
            self.sampler,
            self.grid,
            lambda step: image_noise(self.draw, step, images, self.shape).to(self.device),
        )
        finite = torch.isfinite(latents).flatten(1).all(1)
        if not bool(finite.all()):
            bad = start + int((~finite).nonzero()[0])
            raise FloatingPointError(
                f"image {bad} of draw {self.draw}: expected finite latents, found NaN or infinity; train again"
            )
        decoded, quality = self.decode(latents)[: self.settings.count - start], self.settings.jpeg_quality
        return [image if quality is None else jpeg(image, quality) for image in decoded]


def starts(settings: Sampling) -> range:
    """First index of every batch, in order."""
    return range(0, settings.count, settings.batch)
