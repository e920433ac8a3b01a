"""extractor: the small network whose features measure distances where a protocol names the dataset's own."""

from pathlib import Path
from typing import Annotated, Any

from lct.config.schema import build
from lct.data import imageset
from lct.files.atomic import write_json
from lct.files.records import JobRecord
from lct.files.tensors import write_tensors
from lct.jobs import job, resume
from lct.metrics import extractor as network
from lct.metrics.settings import TrainedExtractor


def extractor(
    settings: dict[str, Any],
    device: str,
    train: Annotated[Path, "manifest of the training images"],
    out: Annotated[Path, "weights to write"],
    summary: Annotated[Path, "JSON with the accuracy to write"],
    heldout: Annotated[Path | None, "manifest of the held-out images, if there are any"] = None,
) -> str:
    """Train the network on `train`, measure its accuracy, write both; arguments are the job's options.

    settings: {"extractor": ...}. The accuracy is that on held-out images, or on the training images without these."""
    chosen = build(TrainedExtractor, settings["extractor"], "--settings: extractor")
    torch_device = job.device(device, threads=1)
    files = {"train": train} | ({"heldout": heldout} if heldout else {})
    seeds = {"extractor": chosen.seed}
    record = JobRecord("extractor", settings, inputs=files, seeds=seeds, device=torch_device.type)
    checkpoint = resume.checkpoint(record, out, chosen.steps)
    labels = imageset.labels(train)
    classes = network.classes(chosen, labels)
    model = network.create(chosen, classes)
    with imageset.open_checked(train, deep=True) as images:
        steps = network.train(model, chosen, images, labels, device=torch_device, checkpoint=checkpoint)
        for _ in resume.resumable(steps, checkpoint, "extractor"):
            pass
    tested, kind = (train, "training") if heldout is None else (heldout, "held-out")
    with imageset.open_checked(tested, deep=True) as images:
        accuracy = network.accuracy(model, chosen, images, imageset.labels(tested), chosen.batch)
    write_tensors(out, model.state_dict())
    write_json(summary, {"task": chosen.learned, "accuracy": accuracy, "images": kind, "classes": classes})
    record.write([out, summary])
    checkpoint.remove()
    return f"extractor {out.parent.name}: accuracy {accuracy:.1%} on {kind} images ({chosen.learned})"


main = job.program(extractor)
