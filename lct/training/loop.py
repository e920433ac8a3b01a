"""The training loop: steps, states, the training curve, and its early end: a signal, a NaN or a diverging loss.

Live events for TensorBoard are notes for people: nothing reads them, and they never change a result. `tensorboard
--logdir work` shows them. Each attempt writes a file of its own, which begins with a mark that makes TensorBoard drop
the points of steps that are taken again.
"""

import logging
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lct.losses.objective import Terms
from lct.training.state import StateFolder, TrainingProgress
from lct.training.trainer import Trainer

log = logging.getLogger(__name__)

RECENT, BEFORE = 5, 10  # logged losses that may diverge, and the least number of earlier ones to compare them with
EVENTS = {  # name among the events -> column of the training curve
    "loss/total": "loss",
    "loss/consistency": "consistency",
    "loss/diffusion": "diffusion",
    "schedule/c": "c",
    "residual/rms": "residual_rms",
    "optimiser/gradient_norm": "gradient_norm",
    "optimiser/learning_rate": "lr",
}


class EventLog:
    """Writes scalars and images to one event file in `folder`.

    It writes in the calling thread: tensorboardX's own thread would block the training for ever on a full disk. When
    the file cannot be written, or tensorboardX is missing, a warning is logged and the training goes on without events.
    """

    def __init__(self, folder: Path, saved_step: int, attempt: str):
        """saved_step: the step from which this attempt goes on; attempt: makes the file's name unique."""
        self._writer: Any = None
        try:  # imported here: only rank 0 of a training needs it
            from tensorboardX import summary
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event, SessionLog

            folder.mkdir(parents=True, exist_ok=True)
            self._event, self._summary = Event, summary
            self._writer = EventsWriter(str(folder / "events"), f".{attempt}")
        except (OSError, ImportError) as error:
            log.warning("%s: no events are written (%s)", folder, error)
            return
        self._write(saved_step + 1, session_log=SessionLog(status=SessionLog.START))

    def scalars(self, values: dict[str, float | int | None], step: int) -> None:
        """One point of each curve; None has no point."""
        for name, value in values.items():
            if self._writer is not None and value is not None:
                self._write(step, summary=self._summary.scalar(name, value))

    def images(self, name: str, images: np.ndarray, step: int) -> None:
        """images: (n, H, W, 3) uint8, shown side by side."""
        if self._writer is not None:
            image = np.concatenate(list(images), axis=1)
            self._write(step, summary=self._summary.image(name, image, dataformats="HWC"))

    def _write(self, step: int, **content: Any) -> None:
        try:
            self._writer.write_event(self._event(wall_time=time.time(), step=step, **content))
            self._writer.flush()
        except OSError as error:
            log.warning("no further events are written (%s)", error)
            self._writer = None


def train(
    trainer: Trainer,
    states: StateFolder | None,
    beat: Callable[[TrainingProgress], None],
    stop: Callable[[], bool],
    save_seconds: float,
    events: EventLog | None = None,
    until: int | None = None,
) -> TrainingProgress:
    """Train to the end, to step `until`, or until `stop()` is true on any rank; but for the end, its state is on disk.

    Every rank calls it and takes the same steps. Rank 0 alone has `states` and `events`.
    states: folder of the resume states; None on the other ranks, or to keep none.
    beat:   called after every step.
    Raises FloatingPointError, on all ranks, at a loss that is not finite or that diverges.
    """
    settings, world = trainer.settings, trainer.world
    progress = _resume(trainer, states)
    saved_at = time.monotonic()
    last = trainer.total_steps if until is None else until
    for step in range(progress.step, last):
        logged = (step + 1) % settings.log_every == 0 or step + 1 == trainer.total_steps
        terms, gradient_norm = trainer.step(step, measure_gradient=logged)
        progress.step = step + 1
        if logged or progress.step == last:
            _refuse_nan(trainer, states)
        if logged:
            _log_point(trainer, progress, terms, gradient_norm, events)
            _refuse_divergence(trainer, progress, states)
        beat(progress)
        at_milestone = progress.step == last < trainer.total_steps
        save_due = world.is_main and time.monotonic() - saved_at > save_seconds
        stopped, save_due = world.any(stop() or at_milestone, save_due)
        if stopped or save_due:
            _refuse_nan(trainer, states)
            _refuse_disagreement(trainer)
            if states is not None:
                states.save(progress, trainer.tensors(), wait=stopped)
            saved_at = time.monotonic()
        if stopped:
            break
    if states is not None:
        states.finish()
    return progress


def _resume(trainer: Trainer, states: StateFolder | None) -> TrainingProgress:
    """Load the newest state on rank 0, if there is one; then all ranks take over rank 0's progress and tensors."""
    world, progress = trainer.world, TrainingProgress()
    saved = states.load() if states is not None else None
    if saved is not None:
        progress, tensors = saved
        trainer.load(tensors, str(states.newest()))
    if world.size > 1:
        progress = world.broadcast(progress)
        common = {name: t for name, t in trainer.tensors().items() if not name.startswith("average/")}
        common = world.broadcast_tensors(common, trainer.device)
        if not world.is_main:
            trainer.load(common, "rank 0")
    return progress


def _log_point(
    trainer: Trainer, progress: TrainingProgress, terms: Terms, gradient_norm: Tensor | None, events: EventLog | None
) -> None:
    stage, objective = trainer.stage(progress.step - 1), trainer.settings.objective
    denoising = objective.kind == "denoising"
    residual = None if terms.residual is None else sum(trainer.world.gather(float(terms.residual)))
    point = {
        "step": progress.step,
        "loss": float(terms.total),
        "consistency": None if denoising else float(terms.consistency),
        "diffusion": float(terms.diffusion) if denoising or objective.diffusion else None,
        "residual_rms": None if residual is None else math.sqrt(residual),
        "c": None if objective.loss == "l2" else stage.c,
        "intervals": stage.intervals,
        "gradient_norm": None if gradient_norm is None else float(gradient_norm),
        "lr": trainer.optimiser.param_groups[0]["lr"],
    }
    for name, value in point.items():
        progress.curve[name].append(value)
    if events is not None:
        values = {name: point[column] for name, column in EVENTS.items()} | {"schedule/N": stage.intervals + 1}
        events.scalars(values, progress.step)


def _refuse_nan(trainer: Trainer, states: StateFolder | None) -> None:
    failure = trainer.nan_monitor.first_failure()
    if failure is None:
        return
    step, bad = failure
    stage, batch = trainer.stage(step), trainer.draw(step)
    shares = trainer.world.gather((batch.rows[bad].tolist(), stage.sigmas[batch.index[bad]].tolist()))
    rows, t = (sorted(value for share in shares for value in share[part]) for part in (0, 1))
    which = f"latents {', '.join(map(str, rows[:8]))}{', ...' if len(rows) > 8 else ''}" if rows else "no single sample"
    levels = f"t from {t[0]:.3g} to {t[-1]:.3g}, " if t else ""
    raise FloatingPointError(
        f"step {step}: expected a finite loss, found none in {len(rows)} of {trainer.settings.batch} samples ({which}; "
        f"{levels}intervals {stage.intervals}, c {stage.c:.3g}); {_last_good(states)}; look at these latents, or lower "
        "optimiser.learning_rate, set optimiser.clip_gradient_norm or mixed_precision: off"
    )


def _refuse_divergence(trainer: Trainer, progress: TrainingProgress, states: StateFolder | None) -> None:
    factor, curve = trainer.settings.divergence, progress.curve
    if factor is None or not diverges(curve["loss"], curve["intervals"], factor):
        return
    stage = trainer.stage(progress.step - 1)
    raise FloatingPointError(
        f"step {progress.step}: expected losses below {factor:g} times the median of this stage, found their last "
        f"{RECENT} above it (now {curve['loss'][-1]:.4g}, intervals {stage.intervals}, c {stage.c:.3g}, t from "
        f"{float(stage.sigmas[-1]):.3g} to {float(stage.sigmas[0]):.3g}); {_last_good(states)}; lower "
        "optimiser.learning_rate, set optimiser.clip_gradient_norm, or divergence: null to train on"
    )


def diverges(losses: list[float], intervals: list[int], factor: float) -> bool:
    """Do the last logged losses average more than `factor` times the median of those before, in the same stage?"""
    stage = [loss for loss, s in zip(losses, intervals, strict=True) if s == intervals[-1]]
    recent, before = stage[-RECENT:], stage[:-RECENT]
    return len(before) >= BEFORE and statistics.fmean(recent) > factor * statistics.median(before)


def _refuse_disagreement(trainer: Trainer) -> None:
    """The ranks took the same steps; where they no longer hold the same bits, a device or the network is at fault."""
    if trainer.world.size > 1 and len(set(trainer.world.gather(trainer.checksum()))) > 1:
        raise ArithmeticError(
            "ranks: expected the same weights on all, found different ones; a device computes differently: run the "
            "same command again, which goes on from the last good state, or on other nodes"
        )


def _last_good(states: StateFolder | None) -> str:
    path = states.newest() if states is not None else None
    return f"the last good state is {path}" if path is not None else "no state was saved before"
