"""train: one run and seed, from latents to the kept (step, EMA) weights and the training curve.

A run that keeps several steps is a chain of jobs: each goes on from the state that the one before has left, trains to
--step and publishes its weights; the last one publishes the curve too. A lost state costs time, never a result.
Ends with exit code 75 and a saved state on SIGTERM, SIGINT or SIGUSR1, and near the end of its wall time; the same
command goes on from there, to the same bytes. States, progress and the log of all attempts live under --work, in a
folder named by the hash of settings, seed and inputs. Runs in one process, or in several started by lct.jobs.launch.
"""

import argparse
import logging
import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import torch

from lct.checks import invalid
from lct.cluster.attempts import Attempt, StuckError, begin, cost, ended, last_lines
from lct.cluster.cost_model import SAVE_MINUTES, STATE_GB_PER_HOUR, minutes_for_states
from lct.cluster.launch import Stop
from lct.config.schema import build
from lct.data.latents import LatentsIn, LatentStatistics, MappedLatents, check_normalised, load_latents, parts
from lct.files.atomic import read_json, write_json
from lct.files.hashing import sha256_json
from lct.files.lock import LockHeldError, acquire
from lct.files.progress import ProgressLogger
from lct.files.records import JobRecord
from lct.files.tensors import read_state_dict, read_tensors, write_tensors
from lct.jobs import job
from lct.jobs.resume import identity_of
from lct.plan.code import check_code
from lct.training.loop import EventLog, train
from lct.training.ranks import LostRankError, World, process_group
from lct.training.settings import Training
from lct.training.state import StateFolder, TrainingProgress, differences
from lct.training.trainer import Trainer

log = logging.getLogger("lct.train")

MINUTES = float(os.environ.get("LCT_SAVE_MINUTES", SAVE_MINUTES))
GB_PER_HOUR = float(os.environ.get("LCT_STATE_GB_PER_HOUR", STATE_GB_PER_HOUR))
LATENTS_IN, DRAWS = os.environ.get("LCT_LATENTS", "auto"), os.environ.get("LCT_DRAWS", "auto")
PREFETCH = {"auto": None, "ahead": True, "in-step": False}
# Every rank ends with these errors in the same step, and rank 0 prints the reason.
ERRORS_OF_ALL_RANKS = (job.InterruptedJobError, FloatingPointError, StuckError)


def silent_errors() -> tuple[type[Exception], ...]:
    """Errors that this process prints nothing of, as another one does."""
    if os.environ.get("RANK", "0") != "0":
        return (LostRankError, *ERRORS_OF_ALL_RANKS)
    # on one node, the lost process or its starter prints the reason; another node may have gone without one
    return (LostRankError,) if os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE") else ()


def _step(text: str) -> int:
    """A number of steps, as it is or in the name of a file of weights."""
    if (named := re.fullmatch(r"(?:step)?([0-9]+)(?:-ema.*)?", Path(text).name)) is None:
        raise argparse.ArgumentTypeError(f"expected a number or a file such as step1200-ema0.999, found {text!r}")
    return int(named[1])


def train_run(
    settings: dict[str, Any],
    device: str,
    seed: Annotated[int, "training seed"],
    latents: Annotated[Path, "latents of the training images"],
    statistics: job.Statistics,
    work: Annotated[Path, "folder for resume states and progress"],
    out: job.Folder,
    save_seconds: Annotated[
        float | None,
        "between saved states (default: LCT_SAVE_MINUTES, or 5, in minutes, and more where that would write over "
        "LCT_STATE_GB_PER_HOUR, or 5)",
    ] = None,
    step: Annotated[
        int | None,
        "a step that the run keeps, or a file of its weights, to train to (default: the last)",
        {"type": _step},
    ] = None,
    minutes: Annotated[float | None, "wall time from now (default: what lct.jobs.launch was given)"] = None,
    latents_in: Annotated[
        LatentsIn,
        "memory of the device, or their file; auto: in memory where they fit (default: LCT_LATENTS, or auto)",
    ] = LATENTS_IN,
    draws: Annotated[
        Literal["auto", "ahead", "in-step"],
        "by a thread one step ahead, or in the step; auto: ahead on a GPU (default: LCT_DRAWS, or auto)",
    ] = DRAWS,
    init: Annotated[Path | None, "weights to start from (default: random ones)"] = None,
) -> str | None:
    """Train one run and seed to a kept step and write its weights to `out`, after the last one the curve too; arguments
    are the job's options.

    Every rank calls it; rank 0 returns the line for the terminal. Raises InterruptedJobError, with the state saved,
    after a signal or near the end of the wall time; FloatingPointError at a loss that is not finite or diverges;
    ValueError or OSError for inputs and settings that cannot be used.
    """
    stop = Stop(minutes)
    training = build(Training, settings["training"], "--settings: training")
    try:
        check_code(settings.get("code", {}), training.objective.loss)
        initial = None if init is None else read_state_dict(init, settings["init"].get("sha256"))
        torch_device = job.device(device, training.threads, tf32=training.matmul == "tf32")
    except ValueError as error:
        if os.environ.get("LOCAL_RANK", "0") != "0":  # the first process of each node reports it
            raise LostRankError(str(error)) from error
        raise
    inputs, seeds = {"latents": latents, "statistics": statistics}, {"train": seed}
    inputs |= {} if init is None else {"init": init}
    record = JobRecord("train", settings, inputs=inputs, seeds=seeds, device=torch_device.type)
    with process_group(torch_device, ERRORS_OF_ALL_RANKS) as world:
        try:
            data = _load_latents(latents, statistics, training, torch_device, latents_in, world)
            new_trainer = partial(Trainer, training, data, seed, torch_device, world, PREFETCH[draws], initial)
            milestone = Milestone.of(training, len(data), step, out)
            with _work_folder(work, record, world, stop, milestone) as folder:
                return _train_or_reuse(new_trainer, folder, record, milestone, world, stop, save_seconds)
        except torch.OutOfMemoryError as error:
            raise ValueError(
                f"GPU memory: expected room for {training.micro_batch or training.batch // world.size} samples on rank "
                f"{world.rank}, found none left; set training.micro_batch, or ask for more GPUs"
            ) from error


def _load_latents(
    path: Path, statistics: Path, training: Training, device: torch.device, where: LatentsIn, world: World
) -> torch.Tensor | MappedLatents:
    """Normalised latents, checked. When one rank refuses its input, all ranks end, and rank 0 prints the reason."""
    refusal = data = None
    try:
        training.check_processes(world.size)
        stored = LatentStatistics.from_tensors(read_tensors(statistics))
        data = load_latents(path, stored, device, where)
        check_normalised(parts(data), stored, str(path))
    except (ValueError, OSError) as error:
        refusal = error
    reasons = world.gather(None if refusal is None else " ".join(str(refusal).split()))
    if first := next((reason for reason in reasons if reason), None):
        raise (ValueError if world.is_main else LostRankError)(first) from refusal
    return data


@contextmanager
def _work_folder(
    work: Path, record: JobRecord, world: World, stop: Stop, milestone: "Milestone"
) -> Iterator[StateFolder | None]:
    """The folder of this training below `work`, on rank 0 (None on the others), while rank 0 holds its lock.

    The folder is named by the hash of settings, seed and inputs. A copy that a killed scheduler left behind may still
    be training; this one waits until it ends.
    """
    folder = None
    if world.is_main:
        identity = identity_of(record)
        name = sha256_json([identity["settings"], identity["seeds"], [*identity["inputs"].values()]])[:16]
        folder = StateFolder(work / name, identity, milestone.step)
    with _wait_for_lock(folder, world, stop) or nullcontext():
        yield folder


def _wait_for_lock(folder: StateFolder | None, world: World, stop: Stop) -> IO[str] | None:
    """The lock, on rank 0. The other ranks wait with it, because a collective that only they enter would time out."""
    log_at = 0.0
    while True:
        lock = None
        if folder is not None:
            try:
                lock = acquire(folder.folder.with_suffix(".lock"), "training of this run and seed")
            except LockHeldError as error:
                if time.monotonic() >= log_at:
                    log_at = time.monotonic() + 60
                    log.info("waiting: %s", error)
        acquired, stopped = world.any(lock is not None, stop())
        if acquired:
            return lock
        if stopped:
            reason = stop.reason or "asked to stop"
            raise job.InterruptedJobError(f"{reason} while another copy trains; nothing was started")
        time.sleep(0.5)


def _train_or_reuse(
    new_trainer: Callable[[], Trainer],
    folder: StateFolder | None,
    record: JobRecord,
    milestone: "Milestone",
    world: World,
    stop: Stop,
    save_seconds: float | None,
) -> str | None:
    """Train and publish, or use what another copy has published. Every rank takes this path; rank 0 has the folder."""
    published = world.broadcast(folder is not None and record.has_written(milestone.outputs))
    if published:
        if folder is not None:
            _remove_working_files(folder, milestone)
        return f"{milestone.title}: another copy has finished it" if world.is_main else None
    journal, stuck = None, None
    if folder is not None:
        try:
            journal = Journal(folder, world.size, record.device)
        except StuckError as error:
            stuck = error
    if (stuck := world.broadcast(stuck)) is not None:
        raise stuck
    try:
        trainer = new_trainer()
        beat = journal.open(trainer, stop) if journal is not None else lambda progress: None
        events = journal.events if journal is not None else None
        if save_seconds is None:
            size = sum(tensor.nbytes for tensor in trainer.tensors().values())
            save_seconds = 60 * minutes_for_states(size, MINUTES, GB_PER_HOUR)
        progress = train(trainer, folder, beat, stop, save_seconds, events, milestone.step)
        if progress.step < milestone.step:
            stop()  # its signal may have come after another rank's
            reason = stop.reason or "another rank was asked to stop"
            raise job.InterruptedJobError(f"state saved at step {progress.step} of {milestone.step} ({reason})")
    except BaseException as error:
        if journal is not None:
            journal.end(error, stop)
        raise
    if journal is None:
        return None
    outputs = milestone.publish(trainer, progress)
    journal.attempt.end(progress.step, "finished")
    record.cost = cost(folder.folder)
    journal.events.images("preview/one_step_latents", trainer.preview(milestone.emas[0]), milestone.step)
    record.write(outputs)
    _remove_working_files(folder, milestone)
    loss = f", loss {progress.curve['loss'][-1]:.4g}" if progress.curve["loss"] else ""
    return f"{milestone.title}: {milestone.step} steps{loss}"


@dataclass(frozen=True)
class Milestone:
    """A step that a run keeps, and what is published after it: the weights of all averages at the end, of the first one
    before."""

    step: int
    emas: tuple[float, ...]
    is_last: bool
    out: Path

    @classmethod
    def of(cls, training: Training, num_images: int, step: int | None, out: Path) -> "Milestone":
        last, *earlier = kept = training.kept_steps(num_images)
        if step not in (None, *kept):
            raise invalid("--step", f"a step that the run keeps, {sorted(kept)}", step, "take one of these")
        is_last = step in (None, last)
        return cls(last if step is None else step, training.emas if is_last else training.emas[:1], is_last, out)

    @property
    def title(self) -> str:
        return f"train {self.out.parent.name} {self.out.name}"

    @property
    def outputs(self) -> list[Path]:
        """The files to publish, the one that is recorded last at the end."""
        weights = [self.out / f"step{self.step}-ema{rate}.safetensors" for rate in self.emas]
        return weights + [self.out / "curves.json"] * self.is_last

    def publish(self, trainer: Trainer, progress: TrainingProgress) -> list[Path]:
        """Write the files of a training that has come to the step."""
        for rate, path in zip(self.emas, self.outputs, strict=False):
            metadata = {"step": self.step, "ema": rate, "latent_shape": list(trainer.latents.shape[1:])}
            write_tensors(path, trainer.ema.weights(rate), metadata)
        if self.is_last:
            write_json(self.outputs[-1], progress.curve)
        return self.outputs


def _remove_working_files(states: StateFolder, milestone: Milestone) -> None:
    """Remove states and progress after the end; log, attempts and events stay. Before it, the states do too."""
    for path in states.folder.glob("*" if milestone.is_last else "progress.json"):
        if path.name not in ("train.log", "attempts.jsonl", "events"):
            path.unlink(missing_ok=True)


class Journal:
    """What rank 0 notes in the work folder: the attempt, the log of all attempts, the heartbeat, TensorBoard events."""

    def __init__(self, states: StateFolder, processes: int, device: str):
        """Start an attempt; raises StuckError when earlier ones made no progress."""
        self.states, self.folder = states, states.folder
        self.folder.mkdir(parents=True, exist_ok=True)
        gpus = job.requested_gpus() * int(os.environ.get("SLURM_NNODES", "1"))
        tail = last_lines(self.folder / "train.log", 10)
        handler = logging.FileHandler(self.folder / "train.log")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger().addHandler(handler)
        try:
            gpus = gpus or (processes if device == "cuda" else 0)
            self.attempt = begin(self.folder, states.saved_step(), processes, device, gpus)
        except StuckError:
            for line in tail:
                log.error("earlier: %s", line)
            raise
        write_json(self.folder / "settings.json", states.identity)
        log.info("attempt %d on %d x %s, %s", self.attempt.number, processes, device, platform.node())
        for before in ended(self.folder)[-1:]:
            if (before["processes"], before["device"]) != (processes, device):
                log.warning(
                    "the attempt before ran on %d x %s: the result differs from an undisturbed one by rounding",
                    before["processes"],
                    before["device"],
                )
        self._log_other_states()
        self.events = EventLog(self.folder / "events", states.saved_step(), str(len(ended(self.folder)) + 1))

    def open(self, trainer: Trainer, stop: Stop) -> "Heartbeat":
        """The heartbeat of `trainer`; from now on, `stop` leaves the time to save a state."""
        stop.margin = lambda: 2 * self.states.longest_seconds
        return Heartbeat(self.folder / "progress.json", trainer.total_steps, self.attempt)

    def end(self, error: BaseException, stop: Stop) -> None:
        """Note the end of an attempt that did not finish."""
        if isinstance(error, job.InterruptedJobError):
            self.attempt.end(self.states.saved_step(), stop.reason or "another rank was asked to stop")
            log.info("%s", error)
            stop.leave()
            return
        with suppress(OSError):  # on a full disk, the error itself says enough
            reason = " ".join(str(error).split()) or type(error).__name__
            self.attempt.end(self.states.saved_step(), f"failed: {reason}")

    def _log_other_states(self) -> None:
        """Warn of states of this run and seed with other settings, which are not resumed; name the difference."""
        for path in sorted(self.folder.parent.glob("*/settings.json")):
            other = StateFolder(path.parent, {})
            if path.parent != self.folder and other.newest() is not None:
                differing = "; ".join(differences(read_json(path), self.states.identity))
                log.warning("%s: a state at step %d is not resumed: %s", path.parent, other.saved_step(), differing)


class Heartbeat:
    """Called after every step; every few seconds it logs a line and writes progress.json for `lct status`."""

    def __init__(self, path: Path, total: int, attempt: Attempt):
        self.path, self.total, self.attempt = path, total, attempt
        self._log: ProgressLogger | None = None
        self._write(attempt.start["from_step"], None)

    def __call__(self, progress: TrainingProgress) -> None:
        curve = progress.curve
        if self._log is None:  # the first step, which may compile, does not count in the rate
            self._log = ProgressLogger("train", self.total, done=progress.step)
        loss = curve["loss"][-1] if curve["loss"] else None
        values = {} if loss is None else {"loss": f"{loss:.5g}", "intervals": curve["intervals"][-1]}
        if self._log(progress.step, **values):
            self._write(progress.step, loss)

    def _write(self, step: int, loss: float | None) -> None:
        start = self.attempt.start
        state = {
            "step": step,
            "total": self.total,
            "loss": loss,
            "steps_per_second": round(self._log.rate(step), 3) if self._log else 0.0,
            "eta_seconds": round(self._log.remaining_seconds(step)) if self._log else 0,
            "updated": round(time.time(), 3),
            "attempt": self.attempt.number,
            "gpu_seconds": round(self.attempt.gpu_seconds(), 1),
        }
        try:
            write_json(self.path, state | {key: start[key] for key in ("host", "pid", "slurm_job_id")})
        except OSError as error:  # a training goes on without its heartbeat
            log.warning("%s", error)


main = job.program(train_run, silent_errors())
