"""figure1: box plots of pixel and latent values and of temporal differences, as numbers and as pictures.

Two networks of one size are trained by lct.training.loop, one on pixels reduced to the latents' side, one on latents.
"""

import logging
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from lct.cluster.launch import Stop
from lct.config.schema import build
from lct.data import imageset
from lct.data.distribution import describe, outliers, spaced
from lct.data.latents import PART, LatentMoments, LatentStatistics, check_normalised
from lct.files.atomic import read_json
from lct.files.progress import ProgressLogger
from lct.files.records import JobRecord
from lct.files.tensors import pick_rows, read_rows, read_tensors, shape_of
from lct.jobs import figure, job
from lct.jobs.resume import finished_parts
from lct.report.plotting import box_plots
from lct.training.loop import train
from lct.training.settings import Training
from lct.training.state import StateFolder
from lct.training.trainer import Trainer

log = logging.getLogger("lct.figure1")

BATCH = 64  # images decoded at a time


def figure1(
    settings: dict[str, Any],
    device: str,
    images: Annotated[Path, "manifest of the training images"],
    latents: figure.Latents,
    statistics: job.Statistics,
    work: Annotated[Path, "folder for resume states"],
    out: figure.Numbers,
    pictures: figure.Pictures,
) -> str:
    """Write the numbers of the box plots to `out` (JSON) and draw them in `pictures`; arguments are the job's options.

    Raises InterruptedJobError, with the state of the training saved, when a signal asks the job to end."""
    training = build(Training, settings["training"], "--settings: training")
    torch_device = job.device(device, training.threads, tf32=training.matmul == "tf32")
    inputs = {"images": images, "latents": latents, "statistics": statistics}
    record = JobRecord("figure", settings, inputs=inputs, seeds={"train": settings["seed"]}, device=torch_device.type)
    with finished_parts(record, work, "figure of this dataset") as states:
        if not record.has_written([out, *pictures]):
            figure.publish(record, out, pictures, _numbers(record, training, torch_device, states), box_plots)
    shares = {box["id"]: box["beyond_outer"] for box in read_json(out)["boxes"]}
    values = f"{shares['pixels']:.2%} of pixels, {shares['x']:.2%} of latents"
    differences = f"of temporal differences {shares['td-pixels']:.2%} and {shares['td-latents']:.2%}"
    return f"figure1 {out.stem}: beyond the outer fences {values}; {differences}"


def _numbers(record: JobRecord, training: Training, device: torch.device, states: Path) -> dict[str, Any]:
    """All boxes of the figure, from images, latents and their statistics. states: folder of the resume states."""
    inputs, sizes, stop, identity = record.inputs, record.settings["figure"], Stop(), record.deterministic()
    latents = inputs["latents"]
    stored = LatentStatistics.from_tensors(read_tensors(inputs["statistics"]))
    normalised = (stored.normalise(part) for part in read_rows(latents, "latents", PART))
    check_normalised(normalised, stored, str(latents))
    rows = spaced(shape_of(latents, "latents")[0], sizes["images"])
    z = pick_rows(latents, "latents", rows)
    x = stored.normalise(z)
    values, pixels = _pixels(inputs["images"], rows.tolist(), sizes["values"], z.shape[-1])
    y = _normalised(pixels, stored.sigma_data)
    boxes = [
        _box("pixels", "values", "pixels,\nas they are", values),
        _box("reduced", "values", "pixels,\nreduced", _pooled(y, sizes["values"])),
        _box("z", "values", "latents z,\ndrawn", _pooled(z, sizes["values"])),
        _box("x", "values", "latents x,\nnormalised", _pooled(x, sizes["values"])),
    ]
    for name, label, data in (("pixels", "pixels,\nreduced", y), ("latents", "latents x,\nnormalised", x)):
        trainer = Trainer(training, data, record.settings["seed"], device)
        differences = _temporal_differences(trainer, StateFolder(states / name, identity), sizes["pairs"], stop)
        boxes.append(_box(f"td-{name}", "temporal differences", label, _pooled(differences, sizes["values"])))
    intervals = training.curriculum.s1
    return {
        "format": 1,
        "intervals": intervals,
        "points": intervals + 1,
        "images": len(z),
        "steps": training.total_steps(len(z)),
        "batch": training.batch,
        "shapes": {"latents": list(z.shape[1:]), "pixels": list(pixels.shape[1:])},
        "boxes": boxes,
    }


def _box(name: str, panel: str, label: str, values: np.ndarray) -> dict:
    return {"id": name, "panel": panel, "label": label, **describe(values), "drawn": outliers(values)}


def _pooled(data: torch.Tensor, limit: int) -> np.ndarray:
    """At most `limit` values of each sample, evenly spaced over its elements."""
    flat = data.flatten(1).numpy()
    return flat[:, spaced(flat.shape[1], limit)]


def _pixels(manifest: Path, rows: list[int], limit: int, side: int) -> tuple[np.ndarray, torch.Tensor]:
    """Pixels in [-1, 1] of the images `rows`: at most `limit` values of each; and all pixels (n, 3, h, w), averaged
    over areas where an image is larger than `side`."""
    values, reduced = [], []
    with imageset.open_checked(manifest, deep=True) as images:
        progress_logger = ProgressLogger("figure1-pixels", len(rows))
        for start in range(0, len(rows), BATCH):
            pixels = np.stack([images[i] for i in rows[start : start + BATCH]])
            batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
            values.append(_pooled(batch, limit))
            if batch.shape[-1] > side:
                batch = torch.nn.functional.interpolate(batch, size=(side, side), mode="area")
            reduced.append(batch)
            progress_logger(start + len(pixels))
    return np.concatenate(values), torch.cat(reduced)


def _normalised(pixels: torch.Tensor, sigma_data: float) -> torch.Tensor:
    """Per element, as latents are; elements that never vary, such as a black border, are left at zero."""
    moments = LatentMoments.of(pixels)
    std = moments.std()
    return LatentStatistics(moments.mean, std.where(std > 0, 1.0), sigma_data).normalise(pixels)


def _temporal_differences(trainer: Trainer, state: StateFolder, pairs: int, stop: Stop) -> torch.Tensor:
    """Temporal differences (n, C, H, W) after a training; their draws follow those of the training.

    Raises InterruptedJobError, with the state saved, when `stop` turns true."""
    progress_logger = ProgressLogger(f"figure1-{state.folder.name}", trainer.total_steps)
    progress = train(trainer, state, lambda now: progress_logger(now.step), stop, save_seconds=300.0)
    if progress.step < trainer.total_steps:
        stop.leave()
        raise job.InterruptedJobError(f"state saved at step {progress.step} of {trainer.total_steps} ({stop.reason})")
    # A job that is killed during the second training does not repeat the first.
    state.save(progress, trainer.tensors(), wait=True)
    steps = range(progress.step, progress.step + -(-pairs // trainer.settings.batch))
    return torch.cat([trainer.temporal_difference(step).cpu() for step in steps])


main = job.program(figure1)
