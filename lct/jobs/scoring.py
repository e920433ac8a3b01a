"""What the two scoring jobs share: networks with their weights, features of an image set, values of a metrics file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lct.config.schema import build
from lct.data import imageset
from lct.download import record
from lct.files.hashing import sha256_file
from lct.files.progress import ProgressLogger
from lct.files.tensors import read_metadata, read_tensors
from lct.jobs import job, pool
from lct.metrics import distances, features, network, protocol
from lct.metrics.distances import FeatureStatistics
from lct.metrics.features import Features
from lct.metrics.protocol import ExtractorIdentity, ReferenceImages
from lct.metrics.settings import (
    KINDS,
    Extractor,
    FeatureSpec,
    PretrainedExtractor,
    Protocol,
    feature_specs,
    resolve,
)

Values = dict[str, float | None]


def extractors_of(settings: dict[str, Any]) -> list[Extractor]:
    """The extractors in a job's settings."""
    listed = settings["extractors"]
    return [build(KINDS[values["kind"]], values, f"--settings: extractors.{values['id']}") for values in listed]


def weights_of(extractor: Extractor, path: Path) -> tuple[Path, str]:
    """(file, sha256) of an extractor's weights. path: the file made in the graph, or a download's record."""
    if not isinstance(extractor, PretrainedExtractor):
        return path, sha256_file(path)
    found = record.read(path)
    file = found.file(extractor.file, deep=False)  # hashed when it is loaded
    return file, next(entry["sha256"] for entry in found.files if entry["path"] == extractor.file)


@dataclass(frozen=True)
class Reference:
    """What a protocol compares with, as its reference file holds it."""

    real: FeatureStatistics  # of the real images, in the distance's network
    reconstructed: FeatureStatistics  # of the training images' reconstructions
    recall: torch.Tensor  # (N, D) features of real images, in the network of precision and recall
    radii: torch.Tensor  # (N,) radii of their balls
    sides: tuple[ReferenceImages, ...]  # which real images
    resolution: int  # pixels

    def tensors(self) -> dict[str, torch.Tensor]:
        pairs = {"real": self.real, "reconstructed": self.reconstructed}
        moments = {
            f"{name}.{key}": torch.from_numpy(getattr(one, key))
            for name, one in pairs.items()
            for key in ("mu", "sigma")
        }
        return moments | {"recall.features": self.recall, "recall.radii": self.radii}

    def metadata(self) -> dict[str, Any]:
        return {
            "counts": {"real": self.real.count, "reconstructed": self.reconstructed.count},
            "sides": [vars(side) for side in self.sides],
            "resolution": self.resolution,
        }

    @classmethod
    def read(cls, path: Path) -> "Reference":
        tensors, metadata = read_tensors(path), read_metadata(path)
        real, reconstructed = (
            FeatureStatistics(tensors[f"{name}.mu"].numpy(), tensors[f"{name}.sigma"].numpy(), metadata["counts"][name])
            for name in ("real", "reconstructed")
        )
        sides = tuple(ReferenceImages(**side) for side in metadata["sides"])
        features, radii = tensors["recall.features"], tensors["recall.radii"]
        return cls(real, reconstructed, features, radii, sides, metadata["resolution"])


@dataclass(frozen=True)
class Item:
    """One batch of one image set, through some networks; picklable."""

    manifest: Path
    start: int  # first image
    limit: int  # images of the set that count
    views: tuple[FeatureSpec, ...]


class FeatureWorker:
    """Makes features on one device; keeps its networks and the image set it read last."""

    def __init__(self, used: dict[str, tuple[ExtractorIdentity, Path]], batch: int, device: torch.device):
        self.batch = batch
        self.networks = {
            name: network.load(one.settings, file, one.weights_sha256, device) for name, (one, file) in used.items()
        }
        self.opened = lru_cache(maxsize=1)(imageset.open_checked)

    def __call__(self, item: Item) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """(features, confidence) of each view: as arrays, since a tensor from another process holds a file open."""
        networks = {view: self.networks[view.extractor] for view in item.views}
        found = next(features.walk(networks, self.opened(item.manifest), self.batch, item.limit, starts=(item.start,)))
        return [(f.features.numpy(), None if f.confidence is None else f.confidence.numpy()) for f in found.values()]


def open_worker(source: tuple[dict[str, tuple[ExtractorIdentity, Path]], int], name: str) -> FeatureWorker:
    return FeatureWorker(*source, job.device(name, threads=1))


class Scorer:
    """Protocols and the networks they need, ready to measure image sets against references.

    workers: processes that make features; None: one per GPU of the job."""

    def __init__(
        self, settings: dict[str, Any], weights: Sequence[Path], device: torch.device, workers: int | None = None
    ):
        self.protocols = [
            build(Protocol, values, f"--settings: protocols.{values['id']}") for values in settings["protocols"]
        ]
        self.own = settings["own_extractor"]
        self.device = device
        self.batch = self.protocols[0].batch  # one for all, as the scale's settings demand
        self.used: dict[str, ExtractorIdentity] = {}
        files: dict[str, Path] = {}
        for extractor, path in zip(extractors_of(settings), weights, strict=True):
            files[extractor.id], sha256 = weights_of(extractor, path)
            self.used[extractor.id] = ExtractorIdentity(extractor, sha256)
        read = {name: (used, files[name]) for name, used in self.used.items()}
        self._readers = pool.Pool(open_worker, (read, self.batch), pool.devices(device, workers))

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(self, *error: object) -> None:
        self._readers.__exit__(*error)

    def view(self, protocol: Protocol, role: str, quality: int | None) -> FeatureSpec:
        name = resolve(getattr(protocol, role), self.own)
        return FeatureSpec(extractor=name, jpeg_quality=quality, products=protocol.products)

    def comparable(self, protocol: Protocol, features: torch.Tensor) -> torch.Tensor:
        """Features where, and in the precision in which, their distances are taken."""
        return features.to(self.device, getattr(torch, protocol.dtype))

    def features(self, manifest: Path, limit: int | None = None) -> dict[FeatureSpec, Features]:
        """Features of the first `limit` images in every view that a protocol has of generated images."""
        with imageset.open_checked(manifest, deep=True) as images:
            total = len(images) if limit is None else limit
            if len(images) < total:
                raise ValueError(f"{manifest}: expected {total} images, as the protocol says, found {len(images)}")
        return features.whole(
            self.walk(feature_specs(self.protocols, self.own), manifest, total, f"features {manifest}")
        )

    def walk(
        self, wanted: Sequence[FeatureSpec], manifest: Path, count: int, what: str
    ) -> Iterator[dict[FeatureSpec, Features]]:
        """Batch after batch of the first `count` images, whose hash has been checked, through the networks of some
        views; the first one loads the networks."""
        told = ProgressLogger(what, count)
        items = [Item(manifest, start, count, tuple(wanted)) for start in range(0, count, self.batch)]
        for item, found in zip(items, self._readers.map(items), strict=True):
            tensors = [[None if one is None else torch.from_numpy(one) for one in pair] for pair in found]
            yield {view: Features(*pair) for view, pair in zip(wanted, tensors, strict=True)}
            told(min(item.start + self.batch, count))

    def metrics(self, protocol_: Protocol, found: dict[FeatureSpec, Features], reference: Reference) -> dict[str, Any]:
        """Content of a metrics file: values with the protocol they were measured by."""
        seen = found[self.view(protocol_, "distance", protocol_.jpeg_quality)]
        count = min(protocol_.num_images, len(seen.features))
        described = protocol.describe(
            protocol_,
            distance=self.used[resolve(protocol_.distance, self.own)],
            recall=self.used[resolve(protocol_.recall, self.own)],
            reference=reference.sides,
            resolution=reference.resolution,
            generated=count,
            reconstructed=reference.reconstructed.count,
        )
        return {
            "format": 1,
            "values": self._values(protocol_, found, count, reference),
            "num_images": count,
            "protocol": described,
            "protocol_hash": protocol.digest(described),
        }

    def _values(
        self, protocol_: Protocol, found: dict[FeatureSpec, Features], count: int, reference: Reference
    ) -> Values:
        """Distances to the real images (fd) and to reconstructions of training images (fdr), and the rest."""
        seen = found[self.view(protocol_, "distance", protocol_.jpeg_quality)]
        generated = distances.statistics(seen.features[:count])
        judged = found[self.view(protocol_, "recall", protocol_.jpeg_quality)].features
        judged = judged[: min(count, protocol_.recall_generated)]
        prc = distances.precision_recall(
            generated=self.comparable(protocol_, judged),
            real=self.comparable(protocol_, reference.recall),
            k=protocol_.k,
            real_radii=reference.radii.to(self.device),
        )
        return {
            "fd": distances.frechet(generated, reference.real),
            "fd_cleanfid": distances.frechet_cleanfid(generated, reference.real) if protocol_.second_opinion else None,
            "fdr": distances.frechet(generated, reference.reconstructed),
            "precision": prc.precision,
            "recall": prc.recall,
            "confidence": None if seen.confidence is None else seen.confidence[:count].mean().item(),
        }
