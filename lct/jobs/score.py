"""score: every image set of one (run, seed): features once in each network, then every protocol's metrics.

The features and metrics of a whole set lie in work/ until the job ends, so that a killed job goes on from the next set.
"""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

from lct.data import imageset
from lct.files.atomic import copy, read_json, write_json
from lct.files.records import JobRecord
from lct.files.tensors import read_tensors, write_tensors
from lct.jobs import job
from lct.jobs.resume import finished_parts, work_folder
from lct.jobs.scoring import Extractors, References, Samples, Scorer
from lct.metrics.features import Features
from lct.metrics.settings import FeatureSpec, feature_specs


def score(
    settings: dict[str, Any],
    device: str,
    samples: Samples,
    features: Annotated[list[Path], "features to write, per set and network; none: not kept", {"nargs": "*"}],
    metrics: Annotated[list[Path], "files to write, per set and protocol"],
    references: References,
    extractors: Extractors,
    workers: job.Workers = None,
) -> str:
    """Write the features and metrics of every image set; arguments are the job's options.

    settings: {"protocols", "extractors", "own_extractor"}. Raises ValueError for a set with too few images."""
    shown = []
    with Scorer(settings, extractors, device, workers) as scorer:
        pairs, inputs = scorer.references(references)
        new_record = partial(JobRecord, "score", settings, device=scorer.device.type)
        whole_job = new_record(inputs=scorer.inputs | inputs | {str(path): path for path in samples})
        with finished_parts(whole_job, work_folder(metrics[0].parent), "scoring of these images") as folder:
            sets = zip(samples, _per_set(features, len(samples)), _per_set(metrics, len(samples)), strict=True)
            for number, (manifest, feature_files, metric_files) in enumerate(job.progress(sets, len(samples), "score")):
                record = new_record(inputs=scorer.inputs | inputs | {"samples": manifest})
                extracted = _features(scorer, manifest, folder / f"{number}.safetensors")
                for values, path in zip(extracted.values(), feature_files, strict=bool(feature_files)):
                    write_tensors(path, {"features": values.features})
                contents = []
                for (protocol, reference), path in zip(pairs, metric_files, strict=True):
                    if not (kept := folder / f"{number}-{protocol.id}.json").exists():
                        write_json(kept, scorer.evaluate(protocol, extracted, reference))
                    contents.append(read_json(kept))
                    copy(kept, path)
                record.write([*feature_files, *metric_files])
                values, network = contents[0]["values"], contents[0]["protocol"]["distance"]["extractor"]
                shown.append(f"{manifest.parent.name} FD({network}) {values['fd']:.2f} recall {values['recall']:.2f}")
    run, seed = samples[0].parts[-5:-3]
    return f"score {run} {seed}: {', '.join(shown)}"


def _features(scorer: Scorer, manifest: Path, kept: Path) -> dict[FeatureSpec, Features]:
    """Features of the images that the protocols measure: from `kept` where they lie there, else they are left there."""
    if kept.exists():
        imageset.open_checked(manifest, deep=True).close()
        tensors = read_tensors(kept)
        return {
            spec: Features(tensors[spec.name], tensors.get(f"{spec.name}-confidence"))
            for spec in feature_specs(scorer.protocols)
        }
    count = max(protocol.num_images for protocol in scorer.protocols)
    extracted = scorer.features(manifest, count=count)
    tensors = {spec.name: values.features for spec, values in extracted.items()}
    scored = {f"{s.name}-confidence": v.confidence for s, v in extracted.items() if v.confidence is not None}
    write_tensors(kept, tensors | scored)
    return extracted


def _per_set(files: list[Path], sets: int) -> list[list[Path]]:
    """Files in order, dealt out evenly to the image sets."""
    each = len(files) // sets
    return [files[i * each : (i + 1) * each] for i in range(sets)]


main = job.program(score)
