"""encode: training images to latents and their statistics; reconstructions of both splits.

The work is cut into shards, each a fixed number of batches of one split in one file, the same bytes whoever computes
it. They are dealt out to one process per visible GPU and kept under --work until everything is published: the same
command goes on after any interruption, to the same bytes for any number of workers. A shard carries the hash of its
content, so that a damaged one is computed again instead of being published.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from lct.checks import invalid
from lct.config.schema import build
from lct.data import autoencoder as vae
from lct.data import imageset
from lct.data.distribution import describe, spaced
from lct.data.imageset import ImageSet
from lct.data.latents import PART, LatentMoments, LatentStatistics, check_normalised, from_moments
from lct.data.settings import Encoding
from lct.files.atomic import atomic, read_json, write_json
from lct.files.hashing import canonical_json
from lct.files.progress import ProgressLogger
from lct.files.records import JobRecord
from lct.files.tensors import pick_rows, read_metadata, read_rows, read_tensors, stream_tensor, write_tensors
from lct.jobs import job, pool
from lct.jobs.resume import finished_parts
from lct.plan.paths import AUTOENCODER_FILES, IMAGE_SPLITS, LATENT_FILES, RECONSTRUCTIONS, manifest

log = logging.getLogger("lct.encode")

SUMMARY = "summary.json"
SHOWN = 16  # images above their reconstructions in the picture
TAILS = 2000  # latents, evenly spaced, whose pooled values are described in the summary
_IMAGES, _BYTES = 1024, 64_000_000  # most images of a shard, and most bytes of its pixels


@dataclass(frozen=True)
class Shard:
    """Which images one file of the work folder stands for."""

    split: str  # train or heldout
    number: int
    first: int  # index of its first image; starts a batch
    stop: int  # index after its last one
    decoded: int  # how many of its images, from the first on, are decoded again

    @property
    def name(self) -> str:
        return f"shard-{self.split}-{self.number:05d}.safetensors"


@dataclass(frozen=True)
class ShardContent:
    """What the file of a shard holds."""

    latents: Tensor  # (n, C, h, w) float32
    images: np.ndarray  # (decoded, H, W, 3) uint8
    squares: int  # sum of squared differences between decoded and original pixels

    def digest(self, shard: Shard) -> str:
        """A hash of the content and of the shard that it is of."""
        facts = [vars(shard), self.squares, list(self.latents.shape), list(self.images.shape)]
        digest = hashlib.sha256(canonical_json(facts).encode())
        for array in (self.latents.numpy(), self.images):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def cut_shards(split: str, images: ImageSet, encoding: Encoding, reconstruct: int | None) -> list[Shard]:
    """The shards of a split: a function of the images and the encoding, never of who computes them.

    reconstruct: how many images are decoded again, from the first on; None: all."""
    fitting = _BYTES // max(1, images.height * images.width * 3)
    size = encoding.batch * max(1, min(_IMAGES, fitting) // encoding.batch)
    decoded = len(images) if reconstruct is None else min(reconstruct, len(images))
    return [
        Shard(split, number, first, (stop := min(first + size, len(images))), max(0, min(decoded, stop) - first))
        for number, first in enumerate(range(0, len(images), size))
    ]


def compute_shard(model: AutoencoderKL, images: ImageSet, encoding: Encoding, shard: Shard) -> ShardContent:
    """Encode the images of a shard; decode the first `shard.decoded` of them again, in full batches."""
    z = vae.encode(model, images, encoding, shard.split, range(shard.first, shard.stop))
    whole = -(-shard.decoded // encoding.batch) * encoding.batch
    decoded, squares = np.empty((shard.decoded, images.height, images.width, 3), np.uint8), 0
    images_again = vae.decode(
        model, z[:whole], encoding.batch, where=f"reconstructing {images.path}", first=shard.first
    )
    for i, image in zip(range(shard.decoded), images_again, strict=False):
        decoded[i] = image
        squares += vae.squared_error(images[shard.first + i], image)
    return ShardContent(z, decoded, squares)


@dataclass(frozen=True)
class EncoderInputs:
    """What shards are computed from, and where they are kept; picklable, so that another process can compute them."""

    autoencoder: Path
    manifests: dict[str, Path]  # split -> manifest
    encoding: Encoding
    folder: Path

    def cut(self, split: str) -> list[Shard]:
        """The shards of a split, whose image set is checked whole."""
        with imageset.open_checked(self.manifests[split], deep=True) as images:
            return cut_shards(split, images, self.encoding, self.encoding.reconstruct if split == "train" else None)

    def read(self, shard: Shard) -> ShardContent:
        """A finished shard. Raises ValueError where it is missing, damaged, or another one."""
        path = self.folder / shard.name
        with suppress(ValueError, KeyError):
            tensors, metadata = read_tensors(path), read_metadata(path)
            content = ShardContent(tensors["latents"], tensors["images"].numpy(), metadata["squares"])
            if content.digest(shard) == metadata["sha256"]:
                return content
        raise invalid(path, "a whole shard", "damage", "run the same command again")

    def has(self, shard: Shard) -> bool:
        """Whether a shard is finished."""
        with suppress(ValueError):
            return self.read(shard) is not None
        return False


def encode(
    settings: dict[str, Any],
    device: str,
    train: Annotated[Path, "manifest of the training images"],
    heldout: Annotated[Path, "manifest of the held-out images; may be empty"],
    autoencoder: job.AutoencoderFolder,
    work: Annotated[Path, "folder for finished shards, until all are published"],
    out: job.Folder,
    workers: job.Workers = None,
) -> str:
    """Write latents, statistics, reconstructions and a summary to `out`; arguments are the job's options.

    settings: {"encoding": ...}. Finished shards in `work` are used again; returns the line for the terminal."""
    encoding = build(Encoding, settings["encoding"], "--settings: encoding")
    torch_device = job.device(device, threads=1)
    manifests = dict(zip(IMAGE_SPLITS, (train, heldout), strict=True))
    files = manifests | {name: autoencoder / name for name in AUTOENCODER_FILES}
    record = JobRecord("encode", settings, inputs=files, seeds={"encode": encoding.seed}, device=torch_device.type)
    names = [*LATENT_FILES, *(f"{name}.zip" for name in RECONSTRUCTIONS)]
    with finished_parts(record, work, "encoding of this dataset") as folder:
        if not record.has_written([out / name for name in names]):
            inputs = EncoderInputs(autoencoder, manifests, encoding, folder)
            cuts = {split: inputs.cut(split) for split in IMAGE_SPLITS}
            every = [shard for cut in cuts.values() for shard in cut]
            _compute_missing(inputs, every, pool.devices(torch_device, workers))
            _publish(inputs, cuts, out)
            record.write([out / name for name in names])
    summary = read_json(out / SUMMARY)
    psnrs = {split: summary[f"psnr_{split}"] for split in IMAGE_SPLITS}
    texts = [f"PSNR {float(psnr):.1f} dB {split}" for split, psnr in psnrs.items() if psnr is not None]
    return f"encode {out.parent.name}: {summary['count']} latents, {', '.join(texts)}"


def _compute_missing(inputs: EncoderInputs, every: list[Shard], devices: list[str]) -> None:
    missing = [shard for shard in every if not inputs.has(shard)]
    devices = devices[: max(1, len(missing))]
    log.info("encode shards=%d finished=%d on %s", len(every), len(every) - len(missing), ", ".join(devices))
    count, done = ProgressLogger("encode", sum(shard.stop - shard.first for shard in missing)), 0
    with pool.Pool(open_encoder, inputs, devices) as encoders:
        for images in encoders.map(missing):
            count(done := done + images)


def open_encoder(inputs: EncoderInputs, device: str) -> Callable[[Shard], int]:
    """A function that computes and stores a shard and returns the number of its images."""
    model = vae.load(inputs.autoencoder, job.device(device, threads=1))
    opened = {split: imageset.open_checked(path) for split, path in inputs.manifests.items()}

    def encoder(shard: Shard) -> int:
        content = compute_shard(model, opened[shard.split], inputs.encoding, shard)
        tensors = {"latents": content.latents, "images": torch.from_numpy(content.images)}
        metadata = {"squares": content.squares, "sha256": content.digest(shard)}
        write_tensors(inputs.folder / shard.name, tensors, metadata)
        return shard.stop - shard.first

    return encoder


def _publish(inputs: EncoderInputs, cuts: dict[str, list[Shard]], out: Path) -> None:
    """Outputs from the finished shards, one shard in memory at a time."""
    summary = _publish_latents(inputs, cuts["train"], out)
    for split, cut in cuts.items():
        summary |= _publish_reconstructions(inputs, split, cut, out)
    shown = "heldout" if cuts["heldout"] else "train"
    _publish_picture(inputs.manifests[shown], out / f"reconstructed-{shown}.zip", out / "reconstructions.grid.png")
    write_json(out / SUMMARY, summary)


def _publish_latents(inputs: EncoderInputs, cut: list[Shard], out: Path) -> dict[str, Any]:
    """Latents and their statistics, measured as they pass; then checked and described in a second pass."""
    path, moments = out / "latents.safetensors", LatentMoments()
    count, shape = cut[-1].stop, tuple(inputs.read(cut[0]).latents.shape[1:])

    def measured() -> Iterator[torch.Tensor]:
        for shard in cut:
            z = inputs.read(shard).latents
            moments.update(z)
            yield z

    stream_tensor(path, "latents", measured(), (count, *shape))
    statistics = from_moments(moments, inputs.encoding)
    write_tensors(out / "statistics.safetensors", statistics.tensors() | moments.tensors())
    normalised = (statistics.normalise(z) for z in read_rows(path, "latents", PART))
    spread = check_normalised(normalised, statistics, str(path))
    return {"count": count, "shape": shape, "normalised_std": spread, "tails": tails(path, statistics, count)}


def _publish_reconstructions(inputs: EncoderInputs, split: str, cut: list[Shard], out: Path) -> dict[str, Any]:
    """The decoded images of a split as an image set, and how close they are to the originals."""
    path, squares = out / f"reconstructed-{split}.zip", 0

    def decoded() -> Iterator[np.ndarray]:
        nonlocal squares
        for shard in (shard for shard in cut if shard.decoded):
            content = inputs.read(shard)
            squares += content.squares
            yield from content.images

    count = sum(shard.decoded for shard in cut)
    with atomic(path) as file:
        images = job.progress(decoded(), count, path.stem)
        description = imageset.write_imageset(file, images, name=path.name, allow_empty=not cut)
    write_json(manifest(str(path)), description)
    values = count * description["height"] * description["width"] * 3
    return {f"reconstructed_{split}": count, f"psnr_{split}": vae.psnr(squares, values) if values else None}


def tails(latents: Path, statistics: LatentStatistics, count: int) -> dict[str, float]:
    """How heavy the tails of normalised latents are, from at most TAILS of them."""
    rows = spaced(count, TAILS)
    values = describe(statistics.normalise(pick_rows(latents, "latents", rows)).numpy())
    kept = {"outlier_share": values["beyond_outer"]} | {key: values[key] for key in ("excess_kurtosis", "max_abs")}
    return {"latents": len(rows)} | kept


def _publish_picture(originals: Path, reconstructions: Path, out: Path) -> None:
    with (
        imageset.open_checked(originals) as images,
        imageset.ImageSet(reconstructions) as reconstructed,
        atomic(out) as file,
    ):
        shown = min(SHOWN, len(reconstructed))
        pairs = np.concatenate([images.array(0, shown), reconstructed.array(0, shown)])
        imageset.write_grid(file, pairs, columns=shown, scale=2)


main = job.program(encode)
