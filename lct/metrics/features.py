"""Image sets -> features, one reading of the images for every network and protocol."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lct.data.imageset import ImageSet
from lct.data.threads import in_order, readers
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
    progress: Callable[[int], None] | None = None,
) -> Iterator[dict[View, Features]]:
    """Batch after batch of the first `limit` images (all by default), through every network.

    batch: every pass takes this many images, the last one filled up, so results do not depend on how a set is divided.
    """
    qualities = list(dict.fromkeys(view.jpeg_quality for view in networks))
    count, threads = len(images) if limit is None else min(limit, len(images)), readers()
    tasks = (partial(_read, images, start, batch, count, qualities) for start in range(0, count, batch))
    for start, treated, valid in in_order(tasks, threads, waiting=threads + 1):
        found = {}
        for view, network in networks.items():
            features, logits = network(to_network(treated[view.jpeg_quality], network.device), view.products)
            if not torch.isfinite(features[:valid]).all():
                raise ValueError(
                    f"{images.path}: images {start}-{start + valid - 1}: expected finite features, found NaN or "
                    f"infinity; the weights of extractor {view.extractor} are damaged: make or fetch them again"
                )
            sure = None if logits is None else confidence(logits[:valid]).cpu()
            found[view] = Features(features[:valid].cpu(), sure)
        yield found
        if progress is not None:
            progress(start + valid)


def _read(
    images: ImageSet, start: int, batch: int, count: int, qualities: Iterable[int | None]
) -> tuple[int, dict[int | None, np.ndarray], int]:
    """(first index, quality -> (batch, H, W, 3) images, how many of them count): a batch as the networks see it."""
    pixels, valid = images.batch(start, batch, count)
    return start, {q: pixels if q is None else np.stack([jpeg(image, q) for image in pixels]) for q in qualities}, valid


def extract(
    networks: Mapping[View, Network],
    images: ImageSet,
    batch: int,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[View, Features]:
    """The same for the whole set at once."""
    parts = list(walk(networks, images, batch, limit, progress))
    made = {}
    for view in networks:
        sure = [part[view].confidence for part in parts]
        scored = all(one is not None for one in sure)
        made[view] = Features(torch.cat([part[view].features for part in parts]), torch.cat(sure) if scored else None)
    return made
