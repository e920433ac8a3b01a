"""The resources that each rule asks for: memory, run time, cpus and GPUs, from the one cost model.

A rule names a class (`local`, `cpu`, `gpu_small`, `gpu_train`) and a stage; the numbers follow from the plan, and the
profile says which account, partition and GPU type the classes mean. A wrong estimate costs queueing time, not a lost
job: memory grows with each attempt, and a training that runs out of time goes on in its next job.
"""

import ast
import contextlib
import functools
import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from lct.checks import require
from lct.cluster.cost_model import CostModel, PlannedJob, reading_threads
from lct.cluster.rates import CORE, Machine, card
from lct.plan.plan import Plan

Class = Literal["local", "cpu", "gpu_small", "gpu_train"]

# class -> least run time asked for [minutes]; the small scales never need more
_FLOOR = {"local": 10, "cpu": 30, "gpu_small": 30, "gpu_train": 60}
_MARGIN = 2.0  # run time asked for / estimated
_BASE_MB = {"local": 1000, "cpu": 2500, "gpu_small": 4000, "gpu_train": 4000}
# 1.8 GB was the most that a job of the mini scale took on a CPU; 4 GB with the CUDA libraries of one process: estimated
_GROUP_SECONDS = 600.0  # of sampling and of scoring, below which both are one job


# of a profile's default resources -> how it is read, whether the result is valid, what a message expects
_READ: dict[str, tuple[Callable[[Any], Any], Callable[[Any], bool], str]] = {
    "gpu_memory": (float, lambda size: 0 < size < math.inf, "GB of a GPU, as a number"),
    "longest": (int, lambda minutes: minutes >= 1, "whole minutes, 1 or more"),
    "slurm_extra": (str, lambda text: shlex.split(text) is not None, "options of sbatch, with quotes in pairs"),
}


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What the user filled into the profile's `default-resources`; without them, jobs ask for no GPU."""

    partition: str | None = None  # of jobs without a GPU
    gpu_partition: str | None = None  # of jobs with GPUs; None, "none": there are none to ask for
    gpu_type: str | None = None  # as the cluster spells it; "unspecified": any
    gpu_memory: float | None = None  # GB of a GPU, where neither type nor data sheet tells
    qos: str | None = None  # of all jobs, as are the next two: for the probe job alone, rules get them from the profile
    constraint: str | None = None  # features of nodes
    gres: str | None = None  # further generic resources, such as a local disk
    slurm_extra: str = ""  # further options of sbatch for all jobs: trainings add theirs to them
    longest: int = 1440  # minutes a job may ask for: most partitions allow a day; a longer training goes on in the next

    @classmethod
    def of(cls, defaults: Mapping[str, Any]) -> "Cluster":
        """From the default resources of a profile, as plain values. Raises ValueError with one line for others."""
        values: dict[str, Any] = {}
        for name in (field.name for field in fields(cls)):
            if (given := defaults.get("slurm_partition" if name == "partition" else name)) is None:
                continue
            read, is_valid, expected = _READ.get(name, (str, lambda _: True, ""))
            try:
                values[name] = read(given)
                valid = is_valid(values[name])
            except (TypeError, ValueError):
                valid = False
            require(valid, f"default-resources: {name}", expected, repr(given), "correct it in the profile")
        return cls(**values)

    @property
    def has_gpus(self) -> bool:
        return self.gpu_partition not in (None, "none")

    @property
    def has_gpu_type(self) -> bool:
        return self.gpu_type not in (None, "unspecified")

    def machine(self, root: Path | None = None) -> Machine:
        """The device of jobs of the GPU classes, with the speed that `lct measure` has written into a project."""
        return card(self.gpu_type, self.gpu_memory, root) if self.has_gpus else CORE


def unquoted(value: Any) -> Any:
    """A value of a profile as Snakemake takes it: without the pair of quotes that keeps a text from being computed."""
    if isinstance(value, str) and value[:1] in ("'", '"'):
        with contextlib.suppress(ValueError, SyntaxError):
            return str(ast.literal_eval(value))
    return value


class Requests:
    """Resource requests of the rules of a plan on a cluster. A rehearsal asks for the memory and the GPUs of the whole
    scale, and for few minutes."""

    def __init__(self, plan: Plan, cluster: Cluster):
        self.plan, self.cluster, self.costs = plan, cluster, CostModel(plan, cluster.machine(plan.root))
        self.sizes = CostModel(plan.whole, self.costs.machine)  # a rehearsal asks for what the whole scale will need
        self._needs = functools.cache(self._needs)  # a graph asks for each job several times

    def of(
        self, kind: Class, stage: str | None = None, owner: str | None = None, at: str | None = None
    ) -> dict[str, Any]:
        """Snakemake resources of a job, of a run at a milestone; without a stage, what its class needs. `mem_mb` grows
        with the attempt, so that a job out of memory gets more."""
        job = None if stage is None or owner is None else PlannedJob(stage, owner, at=at)
        gpus = self._gpus(kind, job)
        seconds, threads, memory = (0.0, 1, 0.0) if job is None else self._needs(job)
        runtime = min(self.cluster.longest, max(_FLOOR[kind], math.ceil(_MARGIN * seconds / 60)))
        resources: dict[str, Any] = {
            "mem_mb": _growing(math.ceil(_BASE_MB[kind] * max(1, gpus) + memory / 1e6)),
            "runtime": runtime,
            "nodes": 1,  # a job of several GPUs must not be split over nodes
            # one more than torch computes with: it solves transport plans, packs images, writes states
            "cpus_per_task": 1 if kind == "local" else (threads + 1) * max(1, gpus),
        }
        if kind.startswith("gpu"):
            resources["gpu"] = gpus
        if gpus:
            resources["slurm_partition"] = self.cluster.gpu_partition
            if self.cluster.has_gpu_type:
                resources["gpu_model"] = self.cluster.gpu_type
        if kind == "gpu_train":  # a warning in time to save the state; never B:, which would end the job at once
            resources["slurm_extra"] = f"{self.cluster.slurm_extra} --signal=USR1@{min(300, 15 * runtime)}".strip()
        return resources

    def seconds(self, job: PlannedJob) -> float:
        """Estimated seconds of a job on the GPUs, or without any on the threads, that it asks for."""
        return self._needs(job)[0]

    def sampled_and_scored_together(self, run: str, at: str | None = None) -> bool:
        """Whether sampling and scoring of a run's milestone should be one job: where both are short, a job's start
        costs more than a repeated sampling after a failed scoring would."""
        if self.plan.runs[run].samples is not None:
            return False
        return all(self.seconds(PlannedJob(stage, run, at=at)) < _GROUP_SECONDS for stage in ("sample", "score"))

    def _gpus(self, kind: Class, job: PlannedJob | None) -> int:
        if not (kind.startswith("gpu") and self.cluster.has_gpus):
            return 0
        if job is not None and job.stage == "autoencoder":  # a pretrained one is copied, which no GPU is needed for
            return int(self.plan.datasets[job.owner].autoencoder.kind == "trained")
        return self.sizes.gpus(job.owner) if job is not None and job.stage == "train" else 1

    def _needs(self, job: PlannedJob) -> tuple[float, int, float]:
        """(seconds, threads, bytes of main memory beyond those of the class)"""
        cost, plan = self.costs.of(job), self.plan
        seconds, threads = cost.seconds + cost.assumed, 1
        if job.stage == "images":
            return seconds, reading_threads(plan, job.owner), self.sizes.memory(job)
        if job.stage in ("train", "sample", "figure"):
            training = plan.figures[job.owner][1] if job.stage == "figure" else plan.runs[job.owner].training
            if training is not None:  # figures without one compute with one thread
                threads = plan.scale.sampling.threads if job.stage == "sample" else training.threads
        shared_by = threads if not self.cluster.has_gpus else self.sizes.gpus(job.owner) if job.stage == "train" else 1
        return seconds / shared_by, threads, self.sizes.memory(job)


def _growing(memory_mb: int) -> Callable[..., int]:
    def of_attempt(wildcards, attempt):
        return math.ceil(memory_mb * (1 + 0.5 * (attempt - 1)))

    return of_attempt
