"""How fast this device does each kind of a job's work, for `lct plan`: rates in the units of lct/cluster/rates.py."""

import statistics
import subprocess
import sys
from collections.abc import Callable
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
from lct.metrics import extractor
from lct.metrics.settings import TrainedExtractor
from lct.networks.layout import macs_and_activations
from lct.networks.precondition import consistency
from lct.training.trainer import Trainer

SIDE = 16  # pixels of the mini scale's images
STEPS = 20


def rates(all_sizes: list[Size], device: torch.device, folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Every rate: of trainings and evaluations at all sizes, of the rest at the mini scale's."""
    found = [rate("start", 1, started, repeats, device, "jobs", what="Python with torch and diffusers")]
    for size in all_sizes:
        found += network_rates(size, device, repeats)
    found += image_rates(device, folder, repeats)
    return found


def rate(
    work: str, amount: float, do: Callable[[], Any], repeats: int, device: torch.device, unit: str, **more: Any
) -> dict[str, Any]:
    """Units of `work` a second: `do` does `amount` of them; its first call warms up."""
    taken = []
    for _ in range(repeats + 1):
        begun = clock(device)
        do()
        taken.append(clock(device) - begun)
    return {"work": work, "per_second": amount / statistics.median(taken[1:]), "unit": unit} | more


def started() -> None:
    subprocess.run([sys.executable, "-c", "import lct.jobs.sample"], check=True)


def network_rates(size: Size, device: torch.device, repeats: int) -> list[dict[str, Any]]:
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
    trained = rate("train", flops, train, repeats, device, "FLOPs", **about)
    return [trained, rate("evaluate", 250 * 2 * macs, evaluate, repeats, device, "FLOPs", **about)]


def image_rates(device: torch.device, folder: Path, repeats: int) -> list[dict[str, Any]]:
    draws, about = np.random.default_rng(0), {"side": SIDE}
    pixels = draws.integers(0, 256, (1000, SIDE, SIDE, 3), dtype=np.uint8)
    imageset.write_imageset(folder / "rates.zip", pixels)
    images, settings = imageset.ImageSet(folder / "rates.zip"), TrainedAutoencoder(steps=STEPS)
    model = vae.create(settings).to(device).eval().requires_grad_(False)
    side, encoding = SIDE // vae.downsampling(model), Encoding()
    latents = torch.randn(1000, model.config.latent_channels, side, side)

    def decode() -> None:
        imageset.write_imageset(folder / "decoded.zip", vae.decode(model, latents, encoding.batch))

    def train_autoencoder() -> None:
        list(vae.train(vae.create(settings), settings, images, device))

    network = TrainedExtractor(steps=STEPS)

    def train_extractor() -> None:
        list(extractor.train(extractor.create(network, 10), network, images, [i % 10 for i in range(1000)], device))

    own = {"what": "the mini scale's autoencoder"} | about
    return [
        rate("decode", 1000, decode, repeats, device, "images", kind="trained", **own),
        rate(
            "encode",
            1000,
            lambda: vae.encode(model, images, encoding, "x"),
            repeats,
            device,
            "images",
            **own,
            kind="trained",
        ),
        rate("autoencoder", STEPS * settings.batch, train_autoencoder, repeats, device, "samples", **own),
        rate("extractor", STEPS * network.batch, train_extractor, repeats, device, "samples", what="cnn64", **about),
    ]
