"""Image sets -> features, one pass for every metric."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lct.data.imageset import ImageSet


def to_network(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """(B, H, W, 3) -> (B, 3, H, W) uint8, contiguous: torch picks its convolution by the layout in memory, and
    torch-fidelity's own loader gives this one."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device)


@torch.no_grad()
def extract(
    model: nn.Module,
    images: ImageSet,
    batch: int,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Tensor]:
    """{"features": (N, D), "logits": (N, K)} float64 on the CPU for the first `limit` images (all by default).

    model: maps (B, 3, H, W) uint8 to (features, logits), in eval mode.
    batch: every pass takes this many images, the last one filled up, so results do not depend on how a set is divided.
    """
    device = next(model.parameters()).device
    parts: list[tuple[Tensor, Tensor]] = []
    for start, pixels, valid in images.batches(batch, limit):
        outputs = model(to_network(pixels, device))
        parts.append(tuple(output[:valid].double().cpu() for output in outputs))
        if not all(torch.isfinite(part).all() for part in parts[-1]):
            raise ValueError(
                f"{images.path}: images {start}-{start + valid - 1}: expected finite features, found NaN or infinity; "
                "the extractor's weights are damaged: make them again with snakemake --force"
            )
        if progress is not None:
            progress(start + valid)
    features, logits = (torch.cat(column) for column in zip(*parts, strict=True))
    return {"features": features, "logits": logits}
