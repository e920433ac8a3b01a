"""How fast a device does the work of the graph's jobs: measured, or estimated, and always with its source.

Measured: by benchmarks/speed.py on this machine (work/bench/speed.json), or on a machine of config/devices/, where `lct
measure` writes a file for each kind of GPU. Estimated:
from a GPU's data sheet, or from a measurement of another size, scaled by FLOPs or pixels. Work of any other kind has no
speed and is named as not measured; only the resources that rules ask for then rest on ASSUMED.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lct.checks import did_you_mean, invalid, require
from lct.config.devices import Device, Measured
from lct.config.folder import ConfigFolder
from lct.config.schema import build
from lct.files.atomic import read_json

BENCH = Path("work/bench/speed.json")
NEAR = 2.0  # a measurement of a network so many times larger or smaller counts as a measurement of this network
SHARE_OF_PEAK = 0.25  # of a GPU's TF32 rate that a U-Net reaches: estimated
# work -> FLOPs of one image of 256 x 256 pixels in sd-vae-ft-ema: torch's FlopCounterMode on its architecture (tested)
AUTOENCODER_FLOPS = {"decode": 0.62e12, "encode": 0.27e12}
# network of a protocol -> FLOPs of one image at its own input size, counted likewise; TorchScript counts as VGG16
EXTRACTOR_FLOPS = {"inception": 11.4e9, "vgg16": 31e9, "torchscript": 31e9}

# GPU -> memory [GB], the largest memory that it is sold with, TF32 rate without sparsity and float32 rate [TFLOPS], by
# data sheets.
# Where a GPU exists with different memories and its type does not say which, the smaller one.
_CARDS = {
    "a10": (24, 24, 62.5, 31.2),
    "a30": (24, 24, 82.0, 10.3),
    "a40": (48, 48, 74.8, 37.4),
    "a100": (40, 80, 156.0, 19.5),
    "l4": (24, 24, 60.0, 30.3),
    "l40": (48, 48, 90.5, 90.5),
    "l40s": (48, 48, 183.0, 91.6),
    "h100": (80, 96, 494.0, 67.0),
    "h200": (141, 141, 494.0, 67.0),
    "gh200": (96, 144, 494.0, 67.0),
}
_UNKNOWN_CARD = (40, 192, 100.0, 10.0)
_SLICES = 7  # of a whole GPU, that MIG counts in
_DEFAULT_CARD = "a100"  # of `lct plan` at a scale that is for GPUs, where no device is named
# Compute capability below 7.5: the CUDA of requirements.lock has no code for them.
_TOO_OLD = ("k80", "m40", "m60", "p4", "p40", "p100", "v100")

# (kind of work, network) -> units a second of a CPU core or of any GPU, and the side of the images [pixels] where the
# rate scales with their area. Chosen low, so that a wrong guess costs queueing time and not a lost job.
ASSUMED: dict[tuple[str, str | None], tuple[float, int | None]] = {
    ("start", None): (0.1, None),
    ("prepare", None): (100, 256),  # unpacking, resizing and packing, by the job's threads together
    ("train", None): (10e9, None),  # FLOPs, in networks as small as the mini scale's
    ("evaluate", None): (10e9, None),
    ("decode", "pretrained"): (10e9 / AUTOENCODER_FLOPS["decode"], 256),
    ("encode", "pretrained"): (10e9 / AUTOENCODER_FLOPS["encode"], 256),
    ("score", "pretrained"): (100, 256),
    ("decode", "trained"): (500, 16),  # these five: a quarter of what config/devices/xeon.yaml says, or less
    ("encode", "trained"): (1000, 16),
    ("score", "trained"): (500, 16),
    ("autoencoder", None): (150, 16),
    ("extractor", None): (400, 16),
}

Basis = Literal["measured", "estimate"]


@dataclass(frozen=True)
class Work:
    """Some units of one kind of work."""

    kind: str  # of lct.config.devices.Measured.work, or prepare: the reading and packing of images
    units: float  # jobs, FLOPs, images or samples
    macs: int | None = None  # MACs of the network's pass over one sample: train, evaluate
    side: int | None = None  # of the square images, pixels: all other kinds but start
    network: str | None = None  # kind of the autoencoder or extractor; speeds of different kinds are not comparable

    @property
    def name(self) -> str:
        return self.kind if self.network is None else f"{self.kind} ({self.network})"


@dataclass(frozen=True)
class Speed:
    """Units of some work a second, and where the number comes from."""

    per_second: float
    basis: Basis
    source: str


@dataclass(frozen=True)
class Machine:
    """A device, and what is measured or printed about it."""

    name: str
    gpu: bool
    rates: tuple[Measured, ...] = ()
    source: str = ""  # of the rates
    flops: float | None = None  # a second, that a network reaches by the data sheet, with TF32 products
    float32_flops: float | None = None  # the same with float32 products, as scoring has them
    memory: float = math.inf  # bytes of a GPU

    def speed(self, work: Work) -> Speed | None:
        """None where neither a measurement nor a data sheet tells."""
        rates = [rate for rate in self.rates if rate.work == work.kind and work.network in (None, rate.kind)]
        if not rates:
            return self._by_data_sheet(work)
        if work.macs is not None:
            nearest = min(rates, key=lambda rate: abs(math.log(work.macs / rate.macs)))
            factor, exact = 1.0, 1 / NEAR <= work.macs / nearest.macs <= NEAR
            scaling = f"a network of {nearest.macs / work.macs:.3g} times the operations"
        elif work.side is not None:
            nearest = min(rates, key=lambda rate: abs(math.log(work.side / rate.side)))
            factor, exact = (nearest.side / work.side) ** 2, nearest.side == work.side
            scaling = f"at {nearest.side} pixels, scaled by their number"
        else:
            nearest, factor, exact, scaling = rates[0], 1.0, True, ""
        source = f"{self.source}: {nearest.what}" + ("" if exact else f", {scaling}")
        return Speed(nearest.per_second * factor, "measured" if exact else "estimate", source)

    def _by_data_sheet(self, work: Work) -> Speed | None:
        if self.flops is None:
            return None
        source = f"{SHARE_OF_PEAK:.0%} of the data sheet's TF32 rate of {self.name}; not measured"
        if work.kind == "score" and work.network == "pretrained" and self.float32_flops is not None:
            flops, source = EXTRACTOR_FLOPS["inception"], source.replace("TF32", "float32")
            return Speed(
                self.float32_flops / flops, "estimate", f"{flops:.3g} FLOPs for an image in Inception, {source}"
            )
        if work.kind in ("train", "evaluate"):
            return Speed(self.flops, "estimate", source)
        if work.kind in ("decode", "encode") and work.network == "pretrained" and work.side is not None:
            flops = AUTOENCODER_FLOPS[work.kind]
            per_second = self.flops / (flops * (work.side / 256) ** 2)
            return Speed(per_second, "estimate", f"{flops:.2g} FLOPs for 256 x 256 pixels, {source}")
        return None

    def assumed(self, work: Work) -> float:
        """Units a second that resource requests count on where `speed` has no answer."""
        per_second, side = ASSUMED[work.kind, work.network]
        return per_second if side is None or work.side is None else per_second * (side / work.side) ** 2


CORE = Machine("a CPU core", gpu=False)  # of an unknown cluster: all its speeds are assumed


def card_name(kind: str, names: Iterable[str] = _CARDS) -> str | None:
    """The GPU of `names` in a type as a cluster spells it, such as nvidia_a100-sxm4-80gb; None where there is none."""
    words = kind.lower()
    matching = [name for name in names if re.search(rf"(?<![a-z0-9]){name}(?![0-9])", words)]
    return max(matching, key=len, default=None)


def card(kind: str | None, memory: float | None = None, root: Path | None = None) -> Machine:
    """A GPU by its type, from its data sheet; 40 GB and 100 TFLOPS for an unknown type.

    root:   of the project, whose file of config/devices/ then gives the rates of a whole GPU of this type.
    memory: of a GPU [GB], where the user says it; otherwise as the type says it (a100-sxm4-80gb; a100_3g.20gb is a
            slice of 3/7), or the data sheet. Raises ValueError for a GPU that the locked torch does not run on."""
    kind = kind or "a GPU"
    old, expected = card_name(kind, _TOO_OLD), "a GPU of compute capability 7.5 or newer"
    given = f"{kind} ({old}), which the torch of requirements.lock has no code for"
    require(old is None or card_name(kind), "gpu_type", expected, given, "name another type")
    smallest, largest, tflops, float32 = _CARDS.get(card_name(kind) or "", _UNKNOWN_CARD)
    words = re.split("[^a-z0-9]+", kind.lower())
    sizes = [int(word.rstrip("gb")) for word in words if re.fullmatch("[0-9]+gb|[0-9]{2,}g", word)]
    slices = [int(word[:-1]) for word in words if re.fullmatch("[1-7]g", word)]
    if memory is None:
        memory = next((size for size in sizes if size <= largest), smallest)
    share = slices[0] / _SLICES if slices else 1.0
    reached = 1e12 * SHARE_OF_PEAK * share
    machine = Machine(kind, True, flops=tflops * reached, float32_flops=float32 * reached, memory=memory * 1e9)
    name = None if root is None or slices else card_name(kind, ConfigFolder(root).names("devices"))
    if root is None or name is None:
        return machine
    device, source = read_device(root, name)
    return replace(machine, rates=device.rates, source=source)


def read_device(root: Path, name: str) -> tuple[Device, str]:
    """The file `name` of config/devices/, and how messages call it. Raises ValueError for one of another card."""
    layer = ConfigFolder(root).layer("devices", name, "--device")
    device = build(Device, layer.values, layer.source)
    same, expected = card_name(name) in (None, card_name(device.card or name)), f"measurements of {card_name(name)}"
    advice = "run lct measure on the GPU that the file is named after, or rename it"
    require(same, layer.source, expected, f"those of {device.card}", advice)
    return device, layer.source


def machine(root: Path, name: str | None) -> Machine:
    """The device `name`: a file of config/devices/, or a GPU by its type (a100, h100, ...); this machine by default."""
    config = ConfigFolder(root)
    if name is None:
        return this_machine(root)
    if name in config.names("devices"):
        device, source = read_device(root, name)
        sheet = card(name, device.memory) if device.gpu else Machine(name, gpu=False)
        return replace(sheet, name=device.title, rates=device.rates, source=source)
    if card_name(name) is not None:
        return card(name)
    near = did_you_mean(name.lower(), [*config.names("devices"), *map(str.lower, _CARDS)])
    expected = f"one of {sorted(config.names('devices'))} (config/devices/), or a GPU of {sorted(_CARDS)}"
    raise invalid("--device", expected, repr(name), near or "leave it out for this machine")


def planned_machine(root: Path, name: str | None, needs_gpus: bool) -> Machine:
    """The device `name`; where none is named and the work needs GPUs that this machine has not, a usual one."""
    device = machine(root, name)
    if name is not None or device.gpu or not needs_gpus:
        return device
    return replace(card(_DEFAULT_CARD), name=f"{_DEFAULT_CARD} (no GPU is measured here; --device names another)")


def this_machine(root: Path) -> Machine:
    """This machine as `make bench` has measured it; without that, the first CPU of config/devices/ stands in."""
    path = root / BENCH
    if path.exists():
        bench = read_json(path, "measure again: make bench")
        about = bench["machine"]
        gpu = about["gpu"] != "none"
        title = about["gpu"] if gpu else f"{about['model']}, {about['threads']} thread"
        rates = tuple(build(Measured, rate, f"{BENCH} (make bench writes it): rates") for rate in bench["rates"])
        return Machine(title, gpu, rates, str(BENCH))
    config = ConfigFolder(root)
    names = [name for name in config.names("devices") if not read_device(root, name)[0].gpu]
    require(names, BENCH, "measurements of this machine", "none", "run make bench")
    device = machine(root, names[0])
    return Machine(f"{device.name} (this machine is not measured: make bench)", device.gpu, device.rates, device.source)
