"""Image sets -> features, one reading of the images for every network and protocol."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lct.data.imageset import ImageSet
from lct.metrics.distances import confidence
from lct.metrics.images import jpeg, to_network
from lct.metrics.network import Network
from lct.metrics.settings import View


@dataclass(frozen=True)
class Features:
    """What one network says of N images."""

    features: Tensor  # (N, D) on the CPU, in the dtype of the extractor
    confidence: Tensor | None  # (N,) float64, the largest class probability; None without class scores


@torch.no_grad()
def walk(
    networks: Mapping[View, Network],
    images: ImageSet,
    batch: int,
    limit: int | None = None,
    starts: Iterable[int] | None = None,
) -> Iterator[dict[View, Features]]:
    """Batch after batch of the first `limit` images (all by default), through every network.

    batch:  every pass takes this many images, the last one filled up, so results do not depend on how a set is divided.
    starts: first indices of the batches to take; by default all.
    """
    qualities = dict.fromkeys(view.jpeg_quality for view in networks)
    for start, pixels, valid in images.batches(batch, limit, starts):
        treated = {q: pixels if q is None else np.stack([jpeg(image, q) for image in pixels]) for q in qualities}
        found = {}
        for view, network in networks.items():
            features, logits = network(to_network(treated[view.jpeg_quality], network.device))
            if not torch.isfinite(features[:valid]).all():
                raise ValueError(
                    f"{images.path}: images {start}-{start + valid - 1}: expected finite features, found NaN or "
                    f"infinity; the weights of extractor {view.extractor} are damaged: make or fetch them again"
                )
            sure = None if logits is None else confidence(logits[:valid]).cpu()
            found[view] = Features(features[:valid].cpu(), sure)
        yield found


def whole(batches: Iterable[dict[View, Features]]) -> dict[View, Features]:
    """Batches put together."""
    parts, made = list(batches), {}
    for view in parts[0]:
        sure = [part[view].confidence for part in parts]
        scored = all(one is not None for one in sure)
        made[view] = Features(torch.cat([part[view].features for part in parts]), torch.cat(sure) if scored else None)
    return made
