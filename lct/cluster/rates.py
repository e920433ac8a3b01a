"""How fast a device does the work of the graph's jobs: measured, or estimated, and always with where that comes from.

Measured: by benchmarks/speed.py on this machine (work/bench/speed.json), or on a machine of config/devices/. Estimated:
from a GPU's data sheet, or from a measurement of another size, scaled by operations or pixels. What is neither is not
measured, and no figure is made up for it.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lct.cluster.resources import Cluster, cards, decoding
from lct.config.devices import Device, Measured
from lct.config.folder import ConfigFolder
from lct.config.schema import build
from lct.files.atomic import read_json

BENCH = Path("work/bench/speed.json")
NEAR = 2.0  # a measurement of a network so many times larger or smaller is called one of this network
SHARE_OF_PEAK = "a quarter of the data sheet's TF32 rate"

Basis = Literal["measured", "estimate"]


@dataclass(frozen=True)
class Speed:
    """How fast some work goes, and how that is known."""

    per_second: float
    basis: Basis
    source: str


@dataclass(frozen=True)
class Machine:
    """A device and what is known of it."""

    name: str
    gpu: bool
    rates: tuple[Measured, ...] = ()
    source: str = ""
    operations: float | None = None  # a second, of a network, by the data sheet

    def speed(
        self, work: str, *, macs: int | None = None, side: int | None = None, kind: str | None = None
    ) -> Speed | None:
        """Units of `work` a second; None where neither a measurement nor a data sheet tells.

        macs: MACs of the network's pass over one sample. side: of square images, pixels. kind: of the
        autoencoder or extractor, which have nothing in common across kinds."""
        known = [rate for rate in self.rates if rate.work == work and kind in (None, rate.kind)]
        if known and macs is not None:
            nearest = min(known, key=lambda rate: abs(math.log(macs / rate.macs)))
            ratio = macs / nearest.macs
            near = 1 / NEAR <= ratio <= NEAR
            scaled = "" if near else f", a network of {1 / ratio:.3g} times the operations"
            return Speed(nearest.per_second, "measured" if near else "estimate", f"{self._measured(nearest)}{scaled}")
        if known and side is not None:
            nearest = min(known, key=lambda rate: abs(math.log(side / rate.side)))
            pixels = (nearest.side / side) ** 2
            scaled = "" if pixels == 1 else f", at {nearest.side} pixels, scaled by their number"
            basis: Basis = "measured" if pixels == 1 else "estimate"
            return Speed(nearest.per_second * pixels, basis, f"{self._measured(nearest)}{scaled}")
        if known:
            return Speed(known[0].per_second, "measured", self._measured(known[0]))
        if self.operations is None:
            return None
        if work in ("train", "evaluate"):
            return Speed(self.operations, "estimate", f"{SHARE_OF_PEAK} of {self.name}; not measured")
        if work in ("decode", "encode") and kind == "pretrained" and side is not None:
            per_second = self.operations / decoding(side**2)
            source = f"{decoding(256**2):.2g} operations for 256 x 256 pixels, {SHARE_OF_PEAK} of {self.name}"
            return Speed(per_second, "estimate", f"{source}; not measured")
        return None

    def _measured(self, rate: Measured) -> str:
        return f"{self.source}: {rate.what}"


def machine(root: Path, name: str | None) -> Machine:
    """The device `name`: a file of config/devices/, or a GPU by its type (a100, h100, ...); this machine by default."""
    config = ConfigFolder(root)
    if name is None:
        return here(root)
    if name in config.names("devices"):
        layer = config.layer("devices", name, "device", "--device")
        found = build(Device, layer.values, layer.source)
        return Machine(found.title, found.gpu, found.rates, layer.source)
    if name.lower() in cards():
        _, operations = Cluster(gpu_partition="any", gpu_type=name).card
        return Machine(name, True, operations=operations)
    raise ValueError(
        f"--device: expected one of {sorted(config.names('devices'))} (config/devices/), or a GPU of "
        f"{sorted(cards())}, found {name!r}; leave it out for this machine"
    )


def here(root: Path) -> Machine:
    """This machine as `make bench` has measured it; without that, the first device of config/devices/ stands in."""
    path = root / BENCH
    if path.exists():
        found = read_json(path)
        about = found["machine"]
        gpu = about["gpu"] != "none"
        title = about["gpu"] if gpu else f"{about['model']}, {about['threads']} thread"
        rates = tuple(build(Measured, rate, f"{BENCH}: rates") for rate in found["rates"])
        return Machine(title, gpu, rates, str(BENCH))
    config = ConfigFolder(root)
    if not (names := config.names("devices")):
        raise ValueError(f"{BENCH}: expected measurements of this machine, found none; run make bench")
    known = machine(root, names[0])
    return Machine(f"{known.name} (this machine is not measured: make bench)", known.gpu, known.rates, known.source)
