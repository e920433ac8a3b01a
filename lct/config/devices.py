"""What config/devices/*.yaml may hold: machines on which throughput was measured. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from lct.checks import require


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A rate that `lct measure` or benchmarks/speed.py measured."""

    work: Literal["start", "train", "evaluate", "decode", "encode", "score", "autoencoder", "extractor"]  # of a job
    per_second: float  # units of it
    unit: Literal["jobs", "FLOPs", "images", "samples"]  # a FLOP: one multiplication or addition
    what: str  # what was run
    macs: int | None = None  # multiply-adds, 2 FLOPs each, of the network's pass over one sample: train, evaluate
    side: int | None = None  # of the square images, pixels: decode, encode, score, autoencoder, extractor
    kind: Literal["trained", "pretrained"] | None = None  # of the autoencoder or extractor

    def __post_init__(self):
        require(self.per_second > 0, "per_second", "above 0", self.per_second, "measure again")
        needed = {"train": "macs", "evaluate": "macs"}.get(self.work, "side")
        require(self.work == "start" or getattr(self, needed), self.work, f"`{needed}`", "none", "add it")


@dataclass(frozen=True, kw_only=True)
class Switch:
    """A training step with a setting the other way, beside the plain one."""

    name: str  # tf32, bfloat16, channels-last, ...
    training: dict[str, str | bool]  # the settings that differ from the plain step's; empty: the plain one
    milliseconds: float | None = None  # of a step; null: not measured
    loss_difference: float | None = None  # largest relative one, over the first steps from the same seed
    peak_gb: float | None = None  # memory of the GPU
    note: str = ""  # why it is not measured


@dataclass(frozen=True, kw_only=True)
class Device:
    """One machine, as it was measured."""

    title: str  # the device, and how much of it
    gpu: bool  # whether rates are a GPU's
    measured: str  # command, versions, load of the machine meanwhile
    rates: tuple[Measured, ...]  # as `lct measure` or benchmarks/speed.py writes them
    card: str | None = None  # the GPU as torch names it
    memory: float | None = None  # GB of the GPU
    switches: tuple[Switch, ...] = ()  # the training step of the CelebA-HQ run of the paper
    all_reduce_gb_per_second: float | None = None  # between all GPUs of the node: gradients / time
    write_gb_per_second: float | None = None  # to the file system of the project, until it is on the disk
    locks_between_nodes: bool | None = None  # whether a lock held on one node is seen on another; null: not tried
