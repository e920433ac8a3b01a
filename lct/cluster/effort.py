"""What a run has to compute and to keep, counted from its settings; how long that takes depends on the device."""

from lct.plan.plan import Plan


def training_operations(plan: Plan, run: str) -> int:
    """Floating-point operations of a training: two for each multiply-add of a forward pass, a backward pass as two
    forward ones, and one more for the target of consistency training."""
    training, (macs, _) = plan.runs[run].training, plan.macs_and_activations_of(run)
    passes = 3 if training.objective.kind == "denoising" else 4
    return plan.steps_of(run) * training.batch * passes * 2 * macs


def sampling_operations(plan: Plan, run: str) -> int:
    """Floating-point operations of the network for one image of every set that is sampled from a run."""
    samplers = plan.runs[run].samplers
    return (
        2 * plan.macs_and_activations_of(run)[0] * sum(samplers[sampler].nfe for _, sampler, _ in plan.sample_sets(run))
    )


def state_bytes(plan: Plan, run: str) -> int:
    """Of a resume state in float32: all parameters, and for the trainable ones two moments, every average and, where it
    is no copy of the network, the target."""
    training, (total, trainable) = plan.runs[run].training, plan.parameters_of(run)
    target = total if training.objective.target_ema else 0
    return 4 * (total + target + trainable * (2 + len(training.emas)))
