"""Image sets -> features, one reading of the images for every network and protocol."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from lct.data.imageset import ImageSet
from lct.data.threads import in_order, readers
from lct.metrics.distances import confidence
from lct.metrics.images import jpeg, to_network
from lct.metrics.network import FeatureNetwork
from lct.metrics.settings import FeatureSpec


@dataclass(frozen=True)
class Features:
    """What one network says of N images."""

    features: Tensor  # (N, D) on the CPU, in the dtype of the extractor
    confidence: Tensor | None  # (N,) float64, the largest class probability; None without class scores


@torch.no_grad()
def walk(
    networks: Mapping[FeatureSpec, FeatureNetwork],
    images: ImageSet,
    batch: int,
    limit: int | None = None,
    starts: Iterable[int] | None = None,
) -> Iterator[dict[FeatureSpec, Features]]:
    """Batch after batch of the first `limit` images (all by default), through every network.

    batch:  every pass takes this many images, the last one filled up, so results do not depend on how a set is divided.
    starts: first indices of the batches to take; by default all.
    """
    count = len(images) if limit is None else min(limit, len(images))
    qualities = list(dict.fromkeys(view.jpeg_quality for view in networks))
    for start in range(0, count, batch) if starts is None else starts:
        treated, valid = _read(images, range(start, min(start + batch, count)), batch, qualities)
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


Treated = dict[int | None, np.ndarray]  # JPEG quality -> images (n, H, W, 3) as they come back from such a file


def _read(images: ImageSet, span: range, size: int, qualities: Sequence[int | None]) -> tuple[Treated, int]:
    """A batch of `size` images, those of `span` and copies of the last one, and how many of them count. Several threads
    decode it: to a GPU that takes thousands of images a second, one of them would be a tenth of that."""
    threads, valid = readers(), len(span)
    cuts = [span.start + valid * part // threads for part in range(threads + 1)]
    parts = (partial(_part, images, range(*cut), qualities) for cut in pairwise(cuts) if cut[0] < cut[1])
    made = list(in_order(parts, threads))
    filled = {q: [part[q] for part in made] + [made[-1][q][-1:]] * (size - valid) for q in qualities}
    return {q: np.concatenate(found) for q, found in filled.items()}, valid


def _part(images: ImageSet, span: range, qualities: Sequence[int | None]) -> Treated:
    pixels = images.array(span.start, span.stop)
    return {q: pixels if q is None else np.stack([jpeg(image, q) for image in pixels]) for q in qualities}


def whole(batches: Iterable[dict[FeatureSpec, Features]]) -> dict[FeatureSpec, Features]:
    """Batches put together."""
    parts, made = list(batches), {}
    for view in parts[0]:
        sure = [part[view].confidence for part in parts]
        scored = all(one is not None for one in sure)
        made[view] = Features(torch.cat([part[view].features for part in parts]), torch.cat(sure) if scored else None)
    return made
