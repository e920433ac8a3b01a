"""extractor: the small network whose features measure distances where a protocol names the dataset's own."""

from pathlib import Path

from lct.config.schema import build
from lct.data import imageset
from lct.files.atomic import write_json
from lct.files.records import JobRecord
from lct.files.tensors import write_tensors
from lct.jobs import job
from lct.metrics import extractor as network
from lct.metrics.settings import TrainedExtractor


def main() -> int:
    parser = job.parser(__doc__)
    parser.add_argument("--train", type=Path, required=True, help="manifest of the training images")
    parser.add_argument("--heldout", type=Path, nargs="?", help="manifest of the held-out images, if there are any")
    parser.add_argument("--out", type=Path, required=True, help="weights to write")
    parser.add_argument("--summary", type=Path, required=True, help="JSON with the accuracy to write")
    arguments = parser.parse_args()
    return job.run(lambda: extractor(arguments))


def extractor(arguments) -> str:
    settings = build(TrainedExtractor, arguments.settings["extractor"], "--settings: extractor")
    device = job.device(arguments.device, threads=1)
    side = "training" if arguments.heldout is None else "held-out"
    judged = arguments.heldout or arguments.train
    inputs = {"train": arguments.train} | ({"heldout": arguments.heldout} if arguments.heldout else {})
    record = JobRecord(
        "extractor", arguments.settings, inputs=inputs, seeds={"extractor": settings.seed}, device=device.type
    )
    labels = _labels(arguments.train)
    classes = network.classes(settings, labels)
    model = network.create(settings, classes)
    with imageset.open_checked(arguments.train, deep=True) as images:
        trained = network.train(model, settings, images, labels, device=device)
        for _ in job.progress(trained, settings.steps, "extractor"):
            pass
    with imageset.open_checked(judged, deep=True) as images:
        accuracy = network.accuracy(model, settings, images, _labels(judged), settings.batch)
    write_tensors(arguments.out, network.tensors(model))
    summary = {"task": settings.learned, "accuracy": accuracy, "images": side, "classes": classes}
    write_json(arguments.summary, summary)
    record.write([arguments.out, arguments.summary])
    return f"extractor {arguments.out.parent.name}: accuracy {accuracy:.1%} on {side} images ({settings.learned})"


def _labels(manifest: Path) -> list[int | None]:
    """The label of every image; None where the source gives none."""
    return imageset.labels(imageset.read_manifest(manifest))


if __name__ == "__main__":
    raise SystemExit(main())
