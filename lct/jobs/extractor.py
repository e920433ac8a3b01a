"""extractor: the small network whose features measure distances where a protocol names the dataset's own."""

from pathlib import Path
from typing import Any

from lct.config.schema import build
from lct.data import imageset
from lct.files.atomic import write_json
from lct.files.records import JobRecord
from lct.files.tensors import write_tensors
from lct.jobs import job, resume
from lct.metrics import extractor as network
from lct.metrics.settings import TrainedExtractor


def main() -> int:
    parser = job.parser(__doc__)
    parser.add_argument("--train", type=Path, required=True, help="manifest of the training images")
    parser.add_argument("--heldout", type=Path, nargs="?", help="manifest of the held-out images, if there are any")
    parser.add_argument("--out", type=Path, required=True, help="weights to write")
    parser.add_argument("--summary", type=Path, required=True, help="JSON with the accuracy to write")
    return job.run(extractor, parser.parse_args())


def extractor(
    settings: dict[str, Any], device: str, train: Path, out: Path, summary: Path, heldout: Path | None = None
) -> str:
    """Train the network on `train`, measure its accuracy, write both; arguments are the job's options.

    settings: {"extractor": ...}. The accuracy is that on held-out images, or on the training images without these."""
    chosen = build(TrainedExtractor, settings["extractor"], "--settings: extractor")
    torch_device = job.device(device, threads=1)
    files = {"train": train} | ({"heldout": heldout} if heldout else {})
    seeds = {"extractor": chosen.seed}
    record = JobRecord("extractor", settings, inputs=files, seeds=seeds, device=torch_device.type)
    checkpoint = resume.checkpoint(record, out, chosen.steps)
    labels = _labels(train)
    classes = network.classes(chosen, labels)
    model = network.create(chosen, classes)
    with imageset.open_checked(train, deep=True) as images:
        steps = network.train(model, chosen, images, labels, device=torch_device, checkpoint=checkpoint)
        for _ in resume.resumable(steps, checkpoint, "extractor"):
            pass
    tested, kind = (train, "training") if heldout is None else (heldout, "held-out")
    with imageset.open_checked(tested, deep=True) as images:
        accuracy = network.accuracy(model, chosen, images, _labels(tested), chosen.batch)
    write_tensors(out, network.tensors(model))
    write_json(summary, {"task": chosen.learned, "accuracy": accuracy, "images": kind, "classes": classes})
    record.write([out, summary])
    checkpoint.remove()
    return f"extractor {out.parent.name}: accuracy {accuracy:.1%} on {kind} images ({chosen.learned})"


def _labels(manifest: Path) -> list[int | None]:
    """The label of every image; None where the source gives none."""
    return imageset.labels(imageset.read_manifest(manifest))


if __name__ == "__main__":
    raise SystemExit(main())
