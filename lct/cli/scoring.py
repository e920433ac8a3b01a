"""What the two scoring jobs share: features of an image set, and the values of one metrics file."""

from pathlib import Path
from typing import Any

import torch

from lct.cli import job
from lct.config.schema import build
from lct.data import imageset
from lct.files.hashing import sha256_file
from lct.metrics import distances, protocol
from lct.metrics import extractor as network
from lct.metrics.features import extract
from lct.metrics.settings import Protocol, TrainedExtractor


class Scorer:
    """An extractor and a protocol, ready to measure image sets against a reference."""

    def __init__(self, settings: dict[str, Any], weights: Path, device: torch.device):
        self.protocol = build(Protocol, settings["protocol"], "--settings: protocol")
        self.extractor = build(TrainedExtractor, settings["extractor"], "--settings: extractor")
        self.model = network.load(weights, device)
        self.weights_sha256 = sha256_file(weights)

    def features(self, manifest: Path, limit: int | None = None) -> dict[str, torch.Tensor]:
        with imageset.open_checked(manifest, deep=True) as images:
            total = len(images) if limit is None else limit
            if len(images) < total:
                raise ValueError(f"{manifest}: expected {total} images, as the protocol says, found {len(images)}")
            count = job.counter(total, f"features {manifest}")
            return extract(self.model, images, self.protocol.batch, limit=limit, progress=count)

    def describe(self, reference: dict[str, Any]) -> dict[str, Any]:
        """The protocol as data; `reference` is the manifest of the reference images."""
        return protocol.describe(
            self.protocol,
            self.extractor,
            weights_sha256=self.weights_sha256,
            reference_content_sha256=reference["content_sha256"],
            reference_count=reference["count"],
            resolution=reference["height"],
        )

    def measure(self, found: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]) -> dict[str, float | None]:
        """Values of one metrics file: distances to training images (fd) and to their reconstructions (fdr)."""
        generated, real = found["features"], reference["train"]
        prc = distances.precision_recall(generated=generated, real=real, k=self.protocol.k)
        return {
            "fd": distances.frechet(generated, real),
            "fd_cleanfid": distances.frechet_cleanfid(generated, real),
            "fdr": distances.frechet(generated, reference["reconstructed"]),
            "precision": prc.precision,
            "recall": prc.recall,
            "confidence": distances.confidence(found["logits"]),
        }


def metrics_file(scorer: Scorer, values: dict[str, float | None], described: dict[str, Any]) -> dict[str, Any]:
    """Content of a metrics file: values with the protocol they were measured by."""
    return {
        "format": 1,
        "values": values,
        "num_images": scorer.protocol.num_images,
        "protocol": described,
        "protocol_hash": protocol.digest(described),
    }
