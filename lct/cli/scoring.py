"""What the two scoring jobs share: networks with their weights, features of an image set, values of a metrics file."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from lct.cli import job
from lct.config.schema import build
from lct.data import imageset
from lct.download import record
from lct.files.hashing import sha256_file
from lct.files.tensors import read_metadata, read_tensors
from lct.metrics import distances, network, protocol
from lct.metrics.distances import Statistics
from lct.metrics.features import Features, extract
from lct.metrics.protocol import Side, Used
from lct.metrics.settings import KINDS, Extractor, PretrainedExtractor, Protocol, View, resolve, views

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

    real: Statistics  # of the real images, in the distance's network
    reconstructed: Statistics  # of the training images' reconstructions
    recall: torch.Tensor  # (N, D) features of real images, in the network of precision and recall
    radii: torch.Tensor  # (N,) radii of their balls
    sides: tuple[Side, ...]  # which real images
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
            Statistics(tensors[f"{name}.mu"].numpy(), tensors[f"{name}.sigma"].numpy(), metadata["counts"][name])
            for name in ("real", "reconstructed")
        )
        sides = tuple(Side(**side) for side in metadata["sides"])
        features, radii = tensors["recall.features"], tensors["recall.radii"]
        return cls(real, reconstructed, features, radii, sides, metadata["resolution"])


class Scorer:
    """Protocols and the networks they need, ready to measure image sets against references."""

    def __init__(self, settings: dict[str, Any], weights: Sequence[Path], device: torch.device):
        self.protocols = [
            build(Protocol, values, f"--settings: protocols.{values['id']}") for values in settings["protocols"]
        ]
        self.own = settings["own_extractor"]
        self.device = device
        self.batch = self.protocols[0].batch  # one for all, as the scale's settings demand
        self.used: dict[str, Used] = {}
        self._files: dict[str, Path] = {}
        for extractor, path in zip(extractors_of(settings), weights, strict=True):
            self._files[extractor.id], sha256 = weights_of(extractor, path)
            self.used[extractor.id] = Used(extractor, sha256)

    @cached_property
    def networks(self) -> dict[str, network.Network]:
        """Loaded when the first image set needs them: what is in the cache needs none."""
        return {
            name: network.load(used.settings, self._files[name], used.weights_sha256, self.device)
            for name, used in self.used.items()
        }

    def of(self, views: Sequence[View]) -> dict[View, network.Network]:
        return {view: self.networks[view.extractor] for view in views}

    def view(self, protocol: Protocol, role: str, quality: int | None) -> View:
        name = resolve(getattr(protocol, role), self.own)
        return View(extractor=name, jpeg_quality=quality, products=protocol.products)

    def comparable(self, protocol: Protocol, features: torch.Tensor) -> torch.Tensor:
        """Features where, and in the precision in which, their distances are taken."""
        return features.to(self.device, getattr(torch, protocol.dtype))

    def features(self, manifest: Path, limit: int | None = None) -> dict[View, Features]:
        """Features of the first `limit` images in every view that a protocol has of generated images."""
        with imageset.open_checked(manifest, deep=True) as images:
            total = len(images) if limit is None else limit
            if len(images) < total:
                raise ValueError(f"{manifest}: expected {total} images, as the protocol says, found {len(images)}")
            count = job.counter(total, f"features {manifest}")
            return extract(self.of(views(self.protocols, self.own)), images, self.batch, limit=limit, progress=count)

    def metrics(self, protocol_: Protocol, found: dict[View, Features], reference: Reference) -> dict[str, Any]:
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

    def _values(self, protocol_: Protocol, found: dict[View, Features], count: int, reference: Reference) -> Values:
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
