"""extractor: the small network whose features measure distances at a scale without Inception."""

from pathlib import Path

from lct.cli import job
from lct.config.schema import build
from lct.data import imageset
from lct.files.atomic import write_json
from lct.files.records import Job
from lct.files.tensors import write_tensors
from lct.metrics import extractor as network
from lct.metrics.settings import Extractor, InceptionExtractor, TrainedExtractor


def main() -> int:
    parser = job.parser(__doc__)
    parser.add_argument("--train", type=Path, required=True, help="manifest of the training images, with labels")
    parser.add_argument("--heldout", type=Path, required=True, help="manifest of the held-out images, with labels")
    parser.add_argument("--out", type=Path, required=True, help="weights to write")
    parser.add_argument("--summary", type=Path, required=True, help="JSON with the accuracy to write")
    arguments = parser.parse_args()
    return job.run(lambda: extractor(arguments))


def settings_of(values: dict) -> Extractor:
    kinds = {"trained": TrainedExtractor, "inception": InceptionExtractor}
    return build(kinds[values["kind"]], values, "--settings: extractor")


def extractor(arguments) -> str:
    settings = settings_of(arguments.settings["extractor"])
    if isinstance(settings, InceptionExtractor):
        raise ValueError(
            f"extractor {settings.id}: expected its weights at {settings.weights}, found no way to read them yet; "
            "they come with the paper's data, trainings and samples do not need them"
        )
    device = job.device(arguments.device, threads=1)
    inputs = {"train": arguments.train, "heldout": arguments.heldout}
    record = Job("extractor", arguments.settings, inputs=inputs, seeds={"extractor": settings.seed}, device=device.type)
    labels = _labels(arguments.train)
    model = network.create(settings, classes=max(labels) + 1)
    with imageset.open_checked(arguments.train, deep=True) as images:
        trained = network.train(model, settings, images, labels, device=device)
        for _ in job.progress(trained, settings.steps, "extractor"):
            pass
    with imageset.open_checked(arguments.heldout, deep=True) as images:
        accuracy = network.accuracy(model, images, _labels(arguments.heldout), settings.batch)
    write_tensors(arguments.out, network.tensors(model))
    write_json(arguments.summary, {"task": settings.task, "heldout_accuracy": accuracy, "classes": max(labels) + 1})
    record.record([arguments.out, arguments.summary])
    return f"extractor {arguments.out.parent.name}: accuracy {accuracy:.1%} on held-out images ({settings.task})"


def _labels(manifest: Path) -> list[int]:
    """The label of every image; a set without them cannot train a classifier."""
    found = imageset.labels(imageset.read_manifest(manifest))
    if any(label is None for label in found):
        raise ValueError(f"{manifest}: expected a label for every image, found some without; use a source with labels")
    return found


if __name__ == "__main__":
    raise SystemExit(main())
