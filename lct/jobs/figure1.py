"""figure1: box plots of pixel and latent values and of temporal differences, as numbers and as pictures.

Two networks of one size are trained by lct.training.loop, one on pixels reduced to the latents' side, one on latents.
"""

import logging
import math
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lct.cluster.signals import Stop
from lct.config.schema import build
from lct.data import imageset
from lct.data.distribution import describe, outliers, spaced
from lct.data.latents import PART, LatentMoments, LatentStatistics, check_normalised
from lct.files.atomic import read_json
from lct.files.hashing import sha256_json
from lct.files.lock import hold
from lct.files.progress import ProgressLogger
from lct.files.records import JobRecord, mismatch, settings_path
from lct.files.tensors import pick_rows, read_rows, read_tensors, shape_of
from lct.jobs import figure, job
from lct.report.plotting import box_plots
from lct.training.loop import train
from lct.training.settings import Training
from lct.training.state import State
from lct.training.trainer import Trainer

log = logging.getLogger("lct.figure1")

BATCH = 64  # images decoded at a time


def main() -> int:
    parser = figure.parser(__doc__)
    parser.add_argument("--images", type=Path, required=True, help="manifest of the training images")
    parser.add_argument("--work", type=Path, required=True, help="folder for resume states")
    arguments = parser.parse_args()
    return job.run(lambda: figure1(arguments))


def figure1(arguments) -> str:
    settings = arguments.settings
    training = build(Training, settings["training"], "--settings: training")
    device = job.device(arguments.device, training.threads, tf32=training.matmul == "tf32")
    inputs = {name: getattr(arguments, name) for name in ("images", "latents", "statistics")}
    record = JobRecord("figure", settings, inputs=inputs, seeds={"train": settings["seed"]}, device=device.type)
    identity = record.deterministic()
    work = arguments.work / sha256_json([identity["settings"], identity["inputs"], device.type])[:16]
    outputs = [arguments.out, *arguments.pictures]
    # A copy that a killed scheduler left behind may still be at work: wait for it, then take what it has published.
    with hold(arguments.work / "lock", "figure of this dataset", wait_seconds=math.inf):
        if not all(_published(path, identity) for path in outputs):
            _publish(arguments, training, device, work, identity)
            record.write(outputs)
        shutil.rmtree(work, ignore_errors=True)
    shares = {box["id"]: box["beyond_outer"] for box in read_json(arguments.out)["boxes"]}
    return (
        f"figure1 {arguments.out.stem}: beyond the outer fences {shares['pixels']:.2%} of pixels, {shares['x']:.2%} of "
        f"latents; of temporal differences {shares['td-pixels']:.2%} and {shares['td-latents']:.2%}"
    )


def _published(output: Path, identity: dict[str, Any]) -> bool:
    """Whether another copy of this very job has written an output."""
    known = settings_path(output)
    return known.exists() and read_json(known) == identity and mismatch(output) is None


def _publish(arguments, training: Training, device: torch.device, work: Path, identity: dict[str, Any]) -> None:
    """Numbers and pictures; the states of both trainings are kept in `work`."""
    cost, seed, stop = arguments.settings["figure"], arguments.settings["seed"], Stop()
    statistics = LatentStatistics.from_tensors(read_tensors(arguments.statistics))
    normalised = (statistics.normalise(part) for part in read_rows(arguments.latents, "latents", PART))
    check_normalised(normalised, statistics, str(arguments.latents))
    chosen = spaced(shape_of(arguments.latents, "latents")[0], cost["images"])
    z = pick_rows(arguments.latents, "latents", chosen)
    x = statistics.normalise(z)
    values, pixels = _pixels(arguments.images, chosen.tolist(), cost["values"], z.shape[-1])
    y = _normalised(pixels, statistics.sigma_data)
    boxes = [
        _box("pixels", "values", "pixels,\nas they are", values),
        _box("reduced", "values", "pixels,\nreduced", _pooled(y, cost["values"])),
        _box("z", "values", "latents z,\ndrawn", _pooled(z, cost["values"])),
        _box("x", "values", "latents x,\nnormalised", _pooled(x, cost["values"])),
    ]
    for name, label, data in (("pixels", "pixels,\nreduced", y), ("latents", "latents x,\nnormalised", x)):
        found = _differences(training, data, seed, device, State(work / name, identity), cost["pairs"], stop)
        boxes.append(_box(f"td-{name}", "temporal differences", label, _pooled(found, cost["values"])))
    intervals = training.curriculum.s1
    numbers = {
        "format": 1,
        "intervals": intervals,
        "points": intervals + 1,
        "images": len(z),
        "steps": training.total_steps(len(z)),
        "batch": training.batch,
        "shapes": {"latents": list(z.shape[1:]), "pixels": list(pixels.shape[1:])},
        "boxes": boxes,
    }
    figure.publish(arguments, numbers, partial(box_plots, numbers))


def _box(name: str, panel: str, label: str, values: np.ndarray) -> dict:
    return {"id": name, "panel": panel, "label": label, **describe(values), "drawn": outliers(values)}


def _pooled(data: torch.Tensor, limit: int) -> np.ndarray:
    """At most `limit` values of each sample, evenly spaced over its elements."""
    flat = data.flatten(1).numpy()
    return flat[:, spaced(flat.shape[1], limit)]


def _pixels(manifest: Path, chosen: list[int], limit: int, side: int) -> tuple[np.ndarray, torch.Tensor]:
    """Of the chosen images in [-1, 1]: at most `limit` values of each, and all of them (n, 3, h, w), where sides larger
    than `side` are reduced to it by averaging areas."""
    values, reduced = [], []
    with imageset.open_checked(manifest, deep=True) as images:
        count = ProgressLogger("figure1-pixels", len(chosen))
        for start in range(0, len(chosen), BATCH):
            read = np.stack([images[i] for i in chosen[start : start + BATCH]])
            batch = torch.from_numpy(read).permute(0, 3, 1, 2).float() / 127.5 - 1
            values.append(_pooled(batch, limit))
            if batch.shape[-1] > side:
                batch = torch.nn.functional.interpolate(batch, size=(side, side), mode="area")
            reduced.append(batch)
            count(start + len(read))
    return np.concatenate(values), torch.cat(reduced)


def _normalised(pixels: torch.Tensor, sigma_data: float) -> torch.Tensor:
    """Per element, as latents are; elements that never vary, such as a black border, are left at zero."""
    moments = LatentMoments()
    for part in pixels.split(PART):
        moments.update(part)
    std = moments.std()
    return LatentStatistics(moments.mean, std.where(std > 0, 1.0), sigma_data).normalise(pixels)


def _differences(
    training: Training, data: torch.Tensor, seed: int, device: torch.device, state: State, pairs: int, stop: Stop
) -> torch.Tensor:
    """Temporal differences (n, C, H, W) after a training on `data`, of draws that follow those of the training.

    Raises Interrupted, its state saved, when it is asked to stop."""
    trainer = Trainer(training, data, seed, device)
    count = ProgressLogger(f"figure1-{state.folder.name}", trainer.total_steps)
    progress = train(trainer, state, {}, lambda now: count(now.step), stop, save_seconds=300.0)
    if progress.step < trainer.total_steps:
        stop.leave()
        raise job.Interrupted(f"state saved at step {progress.step} of {trainer.total_steps} ({stop.reason})")
    # Killed during the second training, the job does not repeat the first.
    state.save(progress, trainer.tensors(), wait=True)
    steps = range(progress.step, progress.step + -(-pairs // training.batch))
    return torch.cat([trainer.temporal_difference(step).cpu() for step in steps])


if __name__ == "__main__":
    raise SystemExit(main())
