"""Sampling, decoding and writing images."""

from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from contest import authors
from contest.training import Size
from contest.turns import Row, Turns
from lct.data import autoencoder as vae
from lct.data import imageset
from lct.data.settings import Encoding, TrainedAutoencoder
from lct.jobs.sample import encoded
from lct.networks.unet import consistency
from lct.sampling.samplers import generate, sample
from lct.sampling.settings import ConsistencySampler, Sampling
from lct.training.trainer import Trainer


def decoder(size: Size) -> TrainedAutoencoder:
    """The mini scale's autoencoder, or one of the shape of sd-vae-ft-ema; its weights are drawn."""
    if size.shape[1] < 32:
        return TrainedAutoencoder()
    widths = (128, 256, 512, 512)
    return TrainedAutoencoder(block_out_channels=widths, layers_per_block=2, norm_groups=32, middle_attention=True)


def sampling(size: Size, device: torch.device, folder: Path, repeats: int, count: int) -> list[Row]:
    """One-step sampling, decoding and writing of `count` images."""
    model = vae.create(decoder(size)).to(device).eval().requires_grad_(False)
    side = size.shape[1] * 2 ** (len(model.config.block_out_channels) - 1)
    z, stats = size.latents()
    trained = Trainer(size.settings, stats.normalise(z), 0, device, ahead=False).network.eval()
    f = partial(consistency, trained, scaling=size.settings.scaling)
    settings, how, turns = Sampling(num_images=count, batch=250), ConsistencySampler(), Turns()
    batch = Encoding().batch

    def decode(x: torch.Tensor) -> np.ndarray:
        return np.stack(list(vae.decode(model, stats.denormalise(x), batch)))

    def batches() -> Iterator[list[np.ndarray]]:
        for start in range(0, count, settings.batch):
            yield list(generate(f, decode, how, settings, size.settings.grid, 0, size.shape, device, batches=(start,)))

    def ours(path: Path) -> None:
        imageset.write_imageset(path, chain.from_iterable(encoded(batches())))

    def in_turn(path: Path) -> None:
        imageset.write_imageset(path, chain.from_iterable(batches()))

    @torch.inference_mode()
    def baseline(path: Path) -> None:
        path.mkdir()
        draws = torch.Generator(device).manual_seed(42)
        for start in range(0, count, settings.batch):
            noise = torch.randn(settings.batch, *size.shape, generator=draws, device=device)
            x = sample(f, how, size.settings.grid, lambda _, noise=noise: noise)
            authors.write_jpegs(model, stats.denormalise(x), path, start)

    for turn in range(-1, repeats):  # the first warms up
        for name, make in (("ours", ours), ("in turn", in_turn), ("baseline", baseline)):
            with turns.of(name, device):
                make(folder / f"{name}{turn}")
    turns.forget_first()
    same = (folder / "ours0").read_bytes() == (folder / "in turn0").read_bytes()
    rows = [
        turns.row("sampling", f"{count} images of {side} pixels: baseline / ours", "ours", "baseline", count),
        turns.row("sampling", "  ours, encoding after decoding / ours", "ours", "in turn", count),
    ]
    rows[1].note = "same bytes" if same else "OTHER BYTES"
    return rows
