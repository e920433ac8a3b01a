"""score: every image set of one (run, seed): features once in each network, then every protocol's metrics."""

from pathlib import Path
from typing import Any

from lct.files.atomic import write_json
from lct.files.records import JobRecord
from lct.files.tensors import write_tensors
from lct.jobs import job
from lct.jobs.scoring import Scorer, read_reference


def main() -> int:
    parser = job.parser(__doc__)
    parser.add_argument("--samples", type=Path, nargs="+", required=True, help="manifests of the image sets")
    parser.add_argument(
        "--features", type=Path, nargs="*", required=True, help="features to write, per set and network; none: not kept"
    )
    parser.add_argument("--metrics", type=Path, nargs="+", required=True, help="files to write, per set and protocol")
    parser.add_argument("--references", type=Path, nargs="+", required=True, help="{protocol}.safetensors, in order")
    parser.add_argument("--extractors", type=Path, nargs="+", required=True, help="weights, in the settings' order")
    parser.add_argument("--workers", type=int, help="processes (default: one per GPU of the job, one without a GPU)")
    return job.run(score, parser.parse_args())


def score(
    settings: dict[str, Any],
    device: str,
    samples: list[Path],
    features: list[Path],
    metrics: list[Path],
    references: list[Path],
    extractors: list[Path],
    workers: int | None = None,
) -> str:
    """Write the features and metrics of every image set; arguments are the job's options.

    settings: {"protocols", "extractors", "own_extractor"}. Raises ValueError for a set with too few images."""
    shown = []
    with Scorer(settings, extractors, device, workers) as scorer:
        pairs = list(zip(scorer.protocols, map(read_reference, references), strict=True))
        inputs = {f"reference-{p.id}": path for p, path in zip(scorer.protocols, references, strict=True)}
        count = max(protocol.num_images for protocol in scorer.protocols)
        sets = zip(samples, _per_set(features, len(samples)), _per_set(metrics, len(samples)), strict=True)
        for manifest, feature_files, metric_files in job.progress(sets, len(samples), "score"):
            files = scorer.inputs | inputs | {"samples": manifest}
            record = JobRecord("score", settings, inputs=files, device=scorer.device.type)
            extracted = scorer.features(manifest, count=count)
            for values, path in zip(extracted.values(), feature_files, strict=bool(feature_files)):
                write_tensors(path, {"features": values.features})
            contents = [scorer.evaluate(protocol, extracted, reference) for protocol, reference in pairs]
            for content, path in zip(contents, metric_files, strict=True):
                write_json(path, content)
            record.write([*feature_files, *metric_files])
            values, network = contents[0]["values"], contents[0]["protocol"]["distance"]["extractor"]
            shown.append(f"{manifest.parent.name} FD({network}) {values['fd']:.2f} recall {values['recall']:.2f}")
    run, seed = samples[0].parts[-5:-3]
    return f"score {run} {seed}: {', '.join(shown)}"


def _per_set(files: list[Path], sets: int) -> list[list[Path]]:
    """Files in order, dealt out evenly to the image sets."""
    each = len(files) // sets
    return [files[i * each : (i + 1) * each] for i in range(sets)]


if __name__ == "__main__":
    raise SystemExit(main())
