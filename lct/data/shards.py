"""Encoding in parts: each a fixed number of batches of one side, one file, the same bytes whoever makes it.

A part holds its latents and, for the images to be decoded again, the decoded pixels and their squared error. It carries
the hash of its content, so that a damaged one is made again instead of being published.
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

_IMAGES, _BYTES = 1024, 64_000_000  # most images of a part, and most bytes of its pixels


@dataclass(frozen=True)
class Shard:
    """What one file of the work folder holds."""

    side: str  # train or heldout
    number: int
    first: int  # index of its first image; starts a batch
    stop: int  # index after its last one
    decoded: int  # how many of its images, from the first on, are decoded again

    @property
    def name(self) -> str:
        return f"part-{self.side}-{self.number:05d}.safetensors"


@dataclass(frozen=True)
class ShardContent:
    """A part that was read and agrees with its hash."""

    latents: Tensor  # (n, C, h, w) float32
    images: np.ndarray  # (decoded, H, W, 3) uint8
    squares: int  # sum of squared differences between decoded and original pixels


def parts(side: str, images: ImageSet, encoding: Encoding, reconstruct: int | None) -> list[Shard]:
    """The parts of a side: a function of the images and the encoding, never of who computes them."""
    fitting = _BYTES // max(1, images.height * images.width * 3)
    size = encoding.batch * max(1, min(_IMAGES, fitting) // encoding.batch)
    wanted = len(images) if reconstruct is None else min(reconstruct, len(images))
    return [
        Shard(side, number, first, (stop := min(first + size, len(images))), max(0, min(wanted, stop) - first))
        for number, first in enumerate(range(0, len(images), size))
    ]


def make(model: AutoencoderKL, images: ImageSet, encoding: Encoding, part: Shard) -> ShardContent:
    """Encode a part's images, and decode those asked for in full batches."""
    z = vae.encode(model, images, encoding, part.side, range(part.first, part.stop))
    whole = -(-part.decoded // encoding.batch) * encoding.batch
    decoded, squares = np.empty((part.decoded, images.height, images.width, 3), np.uint8), 0
    for i, image in zip(range(part.decoded), vae.decode(model, z[:whole], encoding.batch), strict=False):
        decoded[i] = image
        squares += vae.squared_error(images[part.first + i], image)
    return ShardContent(z, decoded, squares)


def write(folder: Path, part: Shard, content: ShardContent) -> None:
    """Store a part atomically."""
    tensors = {"latents": content.latents, "images": torch.from_numpy(content.images)}
    metadata = {"squares": content.squares, "sha256": _digest(part, content)}
    write_tensors(folder / part.name, tensors, metadata)


def read(folder: Path, part: Shard) -> ShardContent | None:
    """A stored part; None if it is missing, damaged, or another one."""
    path = folder / part.name
    try:
        tensors, metadata = read_tensors(path), read_metadata(path)
        content = ShardContent(tensors["latents"], tensors["images"].numpy(), metadata["squares"])
    except (ValueError, KeyError):
        return None
    return content if _digest(part, content) == metadata.get("sha256") else None


def _digest(part: Shard, content: ShardContent) -> str:
    about = [vars(part), content.squares, list(content.latents.shape), list(content.images.shape)]
    found = hashlib.sha256(canonical_json(about).encode())
    for array in (content.latents.numpy(), content.images):
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
