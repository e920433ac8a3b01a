"""Normalised latents where a training step finds them: in memory on its device, or in their file where they do not fit.

Those of the paper's datasets take 0.5 to 4 GB and stay in the GPU's memory. Read from the file they are the same bits:
a row is normalised by itself.
"""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lct.data.latents import PART, LatentStatistics
from lct.files.tensors import map_tensor, shape_of

log = logging.getLogger(__name__)

Where = Literal["auto", "memory", "file"]
SHARE = 0.5  # of the free memory that latents may take: networks, moments, averages and activations need the rest


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

    def to(self, device: torch.device) -> "MappedLatents":
        return replace(self, device=device)


def load(
    path: Path, statistics: LatentStatistics, device: torch.device, where: Where = "auto"
) -> Tensor | MappedLatents:
    """The latents in `path`, normalised; auto: in memory where they fit, with a warning where they do not."""
    size, free = 4 * math.prod(shape_of(path, "latents")), free_memory(device)
    if where == "auto" and free is not None and size > SHARE * free:
        log.warning(
            "%s: %.1f GB of latents are more than %.0f %% of the %.1f GB that are free on %s: each step reads its own "
            "from the file, which is slower",
            *(path, size / 1e9, 100 * SHARE, free / 1e9, device),
        )
        where = "file"
    raw = map_tensor(path, "latents")
    stored = MappedLatents(raw, statistics, device)
    return stored if where == "file" else statistics.normalise(raw).to(device)


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
