"""Settings of one training: everything that changes its weights, the seed apart."""

from dataclasses import dataclass, field, replace
from typing import Literal

from lct.checks import require
from lct.losses.robust import ROBUST
from lct.losses.settings import Objective
from lct.networks.settings import Network, Scaling
from lct.schedules import OPTIONAL, Curriculum, IndexDistribution, LearningRate, NoiseGrid


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """RAdam as the authors ran it: L2 (not decoupled) weight decay, no gradient clipping."""

    name: Literal["radam", "adam", "adamw"] = "radam"  # update rule
    learning_rate: LearningRate = field(default_factory=LearningRate)  # constant 1e-4 in the paper's runs
    beta1: float = 0.9  # decay of the first moment
    beta2: float = 0.999  # decay of the second moment
    epsilon: float = 1e-8  # added to the root of the second moment
    weight_decay: float = 1e-4  # L2 penalty, on all parameters
    clip_gradient_norm: float | None = None  # the authors' flag is inert: no clipping


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training. Give `epochs` (of floor(n / batch) steps) or `steps`."""

    network: Network = field(default_factory=Network)  # the U-Net
    scaling: Scaling = field(default_factory=Scaling)  # parametrisation of f by the network
    grid: NoiseGrid = field(default_factory=NoiseGrid)  # noise levels
    curriculum: Curriculum = field(default_factory=Curriculum)  # intervals s(k)
    index: IndexDistribution = field(default_factory=IndexDistribution)  # distribution of the noise index
    objective: Objective = field(default_factory=Objective)  # loss, weights, coupling
    optimiser: Optimiser = field(default_factory=Optimiser)  # update rule
    batch: int = 128  # samples per step, over all ranks
    micro_batch: int | None = None  # samples per pass on one device, to save memory; the sum of passes rounds otherwise
    epochs: int | None = None  # passes over the data; the last incomplete batch of each is dropped
    steps: int | None = None  # optimiser steps, instead of epochs
    inclusive_epochs: bool = False  # the authors' loop runs one pass more than its schedule counts
    emas: tuple[float, ...] = (0.9999,)  # evaluation EMAs kept in parallel, updated every step without warm-up
    keep_steps: tuple[int, ...] = ()  # further steps after which the first EMA is kept; the last step keeps all EMAs
    keep_epochs: tuple[int, ...] = ()  # the same in epochs, counted as `epochs` is; not with `steps`
    steps_per_milestone: int | None = field(default=None, metadata=OPTIONAL)  # of a rehearsal: so many steps lead to
    # each of the steps that are kept, whatever epochs and steps say; the schedules end with the last of them
    matmul: Literal["float32", "tf32"] = "float32"  # precision of float32 products on a GPU; the authors allow TF32
    mixed_precision: Literal["off", "bfloat16"] = "off"  # dtype of the network's products; weights and losses stay
    # float32
    memory_format: Literal["contiguous", "channels-last"] = "contiguous"  # order of activations in memory; speed only
    compile: bool = False  # torch.compile of the network; speed only
    cuda_graphs: bool = False  # a compiled pass is launched as one graph; speed only, needs compile and a GPU
    threads: int = 1  # torch threads; part of the result's bytes, never taken from the scheduler
    log_every: int = 25  # steps between points of the training curve
    divergence: float | None = 10.0  # stop when 5 logged losses average more than this times the median of their
    # stage; null: never

    def __post_init__(self):
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"expected epochs or steps, found epochs={self.epochs} and steps={self.steps}; give one")
        counts = (self.batch, self.epochs or 1, self.steps or 1, self.threads, self.log_every)
        if min(counts) < 1 or (self.steps_per_milestone is not None and self.steps_per_milestone < 1):
            names = "batch, epochs, steps, steps_per_milestone, threads and log_every"
            raise ValueError(f"{names}: expected 1 or more; fix the smallest")
        if not self.emas or any(not 0 <= e < 1 for e in self.emas) or len(set(self.emas)) != len(self.emas):
            raise ValueError(f"emas {list(self.emas)}: expected different rates in [0, 1), at least one; fix them")
        kept, last = list(self.keep_epochs), (self.epochs or 1) - 1
        by_epochs = not kept or self.epochs is not None
        require(by_epochs, "keep_epochs", "only with epochs", f"steps={self.steps}", "use keep_steps")
        require(all(0 < epoch <= last for epoch in kept), "keep_epochs", f"epochs from 1 to {last}", kept, "fix them")
        together = self.compile or not self.cuda_graphs
        require(together, "cuda_graphs", "compile: true with it", "false", "set both or neither")
        self.objective.transport.check_batch(self.batch)
        parts, factor, sigma_min = self.micro_batch, self.divergence, self.scaling.sigma_min
        require(parts is None or parts >= 1, "micro_batch", "1 or more", parts, "null is one pass")
        if parts is not None and parts < self.batch:
            self.check_parts("micro_batch")
        require(factor is None or factor > 1, "divergence", "a factor above 1", factor, "null is never")
        if sigma_min is None:
            object.__setattr__(self, "scaling", replace(self.scaling, sigma_min=self.grid.sigma_min))
        same = sigma_min in (None, self.grid.sigma_min)
        require(same, "scaling.sigma_min", f"the grid's {self.grid.sigma_min}", sigma_min, "leave it out")
        if self.steps is not None:
            self.curriculum.stage_steps(self.steps)  # refuses fewer steps than stages

    def check_parts(self, why: str) -> None:
        """Refuse to cut a batch into parts where a part would compute something else than within the whole."""
        network = self.network
        norms, advice = (network.block_norm, network.output_norm), "train it in one process"
        require("batch" not in norms, why, "a norm of single samples", "batch norm", advice)
        require(network.dropout == 0, why, "network.dropout 0", network.dropout, advice)

    def check_processes(self, count: int) -> None:
        """Refuse settings that `count` processes cannot train."""
        if count > 1:
            self.check_parts(f"{count} processes")
        require(self.batch >= count, f"batch {self.batch}", "one sample or more per process", f"{count} processes")

    def steps_per_epoch(self, num_images: int) -> int:
        """floor(n / B); raises ValueError when a batch does not fit into the data."""
        require(self.batch <= num_images, "batch", f"at most the {num_images} training images", self.batch, "lower it")
        return num_images // self.batch

    def schedule_steps(self, num_images: int) -> int:
        """K of the schedules (curriculum, learning rate)."""
        if self.steps_per_milestone is not None:
            return self.total_steps(num_images)
        return self.steps or self.steps_per_epoch(num_images) * (self.epochs or 0)

    def total_steps(self, num_images: int) -> int:
        """Optimiser steps taken."""
        if self.steps_per_milestone is not None:
            return self.kept_steps(num_images)[0]
        return self.steps or self.step_of(self.epochs or 0, num_images)

    def step_of(self, epoch: int, num_images: int) -> int:
        """Steps done when the authors' checkpoint of `epoch` is written: with inclusive_epochs, one pass later."""
        if self.steps_per_milestone is not None:
            whole = replace(self, steps_per_milestone=None)
            position = sorted(whole.kept_steps(num_images)).index(whole.step_of(epoch, num_images))
            return self.steps_per_milestone * (position + 1)
        return self.steps_per_epoch(num_images) * (epoch + self.inclusive_epochs)

    def kept_steps(self, num_images: int) -> list[int]:
        """Steps whose weights are kept, the last one first."""
        if self.steps_per_milestone is not None:
            count = len(replace(self, steps_per_milestone=None).kept_steps(num_images))
            return [self.steps_per_milestone * number for number in (count, *range(1, count))]
        last = self.total_steps(num_images)
        further = {*self.keep_steps, *(self.step_of(epoch, num_images) for epoch in self.keep_epochs)} - {last}
        inside = all(0 < step < last for step in further)
        require(inside, "keep_steps", f"steps from 1 to {last}", sorted(further), "fix them")
        return [last, *sorted(further)]

    def c_stages(self, num_images: int | None, dimension: int) -> list[dict[str, float]]:
        """First step, intervals and c of each stage of the curriculum, for latents of `dimension` elements; empty for
        losses that read no c, for a curriculum without stages, and where the number of steps is open."""
        is_open = num_images is None and self.steps is None
        if self.objective.loss not in ROBUST or self.curriculum.kind == "progressive" or is_open:
            return []
        total, stages = self.schedule_steps(num_images or 0), []
        for stage in range(self.curriculum.stages):
            step = stage * self.curriculum.stage_steps(total)
            intervals = self.curriculum.intervals(step, total)
            c = self.objective.scale.c(intervals, self.curriculum.s0, dimension, self.grid)
            stages.append({"step": step, "intervals": intervals, "c": c})
        return stages
