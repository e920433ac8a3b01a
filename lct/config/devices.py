"""What config/devices/*.yaml may hold: machines on which throughput was measured. Torch-free."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A rate that benchmarks/speed.py measured."""

    work: Literal["start", "train", "evaluate", "decode", "encode", "score", "autoencoder", "extractor"]  # of a job
    per_second: float  # units of it
    unit: Literal["jobs", "FLOPs", "images", "samples"]  # a FLOP: one multiplication or addition
    what: str  # what was run
    macs: int | None = None  # multiply-adds, 2 FLOPs each, of the network's pass over one sample: train, evaluate
    side: int | None = None  # of the square images, pixels: decode, encode, score, autoencoder, extractor
    kind: Literal["trained", "pretrained"] | None = None  # of the autoencoder or extractor

    def __post_init__(self):
        if not self.per_second > 0:
            raise ValueError(f"per_second: expected above 0, found {self.per_second}; measure again")
        needed = {"train": "macs", "evaluate": "macs"}.get(self.work, "side")
        if self.work != "start" and not getattr(self, needed):
            raise ValueError(f"{self.work}: expected `{needed}`, found none; add it")


@dataclass(frozen=True, kw_only=True)
class Device:
    """One machine, as it was measured."""

    title: str  # the device, and how much of it
    gpu: bool  # whether rates are a GPU's
    measured: str  # command, versions, load of the machine meanwhile
    rates: tuple[Measured, ...]  # as benchmarks/speed.py writes them
