"""Measurements of real images: statistics and features, stored under a digest of everything they depend on.

So each is computed once for all scales and runs that share a cache folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch

from lct.data import imageset
from lct.files.atomic import read_json_or_empty, write_json
from lct.files.hashing import sha256_file, sha256_json
from lct.files.tensors import read_metadata, read_tensors, write_tensors
from lct.jobs import job
from lct.jobs.scoring import Scorer
from lct.metrics.distances import FeatureMoments, FeatureStatistics
from lct.metrics.evaluation import ReferenceImages, feature_description
from lct.metrics.settings import FeatureSpec, Protocol

CACHE = Path("work/reference")
Cache = Annotated[Path, f"(default: {CACHE})"]  # option of several jobs
Key = tuple[FeatureSpec, tuple[str, ...]]  # what is taken of which image sets, one set after the other


@dataclass(frozen=True)
class ImageMeasurement:
    """What to measure of real images."""

    spec: FeatureSpec
    sets: tuple[str, ...]
    statistics: bool = False  # mean and covariance of the features
    features: int = 0  # the features of the first so many images

    def __or__(self, other: "ImageMeasurement") -> "ImageMeasurement":
        """One measurement that gives the results of both, for equal keys."""
        statistics, features = self.statistics or other.statistics, max(self.features, other.features)
        return ImageMeasurement(self.spec, self.sets, statistics, features)


@dataclass(frozen=True)
class RealFeatures:
    """The result of a measurement."""

    statistics: FeatureStatistics | None
    features: torch.Tensor | None

    def write(self, path: Path) -> None:
        """Store the result, and its hash beside it."""
        tensors = {} if self.statistics is None else self.statistics.tensors()
        if self.features is not None:
            tensors["features"] = self.features
        write_tensors(path, tensors, {"count": None if self.statistics is None else self.statistics.count})
        write_json(path.with_suffix(".json"), {"sha256": sha256_file(path), "bytes": path.stat().st_size})

    @classmethod
    def read(cls, path: Path) -> "RealFeatures | None":
        """A stored result; None where there is none, or where it is not as it was stored."""
        if not path.exists() or not path.with_suffix(".json").exists():
            return None
        if read_json_or_empty(path.with_suffix(".json")).get("sha256") != sha256_file(path):
            job.log.warning("%s: expected the bytes that were stored, found damage; measuring again", path)
            return None
        tensors, count = read_tensors(path), read_metadata(path)["count"]
        statistics = None if count is None else FeatureStatistics.from_tensors(tensors, count)
        return cls(statistics, tensors.get("features"))


def reference_images(name: str, manifest: Path, flips: str) -> ReferenceImages:
    """The first half of a training set whose other half are mirror images; else all of a set."""
    content = imageset.read_manifest(manifest)
    mirrored = name == "train" and flips == "appended"
    return ReferenceImages(name, content["count"] // (2 if mirrored else 1), content["content_sha256"])


def compared_sets(protocol: Protocol, images: Mapping[str, ReferenceImages]) -> tuple[str, ...]:
    """The image sets that a protocol compares with."""
    return ("train", "heldout") if protocol.reference == "all" and "heldout" in images else ("train",)


def measure(
    scorer: Scorer,
    measurements: Sequence[ImageMeasurement],
    manifests: Mapping[str, Path],
    images: Mapping[str, ReferenceImages],
    cache: Path,
) -> tuple[dict[Key, RealFeatures], int]:
    """The result of every measurement, and how many of them came from the cache.

    manifests, images: of each set, by name."""
    paths = {m: cache / f"{_digest(scorer, m, images)}.safetensors" for m in measurements}
    results = {m: stored for m, path in paths.items() if (stored := RealFeatures.read(path)) is not None}
    hits = len(results)
    missing = [m for m in measurements if m not in results]
    for sets in dict.fromkeys(m.sets for m in missing):
        group = [m for m in missing if m.sets == sets]
        for m, result in zip(group, _compute(scorer, group, manifests, images), strict=True):
            result.write(paths[m])
            results[m] = result
    return {(m.spec, m.sets): result for m, result in results.items()}, hits


def _digest(scorer: Scorer, m: ImageMeasurement, images: Mapping[str, ReferenceImages]) -> str:
    """The digest of everything that a result depends on."""
    identity = scorer.extractors[m.spec.extractor]
    sets = [[images[name].count, images[name].content_sha256] for name in m.sets]
    description = feature_description(identity, m.spec, scorer.batch, scorer.device.type)
    return sha256_json({"view": description, "images": sets, "moments": m.statistics, "features": m.features})


def _compute(
    scorer: Scorer,
    group: Sequence[ImageMeasurement],
    manifests: Mapping[str, Path],
    images: Mapping[str, ReferenceImages],
) -> list[RealFeatures]:
    """One reading of the image sets for all measurements of them."""
    moments = [FeatureMoments() for _ in group]
    kept: list[list[torch.Tensor]] = [[] for _ in group]
    for name in group[0].sets:
        imageset.open_checked(manifests[name], deep=True).close()
        specs = [m.spec for m in group]
        for batch in scorer.walk(specs, manifests[name], images[name].count, f"reference {manifests[name]}"):
            for m, moment, parts in zip(group, moments, kept, strict=True):
                features = batch[m.spec].features
                if m.statistics:
                    moment.add(features)
                parts.append(features[: max(0, m.features - sum(map(len, parts)))])
    return [
        RealFeatures(moment.statistics() if m.statistics else None, torch.cat(parts) if m.features else None)
        for m, moment, parts in zip(group, moments, kept, strict=True)
    ]
