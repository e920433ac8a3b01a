"""Latent statistics and the one place where latents are normalised: x = sigma_data (z - mu) / sd and back.

z is what the encoder draws and the decoder takes, so no scale factor appears on the way: the authors' stored latents,
0.18215 z divided by 0.18215 again, are z. mu and sd (unbiased) come from the training images alone.
Source: the authors' extract_stat.py and train_cm_latent.py, per element.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:  # a training needs no pydantic, which the settings bring
    from lct.data.settings import Encoding

PART = 256  # latents converted to float64 at a time
TOLERANCE = 0.02  # allowed relative error of the normalised latents' standard deviation


class LatentMoments:
    """Count, mean and squared deviations of every element, in float64 and one pass; merged parts equal one pass over
    all of them up to rounding (Chan, Golub and LeVeque 1979)."""

    def __init__(self):
        self.count, self.mean, self.m2 = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)

    def update(self, batch: Tensor) -> LatentMoments:
        """Add (B, ...) values."""
        part, values = LatentMoments(), batch.to(torch.float64)
        if (part_count := len(values)) > 0:
            part.count, part.mean = part_count, values.mean(0)
            part.m2 = (values - part.mean).square().sum(0)
        return self.merge(part)

    def merge(self, other: LatentMoments) -> LatentMoments:
        """Add the values of `other`."""
        if other.count:
            count, delta = self.count + other.count, other.mean - self.mean
            self.m2 = self.m2 + other.m2 + delta.square() * (self.count * other.count / count)
            self.mean = self.mean + delta * (other.count / count)
            self.count = count
        return self

    def tensors(self) -> dict[str, Tensor]:
        """The tensors to store: another pass can go on from them, and per-channel statistics follow from them."""
        mean, m2 = self.mean.clone(), self.m2.clone()  # safetensors refuses shared memory
        return {"moments.count": torch.tensor(self.count), "moments.mean": mean, "moments.m2": m2}

    @classmethod
    def of(cls, latents: Tensor) -> LatentMoments:
        """The moments of (N, ...) values."""
        moments = cls()
        for part in latents.split(PART):
            moments.update(part)
        return moments

    def std(self) -> Tensor:
        """Unbiased standard deviation."""
        return (self.m2 / (self.count - 1)).sqrt()


@dataclass(frozen=True)
class LatentStatistics:
    """mu and sd, float64: (C, H, W) per element or (C, 1, 1) per channel."""

    mean: Tensor
    std: Tensor
    sigma_data: float

    def normalise(self, z: Tensor) -> Tensor:
        """(..., C, H, W) decoder units -> unit-free x with standard deviation sigma_data, in z's dtype."""
        mean, std = self.mean.to(z.device), self.std.to(z.device)
        return _in_parts(z, lambda part: self.sigma_data * (part - mean) / std)

    def denormalise(self, x: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        mean, std = self.mean.to(x.device), self.std.to(x.device)
        return _in_parts(x, lambda part: part * std / self.sigma_data + mean)

    def tensors(self) -> dict[str, Tensor]:
        sigma_data = torch.tensor(self.sigma_data, dtype=torch.float64)
        return {"mean": self.mean, "std": self.std, "sigma_data": sigma_data}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> LatentStatistics:
        return cls(tensors["mean"], tensors["std"], float(tensors["sigma_data"]))


def _in_parts(values: Tensor, apply: Callable[[Tensor], Tensor]) -> Tensor:
    """`apply` in float64 and back in the dtype of `values`, a part at a time: float64 takes twice the memory."""
    result = torch.empty_like(values)
    parts = zip(values.split(PART), result.split(PART), strict=True) if values.ndim == 4 else ((values, result),)
    for part, out in parts:
        out.copy_(apply(part.to(torch.float64)))
    return result


def from_moments(moments: LatentMoments, encoding: Encoding) -> LatentStatistics:
    """Statistics from the moments of every element."""
    if moments.count < 2:
        raise ValueError(f"latent statistics: expected 2 or more images, found {moments.count}; raise `train`")
    if encoding.normalisation == "per-channel":
        moments = _over_space(moments)
    std = moments.std()
    if not torch.isfinite(std).all() or not (std > 0).all():
        count = int((~(torch.isfinite(std) & (std > 0))).sum())
        raise ValueError(
            f"latent statistics: expected a positive finite spread everywhere, found {count} of {std.numel()} without; "
            "check that the images differ and the autoencoder is whole"
        )
    return LatentStatistics(moments.mean, std, encoding.sigma_data)


def _over_space(moments: LatentMoments) -> LatentMoments:
    """Moments per channel from moments per element (C, H, W): the elements of a channel are merged."""
    count, mean = moments.count, moments.mean.mean((1, 2), keepdim=True)
    merged = LatentMoments()
    merged.count = count * moments.mean[0].numel()
    merged.mean = mean
    merged.m2 = (moments.m2 + count * (moments.mean - mean).square()).sum((1, 2), keepdim=True)
    return merged


def check_finite(latents: Tensor, where: str, first: int = 0) -> None:
    """Refuse NaN and infinity in (B, ...) latents, naming the image; `first` is the index of the first one."""
    finite = torch.isfinite(latents).flatten(1).all(1)
    if not finite.all():
        index = first + int((~finite).nonzero()[0])
        raise ValueError(
            f"{where}: image {index}: expected finite latents, found NaN or infinity; "
            "look at this image and at the autoencoder's loss"
        )


def check_normalised(x: Tensor | Iterable[Tensor], statistics: LatentStatistics, where: str) -> float:
    """Refuse normalised training latents (N, C, H, W), whole or in parts, whose standard deviation is not sigma_data
    within 2 %; returns it.

    A second, independent path to the number (plain sums of x and x^2): it catches statistics of other latents (pitfall:
    a scale factor applied to one side only leaves a spread of about 2.7 or 0.09 instead of 0.5)."""
    count, total, squares = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for part in x.split(PART) if isinstance(x, Tensor) else x:
        check_finite(part, where, first=count)
        values = part.to(torch.float64)
        count, total, squares = count + len(part), total + values.sum(0), squares + values.square().sum(0)
    if statistics.mean.shape[1:] == (1, 1):  # per channel: pooled over its elements
        variance = squares.mean((1, 2)) / count - (total.mean((1, 2)) / count).square()
    else:
        variance = (squares - total.square() / count) / (count - 1)
    spread = variance.mean().sqrt().item()
    if not abs(spread / statistics.sigma_data - 1) <= TOLERANCE:
        raise ValueError(
            f"{where}: expected normalised latents of standard deviation {statistics.sigma_data} within 2 %, found "
            f"{spread:.4g}; the statistics belong to other latents: delete both files, then run the same command again"
        )
    return spread
