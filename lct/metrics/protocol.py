"""The metric protocol as data: everything that a number depends on besides the images measured, and its hash.

Numbers of different hashes are not compared without a visible mark.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lct.metrics.settings import Extractor, FeatureSpec, Protocol

# Packages that can change a number.
PACKAGES = ("torch-fidelity", "clean-fid", "scipy", "numpy", "torch", "torchvision", "pillow")
RECIPE = 2  # raised when the meaning of this package's numbers changes


@dataclass(frozen=True)
class ExtractorIdentity:
    """An extractor and the hash of its weights."""

    settings: Extractor
    weights_sha256: str


@dataclass(frozen=True)
class ReferenceImages:
    """Images that are part of a reference: the first `count` of a set."""

    name: str  # train, heldout or reconstructed
    count: int
    content_sha256: str  # of the pixels of the whole set


def describe(
    protocol: Protocol,
    *,
    distance: ExtractorIdentity,
    recall: ExtractorIdentity,
    reference: Sequence[ReferenceImages],
    resolution: int,
    generated: int,
    reconstructed: int,
) -> dict[str, Any]:
    """A JSON-able description. Content hashes are of pixels and tensors, so that paths and containers do not matter.

    reference:     the real images compared with; mirror images of them are never among them.
    generated:     how many images were measured.
    reconstructed: how many reconstructions the distance to these is about.
    """
    count = sum(images.count for images in reference)
    description = {
        "format": 2,
        "recipe": RECIPE,
        "id": protocol.id,
        "implementation": versions(),
        "distance": extractor(distance, protocol.products) | {"statistics": "float64"},
        "recall": extractor(recall, protocol.products)
        | {
            "distances": protocol.dtype,
            "k": protocol.k,
            "generated": min(generated, protocol.recall_generated),
            "reference": min(count, protocol.recall_reference),
        },
        "batch": protocol.batch,
        "images": {"colour": "RGB uint8", "side": resolution},
        "generated": {"count": generated, "format": image_format(protocol.jpeg_quality)},
        "reference": {
            "side": protocol.reference,
            "count": count,
            "format": image_format(protocol.reference_jpeg_quality),
            "sets": [dataclasses.asdict(images) for images in reference],
            "reconstructions": reconstructed,
        },
    }
    return json.loads(json.dumps(description))  # tuples become lists, as in any file it is read back from


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def extractor(identity: ExtractorIdentity, products: str = "float32") -> dict[str, Any]:
    """All that decides the features of given pixels."""
    settings = identity.settings
    return {
        "extractor": settings.id,
        "task": settings.learned,
        "settings": dataclasses.asdict(settings),
        "weights_sha256": identity.weights_sha256,
        "layer": settings.layer,
        "dimension": settings.features,
        "dtype": f"{products} network, {settings.dtype} features",
    }


def image_format(jpeg_quality: int | None) -> str:
    return "PNG" if jpeg_quality is None else f"JPEG {jpeg_quality}"


def feature_description(identity: ExtractorIdentity, spec: FeatureSpec, batch: int, device: str) -> dict[str, Any]:
    """All that decides the features of an image set besides its pixels, down to the last bit."""
    return {
        "recipe": RECIPE,
        "implementation": versions(),
        "extractor": extractor(identity, spec.products),
        "format": image_format(spec.jpeg_quality),
        "batch": batch,
        "device": device,
    }


def digest(description: dict[str, Any]) -> str:
    """SHA-256 of the description as JSON with sorted keys, hexadecimal."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
