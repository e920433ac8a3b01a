"""Image sets -> features: any network behind one interface, one reading of the images for all networks."""

import io
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn

from lct.checks import require
from lct.data.imageset import ImageSet
from lct.data.threads import in_order, readers
from lct.metrics import extractor
from lct.metrics.distances import confidence
from lct.metrics.settings import Degradation, Extractor, FeatureSpec, TrainedExtractor
from lct.streams import generator


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """An image (H, W, 3) uint8 as it comes back from a JPEG file of this quality, written by Pillow."""
    with io.BytesIO() as file:
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file).convert("RGB"))


def degraded(image: np.ndarray, degradation: Degradation, index: int) -> np.ndarray:
    """An image (H, W, 3) uint8, blurred or with noise added. index: of the image in its set; decides its noise."""
    size = degradation.pixels(image.shape[0])
    if degradation.kind == "blur":
        return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(size)))
    noise = torch.randn(image.shape, generator=generator(0, "degraded/noise", index)).numpy()
    return np.rint(image + size * noise).clip(0, 255).astype(np.uint8)


class FeatureNetwork(nn.Module):
    """(B, 3, H, W) uint8 -> (B, D) features in the dtype of the settings, and (B, K) class scores or None."""

    def __init__(self, settings: Extractor, module: nn.Module, device: torch.device | str):
        super().__init__()
        self.settings, self.module, self.device = settings, module.to(device), device

    def forward(self, images: Tensor, products: str = "float32") -> tuple[Tensor, Tensor | None]:
        """products: dtype of the products inside the layers."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=products == "bfloat16"):
            features, logits = self.module(images)
        where, expected, width = f"extractor {self.settings.id}", self.settings.features, features.shape[1]
        require(width == expected, where, f"{expected} features", width, "correct `features` or name another file")
        return features.to(getattr(torch, self.settings.dtype)), logits


def load_network(
    settings: Extractor, path: Path | str, sha256: str, device: torch.device | str = "cpu"
) -> FeatureNetwork:
    """The network of `settings`, frozen, in eval mode.

    path:   its weights: made in the graph, or downloaded.
    sha256: of that file; a downloaded one is loaded only if it hashes to this."""
    if isinstance(settings, TrainedExtractor):
        return FeatureNetwork(settings, extractor.load(path), device).eval()
    from lct.metrics import pretrained  # with torchvision, whose import takes as long as torch's

    return FeatureNetwork(settings, pretrained.load(settings, path, sha256), device).eval()


class Features(NamedTuple):
    """What one network computes of N images."""

    features: Tensor  # (N, D) on the CPU, in the dtype of the extractor
    confidence: Tensor | None  # (N,) float64, the largest class probability; None without class scores


@torch.no_grad()
def extract(
    networks: Mapping[FeatureSpec, FeatureNetwork],
    images: ImageSet,
    span: range,
    batch: int,
    degradation: Degradation | None = None,
) -> dict[FeatureSpec, Features]:
    """Features of the images of `span` from every network. Raises ValueError for features that are not finite.

    batch: images of every pass, len(span) or more. Copies of the last image fill it up, so that results do not depend
           on how a set is divided.
    degradation: what is done to the images first; None: nothing."""
    qualities = list(dict.fromkeys(spec.jpeg_quality for spec in networks))
    pixels, count = _read(images, span, batch, qualities, degradation), len(span)
    extracted = {}
    for spec, network in networks.items():
        features, logits = network(extractor.to_network(pixels[spec.jpeg_quality], network.device), spec.products)
        for what, values in (("features", features), ("class scores", logits)):
            finite = values is None or torch.isfinite(values[:count]).all()
            where = f"{images.path}: images {span.start}-{span.stop - 1}"
            advice = f"the weights of extractor {spec.extractor} are damaged: make or fetch them again"
            require(finite, where, f"finite {what}", "NaN or infinity", advice)
        probability = None if logits is None else confidence(logits[:count]).cpu()
        extracted[spec] = Features(features[:count].cpu(), probability)
    return extracted


def concatenate(batches: Iterable[Mapping[FeatureSpec, Features]]) -> dict[FeatureSpec, Features]:
    """Features of all images from those of batches."""
    batches, joined = list(batches), {}
    for spec in batches[0]:
        features, confidences = zip(*(batch[spec] for batch in batches), strict=True)
        joined[spec] = Features(torch.cat(features), None if confidences[0] is None else torch.cat(confidences))
    return joined


PixelsByQuality = dict[int | None, np.ndarray]  # JPEG quality -> images (n, H, W, 3) as they come back from such a file


def _read(
    images: ImageSet, span: range, size: int, qualities: Sequence[int | None], degradation: Degradation | None
) -> PixelsByQuality:
    """The images of `span`, filled up to `size` with copies of the last one.

    Several threads decode them: for a GPU that takes thousands of images a second, one thread decodes a tenth."""

    def read_part(start: int, stop: int) -> PixelsByQuality:
        pixels = images.array(start, stop)
        if degradation is not None:
            pixels = np.stack([degraded(image, degradation, i) for i, image in enumerate(pixels, start)])
        return {q: pixels if q is None else np.stack([jpeg(image, q) for image in pixels]) for q in qualities}

    threads, count = readers(), len(span)
    cuts = [span.start + count * part // threads for part in range(threads + 1)]
    parts = (partial(read_part, *cut) for cut in pairwise(cuts) if cut[0] < cut[1])
    read = list(in_order(parts, threads))
    return {q: np.concatenate([part[q] for part in read] + [read[-1][q][-1:]] * (size - count)) for q in qualities}
