"""One-step generator and decoder as one ONNX graph: unit noise (B, C, H, W) in, images (B, 3, H', W') in [-1, 1] out.

The export is compared with torch on fresh noise and refused when a pixel differs by more than TOLERANCE. B is free.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lct.config.schema import build
from lct.data import autoencoder
from lct.data.latents import LatentStatistics
from lct.export.generator import Generator
from lct.files.atomic import atomic
from lct.files.tensors import read_metadata, read_tensors
from lct.networks.precondition import consistency
from lct.networks.settings import Network, Scaling
from lct.networks.unet import UNet
from lct.networks.weights import load
from lct.schedules import NoiseGrid

TOLERANCE = 1e-4  # of images in [-1, 1]: a fortieth of one grey level
TRACED, COMPARED = 2, (1, 3)  # batches that the graph is traced with, and compared on


class OneStep(nn.Module):
    """noise -> decode(denormalise(clamp(f(sigma_max noise, sigma_max))))."""

    def __init__(
        self,
        network: UNet,
        scaling: Scaling,
        grid: NoiseGrid,
        statistics: LatentStatistics,
        vae: nn.Module,
        clamp: float | None,
    ):
        super().__init__()
        self.network, self.scaling, self.sigma_max, self.vae = network, scaling, grid.sigma_max, vae
        self.clamp = clamp  # of the denoised latents to [-clamp, clamp]
        self.sigma_data = statistics.sigma_data
        self.register_buffer("mean", statistics.mean)
        self.register_buffer("std", statistics.std)

    def forward(self, noise: Tensor) -> Tensor:
        sigma = torch.full((noise.shape[0],), self.sigma_max, dtype=noise.dtype)
        x = consistency(self.network, self.sigma_max * noise, sigma, self.scaling)
        x = x if self.clamp is None else x.clamp(-self.clamp, self.clamp)
        latents = (x.to(torch.float64) * self.std / self.sigma_data + self.mean).to(noise.dtype)
        return self.vae.decode(latents).sample.clamp(-1, 1)


def write(path: Path, made_from: Generator, sampler: str) -> dict[str, float]:
    """The graph at `path`, and how far it is from torch; ValueError when that is more than TOLERANCE.

    sampler: name of one of the settings' samplers that evaluate the network once."""
    import onnxruntime

    settings, weights = made_from.settings, made_from.weights
    channels, side, _ = shape = tuple(read_metadata(weights)["latent_shape"])
    unet = UNet(build(Network, settings["network"], "network"), channels, side)
    scaling, grid = build(Scaling, settings["scaling"], "scaling"), build(NoiseGrid, settings["grid"], "grid")
    statistics = LatentStatistics.from_tensors(read_tensors(made_from.statistics))
    network = load(unet, read_tensors(weights), str(weights))
    clamp = settings["samplers"][sampler]["clamp"]
    model = OneStep(network, scaling, grid, statistics, autoencoder.load(made_from.vae), clamp).eval()
    noise = torch.randn((TRACED, *shape), generator=torch.Generator().manual_seed(0))
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), atomic(path) as partial:
        program = torch.onnx.export(
            model,
            (noise,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim.AUTO},),
            input_names=["noise"],
            output_names=["images"],
            verbose=False,
        )
        program.save(str(partial), external_data=False)
        session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
        fresh = torch.randn((max(COMPARED), *shape), generator=torch.Generator().manual_seed(1))
        expected, name = model(fresh).numpy(), session.get_inputs()[0].name
        answers = {count: session.run(None, {name: fresh[:count].numpy()})[0] for count in COMPARED}
        largest = max(float(np.abs(answer - expected[:count]).max()) for count, answer in answers.items())
        if not largest <= TOLERANCE:
            raise ValueError(
                f"{path}: expected the answer of torch within {TOLERANCE}, found {largest}; use --to diffusers"
            )
    return {"largest": largest, "tolerance": TOLERANCE}
