"""Encoding in shards: each a fixed number of batches of one split, one file, the same bytes whoever computes it.

A shard holds its latents and, for the images to be decoded again, the decoded pixels and their squared error. It
carries the hash of its content, so that a damaged shard is computed again instead of being published.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from lct.data import autoencoder as vae
from lct.data.imageset import ImageSet
from lct.data.settings import Encoding
from lct.files.hashing import canonical_json
from lct.files.tensors import read_metadata, read_tensors, write_tensors

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


def cut(split: str, images: ImageSet, encoding: Encoding, reconstruct: int | None) -> list[Shard]:
    """The shards of a split: a function of the images and the encoding, never of who computes them.

    reconstruct: how many images are decoded again, from the first on; None: all."""
    fitting = _BYTES // max(1, images.height * images.width * 3)
    size = encoding.batch * max(1, min(_IMAGES, fitting) // encoding.batch)
    decoded = len(images) if reconstruct is None else min(reconstruct, len(images))
    return [
        Shard(split, number, first, (stop := min(first + size, len(images))), max(0, min(decoded, stop) - first))
        for number, first in enumerate(range(0, len(images), size))
    ]


def compute(model: AutoencoderKL, images: ImageSet, encoding: Encoding, shard: Shard) -> ShardContent:
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


def write(folder: Path, shard: Shard, content: ShardContent) -> None:
    """Store a shard atomically."""
    tensors = {"latents": content.latents, "images": torch.from_numpy(content.images)}
    metadata = {"squares": content.squares, "sha256": _digest(shard, content)}
    write_tensors(folder / shard.name, tensors, metadata)


def read(folder: Path, shard: Shard) -> ShardContent | None:
    """A stored shard; None if it is missing, damaged, or another one."""
    path = folder / shard.name
    try:
        tensors, metadata = read_tensors(path), read_metadata(path)
        content = ShardContent(tensors["latents"], tensors["images"].numpy(), metadata["squares"])
    except (ValueError, KeyError):
        return None
    return content if _digest(shard, content) == metadata.get("sha256") else None


def _digest(shard: Shard, content: ShardContent) -> str:
    facts = [vars(shard), content.squares, list(content.latents.shape), list(content.images.shape)]
    digest = hashlib.sha256(canonical_json(facts).encode())
    for array in (content.latents.numpy(), content.images):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
