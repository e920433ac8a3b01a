"""train: one run and seed, from latents to the kept (step, EMA) weights and the training curve.

Ends with exit code 75 and a saved state on SIGTERM, SIGINT or SIGUSR1; the same command goes on from there, to the same
bytes. State and progress live under --work, in a folder named by the hash of settings, seed and inputs.
"""

import logging
import math
import shutil
import signal
import time
from pathlib import Path

from lct.cli import job
from lct.config.schema import build
from lct.data.latents import Statistics, check_normalised
from lct.files.atomic import copy, read_json, write_json
from lct.files.hashing import sha256_json
from lct.files.lock import hold
from lct.files.records import Job, mismatch, settings_path
from lct.files.tensors import read_tensors, write_tensors
from lct.training.loop import Trainer, train
from lct.training.settings import Training

log = logging.getLogger("lct.train")


def main() -> int:
    parser = job.parser(__doc__)
    parser.add_argument("--seed", type=int, required=True, help="training seed")
    parser.add_argument("--latents", type=Path, required=True, help="latents of the training images")
    parser.add_argument("--statistics", type=Path, required=True, help="their mean and standard deviation")
    parser.add_argument("--work", type=Path, required=True, help="folder for resume state and progress")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--save-seconds", type=float, default=300.0, help="seconds between saved states (default: 300)")
    arguments = parser.parse_args()
    return job.run(lambda: run(arguments))


def run(arguments) -> str:
    settings = build(Training, arguments.settings["training"], "--settings: training")
    device = job.device(arguments.device, settings.threads, tf32=settings.matmul == "tf32")
    inputs = {"latents": arguments.latents, "statistics": arguments.statistics}
    seeds = {"train": arguments.seed}
    record = Job("train", arguments.settings, inputs=inputs, seeds=seeds, device=device.type)
    statistics = Statistics.from_tensors(read_tensors(arguments.statistics))
    latents = statistics.normalise(read_tensors(arguments.latents)["latents"])
    check_normalised(latents, statistics, str(arguments.latents))
    identity = record.deterministic()
    inputs_sha256 = [entry["sha256"] for entry in identity["inputs"].values()]
    name = sha256_json([identity["settings"], seeds, inputs_sha256])[:16]
    # A copy that a killed scheduler left behind may still be training: wait for it, then take what it has published.
    with hold(arguments.work / f"{name}.lock", "training of this run and seed", wait_seconds=math.inf):
        return _train(arguments, settings, latents, device, record, arguments.work / name)


def _train(arguments, settings: Training, latents, device, record: Job, work: Path) -> str:
    if (finished := _published(arguments.out, record)) is not None:
        return finished
    stop = _stop_on_signals()
    trainer = Trainer(settings, latents, arguments.seed, device, work / "state.safetensors")
    outputs: list[Path] = []
    steps = settings.kept_steps(len(latents))
    rates = {step: settings.emas if step == steps[0] else settings.emas[:1] for step in steps}

    def keeper(step: int):
        def keep(averages) -> None:
            for rate in rates[step]:
                kept = work / f"step{step}-ema{rate}.safetensors"
                write_tensors(
                    kept, averages.weights(rate), {"step": step, "ema": rate, "latent_shape": list(latents.shape[1:])}
                )

        return keep

    report = _Reporter(work / "progress.json", trainer.total_steps)
    progress = train(trainer, {step: keeper(step) for step in steps}, report, stop, arguments.save_seconds)
    if progress.step < trainer.total_steps:
        raise job.Interrupted(f"state saved at step {progress.step} of {trainer.total_steps}")
    for step in steps:
        for rate in rates[step]:
            name = f"step{step}-ema{rate}.safetensors"
            outputs.append(arguments.out / name)
            copy(work / name, outputs[-1])
    write_json(arguments.out / "curves.json", progress.curve)
    record.record([*outputs, arguments.out / "curves.json"])
    shutil.rmtree(work, ignore_errors=True)  # finished: the state has served
    run = arguments.out.parent.name
    return f"train {run} {arguments.out.name}: {trainer.total_steps} steps, loss {progress.curve['loss'][-1]:.4g}"


def _published(out: Path, record: Job) -> str | None:
    """The line for the terminal if another copy of this very training has published everything, else None."""
    last = out / "curves.json"  # recorded last, beside all the weights
    if not settings_path(last).exists() or mismatch(last) or read_json(settings_path(last)) != record.deterministic():
        return None
    if any(mismatch(weights) for weights in out.glob("step*.safetensors")):
        return None
    return f"train {out.parent.name} {out.name}: another copy has finished it"


def _stop_on_signals():
    """A function that turns true once SIGTERM, SIGINT or SIGUSR1 has asked the job to end."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, lambda received, _: asked.append(received))
    return lambda: bool(asked)


class _Reporter:
    """Progress for two readers: lines in the log, and progress.json for `lct status`."""

    def __init__(self, path: Path, total: int, every_seconds: float = 5.0):
        self.path, self.total, self.every = path, total, every_seconds
        self.started = self.last = time.monotonic()
        self.first_step: int | None = None

    def __call__(self, progress) -> None:
        now, curve = time.monotonic(), progress.curve
        if self.first_step is None:
            self.first_step = progress.step
            return
        if now - self.last < self.every and progress.step < self.total:
            return
        self.last = now
        rate = (progress.step - self.first_step) / (now - self.started)
        eta = (self.total - progress.step) / rate if rate else 0.0
        log.info(
            "train step=%d total=%d loss=%.5g intervals=%d rate=%.1f/s eta=%s",
            progress.step,
            self.total,
            curve["loss"][-1],
            curve["intervals"][-1],
            rate,
            job.duration(eta),
        )
        state = {"step": progress.step, "total": self.total, "loss": curve["loss"][-1], "eta_seconds": round(eta)}
        write_json(self.path, state)


if __name__ == "__main__":
    raise SystemExit(main())
