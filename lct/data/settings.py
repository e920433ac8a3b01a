"""Settings of a dataset: where images come from, how they are split, which autoencoder encodes them, and how.

Torch-free, so that the graph can be parsed without importing torch.
"""

import re
from dataclasses import dataclass, field
from typing import Literal


def _require(condition: bool, where: str, expected: str, found: object) -> None:
    if not condition:
        raise ValueError(f"{where}: expected {expected}, found {found}; correct it in config/datasets/")


@dataclass(frozen=True, kw_only=True)
class DigitsSource:
    """The 1797 handwritten digits of scikit-learn (8x8, 17 grey levels), enlarged and jittered.

    The originals are divided before any augmentation; both sides are then augmented by one law, so that the
    distance between them measures the sampling of images alone."""

    kind: Literal["digits"] = "digits"  # the digits that ship inside scikit-learn; label = class 0-9
    heldout_originals: int = 600  # originals (of 1797) whose augmented copies make the held-out side
    rotate: float = 10.0  # largest rotation, degrees either way
    zoom: float = 0.10  # largest relative change of size, either way
    shift: float = 0.06  # largest shift, share of the image's side, either way

    def __post_init__(self):
        _require(0 < self.heldout_originals < 1797, "heldout_originals", "1 to 1796", self.heldout_originals)
        _require(0 <= self.rotate <= 180, "rotate", "0 to 180 degrees", self.rotate)
        _require(0 <= self.zoom < 1, "zoom", "0 <= zoom < 1", self.zoom)
        _require(0 <= self.shift < 1, "shift", "0 <= shift < 1", self.shift)


@dataclass(frozen=True, kw_only=True)
class PatchesSource:
    """Square crops of one of scikit-learn's two photographs (427x640 RGB), resized first.

    Two ways to hold crops out. "positions": training and held-out crops are distinct positions drawn at random, which
    makes both sides samples of one population, but neighbouring crops share pixels. "regions": the photograph is cut
    into square blocks, one in every group of 2x2 is held out, and no crop of one side shares a pixel with the other;
    the two sides then show different things, and a distance between them measures that too."""

    kind: Literal["patches"] = "patches"  # crops of a photograph that ships inside scikit-learn
    photograph: Literal["china", "flower"]  # which photograph: china.jpg or flower.jpg
    shrink: int = 2  # the photograph is reduced by this factor (box filter) before crops are taken
    enlarge: int = 1  # then enlarged by this one (bicubic): leaves out detail that no small autoencoder keeps
    colour: bool = True  # true: RGB; false: luminance, written three times
    split: Literal["positions", "regions"] = "positions"  # how crops are held out, see above
    block: int = 24  # regions only: side of the blocks, pixels of the resized photograph; at least the resolution
    cells: tuple[int, int] = (4, 6)  # rows, columns of the grid whose cell index is an image's label (pretext task)

    def __post_init__(self):
        _require(1 <= self.shrink <= 16, "shrink", "1 to 16", self.shrink)
        _require(1 <= self.enlarge <= 16, "enlarge", "1 to 16", self.enlarge)
        _require(self.block >= 1, "block", "a positive side", self.block)
        _require(min(self.cells) >= 1 and len(self.cells) == 2, "cells", "two positive counts", self.cells)


@dataclass(frozen=True, kw_only=True)
class FolderSource:
    """Image files in a folder, any size and any of Pillow's formats, in sorted order of their relative names."""

    kind: Literal["folder"] = "folder"  # image files in a local folder; no labels
    path: str  # the folder; relative to the repository root unless absolute
    recursive: bool = True  # also look into folders below it
    extensions: tuple[str, ...] = ("png", "jpg", "jpeg", "webp", "bmp", "ppm", "tif", "tiff")  # others are ignored
    first: int | None = None  # keep only the first so many, in sorted order; null: all
    convert: bool = False  # bring palette, transparent, CMYK and 16-bit images to RGB too; false: stop at the first

    def __post_init__(self):
        _require(bool(self.path), "path", "a folder's name", repr(self.path))
        _require(bool(self.extensions), "extensions", "at least one", self.extensions)
        _require(self.first is None or self.first > 0, "first", "a positive count or null", self.first)


Source = DigitsSource | PatchesSource | FolderSource


@dataclass(frozen=True, kw_only=True)
class TrainedAutoencoder:
    """A small diffusers AutoencoderKL trained inside the graph.

    Loss per image: mean |error| + mean error^2 (images in [-1, 1]) + kl_weight * KL / (number of pixels)."""

    kind: Literal["trained"] = "trained"  # trained in the graph, on the dataset's training side
    block_out_channels: tuple[int, ...] = (16, 32, 32)  # channels per level; each after the first halves the side
    layers_per_block: int = 1  # residual blocks per level
    latent_channels: int = 4  # channels of the latent
    norm_groups: int = 8  # groups of every group normalisation
    middle_attention: bool = False  # self-attention in the middle block
    steps: int = 1500  # optimiser steps
    batch: int = 64  # images per step
    lr: float = 2e-3  # AdamW step size at the start; falls linearly to zero
    warmup_steps: int = 50  # steps of linear warm-up
    kl_weight: float = 1e-4  # weight of the KL term, per pixel
    seed: int = 0  # of the initial weights, the batches and the posterior noise

    def __post_init__(self):
        for name in ("layers_per_block", "latent_channels", "norm_groups", "steps", "batch"):
            _require(getattr(self, name) >= 1, f"autoencoder.{name}", "a positive whole number", getattr(self, name))
        _require(
            bool(self.block_out_channels) and all(c > 0 and c % self.norm_groups == 0 for c in self.block_out_channels),
            "autoencoder.block_out_channels",
            f"one or more multiples of norm_groups={self.norm_groups}",
            self.block_out_channels,
        )
        _require(self.lr > 0, "autoencoder.lr", "a positive number", self.lr)
        _require(self.kl_weight >= 0, "autoencoder.kl_weight", "zero or more", self.kl_weight)
        _require(self.warmup_steps >= 0, "autoencoder.warmup_steps", "zero or more", self.warmup_steps)

    @property
    def downsampling(self) -> int:
        """Image side divided by latent side."""
        return 2 ** (len(self.block_out_channels) - 1)


@dataclass(frozen=True, kw_only=True)
class PretrainedAutoencoder:
    """An AutoencoderKL in diffusers' folder layout: config.json + diffusion_pytorch_model.safetensors.

    Its `scaling_factor` is neither a setting here nor read from config.json: see Encoding."""

    kind: Literal["pretrained"] = "pretrained"  # used as it is, no training
    weights: str | None = None  # a file in config/weights/: downloaded to resources/{weights}/files; or:
    folder: str | None = None  # a local folder with the two files; relative to the repository root unless absolute
    latent_channels: int = 4  # channels of the latent, as its config.json says
    downsampling: int = 8  # image side divided by latent side

    def __post_init__(self):
        given = [value for value in (self.weights, self.folder) if value]
        _require(len(given) == 1, "autoencoder.weights, autoencoder.folder", "one of them", given)
        named = self.weights is None or re.fullmatch("[a-z0-9_-]+", self.weights)
        _require(bool(named), "autoencoder.weights", "a name of a-z, 0-9, _ and -", self.weights)
        sizes = (self.latent_channels, self.downsampling)
        _require(min(sizes) >= 1, "autoencoder.latent_channels, downsampling", "positive counts", sizes)


Autoencoder = TrainedAutoencoder | PretrainedAutoencoder


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """From images to stored latents z (the decoder's own units) and normalised latents x = sigma_data (z - mu) / sd.

    There is no scale factor here: any constant multiple of z cancels in x, and denormalised latents go straight into
    the decoder, so the autoencoder's `scaling_factor` (0.18215 for Stable Diffusion's) has no place to go wrong."""

    sample: Literal["posterior", "mode"] = "posterior"  # one draw per image, kept (paper), or the mean
    normalisation: Literal["per-element", "per-channel"] = "per-element"  # axes over which mu and sd are taken
    sigma_data: float = 0.5  # standard deviation of normalised latents
    batch: int = 250  # images per pass of the encoder and decoder; part of the result's last bit
    seed: int = 0  # of the posterior draws; image i of a side draws from (seed, "encode/{side}", i)
    reconstruct: int | None = None  # training images decoded again, the first ones; null: all; held-out: always all

    def __post_init__(self):
        _require(self.sigma_data > 0, "encoding.sigma_data", "a positive number", self.sigma_data)
        _require(self.batch >= 1, "encoding.batch", "a positive whole number", self.batch)
        known = self.reconstruct is None or self.reconstruct >= 1
        _require(known, "encoding.reconstruct", "a positive count or null", self.reconstruct)

    @property
    def id(self) -> str:
        """What changes the latents, as a name in their path. How they are normalised touches the statistics alone."""
        return self.sample if self.sample == "mode" or self.seed == 0 else f"{self.sample}-s{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One dataset: images, their split, autoencoder and encoding. config/datasets/*.yaml adds the extractor."""

    title: str  # name shown in tables
    stands_for: str | None = None  # the paper's dataset whose place this one takes; null: it is that dataset
    note: str | None = None  # what a reader of its numbers should know, printed in the caption
    source: Source  # where the images come from
    resolution: int  # side of the square images, pixels
    train: int | None = None  # training images; null: all that are not held out
    heldout: int = 0  # held-out images, used for the floor row only
    split_seed: int = 0  # of the split, the augmentation and the order of the training images
    flips: Literal["none", "appended"] = "none"  # appended: mirror images of all training images follow them
    autoencoder: Autoencoder = field(default_factory=TrainedAutoencoder)  # the autoencoder of the latents
    encoding: Encoding = field(default_factory=Encoding)  # how latents are drawn and normalised

    def __post_init__(self):
        _require(self.resolution >= 1, "resolution", "a positive side in pixels", self.resolution)
        _require(self.train is None or self.train >= 1, "train", "a positive count or null", self.train)
        _require(self.heldout >= 0, "heldout", "zero or more", self.heldout)
        if self.train is None:
            expected = "a count (augmented and cropped images have no natural number)"
            _require(self.source.kind == "folder", f"train with source {self.source.kind}", expected, None)
        if isinstance(self.source, PatchesSource):
            blocks = self.source.split == "positions" or self.source.block >= self.resolution
            _require(blocks, "source.block", f"at least the resolution, {self.resolution}", self.source.block)
        factor = self.autoencoder.downsampling
        _require(self.resolution % factor == 0, "resolution", f"a multiple of {factor}", self.resolution)

    @property
    def count(self) -> int | None:
        """Training latents: `train`, and their mirror images where those are appended; None: as many as there are."""
        return self.train and self.train * (2 if self.flips == "appended" else 1)
