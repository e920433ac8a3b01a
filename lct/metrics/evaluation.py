"""Generated images against real ones: the values of a metrics file, with the protocol they were measured by."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lct.metrics.distances import FeatureStatistics, frechet, frechet_cleanfid, precision_recall, statistics
from lct.metrics.features import Features
from lct.metrics.protocol import ExtractorIdentity, ReferenceImages, describe, digest
from lct.metrics.settings import FeatureSpec, Protocol


@dataclass(frozen=True)
class Reference:
    """What a protocol compares generated images with."""

    real: FeatureStatistics  # of the real images, in the distance's network
    reconstructed: FeatureStatistics  # of the training images' reconstructions
    recall: Tensor  # (N, D) features of real images, in the network of precision and recall
    radii: Tensor  # (N,) radii of their balls
    images: tuple[ReferenceImages, ...]  # which real images
    resolution: int  # pixels

    def tensors(self) -> dict[str, Tensor]:
        """The tensors to store; `metadata` belongs to them."""
        moments = self.real.tensors("real.") | self.reconstructed.tensors("reconstructed.")
        return moments | {"recall.features": self.recall, "recall.radii": self.radii}

    def metadata(self) -> dict[str, Any]:
        return {
            "counts": {"real": self.real.count, "reconstructed": self.reconstructed.count},
            "sides": [vars(images) for images in self.images],
            "resolution": self.resolution,
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> "Reference":
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
    count = min(protocol.num_images, len(features[protocol.spec("distance")].features))
    description = describe(
        protocol,
        distance=extractors[protocol.distance],
        recall=extractors[protocol.recall],
        reference=reference.images,
        resolution=reference.resolution,
        generated=count,
        reconstructed=reference.reconstructed.count,
    )
    values = _values(protocol, features, count, reference, device)
    if wrong := {name: value for name, value in values.items() if value is not None and not math.isfinite(value)}:
        raise ValueError(
            f"protocol {protocol.id}: expected finite numbers, found {wrong}; the reference is damaged: delete "
            f"features/reference/*/{protocol.id}.safetensors below results/, then run the same command again"
        )
    return {
        "format": 1,
        "values": values,
        "num_images": count,
        "protocol": description,
        "protocol_hash": digest(description),
    }


def _values(
    protocol: Protocol,
    features: Mapping[FeatureSpec, Features],
    count: int,
    reference: Reference,
    device: torch.device,
) -> dict[str, float | None]:
    """Distances to the real images (fd) and to reconstructions of training images (fdr), and the rest.

    count: the first so many generated images are measured."""
    generated = features[protocol.spec("distance")]
    moments = statistics(generated.features[:count])
    recall = features[protocol.spec("recall")].features[: min(count, protocol.recall_generated)]
    prc = precision_recall(
        generated=comparable(protocol, recall, device),
        real=comparable(protocol, reference.recall, device),
        k=protocol.k,
        real_radii=reference.radii.to(device),
    )
    return {
        "fd": frechet(moments, reference.real),
        "fd_cleanfid": frechet_cleanfid(moments, reference.real) if protocol.second_opinion else None,
        "fdr": frechet(moments, reference.reconstructed),
        "precision": prc.precision,
        "recall": prc.recall,
        "confidence": None if generated.confidence is None else generated.confidence[:count].mean().item(),
    }
