"""Generated images against real ones: the values of a metrics file, with the protocol they were measured by.

The protocol as data is everything that a number depends on besides the images measured. Numbers of different hashes of
it are not compared without a visible mark.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lct.checks import invalid
from lct.files.tensors import read_metadata, read_tensors, write_tensors
from lct.metrics.distances import FeatureStatistics, frechet, frechet_cleanfid, precision_recall, statistics
from lct.metrics.features import Features
from lct.metrics.settings import Extractor, FeatureSpec, Protocol

# Packages that can change a number.
PACKAGES = ("torch-fidelity", "clean-fid", "scipy", "numpy", "torch", "torchvision", "pillow")
RECIPE = 2  # raised when the meaning of this package's numbers changes


@dataclass(frozen=True)
class ExtractorIdentity:
    """An extractor and its weights; picklable."""

    settings: Extractor
    weights_sha256: str
    weights: Path | None = None  # their file, where it is to be loaded


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


@dataclass(frozen=True)
class Reference:
    """What a protocol compares generated images with."""

    real: FeatureStatistics  # of the real images, in the distance's network
    reconstructed: FeatureStatistics  # of the training images' reconstructions
    recall: Tensor  # (N, D) features of real images, in the network of precision and recall
    radii: Tensor  # (N,) radii of their balls
    images: tuple[ReferenceImages, ...]  # which real images
    resolution: int  # pixels

    def write(self, path: Path) -> None:
        """Store it as tensors with metadata."""
        tensors = self.real.tensors("real.") | self.reconstructed.tensors("reconstructed.")
        tensors |= {"recall.features": self.recall, "recall.radii": self.radii}
        counts = {"real": self.real.count, "reconstructed": self.reconstructed.count}
        sides = [vars(images) for images in self.images]
        write_tensors(path, tensors, {"counts": counts, "sides": sides, "resolution": self.resolution})

    @classmethod
    def read(cls, path: Path) -> "Reference":
        """A stored reference."""
        tensors, metadata = read_tensors(path), read_metadata(path)
        counts = metadata["counts"]
        return cls(
            real=FeatureStatistics.from_tensors(tensors, counts["real"], "real."),
            reconstructed=FeatureStatistics.from_tensors(tensors, counts["reconstructed"], "reconstructed."),
            recall=tensors["recall.features"],
            radii=tensors["recall.radii"],
            images=tuple(ReferenceImages(**images) for images in metadata["sides"]),
            resolution=metadata["resolution"],
        )


def comparable(protocol: Protocol, features: Tensor, device: torch.device) -> Tensor:
    """Features on the device where, and in the precision in which, a protocol takes distances between them."""
    return features.to(device, getattr(torch, protocol.dtype))


def evaluate(
    protocol: Protocol,
    extractors: Mapping[str, ExtractorIdentity],
    features: Mapping[FeatureSpec, Features],
    reference: Reference,
    device: torch.device,
) -> dict[str, Any]:
    """Content of a metrics file. `protocol` is resolved; `extractors` are the networks by id."""
    generated = features[protocol.spec("distance")]
    count = min(protocol.num_images, len(generated.features))
    description = describe(
        protocol,
        distance=extractors[protocol.distance],
        recall=extractors[protocol.recall],
        reference=reference.images,
        resolution=reference.resolution,
        generated=count,
        reconstructed=reference.reconstructed.count,
    )
    moments = statistics(generated.features[:count])
    recall = features[protocol.spec("recall")].features[: min(count, protocol.recall_generated)]
    prc = precision_recall(
        generated=comparable(protocol, recall, device),
        real=comparable(protocol, reference.recall, device),
        k=protocol.k,
        real_radii=reference.radii.to(device),
    )
    values = {  # fd: to the real images, fdr: to reconstructions of training images
        "fd": frechet(moments, reference.real),
        "fd_cleanfid": frechet_cleanfid(moments, reference.real) if protocol.second_opinion else None,
        "fdr": frechet(moments, reference.reconstructed),
        "precision": prc.precision,
        "recall": prc.recall,
        "confidence": None if generated.confidence is None else generated.confidence[:count].mean().item(),
    }
    if wrong := {name: value for name, value in values.items() if value is not None and not math.isfinite(value)}:
        advice = f"the reference is damaged: delete features/reference/*/{protocol.id}.safetensors below results/, then"
        raise invalid(f"protocol {protocol.id}", "finite numbers", wrong, f"{advice} run the same command again")
    return {
        "format": 1,
        "values": values,
        "num_images": count,
        "protocol": description,
        "protocol_hash": digest(description),
    }
