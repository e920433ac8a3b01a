"""The training loop: steps, states, the curve, and when to stop: asked to, at a NaN, or at a diverging loss."""

import logging
import statistics
import time
from collections.abc import Callable

from torch import Tensor

from lct.losses.objective import Terms
from lct.training.ema import Averages
from lct.training.state import Progress, State
from lct.training.trainer import Trainer

log = logging.getLogger(__name__)

RECENT, BEFORE = 5, 10  # logged losses that diverge, and those of the same stage that say so


def train(
    trainer: Trainer,
    state: State | None,
    keep: dict[int, Callable[[Averages], None]],
    beat: Callable[[Progress], None],
    stop: Callable[[], bool],
    save_seconds: float,
) -> Progress:
    """Train to the end, or to the step at which `stop()` turns true on any rank; then the state is saved.

    state: where states are found and saved, on rank 0; None on the others.
    keep:  step -> what rank 0 does with the averages when that many steps are done.
    beat:  called after every step.
    Raises FloatingPointError, on all ranks, at a loss that is not finite or that diverges.
    """
    progress = _begin(trainer, state)
    every, saved, world = trainer.settings.log_every, time.monotonic(), trainer.world
    for step in range(progress.step, trainer.total_steps):
        logged = (step + 1) % every == 0 or step + 1 == trainer.total_steps
        terms, norm = trainer.step(step, measure_gradient=logged)
        progress.step = step + 1
        if logged or progress.step in keep:
            _refuse_nan(trainer, state)
        if logged:
            _log(trainer, progress, terms, norm)
            _refuse_divergence(trainer, progress, state)
        beat(progress)
        if progress.step in keep and world.first:
            keep[progress.step](trainer.averages)
        asked, due = world.any(stop(), world.first and time.monotonic() - saved > save_seconds)
        if asked or due:
            _refuse_nan(trainer, state)
            _refuse_disagreement(trainer)
            if state is not None:
                state.save(progress, trainer.tensors(), wait=asked)
            saved = time.monotonic()
        if asked:
            break
    if state is not None:
        state.finish()
    return progress


def _begin(trainer: Trainer, state: State | None) -> Progress:
    """Take up the newest state, or the seed's beginning; then all ranks hold rank 0's bits."""
    found = state.load() if state is not None else None
    progress, tensors = found or (Progress(), {})
    if found is not None:
        trainer.load(tensors, str(state.newest()))
    if trainer.world.size > 1:
        progress = trainer.world.share(progress)
        mine = {name: t for name, t in trainer.tensors().items() if not name.startswith("average/")}
        shared = trainer.world.share_tensors(mine, trainer.device)
        if not trainer.world.first:
            trainer.load(shared, "rank 0")
    return progress


def _log(trainer: Trainer, progress: Progress, terms: Terms, norm: Tensor | None) -> None:
    stage = trainer.stage(progress.step - 1)
    denoising = trainer.settings.objective.kind == "denoising"
    point = {
        "step": progress.step,
        "loss": float(terms.total),
        "consistency": None if denoising else float(terms.consistency),
        "diffusion": float(terms.diffusion) if denoising or trainer.settings.objective.diffusion else None,
        "c": None if trainer.settings.objective.loss == "l2" else stage.c,
        "intervals": stage.intervals,
        "gradient_norm": None if norm is None else float(norm),
        "lr": trainer.optimiser.param_groups[0]["lr"],
    }
    for name, value in point.items():
        progress.curve[name].append(value)


def _refuse_nan(trainer: Trainer, state: State | None) -> None:
    found = trainer.watch.found()
    if found is None:
        return
    step, bad = found
    stage, batch = trainer.stage(step), trainer.draw(step)
    shares = trainer.world.gather((batch.rows[bad].tolist(), stage.sigmas[batch.index[bad]].tolist()))
    rows, t = (sorted(value for share in shares for value in share[part]) for part in (0, 1))
    which = f"latents {', '.join(map(str, rows[:8]))}{', ...' if len(rows) > 8 else ''}" if rows else "no single sample"
    levels = f"t from {t[0]:.3g} to {t[-1]:.3g}, " if t else ""
    raise FloatingPointError(
        f"step {step}: expected a finite loss, found none in {len(rows)} of {trainer.settings.batch} samples ({which}; "
        f"{levels}intervals {stage.intervals}, c {stage.c:.3g}); {_last_good(state)}; look at these latents, or lower "
        "optimiser.learning_rate, set optimiser.clip_gradient_norm or mixed_precision: off"
    )


def _refuse_divergence(trainer: Trainer, progress: Progress, state: State | None) -> None:
    factor, curve = trainer.settings.divergence, progress.curve
    if factor is None or not diverges(curve["loss"], curve["intervals"], factor):
        return
    stage = trainer.stage(progress.step - 1)
    raise FloatingPointError(
        f"step {progress.step}: expected losses below {factor:g} times the median of this stage, found their last "
        f"{RECENT} above it (now {curve['loss'][-1]:.4g}, intervals {stage.intervals}, c {stage.c:.3g}, t from "
        f"{float(stage.sigmas[-1]):.3g} to {float(stage.sigmas[0]):.3g}); {_last_good(state)}; lower "
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


def _last_good(state: State | None) -> str:
    path = state.newest() if state is not None else None
    return f"the last good state is {path}" if path is not None else "no state was saved before"
