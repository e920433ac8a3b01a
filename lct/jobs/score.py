"""score: every image set of one (run, seed): features once in each network, then every protocol's metrics.

The features and metrics of a whole set lie in work/ until the job ends, so that a killed job goes on from the next set.
Other jobs measure by the same Scorer: protocols, networks with their weights, features by several processes.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from lct.checks import require
from lct.config.schema import build
from lct.data import imageset
from lct.download import record as downloads
from lct.files.atomic import copy, read_json, write_json
from lct.files.hashing import sha256_file
from lct.files.progress import ProgressLogger
from lct.files.records import JobRecord
from lct.files.tensors import read_tensors, write_tensors
from lct.jobs import job, pool
from lct.jobs.resume import finished_parts, work_folder
from lct.metrics.evaluation import ExtractorIdentity, Reference, evaluate
from lct.metrics.features import Features, concatenate, extract, load_network
from lct.metrics.settings import (
    Degradation,
    Extractor,
    FeatureSpec,
    PretrainedExtractor,
    Protocol,
    feature_specs,
)

# options of several jobs
Extractors = Annotated[list[Path], "weights, in the settings' order"]
References = Annotated[list[Path], "{protocol}.safetensors, in order"]
Samples = Annotated[list[Path], "manifests of the image sets"]
HeldoutImages = Annotated[Path | None, "manifest of the held-out images, if there are any"]
TrainingImages = Annotated[Path, "manifest of the training images"]


def stored_extractor(settings: Extractor, path: Path) -> ExtractorIdentity:
    """path: the weights made in the graph, or the record of their download."""
    if not isinstance(settings, PretrainedExtractor):
        return ExtractorIdentity(settings, sha256_file(path), path)
    download = downloads.read(path)
    weights = download.file(settings.file, deep=False)  # hashed when it is loaded
    sha256 = next(entry["sha256"] for entry in download.files if entry["path"] == settings.file)
    return ExtractorIdentity(settings, sha256, weights)


# image set, images of it, what is taken of them, what is done to them first
FeatureBatch = tuple[Path, range, Sequence[FeatureSpec], Degradation | None]


class FeatureWorker:
    """Computes features on one device; keeps its networks and the image set that it read last."""

    def __init__(self, inputs: tuple[Sequence[ExtractorIdentity], int], device: str):
        """inputs: extractors, and the images of every pass."""
        (extractors, self.batch), on = inputs, job.device(device, threads=1)
        self.networks = {e.settings.id: load_network(e.settings, e.weights, e.weights_sha256, on) for e in extractors}
        self.opened = lru_cache(maxsize=1)(imageset.open_checked)

    def __call__(self, batch: FeatureBatch) -> list[list[np.ndarray | None]]:
        """Features of each spec as arrays, since a tensor from another process holds a file open."""
        manifest, span, specs, degradation = batch
        networks = {spec: self.networks[spec.extractor] for spec in specs}
        extracted = extract(networks, self.opened(manifest), span, self.batch, degradation)
        return [[None if t is None else t.numpy() for t in extracted[spec]] for spec in specs]


class Scorer(pool.Pool):
    """Protocols and a pool of the networks they need, ready to measure image sets against references.

    settings: {"protocols", "extractors", "own_extractor"}.
    weights:  a file of each extractor, in the settings' order: made in the graph, or a download's record.
    workers:  processes that compute features; None: one per GPU of the job."""

    def __init__(self, settings: dict[str, Any], weights: Sequence[Path], device: str, workers: int | None = None):
        self.device = job.device(device, threads=1)
        self.protocols = [
            build(Protocol, values, f"--settings: protocols.{values['id']}").resolved(settings["own_extractor"])
            for values in settings["protocols"]
        ]
        extractors = [
            build(Extractor, values, f"--settings: extractors.{values['id']}") for values in settings["extractors"]
        ]
        stored = [stored_extractor(*pair) for pair in zip(extractors, weights, strict=True)]
        self.extractors = {extractor.settings.id: extractor for extractor in stored}
        self.inputs = dict(zip((f"extractor-{name}" for name in self.extractors), weights, strict=True))
        self.most = max(protocol.num_images for protocol in self.protocols)  # images of a set that a protocol measures
        self.batch = self.protocols[0].batch  # one for all, as the scale's settings demand
        super().__init__(FeatureWorker, (stored, self.batch), pool.devices(self.device, workers))

    def references(self, paths: Sequence[Path]) -> tuple[list[tuple[Protocol, Reference]], dict[str, Path]]:
        """Each protocol with its stored reference, and the files of these as inputs of a record; paths: in order."""
        inputs = {f"reference-{p.id}": path for p, path in zip(self.protocols, paths, strict=True)}
        return list(zip(self.protocols, map(Reference.read, paths), strict=True)), inputs

    def walk(
        self,
        specs: Sequence[FeatureSpec],
        manifest: Path,
        count: int,
        what: str,
        degradation: Degradation | None = None,
    ) -> Iterator[dict[FeatureSpec, Features]]:
        """Features of the first `count` images, batch after batch. The hash of the set has been checked; the first
        batch loads the networks. what: name of the work in the log."""
        log_progress = ProgressLogger(what, count)
        spans = [range(start, min(start + self.batch, count)) for start in range(0, count, self.batch)]
        results = self.map((manifest, span, tuple(specs), degradation) for span in spans)
        for span, arrays in zip(spans, results, strict=True):
            tensors = [Features(*(None if a is None else torch.from_numpy(a) for a in of)) for of in arrays]
            yield dict(zip(specs, tensors, strict=True))
            log_progress(span.stop)

    def features(
        self,
        manifest: Path,
        count: int,
        specs: Sequence[FeatureSpec] | None = None,
        degradation: Degradation | None = None,
    ) -> dict[FeatureSpec, Features]:
        """Features of the first `count` images of a set, whose hash is checked; by default all that a protocol compares
        of generated images. degradation: what is done to the images first."""
        with imageset.open_checked(manifest, deep=True) as images:
            expected = f"{count} images, as the protocol says"
            require(len(images) >= count, manifest, expected, len(images), "sample more, or lower `num_images`")
        specs = feature_specs(self.protocols) if specs is None else specs
        return concatenate(self.walk(specs, manifest, count, f"features {manifest}", degradation))

    def evaluate(
        self, protocol: Protocol, extracted: dict[FeatureSpec, Features], reference: Reference
    ) -> dict[str, Any]:
        """Content of a metrics file."""
        return evaluate(protocol, self.extractors, extracted, reference, self.device)


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
            networks, protocols = len(features) // len(samples), len(metrics) // len(samples)  # files of an image set
            for number, manifest in enumerate(job.progress(samples, len(samples), "score")):
                feature_files = features[number * networks : (number + 1) * networks]
                metric_files = metrics[number * protocols : (number + 1) * protocols]
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
    extracted = scorer.features(manifest, scorer.most)
    tensors = {spec.name: values.features for spec, values in extracted.items()}
    scored = {f"{s.name}-confidence": v.confidence for s, v in extracted.items() if v.confidence is not None}
    write_tensors(kept, tensors | scored)
    return extracted


main = job.program(score)
