"""measure: how fast this machine does what the paper's jobs do, in minutes; `lct measure` runs it.

Writes a file of config/devices/, which `lct plan`, the requests of jobs and `lct doctor` read. It needs torch, NumPy,
SciPy, PyYAML and safetensors, and runs in any environment that has these: `python -m lct.jobs.measure`. Where diffusers
and torchvision are missing, it leaves out decoding, encoding and features. All weights are drawn.
"""

import argparse
import importlib.util
import logging
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from scipy.optimize import linear_sum_assignment
from torch import nn

from lct.cluster.measure_options import CHANNELS, arguments
from lct.config.devices import Measured, Switch
from lct.files.atomic import write_text
from lct.jobs import job
from lct.jobs.measure_nodes import all_reduce_rate, lock_between_nodes, write_rate
from lct.losses.settings import DiffusionTerm, Objective, Transport
from lct.losses.transport import cost_matrix
from lct.networks.settings import Network, macs_and_activations
from lct.networks.unet import consistency
from lct.schedules import RobustScale
from lct.training.settings import Training
from lct.training.trainer import Trainer

log = logging.getLogger(__name__)

SHAPE = (4, 32, 32)  # of the paper's latents
LATENTS = 4096  # that a training draws from
WARM, COMPARED, MOST = 3, 20, 40  # steps before the clock starts, whose losses are compared, and that are timed
COMPILING = 150.0  # seconds that a compilation may take
GAIN = 1.03  # a switch that is faster by less is not worth it
SWITCHES: dict[str, dict[str, str | bool]] = {  # what differs from the run as the paper's scale trains it
    "as it is": {},
    "float32": {"matmul": "float32"},
    "bfloat16": {"mixed_precision": "bfloat16"},
    "channels-last": {"memory_format": "channels-last"},
    "compiled": {"compile": True},
    "compiled, as CUDA graphs": {"compile": True, "cuda_graphs": True},
}
EXACT = ("memory_format", "compile", "cuda_graphs")  # settings that change results by rounding alone


def celebahq_lct(channels: int = CHANNELS, batch: int = 128) -> Training:
    """The run celebahq-lct of the paper's scale (tested), without its length; transport only where POT is installed."""
    norm = "non-scaling-layer"
    pot = importlib.util.find_spec("ot") is not None
    return Training(
        network=Network(channels=channels, block_norm=norm, output_norm=norm, head_channels=min(64, channels)),
        objective=Objective(
            loss="cauchy",
            scale=RobustScale(law="adaptive", base=0.00054),
            diffusion=DiffusionTerm(),
            transport=Transport(kind="exact" if pot else "none", group=min(128, batch)),
        ),
        batch=batch,
        steps=294_000,
        emas=(0.99993, 0.999, 0.9999, 0.99994, 0.9999432189950708, 0.99995, 0.99997),
        matmul="tf32",
    )


def wall_clock(device: torch.device) -> float:
    """Seconds, after the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Meter:
    """Measures until its time is over; what is left then is named as not measured."""

    def __init__(
        self,
        device: torch.device,
        minutes: float,
        seconds: float,
        most: int = 10,
        clock: Callable[[torch.device], float] = wall_clock,
    ):
        """seconds: that a measurement takes at most, after its first call; most: calls of it; clock: for wall time."""
        self.device, self.seconds, self.most, self.clock = device, seconds, most, clock
        self.end = time.monotonic() + 60 * minutes
        self.rates: list[Measured] = []

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    def seconds_of(self, call: Callable[[], Any]) -> float:
        """Median seconds of a call; the first one warms up."""
        durations: list[float] = []
        begun = time.monotonic()
        while len(durations) <= self.most and (len(durations) < 2 or time.monotonic() - begun < self.seconds):
            started = self.clock(self.device)
            call()
            durations.append(self.clock(self.device) - started)
        return statistics.median(durations[1:])

    def rate(self, work: str, amount: float, call: Callable[[], Any], unit: str, **more: Any) -> None:
        """Add the rate of `call`, which does `amount` units of `work`."""
        if self.left < self.seconds:
            log.warning("%s: not measured, out of time; --minutes gives more", work)
            return
        try:
            seconds = self.seconds_of(call)
        except torch.cuda.OutOfMemoryError:
            log.warning("%s: not measured, out of memory", work)
            return
        self.rates.append(Measured(work=work, per_second=amount / seconds, unit=unit, **more))
        log.info("%s: %.4g %s/s, %s", work, amount / seconds, unit, more.get("what", ""))


def latents(shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    """Normalised latents that are drawn."""
    return 0.5 * torch.randn(LATENTS, *shape, generator=torch.Generator().manual_seed(0))


def measure_training(settings: Training, device: torch.device, limit: float) -> tuple[float, list[float], float | None]:
    """Seconds of a step, losses of the first COMPARED, and GB that the GPU held at most.

    limit: seconds of the steps that are timed, once the losses are there."""
    job.device(str(device), threads=settings.threads, tf32=settings.matmul == "tf32")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    trainer = Trainer(settings, latents(), 0, device)
    losses, durations = [], []
    for step in range(WARM + MOST):
        started = wall_clock(device)
        total = trainer.step(step, False)[0].total
        durations.append(wall_clock(device) - started)
        losses.append(total.clone())
        if step + 1 >= max(COMPARED, WARM + 2) and sum(durations[WARM:]) > limit:
            break
    peak = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
    return statistics.median(durations[WARM:]), [float(loss) for loss in losses[:COMPARED]], peak


def measure_switches(plain: Training, meter: Meter) -> list[Switch]:
    """Every switch beside the plain step, which comes first and gives the rate of trainings."""
    switches: list[Switch] = []
    expected: list[float] = []
    macs, _ = macs_and_activations(plain.network, *SHAPE[:2])
    for name, changes in SWITCHES.items():
        try:
            if "cuda_graphs" in changes and meter.device.type != "cuda":
                raise ValueError("no GPU")
            if switches and meter.left < (COMPILING if "compile" in changes else 2 * meter.seconds):
                raise ValueError("out of time; --minutes gives more")
            seconds, losses, peak = measure_training(replace(plain, **changes), meter.device, meter.seconds)
        except (ValueError, RuntimeError) as error:  # no compiler, no bfloat16, no memory
            switches.append(Switch(name=name, training=changes, note=" ".join(str(error).split())[:200]))
            continue
        expected = expected or losses
        difference = max(abs(loss / other - 1) for loss, other in zip(losses, expected, strict=True))
        switches.append(
            Switch(name=name, training=changes, milliseconds=1e3 * seconds, loss_difference=difference, peak_gb=peak)
        )
        log.info("training step, %s: %.4g ms, loss within %.0e", name, 1e3 * seconds, difference)
        if not changes:  # forward, target's forward, backward as two
            what = f"celebahq-lct, {plain.network.channels} channels, batch {plain.batch}"
            per_second = plain.batch * 4 * 2 * macs / seconds
            meter.rates.append(Measured(work="train", per_second=per_second, unit="FLOPs", macs=macs, what=what))
    job.device(str(meter.device), threads=plain.threads, tf32=plain.matmul == "tf32")
    return switches


def autoencoder() -> nn.Module:
    """The network of sd-vae-ft-ema, with drawn weights."""
    from diffusers import AutoencoderKL  # not everywhere

    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    return AutoencoderKL(block_out_channels=[128, 256, 512, 512], layers_per_block=2, **blocks)


def inception() -> nn.Module:
    """(B, 3, 299, 299) -> (B, 2048): the layers of FID's Inception-v3, with drawn weights."""
    from torchvision.models import inception_v3  # not everywhere

    network = inception_v3(aux_logits=False, init_weights=False)
    network.fc = nn.Identity()
    return network


def measure_networks(plain: Training, meter: Meter, side: int) -> None:
    """Rates of sampling, decoding, encoding and features; and seconds of a transport plan, which is only logged."""
    device, batch = meter.device, 2 * plain.batch
    trainer = Trainer(plain, latents()[: plain.batch], 0, device, ahead=False)
    network, (macs, _) = trainer.network.eval(), macs_and_activations(plain.network, *SHAPE[:2])
    x, sigma = torch.randn(batch, *SHAPE, device=device), torch.full((batch,), 80.0, device=device)
    with torch.inference_mode():
        sampling = f"one-step samples, batch {batch}"
        evaluate = partial(consistency, network, x, sigma, plain.scaling)
        meter.rate("evaluate", batch * 2 * macs, evaluate, "FLOPs", macs=macs, what=sampling)
    flat = [torch.randn(plain.batch, 4096).double().numpy() for _ in range(2)]
    seconds = meter.seconds_of(lambda: linear_sum_assignment(cost_matrix(*flat)))
    log.info("transport of %d latents, on the host: %.3g ms", plain.batch, 1e3 * seconds)
    if missing := [name for name in ("diffusers", "torchvision") if importlib.util.find_spec(name) is None]:
        log.warning("decode, encode, score: not measured, without %s", " and ".join(missing))
        return
    vae, features = (network.to(device).eval().requires_grad_(False) for network in (autoencoder(), inception()))
    images = max(1, plain.batch // 8)
    of_vae, of_inception = f"the layers of sd-vae-ft-ema, batch {images}", f"the layers of Inception-v3, batch {images}"
    for work, call, shape, what in (
        ("decode", vae.decode, (SHAPE[0], side // 8, side // 8), of_vae),
        ("encode", vae.encode, (3, side, side), of_vae),
        ("score", features, (3, 299, 299), f"{of_inception}; without reading images"),
    ):
        inputs = torch.rand(images, *shape, device=device)
        with torch.inference_mode():
            meter.rate(work, images, partial(call, inputs), "images", what=what, side=side, kind="pretrained")


def advice(switches: list[Switch], name: str) -> list[str]:
    """Which switches to turn on, and how."""
    plain = switches[0].milliseconds
    lines = []
    for switch in switches:
        if switch.milliseconds is None:
            lines.append(f"{switch.name}: not measured ({switch.note})")
            continue
        ratio = (plain or switch.milliseconds) / switch.milliseconds
        peak = "" if switch.peak_gb is None else f", {switch.peak_gb:.1f} GB"
        lines.append(
            f"{switch.name}: {switch.milliseconds:.4g} ms a step{peak}, {ratio:.2f} times as fast, loss within "
            f"{switch.loss_difference:.0e}"
        )
    faster = [s for s in switches[1:] if plain and s.milliseconds and plain / s.milliseconds >= GAIN]
    exact = [s for s in faster if all(key in EXACT for key in s.training)]
    other = [s for s in faster if s not in exact]
    best = min(exact, key=lambda s: s.milliseconds or 0.0, default=None)
    lines.append("")
    if best is None:
        lines.append("leave the switches as they are: none that changes rounding alone is 3 % faster")
    else:
        keys = ", ".join(f"{key}: {yaml.safe_dump(value).split()[0]}" for key, value in best.training.items())
        lines.append(f"turn on before the first training: `{keys}` under `training:` in config/scales/paper.yaml")
    for switch in other:
        keys = ", ".join(f"{key}: {value}" for key, value in switch.training.items())
        lines.append(f"`{keys}` is faster too, and changes the numbers: the paper's runs have it off")
    return [*lines, f"what it costs now: lct plan --scale paper --device {name}"]


def file_name(card: str) -> str:
    """Of a card's file: its name as clusters spell it, such as a100; else all of its words."""
    words = re.findall("[a-z0-9]+", card.lower())
    short = next((word for word in words if re.fullmatch("(gh|[abhlv])[0-9]{1,3}s?", word)), None)
    return short or "-".join(words)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments(parser)
    options = parser.parse_args()
    return job.run(lambda: measure(options))


def measure(options: argparse.Namespace) -> str:
    device = job.device(options.device, threads=1, tf32=True)
    gpu = device.type == "cuda"
    if not gpu and (options.channels >= CHANNELS or options.out is None):
        raise ValueError("no GPU: a rehearsal on a CPU needs fewer --channels, such as 32, and a file to write: --out")
    card = torch.cuda.get_device_name(device) if gpu else None
    out = options.out or Path("config/devices") / f"{file_name(card or '')}.yaml"
    meter, plain = Meter(device, options.minutes, options.seconds), celebahq_lct(options.channels, options.batch)
    measure_networks(plain, meter, options.side)
    switches = measure_switches(plain, meter)
    start = [sys.executable, "-c", "import torch, safetensors, scipy, yaml"]
    meter.rate("start", 1, partial(subprocess.run, start, check=True), "jobs", what="Python with torch")
    reduced = "" if options.channels == CHANNELS else f", {options.channels} channels: a rehearsal, for no plan"
    content = {
        "title": (card or f"{platform.machine()} CPU") + reduced,
        "gpu": gpu,
        "card": card,
        "memory": torch.cuda.get_device_properties(device).total_memory / 1e9 if gpu else None,
        "measured": f"lct measure, torch {torch.__version__}, CUDA {torch.version.cuda}, {time.strftime('%Y-%m-%d')}",
        "rates": [_short(rate) for rate in meter.rates],
        "switches": [_short(switch) for switch in switches],
        "all_reduce_gb_per_second": all_reduce_rate(torch.cuda.device_count() if gpu else 2, gpu, options.channels),
        "write_gb_per_second": write_rate(Path("work"), options.write_gb),
        "locks_between_nodes": lock_between_nodes(Path("work")),
    }
    content = {key: value for key, value in content.items() if value is not None}
    schema = "# yaml-language-server: $schema=../../workflow/schemas/device.schema.json\n"
    write_text(out, schema + yaml.safe_dump(content, sort_keys=False, width=118))
    extra = {"all_reduce_gb_per_second": "all-reduce, GB/s", "write_gb_per_second": "writing to work/, GB/s"}
    extra |= {"locks_between_nodes": "a lock is seen from another node"}
    lines = [f"{words}: {content[key]}" for key, words in extra.items() if key in content]
    first = f"{content['title']}: {content['measured']}"
    return "\n".join([first, *advice(switches, out.stem), *lines, f"written: {out}"])


def _short(entry: Measured | Switch) -> dict[str, Any]:
    """Without what has its default, numbers with four digits."""
    values = {key: value for key, value in asdict(entry).items() if value not in (None, "")}
    return {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in values.items()}


if __name__ == "__main__":
    raise SystemExit(main())
