"""What each job asks of the machine: memory, run time, cpus and GPUs, from the settings of its cell.

A rule names a class (`local`, `cpu`, `gpu_small`, `gpu_train`) and a stage; the numbers follow from the plan, and the
profile says which account, partition and GPU type the classes mean. The constants marked "estimated" have not been
measured on GPUs; they are chosen so that a wrong guess costs queueing time, not a lost job: memory grows with each
attempt, and a training that runs out of time goes on in its next job.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lct.cluster.effort import sampling_operations, state_bytes, training_operations
from lct.plan.plan import Plan

Class = Literal["local", "cpu", "gpu_small", "gpu_train"]

# class -> least run time asked for [minutes]; the small scales never need more
_FLOOR = {"local": 10, "cpu": 30, "gpu_small": 30, "gpu_train": 60}
_MARGIN = 2.0  # run time asked for / estimated
_BASE_MB = {"local": 1000, "cpu": 2500, "gpu_small": 4000, "gpu_train": 4000}
# 1.8 GB was the most that a job of the mini scale took on a CPU; 4 GB with the CUDA libraries of one process: estimated
_CPU_FLOPS = 10e9  # of one thread, in networks as small as the mini scale's: estimated
_SHARE_OF_PEAK = 0.25  # of a GPU's TF32 rate that a U-Net reaches: estimated
_CARD_OVERHEAD = 4e9  # bytes of a GPU taken by context, libraries and fragmentation: estimated
_WORKSPACE = 1.3  # activations while training / those kept for the backward pass: target pass, workspace; estimated
_AUTOENCODER_FLOPS = 1.2e12  # of encoding or decoding one image of 256 x 256 pixels by sd-vae-ft-ema: estimated
_IMAGES_PER_SECOND = 100  # unpacking, resizing and feature extraction of one image at 256 x 256: estimated
_DECODERS = 8  # threads that read image files
_MOST_GPUS = 8  # of one node; what does not fit then is accumulated over several passes by the trainer
_UNKNOWN_COUNT = 100_000  # images of a folder whose number is not in its settings

# name in `Gres`, in lower case -> memory [GB] and TF32 (or else float32) rate [10^12/s] of the data sheet.
# Where a type exists with different memories, the smaller one.
_CARDS = {
    "v100": (16, 15.7),
    "a40": (48, 74.8),
    "a100": (40, 156.0),
    "l40s": (48, 183.0),
    "h100": (80, 494.0),
    "h200": (141, 494.0),
}
_UNKNOWN_CARD = (40, 100.0)


def cards() -> list[str]:
    """GPU types whose data sheets are known here."""
    return sorted(_CARDS)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What the user filled into the profile's `default-resources`; without them, jobs ask for no GPU."""

    partition: str | None = None  # of jobs without a GPU
    gpu_partition: str | None = None  # of jobs with GPUs; None, "none": there are none to ask for
    gpu_type: str | None = None  # as the cluster spells it; "unspecified": any
    longest: int = 1440  # minutes a job may ask for: most partitions allow a day; a longer training goes on in the next

    @classmethod
    def of(cls, defaults: Mapping[str, Any]) -> "Cluster":
        """From the default resources of a profile, as plain values."""
        names = {"partition": "slurm_partition", "gpu_partition": "gpu_partition", "gpu_type": "gpu_type"}
        given = {name: str(defaults[key]) for name, key in names.items() if defaults.get(key) is not None}
        return cls(**given, longest=int(defaults.get("longest", cls.longest)))

    @property
    def has_gpus(self) -> bool:
        return self.gpu_partition not in (None, "none")

    @property
    def card(self) -> tuple[float, float]:
        """(memory [bytes], floating-point operations a second that a network reaches) of one GPU."""
        memory, rate = _CARDS.get((self.gpu_type or "").lower(), _UNKNOWN_CARD)
        return memory * 1e9, rate * 1e12 * _SHARE_OF_PEAK


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a job is expected to need, beyond what every job of its class needs."""

    seconds: float = 0.0  # on its GPUs, or on its threads where there are none
    extra_bytes: float = 0.0  # of main memory, beyond Python and torch
    gpus: int = 1  # of the GPU classes
    threads: int = 1  # torch threads


def asked(kind: Class, demand: Demand, cluster: Cluster) -> dict[str, Any]:
    """Snakemake resources of a job. `mem_mb` grows with the attempt, so that a job out of memory gets more."""
    gpus = demand.gpus if kind.startswith("gpu") and cluster.has_gpus else 0
    memory = math.ceil(_BASE_MB[kind] * max(1, gpus) + demand.extra_bytes / 1e6)
    runtime = min(cluster.longest, max(_FLOOR[kind], math.ceil(_MARGIN * demand.seconds / 60)))
    resources: dict[str, Any] = {
        "mem_mb": _growing(memory),
        "runtime": runtime,
        "nodes": 1,  # a job of several GPUs must not be split over nodes
        # one more than torch computes with: it solves transport plans, packs images, writes states
        "cpus_per_task": 1 if kind == "local" else (demand.threads + 1) * max(1, gpus),
    }
    if kind.startswith("gpu"):
        resources["gpu"] = gpus
    if gpus:
        resources["slurm_partition"] = cluster.gpu_partition
        if cluster.gpu_type not in (None, "unspecified"):
            resources["gpu_model"] = cluster.gpu_type
    if kind == "gpu_train":  # a warning in time to save the state; never B:, which would end the job at once
        resources["slurm_extra"] = f"--signal=USR1@{min(300, 15 * runtime)}"
    return resources


def _growing(memory_mb: int) -> Callable[..., int]:
    def of_attempt(wildcards, attempt):
        return math.ceil(memory_mb * (1 + 0.5 * (attempt - 1)))

    return of_attempt


def demand(stage: str | None, plan: Plan, owner: str | None, cluster: Cluster) -> Demand:
    """What a stage of a run or of a dataset needs. Stages without a formula need what their class has."""
    if stage not in _STAGES or owner is None:
        return Demand()
    return _STAGES[stage](plan, owner, cluster)


def _train(plan: Plan, run: str, cluster: Cluster) -> Demand:
    """N samples of d numbers stay in memory, raw and normalised; a state is copied to main memory when it is saved."""
    settings, dataset = plan.runs[run].training, plan.runs[run].dataset
    images = plan.datasets[dataset].count or _UNKNOWN_COUNT
    _, kept = plan.macs_and_activations_of(run)
    latents = images * math.prod(plan.datasets[dataset].latent_shape) * 4
    state, gradients = state_bytes(plan, run), 4 * plan.parameters_of(run)[1]
    memory, rate = cluster.card
    fixed = _CARD_OVERHEAD + latents + state + gradients
    activations = 4 * kept * _WORKSPACE * (0.5 if settings.mixed_precision == "bfloat16" else 1.0)
    gpus = _gpus(settings.batch * activations, memory - fixed)
    speed = rate * gpus if cluster.has_gpus else _CPU_FLOPS * settings.threads
    return Demand(
        seconds=training_operations(plan, run) / speed,
        extra_bytes=2 * latents * gpus + state,
        gpus=gpus,
        threads=settings.threads,
    )


def _gpus(activations: float, free: float) -> int:
    """The fewest of 1, 2, 4 and 8 GPUs whose free memory holds the activations of a whole batch."""
    count = 1
    while count < _MOST_GPUS and activations > count * max(free, 1.0):
        count *= 2
    return count


def _sample(plan: Plan, run: str, cluster: Cluster) -> Demand:
    """Every sampler's evaluations of the network, then the decoder, for every image; one batch of images in memory."""
    found, sampling = plan.runs[run], plan.scale.sampling
    total, _ = plan.parameters_of(run)
    pixels = plan.datasets[found.dataset].resolution ** 2
    operations = sampling_operations(plan, run) + decoding(pixels) * len(plan.sample_sets(run))
    speed = cluster.card[1] if cluster.has_gpus else _CPU_FLOPS * sampling.threads
    return Demand(
        seconds=sampling.count * operations / speed,
        extra_bytes=8 * total + sampling.batch * pixels * 3 * 16,
        threads=sampling.threads,
    )


def _score(plan: Plan, run: str, cluster: Cluster) -> Demand:
    """Features of every image set, one after the other, each beside those of the real images."""
    dataset, sampled = plan.runs[run].dataset, plan.scale.sampling.count
    real = plan.datasets[dataset].count or _UNKNOWN_COUNT
    return _features(plan, dataset, len(plan.sample_sets(run)) * sampled, sampled + real)


def _reference(plan: Plan, name: str, cluster: Cluster) -> Demand:
    """Features of both sides, and of both sides reconstructed."""
    dataset = plan.datasets[name]
    count = dataset.count or _UNKNOWN_COUNT
    return _features(plan, name, 2 * (count + dataset.heldout), 2 * count)


def _features(plan: Plan, dataset: str, images: int, at_a_time: int) -> Demand:
    """Every network sees every image; features are float32 on disk, and float64 while distances are taken."""
    networks = plan.extractors_of(dataset)
    width = sum(network.features for network in networks)
    return Demand(seconds=images * len(networks) / _IMAGES_PER_SECOND, extra_bytes=at_a_time * width * 12)


def _encode(plan: Plan, name: str, cluster: Cluster) -> Demand:
    """Each image through encoder and decoder; one part of them in memory."""
    dataset = plan.datasets[name]
    images = (dataset.count or _UNKNOWN_COUNT) + dataset.heldout
    speed = cluster.card[1] if cluster.has_gpus else _CPU_FLOPS
    return Demand(seconds=images * (2 * decoding(dataset.resolution**2) / speed + 1 / _IMAGES_PER_SECOND))


def decoding(pixels: int) -> float:
    """Floating-point operations of the autoencoder's one half on an image."""
    return _AUTOENCODER_FLOPS * pixels / 256**2


def _images(plan: Plan, name: str, cluster: Cluster) -> Demand:
    """Reading, resizing and packing every image; threads decode beside each other."""
    dataset = plan.datasets[name]
    images = (dataset.count or _UNKNOWN_COUNT) + dataset.heldout
    threads = decoding_threads(plan, name)
    return Demand(
        seconds=images / _IMAGES_PER_SECOND, extra_bytes=64 * threads * dataset.resolution**2 * 3, threads=threads
    )


def decoding_threads(plan: Plan, name: str) -> int:
    """Decoding files is worth threads; the small images that are computed are not."""
    return 1 if plan.datasets[name].source.kind in ("digits", "patches") else _DECODERS


def _figure(plan: Plan, name: str, cluster: Cluster) -> Demand:
    """Two trainings of one size, one after the other, on one GPU; the images that they see in memory."""
    figure, settings = plan.figures[name]
    images = figure.scales[plan.scale_name].images
    latent = max(math.prod(plan.datasets[dataset].latent_shape) for dataset in plan.datasets)
    speed = cluster.card[1] if cluster.has_gpus else _CPU_FLOPS * settings.threads
    return Demand(
        seconds=2 * settings.total_steps(images) * settings.batch * 4 * 2 * plan.macs_of_figure(name) / speed,
        extra_bytes=images * latent * 4 * 4,
        threads=settings.threads,
    )


_STAGES: dict[str, Callable[[Plan, str, Cluster], Demand]] = {
    "images": _images,
    "encode": _encode,
    "reference": _reference,
    "train": _train,
    "sample": _sample,
    "score": _score,
    "figure": _figure,
}


def groups_pay(plan: Plan, run: str, cluster: Cluster) -> bool:
    """Whether sampling and scoring of a run should be one job: where both are short, its start costs more than a
    repeated sampling after a failed scoring would."""
    return all(demand(stage, plan, run, cluster).seconds < 600 for stage in ("sample", "score"))
