"""score: every image set of one (run, seed): features once in each network, then every protocol's metrics."""

from pathlib import Path

from lct.files.atomic import write_json
from lct.files.records import JobRecord
from lct.files.tensors import write_tensors
from lct.jobs import job
from lct.jobs.scoring import Reference, Scorer
from lct.metrics.settings import feature_specs


def main() -> int:
    parser = job.parser(__doc__)
    parser.add_argument("--samples", type=Path, nargs="+", required=True, help="manifests of the image sets")
    parser.add_argument(
        "--features", type=Path, nargs="*", required=True, help="features to write, per set and view; none: not kept"
    )
    parser.add_argument("--metrics", type=Path, nargs="+", required=True, help="files to write, per set and protocol")
    parser.add_argument("--references", type=Path, nargs="+", required=True, help="{protocol}.safetensors, in order")
    parser.add_argument("--extractors", type=Path, nargs="+", required=True, help="weights, in the settings' order")
    parser.add_argument("--workers", type=int, help="processes (default: one per GPU of the job, one without a GPU)")
    arguments = parser.parse_args()
    return job.run(lambda: score(arguments))


def score(arguments) -> str:
    device = job.device(arguments.device, threads=1)
    with Scorer(arguments.settings, arguments.extractors, device, arguments.workers) as scorer:
        return _score(arguments, scorer)


def _score(arguments, scorer: Scorer) -> str:
    protocols, seen = scorer.protocols, feature_specs(scorer.protocols, scorer.own)
    references = [Reference.read(path) for path in arguments.references]
    limit = max(protocol.num_images for protocol in protocols)
    inputs = {f"extractor-{name}": path for name, path in zip(scorer.used, arguments.extractors, strict=True)}
    inputs |= {f"reference-{p.id}": path for p, path in zip(protocols, arguments.references, strict=True)}
    sets = len(arguments.samples)
    asked = zip(arguments.samples, _shared(arguments.features, sets), _shared(arguments.metrics, sets), strict=True)
    said = []
    for samples, features_out, metrics_out in job.progress(asked, sets, "score"):
        record = JobRecord("score", arguments.settings, inputs=inputs | {"samples": samples}, device=scorer.device.type)
        found = scorer.features(samples, limit=limit)
        for view, out in zip(seen, features_out, strict=bool(features_out)):
            write_tensors(out, {"features": found[view].features})
        for protocol, reference, out in zip(protocols, references, metrics_out, strict=True):
            measured = scorer.metrics(protocol, found, reference)
            write_json(out, measured)
            if protocol is protocols[0]:
                values, network = measured["values"], measured["protocol"]["distance"]["extractor"]
                said.append(f"{samples.parent.name} FD({network}) {values['fd']:.2f} recall {values['recall']:.2f}")
        record.write([*features_out, *metrics_out])
    run, seed = arguments.samples[0].parts[-5:-3]
    return f"score {run} {seed}: {', '.join(said)}"


def _shared(files: list[Path], sets: int) -> list[list[Path]]:
    """Files in order, dealt out evenly to the image sets."""
    each = len(files) // sets
    return [files[i * each : (i + 1) * each] for i in range(sets)]


if __name__ == "__main__":
    raise SystemExit(main())
