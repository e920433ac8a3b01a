"""Latent statistics and the one place where latents are normalised: x = sigma_data (z - mu) / sd and back.

z is what the encoder draws and the decoder takes, so no scale factor appears on the way: the authors' stored latents,
0.18215 z divided by 0.18215 again, are z. mu and sd (unbiased) come from the training images alone.
Source: the authors' extract_stat.py and train_cm_latent.py, per element.

A training step finds normalised latents in memory on its device, or in their file where they do not fit: the same bits,
since a row is normalised by itself. Those of the paper's datasets take 0.5 to 4 GB and stay in the GPU's memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from lct.checks import invalid, require
from lct.files.tensors import map_tensor

if TYPE_CHECKING:  # a training needs no pydantic, which the settings bring
    from lct.data.settings import Encoding

log = logging.getLogger(__name__)

LatentsIn = Literal["auto", "memory", "file"]  # where a training has its latents
SHARE = 0.5  # of the free memory that latents may take: networks, moments, averages and activations need the rest
PART = 256  # latents converted to float64 at a time
TOLERANCE = 0.02  # allowed relative error of the normalised latents' standard deviation


@dataclass
class LatentMoments:
    """Count, mean and squared deviations of every element, in float64 and one pass; merged parts equal one pass over
    all of them up to rounding (Chan, Golub and LeVeque 1979)."""

    count: int = 0
    mean: Tensor = torch.zeros((), dtype=torch.float64)
    m2: Tensor = torch.zeros((), dtype=torch.float64)

    def update(self, batch: Tensor) -> LatentMoments:
        """Add (B, ...) values."""
        if added := len(batch):
            values, count = batch.to(torch.float64), self.count + added
            mean = values.mean(0)
            m2, delta = (values - mean).square().sum(0), mean - self.mean
            self.m2 = self.m2 + m2 + delta.square() * (self.count * added / count)
            self.mean = self.mean + delta * (added / count)
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
    require(moments.count >= 2, "latent statistics", "2 or more images", moments.count, "raise `train`")
    if encoding.normalisation == "per-channel":
        moments = _over_space(moments)
    std = moments.std()
    count = int((~(torch.isfinite(std) & (std > 0))).sum())
    given, advice = f"{count} of {std.numel()} without", "check that the images differ and the autoencoder is whole"
    require(count == 0, "latent statistics", "a positive finite spread everywhere", given, advice)
    return LatentStatistics(moments.mean, std, encoding.sigma_data)


def _over_space(moments: LatentMoments) -> LatentMoments:
    """Moments per channel from moments per element (C, H, W): the elements of a channel are merged."""
    count, mean = moments.count, moments.mean.mean((1, 2), keepdim=True)
    m2 = (moments.m2 + count * (moments.mean - mean).square()).sum((1, 2), keepdim=True)
    return LatentMoments(count * moments.mean[0].numel(), mean, m2)


def check_finite(latents: Tensor, where: str, first: int = 0) -> None:
    """Refuse NaN and infinity in (B, ...) latents, naming the image; `first` is the index of the first one."""
    finite = torch.isfinite(latents).flatten(1).all(1)
    if not finite.all():
        image, advice = first + int((~finite).nonzero()[0]), "look at this image and at the autoencoder's loss"
        raise invalid(f"{where}: image {image}", "finite latents", "NaN or infinity", advice)


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
    expected = f"normalised latents of standard deviation {statistics.sigma_data} within 2 %"
    advice = "the statistics belong to other latents: delete both files, then run the same command again"
    require(abs(spread / statistics.sigma_data - 1) <= TOLERANCE, where, expected, f"{spread:.4g}", advice)
    return spread


@dataclass(frozen=True)
class MappedLatents:
    """Latents in their file, (n, C, H, W); those that are asked for are read, normalised and moved to `device`."""

    raw: Tensor  # a map of the file
    statistics: LatentStatistics
    device: torch.device

    @property
    def shape(self) -> torch.Size:
        return self.raw.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.raw.dtype

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, rows: Tensor) -> Tensor:
        return self.statistics.normalise(self.raw[rows.cpu()]).to(self.device)

    def to(self, device: torch.device) -> MappedLatents:
        return replace(self, device=device)


def load_latents(
    path: Path, statistics: LatentStatistics, device: torch.device, where: LatentsIn = "auto"
) -> Tensor | MappedLatents:
    """The latents in `path`, normalised; auto: in memory where they fit, with a warning where they do not."""
    raw, free = map_tensor(path, "latents"), free_memory(device)
    if where == "auto" and free is not None and raw.nbytes > SHARE * free:
        log.warning(
            "%s: %.1f GB of latents are more than %.0f %% of the %.1f GB that are free on %s: each step reads its own "
            "from the file, which is slower",
            *(path, raw.nbytes / 1e9, 100 * SHARE, free / 1e9, device),
        )
        where = "file"
    return MappedLatents(raw, statistics, device) if where == "file" else statistics.normalise(raw).to(device)


def parts(latents: Tensor | MappedLatents) -> Iterator[Tensor]:
    """Latents a few at a time."""
    for rows in torch.arange(len(latents)).split(PART):
        yield latents[rows.to(latents.device)]


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device; None where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min(filter(None, (_available(), _left_by_cgroup())), default=None)


def _available() -> int | None:
    """Main memory that Linux would give without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def _left_by_cgroup(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a container's or a batch job's limit leaves."""
    try:
        limit, used = ((folder / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        return None if limit == "max" else max(int(limit) - int(used), 1)
    except (OSError, ValueError):
        return None
