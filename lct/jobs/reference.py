"""reference: statistics and features of real images, for every protocol; the floor rows: real images, the VAE alone.

Measurements of real images are kept in a cache, by default in work/reference/, under a digest of everything they depend
on: each is computed once for all scales and runs that share the folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch

from lct.data import imageset
from lct.files.atomic import read_json_or_empty, write_json
from lct.files.hashing import sha256_file, sha256_json
from lct.files.records import JobRecord
from lct.files.tensors import read_metadata, read_tensors, write_tensors
from lct.jobs import job
from lct.jobs.score import Extractors, HeldoutImages, Scorer, TrainingImages
from lct.metrics.distances import FeatureMoments, FeatureStatistics, radii
from lct.metrics.evaluation import Reference, ReferenceImages, comparable, feature_description
from lct.metrics.settings import FeatureSpec, Protocol

CACHE = Path("work/reference")
Cache = Annotated[Path, f"(default: {CACHE})"]  # option of several jobs
RECONSTRUCTED = ("reconstructed-train",)
RealSets = Mapping[str, tuple[Path, ReferenceImages]]  # name -> manifest, and what is measured of it
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


def real_sets(manifests: Mapping[str, Path], flips: str) -> RealSets:
    """Image sets by name: the first half of a training set whose other half are mirror images, else all of a set."""
    contents = {name: imageset.read_manifest(path) for name, path in manifests.items()}
    halved = ["train"] if flips == "appended" else []
    return {
        name: (manifests[name], ReferenceImages(name, c["count"] // (1 + (name in halved)), c["content_sha256"]))
        for name, c in contents.items()
    }


def compared_sets(protocol: Protocol, images: RealSets) -> tuple[str, ...]:
    """The image sets that a protocol compares with."""
    return ("train", "heldout") if protocol.reference == "all" and "heldout" in images else ("train",)


def measure(
    scorer: Scorer, measurements: Sequence[ImageMeasurement], images: RealSets, cache: Path
) -> tuple[dict[Key, RealFeatures], int]:
    """The result of every measurement, and how many of them came from the cache."""
    paths = {m: cache / f"{_digest(scorer, m, images)}.safetensors" for m in measurements}
    results = {m: stored for m, path in paths.items() if (stored := RealFeatures.read(path)) is not None}
    hits = len(results)
    missing = [m for m in measurements if m not in results]
    for sets in dict.fromkeys(m.sets for m in missing):
        group = [m for m in missing if m.sets == sets]
        for m, result in zip(group, _compute(scorer, group, images), strict=True):
            result.write(paths[m])
            results[m] = result
    return {(m.spec, m.sets): result for m, result in results.items()}, hits


def _digest(scorer: Scorer, m: ImageMeasurement, images: RealSets) -> str:
    identity = scorer.extractors[m.spec.extractor]
    sets = [[used.count, used.content_sha256] for _, used in map(images.__getitem__, m.sets)]
    description = feature_description(identity, m.spec, scorer.batch, scorer.device.type)
    return sha256_json({"view": description, "images": sets, "moments": m.statistics, "features": m.features})


def _compute(scorer: Scorer, group: Sequence[ImageMeasurement], images: RealSets) -> list[RealFeatures]:
    """One reading of the image sets for all measurements of them."""
    moments = [FeatureMoments() for _ in group]
    kept: list[list[torch.Tensor]] = [[] for _ in group]
    for manifest, used in map(images.__getitem__, group[0].sets):
        imageset.open_checked(manifest, deep=True).close()
        for batch in scorer.walk([m.spec for m in group], manifest, used.count, f"reference {manifest}"):
            for m, moment, parts in zip(group, moments, kept, strict=True):
                features = batch[m.spec].features
                if m.statistics:
                    moment.add(features)
                parts.append(features[: max(0, m.features - sum(map(len, parts)))])
    return [
        RealFeatures(moment.statistics() if m.statistics else None, torch.cat(parts) if m.features else None)
        for m, moment, parts in zip(group, moments, kept, strict=True)
    ]


def reference(
    settings: dict[str, Any],
    device: str,
    train: TrainingImages,
    reconstructed_train: Annotated[Path, "manifest of their reconstructions"],
    extractors: Extractors,
    references: Annotated[list[Path], "{protocol}.safetensors to write"],
    floors: Annotated[list[Path], "{floor}/{protocol}.json to write", {"nargs": "*"}],
    heldout: HeldoutImages = None,
    reconstructed_heldout: Annotated[Path | None, "manifest of their reconstructions"] = None,
    cache: Cache = CACHE,
    workers: job.Workers = None,
) -> str:
    """Write the reference of every protocol and the metrics of every floor row; arguments are the job's options.

    settings: {"protocols", "extractors", "own_extractor", "flips"}, and "few": whether fewer images are held out than
    generated. The reconstructions of a floor row are then those of training images, and as many training images as are
    held out are measured beside these, because a Frechet distance grows as the number of images falls."""
    manifests = {"train": train, "heldout": heldout}
    manifests |= {"reconstructed-train": reconstructed_train, "reconstructed-heldout": reconstructed_heldout}
    manifests = {name: path for name, path in manifests.items() if path is not None}
    images = real_sets(manifests, settings["flips"])
    with Scorer(settings, extractors, device, workers) as scorer:
        record = JobRecord("reference", settings, inputs=manifests | scorer.inputs, device=scorer.device.type)
        protocols = {protocol.id: protocol for protocol in scorer.protocols}
        results, hits = measure(scorer, _measurements(scorer.protocols, images), images, cache)
        compared = {}
        for path in references:
            compared[path.stem] = _reference(scorer, protocols[path.stem], images, results)
            compared[path.stem].write(path)
        few = settings.get("few", False)
        for floor in dict.fromkeys(path.parent.name for path in floors):
            spare = "reconstructed-heldout" in manifests and not few  # else reconstructions of training images
            name = floor if floor == "heldout" else f"reconstructed-{'heldout' if spare else 'train'}"
            count = min(scorer.most, imageset.read_manifest(manifests[name])["count"])
            features = scorer.features(manifests[name], count)
            same = scorer.features(train, count) if few and floor == "heldout" else None
            for path in (path for path in floors if path.parent.name == floor):
                content = scorer.evaluate(protocols[path.stem], features, compared[path.stem]) | {"images": name}
                if same is not None:
                    content["training"] = scorer.evaluate(protocols[path.stem], same, compared[path.stem])["values"]
                write_json(path, content)
        record.write([*references, *floors])
    line = f", {hits} of {len(results)} measurements of real images from the cache" if hits else ""
    return f"reference {references[0].parent.name}: {len(floors)} floor rows measured{line}"


def _measurements(protocols: list[Protocol], images: RealSets) -> list[ImageMeasurement]:
    """Every measurement of real images that the protocols need, each once."""
    merged: dict[Key, ImageMeasurement] = {}
    for protocol in protocols:
        sets = compared_sets(protocol, images)
        distance, recall = (protocol.spec(role, of_reference=True) for role in ("distance", "recall"))
        for m in (
            ImageMeasurement(distance, sets, statistics=True),
            ImageMeasurement(recall, sets, features=protocol.recall_reference),
            ImageMeasurement(distance, RECONSTRUCTED, statistics=True),
        ):
            merged[m.spec, m.sets] = merged.get((m.spec, m.sets), m) | m
    return list(merged.values())


def _reference(scorer: Scorer, protocol: Protocol, images: RealSets, results: Mapping[Key, RealFeatures]) -> Reference:
    """What a protocol compares with, put together from measurements."""
    sets = compared_sets(protocol, images)
    distance, recall = (protocol.spec(role, of_reference=True) for role in ("distance", "recall"))
    features = results[recall, sets].features[: protocol.recall_reference]
    return Reference(
        real=results[distance, sets].statistics,
        reconstructed=results[distance, RECONSTRUCTED].statistics,
        recall=features,
        radii=radii(comparable(protocol, features, scorer.device), protocol.k),
        images=tuple(images[name][1] for name in sets),
        resolution=imageset.read_manifest(images["train"][0])["height"],
    )


main = job.program(reference)
