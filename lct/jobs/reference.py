"""reference: statistics and features of real images, for every protocol; the floor rows: real images, the VAE alone.

Measurements of real images (lct/jobs/measurements.py) are kept in a cache, by default in work/reference/.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from lct.data import imageset
from lct.files.atomic import write_json
from lct.files.records import JobRecord
from lct.files.tensors import write_tensors
from lct.jobs import job
from lct.jobs.measurements import (
    CACHE,
    Cache,
    ImageMeasurement,
    Key,
    RealFeatures,
    compared_sets,
    measure,
    reference_images,
)
from lct.jobs.scoring import Extractors, HeldoutImages, Scorer, TrainingImages
from lct.metrics.distances import radii
from lct.metrics.evaluation import Reference, ReferenceImages, comparable
from lct.metrics.settings import Protocol

RECONSTRUCTED = ("reconstructed-train",)


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
    images = {name: reference_images(name, path, settings["flips"]) for name, path in manifests.items()}
    with Scorer(settings, extractors, device, workers) as scorer:
        record = JobRecord("reference", settings, inputs=manifests | scorer.inputs, device=scorer.device.type)
        protocols = {protocol.id: protocol for protocol in scorer.protocols}
        results, hits = measure(scorer, _measurements(scorer.protocols, images), manifests, images, cache)
        compared, resolution = {}, imageset.read_manifest(train)["height"]
        for path in references:
            compared[path.stem] = _reference(scorer, protocols[path.stem], images, results, resolution)
            write_tensors(path, compared[path.stem].tensors(), compared[path.stem].metadata())
        few = settings.get("few", False)
        most = max(protocol.num_images for protocol in scorer.protocols)
        for floor in dict.fromkeys(path.parent.name for path in floors):
            name = _floor_set(floor, manifests, few)
            count = min(most, imageset.read_manifest(manifests[name])["count"])
            features = scorer.features(manifests[name], count=count)
            same = scorer.features(train, count=count) if few and floor == "heldout" else None
            for path in (path for path in floors if path.parent.name == floor):
                content = scorer.evaluate(protocols[path.stem], features, compared[path.stem]) | {"images": name}
                if same is not None:
                    content["training"] = scorer.evaluate(protocols[path.stem], same, compared[path.stem])["values"]
                write_json(path, content)
        record.write([*references, *floors])
    line = f", {hits} of {len(results)} measurements of real images from the cache" if hits else ""
    return f"reference {references[0].parent.name}: {len(floors)} floor rows measured{line}"


def _floor_set(floor: str, manifests: Mapping[str, Path], few: bool) -> str:
    """The images of a floor row: held-out ones, or training images' reconstructions where too few or none are."""
    if floor == "heldout":
        return "heldout"
    return "reconstructed-heldout" if "reconstructed-heldout" in manifests and not few else "reconstructed-train"


def _measurements(protocols: list[Protocol], images: Mapping[str, ReferenceImages]) -> list[ImageMeasurement]:
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


def _reference(
    scorer: Scorer,
    protocol: Protocol,
    images: Mapping[str, ReferenceImages],
    results: Mapping[Key, RealFeatures],
    resolution: int,
) -> Reference:
    """What a protocol compares with, put together from measurements."""
    sets = compared_sets(protocol, images)
    distance, recall = (protocol.spec(role, of_reference=True) for role in ("distance", "recall"))
    features = results[recall, sets].features[: protocol.recall_reference]
    return Reference(
        real=results[distance, sets].statistics,
        reconstructed=results[distance, RECONSTRUCTED].statistics,
        recall=features,
        radii=radii(comparable(protocol, features, scorer.device), protocol.k),
        images=tuple(images[name] for name in sets),
        resolution=resolution,
    )


main = job.program(reference)

if __name__ == "__main__":
    raise SystemExit(main())
