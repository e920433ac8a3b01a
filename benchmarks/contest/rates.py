"""How fast this device does each kind of a job's work, for `lct plan`: rates in the units of lct/cluster/rates.py."""

import math
import subprocess
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from contest.training import Size, one_step
from contest.turns import clock
from lct.data import autoencoder as vae
from lct.data import imageset
from lct.data.settings import Encoding, TrainedAutoencoder
from lct.jobs.measure import Meter
from lct.metrics import extractor
from lct.metrics.settings import TrainedExtractor
from lct.networks.settings import macs_and_activations
from lct.networks.unet import consistency
from lct.training.trainer import Trainer

SIDE = 16  # pixels of the mini scale's images
STEPS = 20


def rates(all_sizes: list[Size], device: torch.device, folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Every rate: of trainings and evaluations at all sizes, of the rest at the mini scale's."""
    meter = meter_of(device, repeats)
    meter.rate("start", 1, started, "jobs", what="Python with torch and diffusers")
    for size in all_sizes:
        network_rates(size, meter)
    image_rates(meter, folder)
    return [{key: value for key, value in asdict(rate).items() if value is not None} for rate in meter.rates]


def meter_of(device: torch.device, repeats: int) -> Meter:
    """A meter that takes the median of so many repeats, however long they take, by the clock of the contests."""
    return Meter(device, math.inf, math.inf, repeats, clock)


def started() -> None:
    subprocess.run([sys.executable, "-c", "import lct.jobs.sample"], check=True)


def network_rates(size: Size, meter: Meter) -> None:
    device = meter.device
    z, stats = size.latents()
    trainer = Trainer(size.settings, stats.normalise(z), 0, device)
    macs, _ = macs_and_activations(size.settings.network, size.shape[0], size.shape[1])
    about = {"macs": macs, "what": f"{size.name}, batch {size.settings.batch}"}
    steps = iter(range(10**6))

    def train() -> None:
        for _ in range(STEPS):
            one_step(trainer, next(steps) % trainer.total_steps)

    f = partial(consistency, trainer.network.eval(), scaling=size.settings.scaling)
    x, sigma = torch.randn(250, *size.shape, device=device), torch.full((250,), 80.0, device=device)

    @torch.inference_mode()
    def evaluate() -> None:
        f(x, sigma)

    flops = STEPS * size.settings.batch * 4 * 2 * macs  # forward, target's forward, backward as two
    meter.rate("train", flops, train, "FLOPs", **about)
    meter.rate("evaluate", 250 * 2 * macs, evaluate, "FLOPs", **about)


def image_rates(meter: Meter, folder: Path) -> None:
    draws, about = np.random.default_rng(0), {"side": SIDE}
    pixels = draws.integers(0, 256, (1000, SIDE, SIDE, 3), dtype=np.uint8)
    imageset.write_imageset(folder / "rates.zip", pixels)
    images, settings = imageset.ImageSet(folder / "rates.zip"), TrainedAutoencoder(steps=STEPS)
    model = vae.create(settings).to(meter.device).eval().requires_grad_(False)
    side, encoding = SIDE // vae.downsampling(model), Encoding()
    latents = torch.randn(1000, model.config.latent_channels, side, side)

    def decode() -> None:
        imageset.write_imageset(folder / "decoded.zip", vae.decode(model, latents, encoding.batch))

    def train_autoencoder() -> None:
        list(vae.train(vae.create(settings), settings, images, meter.device))

    network = TrainedExtractor(steps=STEPS)

    def train_extractor() -> None:
        list(
            extractor.train(extractor.create(network, 10), network, images, [i % 10 for i in range(1000)], meter.device)
        )

    own = {"what": "the mini scale's autoencoder"} | about
    encode = partial(vae.encode, model, images, encoding, "x")
    meter.rate("decode", 1000, decode, "images", kind="trained", **own)
    meter.rate("encode", 1000, encode, "images", kind="trained", **own)
    meter.rate("autoencoder", STEPS * settings.batch, train_autoencoder, "samples", **own)
    meter.rate("extractor", STEPS * network.batch, train_extractor, "samples", what="cnn64", **about)
