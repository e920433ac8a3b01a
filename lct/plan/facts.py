"""What follows from the settings of a run: sizes of its network, steps, and the stages of its curriculum."""

from typing import Any

from lct.config.model import GIVEN, Dataset, Run
from lct.losses.robust import ROBUST
from lct.networks.layout import parameters


def facts(run: Run, dataset: Dataset, scale_name: str) -> dict[str, Any]:
    """Title -> value, in the order in which people read them. Steps are left out where the data are not counted yet."""
    training, count = run.training, dataset.count
    values: dict[str, Any] = {"scale": scale_name, "run": run.id, "dataset": run.dataset, "method": run.method}
    values |= {"reading": run.note} if run.note else {}
    values |= {"weights": f"{run.weights.path} (no training)"} if run.weights else {}
    if run.samples:
        nfe = "not stated" if run.samples.nfe is None else f"{run.samples.nfe} NFE"
        return values | {"images": f"{run.samples.path} (no training, no sampling)", "samplers": {GIVEN: nfe}}
    side = dataset.resolution // dataset.autoencoder.downsampling
    channels = dataset.autoencoder.latent_channels
    total, trainable = parameters(training.network, channels, side)
    values |= {"latents": [channels, side, side], "parameters": total, "trainable parameters": trainable}
    values["samplers"] = {name: f"{sampler.nfe} NFE" for name, sampler in run.samplers.items()}
    if run.weights is not None or (count is None and training.steps is None):
        return values
    steps = training.schedule_steps(count or 0)
    values |= {"steps of the schedule": steps, "steps taken": training.total_steps(count or 0)}
    values |= {"steps per epoch": training.steps_per_epoch(count)} if training.epochs else {}
    return values | (_stages(run, steps, channels * side**2) if training.curriculum.kind == "ict" else {})


def _stages(run: Run, steps: int, dimension: int) -> dict[str, Any]:
    """Intervals, points and c of each stage of the curriculum. dimension: number of values of a latent."""
    curriculum, objective = run.training.curriculum, run.training.objective
    length = curriculum.stage_steps(steps)
    intervals = [curriculum.intervals(stage * length, steps) for stage in range(curriculum.stages)]
    values: dict[str, Any] = {"steps of a stage": length, "intervals s by stage": intervals}
    values["points N by stage"] = [s + 1 for s in intervals]
    if objective.loss in ROBUST:
        scales = [objective.scale.c(s, curriculum.s0, dimension, run.training.grid) for s in intervals]
        values["c by stage"] = [float(f"{c:.4g}") for c in scales]
    return values
