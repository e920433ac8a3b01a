"""distance: the Frechet distance of image sets to the real images by one protocol, before references and scores exist.

The pilot waits for nothing else. Scoring gives the same number later, with those that need the rest.
"""

from pathlib import Path
from typing import Annotated, Any

from lct.files.atomic import write_json
from lct.files.records import JobRecord
from lct.jobs import job
from lct.jobs.reference import CACHE, Cache, ImageMeasurement, compared_sets, measure, real_sets
from lct.jobs.score import Extractors, HeldoutImages, Samples, Scorer, TrainingImages
from lct.metrics.distances import frechet, statistics


def distance(
    settings: dict[str, Any],
    device: str,
    samples: Samples,
    train: TrainingImages,
    extractors: Extractors,
    distances: Annotated[list[Path], "JSON to write, per set"],
    heldout: HeldoutImages = None,
    cache: Cache = CACHE,
    workers: job.Workers = None,
) -> str:
    """Write the Frechet distance of every image set; arguments are the job's options.

    settings: {"protocols", "extractors", "own_extractor", "flips"}, of a single protocol and the network of its
    distance. Raises ValueError for a set with too few images."""
    manifests = {"train": train} | ({} if heldout is None else {"heldout": heldout})
    images = real_sets(manifests, settings["flips"])
    with Scorer(settings, extractors, device, workers) as scorer:
        (protocol,) = scorer.protocols
        spec, sets = protocol.spec("distance", of_reference=True), compared_sets(protocol, images)
        measured, _ = measure(scorer, [ImageMeasurement(spec, sets, statistics=True)], images, cache)
        shown = []
        for manifest, path in zip(samples, distances, strict=True):
            inputs = scorer.inputs | manifests | {"samples": manifest}
            record = JobRecord("distance", settings, inputs=inputs, device=scorer.device.type)
            (generated,) = scorer.features(manifest, protocol.num_images, [protocol.spec("distance")]).values()
            fd = frechet(statistics(generated.features), measured[spec, sets].statistics)
            content = {"format": 1, "values": {"fd": fd}, "num_images": len(generated.features)}
            write_json(path, content | {"protocol": {"id": protocol.id}})
            record.write([path])
            shown.append(f"{manifest.parent.name} FD({protocol.distance}) {fd:.2f}")
    run, seed = samples[0].parts[-5:-3]
    return f"distance {run} {seed}: {', '.join(shown)}"


main = job.program(distance)
