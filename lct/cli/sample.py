"""sample: the images of every sampler of one (run, seed), from its weights through the autoencoder's decoder."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from lct.cli import job
from lct.config.paths import AUTOENCODER_FILES, grid, manifest
from lct.config.schema import build
from lct.data import autoencoder as vae
from lct.data import imageset
from lct.data.latents import Statistics
from lct.files.atomic import atomic, write_json
from lct.files.records import Job
from lct.files.tensors import read_metadata, read_tensors
from lct.networks.precondition import consistency
from lct.networks.settings import Network, Scaling
from lct.networks.unet import UNet
from lct.networks.weights import load
from lct.sampling.generate import generate
from lct.sampling.samplers import Denoiser
from lct.sampling.settings import ConsistencySampler, OdeSampler, Sampling
from lct.schedules import NoiseGrid

SAMPLERS = {"consistency": ConsistencySampler, "ode": OdeSampler}


def main() -> int:
    parser = job.parser(__doc__)
    parser.add_argument("--train", type=Path, required=True, help="folder with the weights")
    parser.add_argument("--statistics", type=Path, required=True, help="mean and standard deviation of the latents")
    parser.add_argument("--autoencoder", type=Path, required=True, help="diffusers folder of the autoencoder")
    parser.add_argument("--out", type=Path, required=True, help="folder to write: {weights}/{sampler}/d{draw}.zip")
    arguments = parser.parse_args()
    return job.run(lambda: sample(arguments))


def sample(arguments) -> str:
    settings = arguments.settings
    sampling = build(Sampling, settings["sampling"], "--settings: sampling")
    noise_grid = build(NoiseGrid, settings["grid"], "--settings: grid")
    device = job.device(arguments.device, sampling.threads, tf32=sampling.matmul == "tf32")
    statistics = Statistics.from_tensors(read_tensors(arguments.statistics))
    autoencoder = vae.load(arguments.autoencoder, device)

    def decode(x: torch.Tensor) -> np.ndarray:
        latents, batch = statistics.denormalise(x), settings["encoding"]["batch"]
        return np.stack(list(vae.decode(autoencoder, latents, batch, sampling.rounding)))

    for weights, name in settings["wanted"]:
        values = settings["samplers"][name]
        sampler = build(SAMPLERS[values["kind"]], values, f"--settings: samplers.{name}")
        path = arguments.train / f"{weights}.safetensors"
        f, shape = _model(path, settings, device)
        for draw in sampling.draws:
            inputs = {"weights": path, "statistics": arguments.statistics}
            inputs |= {file: arguments.autoencoder / file for file in AUTOENCODER_FILES}
            record = Job("sample", settings, inputs=inputs, seeds={"draw": draw}, device=device.type)
            out = arguments.out / weights / name / f"d{draw}.zip"
            images = generate(f, decode, sampler, sampling, noise_grid, draw, shape, device)
            _write(job.progress(images, sampling.count, f"{weights}/{name}/d{draw}"), out, sampling.grid_images)
            record.record([out])
    run, seed = arguments.out.parts[-2:]
    names = ", ".join(name for _, name in settings["wanted"])
    return f"sample {run} {seed}: {sampling.count} images each by {names}"


def _write(images: Iterable[np.ndarray], out: Path, shown: int) -> None:
    """An image set, its manifest and its preview."""
    with atomic(out) as temporary:
        described = imageset.write_imageset(temporary, images, name=out.name)
    write_json(manifest(str(out)), described)
    with imageset.ImageSet(out) as written, atomic(grid(str(out))) as temporary:
        shown = min(shown, len(written))
        imageset.write_grid(temporary, written.array(0, shown), columns=min(8, shown), scale=2)


def _model(path: Path, settings: dict, device: torch.device) -> tuple[Denoiser, tuple[int, int, int]]:
    """The consistency function of stored weights, and the shape (C, H, W) of its latents."""
    network = build(Network, settings["network"], "--settings: network")
    scaling = build(Scaling, settings["scaling"], "--settings: scaling")
    channels, height, width = read_metadata(path)["latent_shape"]
    model = load(UNet(network, channels, height), read_tensors(path), str(path)).to(device).eval()
    return partial(consistency, model, scaling=scaling), (channels, height, width)


if __name__ == "__main__":
    raise SystemExit(main())
