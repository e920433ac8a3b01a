"""score: every image set of one (run, seed): features once, then every metric."""

from pathlib import Path

from lct.cli import job
from lct.cli.scoring import Scorer, metrics_file
from lct.data.imageset import read_manifest
from lct.files.atomic import write_json
from lct.files.records import Job
from lct.files.tensors import read_tensors, write_tensors


def main() -> int:
    parser = job.parser(__doc__)
    parser.add_argument("--samples", type=Path, nargs="+", required=True, help="manifests of the image sets")
    parser.add_argument("--features", type=Path, nargs="+", required=True, help="features to write, in the same order")
    parser.add_argument(
        "--metrics", type=Path, nargs="+", required=True, help="metrics files to write, in the same order"
    )
    parser.add_argument("--train", type=Path, required=True, help="manifest of the training images")
    parser.add_argument("--reference", type=Path, required=True, help="reference features")
    parser.add_argument("--extractor", type=Path, required=True, help="weights of the feature extractor")
    arguments = parser.parse_args()
    return job.run(lambda: score(arguments))


def score(arguments) -> str:
    device = job.device(arguments.device, threads=1)
    scorer = Scorer(arguments.settings, arguments.extractor, device)
    reference = read_tensors(arguments.reference)
    described = scorer.describe(read_manifest(arguments.train))
    found = []
    triples = zip(arguments.samples, arguments.features, arguments.metrics, strict=True)
    for samples, features_out, metrics_out in job.progress(triples, len(arguments.samples), "score"):
        inputs = {"samples": samples, "reference": arguments.reference, "extractor": arguments.extractor}
        record = Job("score", arguments.settings, inputs=inputs, device=device.type)
        extracted = scorer.features(samples, limit=scorer.protocol.num_images)
        write_tensors(features_out, extracted)
        values = scorer.measure(extracted, reference)
        write_json(metrics_out, metrics_file(scorer, values, described))
        record.record([features_out, metrics_out])
        found.append(
            f"{samples.parent.name} FD({scorer.extractor.id}) {values['fd']:.2f} recall {values['recall']:.2f}"
        )
    run, seed = arguments.samples[0].parts[-5:-3]
    return f"score {run} {seed}: {', '.join(found)}"


if __name__ == "__main__":
    raise SystemExit(main())
