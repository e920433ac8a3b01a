"""train: one run and seed, from latents to the kept (step, EMA) weights and the training curve.

Ends with exit code 75 and a saved state on SIGTERM, SIGINT or SIGUSR1, and near the end of its wall time; the same
command goes on from there, to the same bytes. States, progress and the log of all attempts live under --work, in a
folder named by the hash of settings, seed and inputs. Runs in one process, or in several started by lct.jobs.launch.
"""

import logging
import math
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, get_args

import torch

from lct.cluster.attempts import Attempt, StuckError, begin, cost, ended, log_tail
from lct.cluster.signals import Stop
from lct.config.schema import build
from lct.data import resident
from lct.data.latents import LatentStatistics, check_normalised
from lct.files.atomic import copy, read_json, write_json
from lct.files.formatting import format_duration
from lct.files.hashing import sha256_json
from lct.files.lock import LockHeldError, acquire
from lct.files.records import JobRecord, mismatch, settings_path
from lct.files.tensors import read_tensors, write_tensors
from lct.jobs import job
from lct.training.loop import train
from lct.training.settings import Training
from lct.training.state import State, differences
from lct.training.trainer import Trainer
from lct.training.world import Lost, World, ranks

log = logging.getLogger("lct.train")

AHEAD = {"auto": None, "ahead": True, "in-step": False}
AGREED = (
    job.InterruptedJobError,
    FloatingPointError,
    StuckError,
)  # every rank ends with these at once, and rank 0 says why


def main() -> int:
    parser = job.parser(__doc__)
    parser.add_argument("--seed", type=int, required=True, help="training seed")
    parser.add_argument("--latents", type=Path, required=True, help="latents of the training images")
    parser.add_argument("--statistics", type=Path, required=True, help="their mean and standard deviation")
    parser.add_argument("--work", type=Path, required=True, help="folder for resume states and progress")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--save-seconds", type=float, default=300.0, help="seconds between saved states (default: 300)")
    parser.add_argument("--minutes", type=float, help="wall time from now (default: what lct.jobs.launch was given)")
    parser.add_argument(
        "--latents-in",
        choices=get_args(resident.Where),
        default=os.environ.get("LCT_LATENTS", "auto"),
        help="memory of the device, or their file; auto: in memory where they fit (default: LCT_LATENTS, or auto)",
    )
    parser.add_argument(
        "--draws",
        choices=AHEAD,
        default=os.environ.get("LCT_DRAWS", "auto"),
        help="made by a thread one step ahead, or in the step; auto: ahead on a GPU (default: LCT_DRAWS, or auto)",
    )
    arguments = parser.parse_args()
    if os.environ.get("RANK", "0") != "0":
        silent = (Lost, *AGREED)
    else:  # on one node, the lost process or its starter says why; another node may have gone without a word
        silent = (Lost,) if os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE") else ()
    return job.run(lambda: run(arguments), silent=silent)


def run(arguments) -> str | None:
    stop = Stop(arguments.minutes)
    settings = build(Training, arguments.settings["training"], "--settings: training")
    try:
        device = job.device(arguments.device, settings.threads, tf32=settings.matmul == "tf32")
    except ValueError as error:
        if os.environ.get("LOCAL_RANK", "0") != "0":  # one process of a node says it
            raise Lost(str(error)) from error
        raise
    with ranks(device) as world:
        try:
            return _run(arguments, settings, device, world, stop)
        except torch.OutOfMemoryError as error:
            raise ValueError(
                f"GPU memory: expected room for {settings.micro_batch or settings.batch // world.size} samples on rank "
                f"{world.rank}, found none left; set training.micro_batch, or ask for more GPUs"
            ) from error


def _run(arguments, settings: Training, device: torch.device, world: World, stop: Stop) -> str | None:
    inputs = {"latents": arguments.latents, "statistics": arguments.statistics}
    seeds = {"train": arguments.seed}
    record = JobRecord("train", arguments.settings, inputs=inputs, seeds=seeds, device=device.type)
    with _together(world):
        settings.check_processes(world.size)
        statistics = LatentStatistics.from_tensors(read_tensors(arguments.statistics))
        latents = resident.load(arguments.latents, statistics, device, arguments.latents_in)
        check_normalised(resident.parts(latents), statistics, str(arguments.latents))
    identity = _identity(record) if world.first else {}
    name = sha256_json([identity["settings"], seeds, [*identity["inputs"].values()]])[:16] if world.first else ""
    # A copy that a killed scheduler left behind may still be training: wait for it, then take what it has published.
    lock = _lock(arguments.work / f"{name}.lock", world, stop)
    try:
        published = world.share(_published(arguments.out, record) if world.first else None)
        if published is not None:
            if world.first:
                _clear(arguments.work / name)
            return published if world.first else None
        if world.first:
            return _lead(
                arguments, settings, latents, device, world, stop, record, State(arguments.work / name, identity)
            )
        _follow(arguments, settings, latents, device, world, stop)
        return None
    finally:
        if lock is not None:
            lock.close()


@contextmanager
def _together(world: World) -> Iterator[None]:
    """What one rank refuses, all refuse, and rank 0 says why."""
    refusal: ValueError | OSError | None = None
    try:
        yield
    except (ValueError, OSError) as error:
        refusal = error
    found = [said for said in world.gather(None if refusal is None else " ".join(str(refusal).split())) if said]
    if found:
        raise (ValueError if world.first else Lost)(found[0]) from refusal


def _identity(record: JobRecord) -> dict[str, Any]:
    """What a state belongs to: settings, seed, and the inputs' hashes, wherever the inputs lie."""
    known = record.deterministic()
    inputs = {role: entry["sha256"] for role, entry in known["inputs"].items()}
    return {"settings": known["settings"], "seeds": known["seeds"], "inputs": inputs}


def _lock(path: Path, world: World, stop: Stop) -> IO[str] | None:
    """The lock on the training, on rank 0; the others wait with it. No rank blocks alone: exchanges would time out."""
    started, said = time.monotonic(), -math.inf
    while True:
        handle = None
        if world.first:
            try:
                handle = acquire(path, "training of this run and seed")
            except LockHeldError as busy:
                if time.monotonic() - started - said >= 60:
                    said = time.monotonic() - started
                    log.info("waiting: %s", busy)
        taken, asked = world.any(handle is not None, stop())
        if taken:
            return handle
        if asked:
            raise job.InterruptedJobError(
                f"{stop.reason or 'asked to stop'} while another copy trains; nothing was started"
            )
        time.sleep(0.5)


def _follow(arguments, settings: Training, latents, device: torch.device, world: World, stop: Stop) -> None:
    """What every rank but the first does: train, and write nothing."""
    stuck = world.share(None)
    if stuck is not None:
        raise StuckError(stuck)
    trainer = Trainer(settings, latents, arguments.seed, device, world, AHEAD[arguments.draws])
    progress = train(trainer, None, dict.fromkeys(settings.kept_steps(len(latents))), lambda _: None, stop, math.inf)
    if progress.step < trainer.total_steps:
        raise job.InterruptedJobError(f"at step {progress.step}")


def _lead(
    arguments,
    settings: Training,
    latents,
    device: torch.device,
    world: World,
    stop: Stop,
    record: JobRecord,
    state: State,
) -> str:
    """Rank 0: train, save states, publish the weights."""
    work = state.folder
    attempt = _begin(arguments.work, state, device, world)
    try:
        trainer = Trainer(settings, latents, arguments.seed, device, world, AHEAD[arguments.draws])
        names = {
            step: {rate: f"step{step}-ema{rate}.safetensors" for rate in rates}
            for step, rates in _kept(settings, len(latents)).items()
        }

        def keeper(step: int):
            def keep(averages) -> None:
                for rate, name in names[step].items():
                    metadata = {"step": step, "ema": rate, "latent_shape": list(latents.shape[1:])}
                    write_tensors(work / name, averages.weights(rate), metadata)

            return keep

        heart = Heart(work / "progress.json", trainer.total_steps, attempt)
        stop.margin = lambda: 2 * state.longest_seconds
        progress = train(trainer, state, {step: keeper(step) for step in names}, heart, stop, arguments.save_seconds)
    except BaseException as error:
        with suppress(OSError):  # a full disk is reason enough as it is
            attempt.end(state.saved_step(), f"failed: {' '.join(str(error).split()) or type(error).__name__}")
        raise
    if progress.step < trainer.total_steps:
        stop()  # its signal may have come after another rank's
        reason = stop.reason or "another rank was asked to stop"
        attempt.end(progress.step, reason)
        log.info("state saved at step %d of %d (%s)", progress.step, trainer.total_steps, reason)
        stop.leave()
        raise job.InterruptedJobError(f"state saved at step {progress.step} of {trainer.total_steps} ({reason})")
    attempt.end(progress.step, "finished")
    record.cost = cost(work)
    outputs = [arguments.out / name for kept in names.values() for name in kept.values()]
    for output in outputs:
        copy(work / output.name, output)
    write_json(arguments.out / "curves.json", progress.curve)
    record.write([*outputs, arguments.out / "curves.json"])
    _clear(work)
    run = arguments.out.parent.name
    return f"train {run} {arguments.out.name}: {trainer.total_steps} steps, loss {progress.curve['loss'][-1]:.4g}"


def _begin(folder: Path, state: State, device: torch.device, world: World) -> Attempt:
    """Start this attempt in the training's log and book; all ranks end here when the training is stuck."""
    work = state.folder
    work.mkdir(parents=True, exist_ok=True)
    gpus = job.requested_gpus() * int(os.environ.get("SLURM_NNODES", "1")) or (
        world.size if device.type == "cuda" else 0
    )
    tail = log_tail(work)
    handler = logging.FileHandler(work / "train.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        attempt = begin(work, state.saved_step(), world.size, device.type, gpus)
    except StuckError as error:
        for line in tail:
            log.error("earlier: %s", line)
        world.share(str(error))
        raise
    world.share(None)
    write_json(work / "settings.json", state.identity)
    log.info("attempt %d on %d x %s, %s", attempt.number, world.size, device.type, platform.node())
    for before in ended(work)[-1:]:
        if (before["processes"], before["device"]) != (world.size, device.type):
            log.warning(
                "the attempt before ran on %d x %s: the result differs from an undisturbed one by rounding",
                before["processes"],
                before["device"],
            )
    _say_other_states(folder, state)
    return attempt


def _say_other_states(folder: Path, state: State) -> None:
    """A state of the same run and seed with other settings is left alone; the log says what differs."""
    for path in sorted(folder.glob("*/settings.json")):
        other = State(path.parent, {})
        if path.parent != state.folder and other.newest() is not None:
            differing = "; ".join(differences(read_json(path), state.identity))
            log.warning("%s: a state at step %d is not resumed: %s", path.parent, other.saved_step(), differing)


def _kept(settings: Training, count: int) -> dict[int, tuple[float, ...]]:
    """step -> EMA rates kept after it: all after the last step, the first one after earlier ones."""
    steps = settings.kept_steps(count)
    return {step: settings.emas if step == steps[0] else settings.emas[:1] for step in steps}


def _published(out: Path, record: JobRecord) -> str | None:
    """The line for the terminal if another copy of this very training has published everything, else None."""
    last = out / "curves.json"  # recorded last, beside all the weights
    if not settings_path(last).exists() or mismatch(last) or read_json(settings_path(last)) != record.deterministic():
        return None
    if any(mismatch(weights) for weights in out.glob("step*.safetensors")):
        return None
    return f"train {out.parent.name} {out.name}: another copy has finished it"


def _clear(work: Path) -> None:
    """Finished: states, weights and progress have served; the log and the book of attempts stay."""
    for path in work.glob("*"):
        if path.name not in ("train.log", "attempts.jsonl"):
            path.unlink(missing_ok=True)


class Heart:
    """Progress for two readers, every few seconds: lines in the log, and progress.json for `lct status`."""

    def __init__(self, path: Path, total: int, attempt: Attempt, every_seconds: float = 5.0):
        self.path, self.total, self.attempt, self.every = path, total, attempt, every_seconds
        self.started = self.last = time.monotonic()
        self.first_step: int | None = None
        self._write(attempt.start["from_step"], None, 0.0)

    def __call__(self, progress) -> None:
        now, curve = time.monotonic(), progress.curve
        if self.first_step is None:
            self.first_step, self.started = progress.step, now
        if now - self.last < self.every and progress.step < self.total:
            return
        self.last = now
        rate = (progress.step - self.first_step) / (now - self.started) if now > self.started else 0.0
        loss = curve["loss"][-1] if curve["loss"] else None
        eta = self._write(progress.step, loss, rate)
        if loss is not None:
            log.info(
                "train step=%d total=%d loss=%.5g intervals=%d rate=%.1f/s eta=%s",
                progress.step,
                self.total,
                loss,
                curve["intervals"][-1],
                rate,
                format_duration(eta),
            )

    def _write(self, step: int, loss: float | None, rate: float) -> float:
        eta = (self.total - step) / rate if rate else 0.0
        start = self.attempt.start
        state = {
            "step": step,
            "total": self.total,
            "loss": loss,
            "steps_per_second": round(rate, 3),
            "eta_seconds": round(eta),
            "updated": round(time.time(), 3),
            "attempt": self.attempt.number,
            "gpu_seconds": round(self.attempt.gpu_seconds(), 1),
        }
        try:
            write_json(self.path, state | {key: start[key] for key in ("host", "pid", "slurm_job_id")})
        except OSError as error:  # a heartbeat is not worth a training
            log.warning("%s", error)
        return eta


if __name__ == "__main__":
    raise SystemExit(main())
