"""sample: the images of every sampler of one (run, seed), from its weights through the autoencoder's decoder.

An image is a function of (draw, index) within its fixed batch, so batches are dealt out to one process per GPU of the
job and written in order: the same bytes for any number of processes. What is finished lies in work/ until the job ends,
so that a killed job goes on from its last batch.
"""

import functools
import logging
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from lct.config.schema import build
from lct.data import autoencoder as vae
from lct.data import imageset
from lct.data.latents import LatentStatistics
from lct.data.threads import in_order
from lct.files.records import JobRecord
from lct.files.tensors import read_metadata, read_tensors
from lct.jobs import job, pool
from lct.jobs.image_sets import UnfinishedSet
from lct.jobs.resume import finished_parts, work_folder
from lct.networks.settings import Network, Scaling
from lct.networks.unet import UNet, consistency, load_weights
from lct.plan.paths import AUTOENCODER_FILES, milestone
from lct.sampling.samplers import Denoiser, generate, starts
from lct.sampling.settings import Sampler, Sampling
from lct.schedules import NoiseGrid

NAME = "{}/{}/d{}.zip"  # of an image set, below the folder of its run and seed: weights, sampler, draw
AHEAD = 2  # batches that may wait to be encoded or written
log = logging.getLogger("lct")


Batch = tuple[str, str, int, int]  # weights, sampler, draw, index of the first image


def open_device(settings: dict[str, Any], device: str) -> tuple[Sampling, torch.device]:
    """The settings of sampling, and the device that is set up as they say."""
    sampling = build(Sampling, settings["sampling"], "--settings: sampling")
    return sampling, job.device(device, sampling.threads, tf32=sampling.matmul == "tf32")


class SamplingWorker:
    """Samples batches on one device; keeps the network that it used last."""

    def __init__(self, inputs: tuple[dict[str, Any], Path, Path, Path], device: str):
        """inputs: settings of the job, folder with the weights, statistics, folder of the autoencoder."""
        self.settings, self.train, statistics, autoencoder = inputs
        self.sampling, self.device = open_device(self.settings, device)
        self.noise_grid = build(NoiseGrid, self.settings["grid"], "--settings: grid")
        self.statistics = LatentStatistics.from_tensors(read_tensors(statistics))
        self.autoencoder = vae.load(autoencoder, self.device)
        self.model = functools.lru_cache(maxsize=1)(self._model)

    def __call__(self, batch: Batch) -> list[np.ndarray]:
        weights, name, draw, start = batch
        sampler = build(Sampler, self.settings["samplers"][name], f"--settings: samplers.{name}")
        f, shape = self.model(weights)
        values = (self.sampling, self.noise_grid, draw, shape, self.device)
        return list(generate(f, self.decode, sampler, *values, batches=(start,)))

    def decode(self, x: torch.Tensor) -> np.ndarray:
        latents, batch = self.statistics.denormalise(x), self.settings["encoding"]["batch"]
        return np.stack(list(vae.decode(self.autoencoder, latents, batch, self.sampling.rounding, where="sampling")))

    def _model(self, weights: str) -> tuple[Denoiser, tuple[int, int, int]]:
        """The consistency function of stored weights, and the shape (C, H, W) of its latents."""
        path, settings = self.train / f"{weights}.safetensors", self.settings
        network = build(Network, settings["network"], "--settings: network")
        scaling = build(Scaling, settings["scaling"], "--settings: scaling")
        channels, height, width = read_metadata(path)["latent_shape"]
        model = load_weights(UNet(network, channels, height), read_tensors(path), str(path)).to(self.device).eval()
        return partial(consistency, model, scaling=scaling), (channels, height, width)


def sample(
    settings: dict[str, Any],
    device: str,
    train: Annotated[Path, "folder with the weights"],
    statistics: job.Statistics,
    autoencoder: job.AutoencoderFolder,
    out: Annotated[Path, "folder to write: {weights}/{sampler}/d{draw}.zip"],
    workers: job.Workers = None,
) -> str:
    """Write the image sets of all samplers and draws below `out`; arguments are the job's options.

    Sets that are whole are not sampled again, nor are the written batches of others."""
    sampling, torch_device = open_device(settings, device)
    sets = [(weights, name, draw) for weights, name in settings["wanted"] for draw in sampling.draws]
    files = {weights: train / f"{weights}.safetensors" for weights, *_ in sets}
    shared = {"statistics": statistics} | {file: autoencoder / file for file in AUTOENCODER_FILES}
    new_record = partial(JobRecord, "sample", settings, device=torch_device.type)
    work = work_folder(out) / milestone(sets[0][0])  # jobs of other milestones write to `out`, too
    with finished_parts(new_record(inputs=files | shared), work, "sampling of these weights") as folder:
        records = {of: new_record(inputs={"weights": files[of[0]]} | shared, seeds={"draw": of[2]}) for of in sets}
        due = {
            of: UnfinishedSet(folder / NAME.format(*of), starts(sampling), sampling.count)
            for of in sets
            if not records[of].has_written([out / NAME.format(*of)])
        }
        batches = [(*of, start) for of, unfinished in due.items() for start in unfinished.missing]
        devices = pool.devices(torch_device, workers)[: max(1, len(batches))]
        every = len(sets) * len(starts(sampling))
        log.info("sample batches=%d finished=%d", every, every - len(batches))
        inputs = (settings, train, statistics, autoencoder)
        with pool.Pool(SamplingWorker, inputs, devices) as sampling_workers:
            sampled = encoded(sampling_workers.map(batches))
            for of, unfinished in due.items():
                unfinished.publish(sampled, out / NAME.format(*of), sampling.grid_images)
                records[of].write([out / NAME.format(*of)])
    run, seed = out.parts[-2:]
    names = ", ".join(name for _, name in settings["wanted"])
    return f"sample {run} {seed}: {sampling.count} images each by {names}"


def encoded(batches: Iterable[list[np.ndarray]]) -> Iterator[list[imageset.EncodedImage]]:
    """`batches`, encoded in order: a thread encodes one batch while the next one is sampled."""
    return in_order((partial(list, map(imageset.encode, batch)) for batch in batches), 1, AHEAD)


main = job.program(sample)
