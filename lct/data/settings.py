"""Settings of a dataset: where images come from, how they are split, which autoencoder encodes them, and how.

Torch-free, so that the graph can be parsed without importing torch.
"""

import contextlib
import re
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Literal

from pydantic import Discriminator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from lct.checks import require
from lct.download.settings import Origin
from lct.files.zip_tar import Limits
from lct.schedules import OPTIONAL

_Factor = Annotated[int, Field(ge=1, le=16)]
_Fraction = Annotated[float, Field(ge=0, lt=1)]
COUNTS_ADVICE = "lower them in config/datasets/"
_require = partial(require, advice="correct it in config/datasets/")


@dataclass(frozen=True, kw_only=True)
class DigitsSource:
    """The 1797 handwritten digits of scikit-learn (8x8, 17 grey levels), enlarged and jittered.

    The originals are divided before any augmentation; both sides are then augmented by one law, so that the
    distance between them measures the sampling of images alone."""

    kind: Literal["digits"] = "digits"  # the digits that ship inside scikit-learn; label = class 0-9
    heldout_originals: int = 600  # originals (of 1797) whose augmented copies make the held-out side
    rotate: Annotated[float, Field(ge=0, le=180)] = 10.0  # largest rotation, degrees either way
    zoom: _Fraction = 0.10  # largest relative change of size, either way
    shift: _Fraction = 0.06  # largest shift, share of the image's side, either way

    def __post_init__(self):
        _require(0 < self.heldout_originals < 1797, "heldout_originals", "1 to 1796", self.heldout_originals)


@dataclass(frozen=True, kw_only=True)
class PatchesSource:
    """Square crops of one of scikit-learn's two photographs (427x640 RGB), resized first.

    Two ways to hold crops out. "positions": training and held-out crops are distinct positions drawn at random, which
    makes both sides samples of one population, but neighbouring crops share pixels. "regions": the photograph is cut
    into square blocks, one in every group of 2x2 is held out, and no crop of one side shares a pixel with the other;
    the two sides then show different things, and a distance between them measures that too."""

    kind: Literal["patches"] = "patches"  # crops of a photograph that ships inside scikit-learn
    photograph: Literal["china", "flower"]  # which photograph: china.jpg or flower.jpg
    shrink: _Factor = 2  # the photograph is reduced by this factor (box filter) before crops are taken
    enlarge: _Factor = 1  # then enlarged by this one (bicubic): leaves out detail that no small autoencoder keeps
    colour: bool = True  # true: RGB; false: luminance, written three times
    split: Literal["positions", "regions"] = "positions"  # how crops are held out, see above
    block: PositiveInt = 24  # regions only: side of blocks, pixels of the resized photograph; at least the resolution
    cells: tuple[PositiveInt, PositiveInt] = (4, 6)  # rows, columns of the grid; the cell of an image is its label


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How images are taken out of files, whatever these are. Every container has an order of its own."""

    first: PositiveInt | None = None  # keep only the first so many usable images, in the source's own order; null: all
    count: PositiveInt | None = None  # images that the source must hold, exceptions included; null: not checked
    exceptions: tuple[str, ...] = ()  # names of images known to be damaged: left out, and named in the manifest
    convert: bool = False  # bring palette, transparent, CMYK and 16-bit images to RGB too; false: a stop that names
    # them
    min_side: PositiveInt = 2  # an image with a shorter side is unusable; others below the resolution are enlarged
    split: Literal["seeded", "ordered"] = "seeded"  # seeded: both sides drawn, training images in a seeded order;
    # ordered: the first `train` images are for training, the last `heldout` ones held out, in the source's own order

    def __post_init__(self):
        _require(len(set(self.exceptions)) == len(self.exceptions), "exceptions", "every name once", self.exceptions)
        path = getattr(self, "path", ".")  # of a local source
        _require(bool(path.strip()) and min(path) >= " ", "path", "a folder or file", repr(path))
        _require(getattr(self, "extensions", True), "extensions", "at least one", ())  # of image files

    @property
    def available(self) -> int | None:
        """Usable images, as far as the settings tell; None: not known."""
        left = None if self.count is None else self.count - len(self.exceptions)
        return min((n for n in (self.first, left) if n is not None), default=None)


_EXTENSIONS = ("png", "jpg", "jpeg", "webp", "bmp", "ppm", "tif", "tiff")


@dataclass(frozen=True, kw_only=True)
class FolderReading(Reading):
    """Image files, any size and mixed formats, in sorted order of their relative names; hidden files are no images."""

    kind: Literal["folder"] = "folder"  # image files in a folder
    recursive: bool = True  # also look into folders below it
    extensions: tuple[str, ...] = _EXTENSIONS  # other files are ignored
    labels: Literal["none", "folders"] = "none"  # folders: an image's label is the number of its sub-folder, sorted


@dataclass(frozen=True, kw_only=True)
class ArchiveReading(Reading):
    """Image files in one or more zip or tar archives, read where they are, in sorted order of their names."""

    kind: Literal["archive"] = "archive"  # image files in zip or tar archives (tar: also gz, bz2, xz)
    extensions: tuple[str, ...] = _EXTENSIONS  # other files are ignored
    labels: Literal["none", "folders"] = "none"  # folders: an image's label is the number of its sub-folder, sorted
    inside: str = ""  # only the members below this folder of the archive; names are then relative to it
    limits: Limits = field(default_factory=Limits)  # what an archive may hold


@dataclass(frozen=True, kw_only=True)
class ParquetReading(Reading):
    """Rows of parquet files, in order; an image is a column of encoded bytes, or of {bytes, path} as on the hub."""

    kind: Literal["parquet"] = "parquet"  # parquet files
    image: str = "image"  # column of the encoded images
    label: str | None = None  # column of labels, whole numbers; null: no labels


@dataclass(frozen=True, kw_only=True)
class LmdbReading(Reading):
    """Encoded images in an LMDB, in byte order of their keys as LSUN has them, or under numbered keys."""

    kind: Literal["lmdb"] = "lmdb"  # an LMDB folder, or a zip or tar that holds one (unpacked beside it, once)
    key: str | None = None  # keys by number, such as 256-{index:05d}, from 0 to `count` - 1; null: every key there is
    inside: str = ""  # the folder of data.mdb in the archive or folder; needed where there are several
    limits: Limits = field(default_factory=Limits)  # what an archive may hold

    def __post_init__(self):
        super().__post_init__()
        _require(self.key is None or self._is_pattern, "key", "a pattern with {index}, or null", self.key)
        _require(self.key is None or self.count is not None, "count with key", "how many keys there are", self.count)

    @property
    def _is_pattern(self) -> bool:
        """Whether `key` gives a key for each number."""
        with contextlib.suppress(ValueError, LookupError, AttributeError, TypeError):
            return len({self.key.format(index=i) for i in range(10)}) == 10
        return False


@dataclass(frozen=True, kw_only=True)
class FolderSource(FolderReading):
    """A local folder of images."""

    path: str  # the folder; relative to the repository root unless absolute


@dataclass(frozen=True, kw_only=True)
class ArchiveSource(ArchiveReading):
    """A local archive of images."""

    path: str  # the zip or tar; relative to the repository root unless absolute


@dataclass(frozen=True, kw_only=True)
class ParquetSource(ParquetReading):
    """Local parquet files."""

    path: str  # a file, or a folder of *.parquet files, read in sorted order; relative to the root unless absolute


@dataclass(frozen=True, kw_only=True)
class LmdbSource(LmdbReading):
    """A local LMDB."""

    path: str  # the LMDB, or an archive of it; relative to the repository root unless absolute


FilesReading = Annotated[FolderReading | ArchiveReading | ParquetReading | LmdbReading, Discriminator("kind")]


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """One way to get a dataset: where its files come from, and what they are."""

    origin: Origin  # where the files come from
    read: FilesReading  # what the files are


@dataclass(frozen=True, kw_only=True)
class DownloadSource:
    """Files that the graph downloads to resources/{dataset}/; the alternatives are tried in order."""

    kind: Literal["download"] = "download"  # downloaded by the graph, once for all scales
    alternatives: Annotated[tuple[Alternative, ...], Field(min_length=1)]  # tried in order; download.json says which


LocalSource = FolderSource | ArchiveSource | ParquetSource | LmdbSource
Source = Annotated[DigitsSource | PatchesSource | LocalSource | DownloadSource, Discriminator("kind")]


@dataclass(frozen=True, kw_only=True)
class TrainedAutoencoder:
    """A small diffusers AutoencoderKL trained inside the graph.

    Loss per image: mean |error| + mean error^2 (images in [-1, 1]) + kl_weight * KL / (number of pixels)."""

    kind: Literal["trained"] = "trained"  # trained in the graph, on the dataset's training side
    block_out_channels: tuple[int, ...] = (16, 32, 32)  # channels per level; each after the first halves the side
    layers_per_block: PositiveInt = 1  # residual blocks per level
    latent_channels: PositiveInt = 4  # channels of the latent
    norm_groups: PositiveInt = 8  # groups of every group normalisation
    middle_attention: bool = False  # self-attention in the middle block
    steps: int = 1500  # optimiser steps
    batch: PositiveInt = 64  # images per step
    lr: PositiveFloat = 2e-3  # AdamW step size at the start; falls linearly to zero
    warmup_steps: NonNegativeInt = 50  # steps of linear warm-up
    kl_weight: NonNegativeFloat = 1e-4  # weight of the KL term, per pixel
    seed: int = 0  # of the initial weights, the batches and the posterior noise

    def __post_init__(self):
        _require(self.steps >= 1, "autoencoder.steps", "a positive whole number", self.steps)
        widths, expected = self.block_out_channels, f"one or more multiples of norm_groups={self.norm_groups}"
        fits = widths and all(c > 0 and c % self.norm_groups == 0 for c in widths)
        _require(fits, "autoencoder.block_out_channels", expected, widths)

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
    latent_channels: PositiveInt = 4  # channels of the latent, as its config.json says
    downsampling: PositiveInt = 8  # image side divided by latent side

    def __post_init__(self):
        given = [value for value in (self.weights, self.folder) if value]
        _require(len(given) == 1, "autoencoder.weights, autoencoder.folder", "one of them", given)
        named = self.weights is None or re.fullmatch("[a-z0-9_-]+", self.weights)
        _require(bool(named), "autoencoder.weights", "a name of a-z, 0-9, _ and -", self.weights)


Autoencoder = Annotated[TrainedAutoencoder | PretrainedAutoencoder, Discriminator("kind")]


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """From images to stored latents z (the decoder's own units) and normalised latents x = sigma_data (z - mu) / sd.

    There is no scale factor here: any constant multiple of z cancels in x, and denormalised latents go straight into
    the decoder, so the autoencoder's `scaling_factor` (0.18215 for Stable Diffusion's) has no place to go wrong."""

    sample: Literal["posterior", "mode"] = "posterior"  # one draw per image, kept (paper), or the mean
    normalisation: Literal["per-element", "per-channel"] = "per-element"  # axes over which mu and sd are taken
    sigma_data: float = 0.5  # standard deviation of normalised latents
    batch: PositiveInt = 250  # images per pass of the encoder and decoder; part of the result's last bit
    seed: int = 0  # of the posterior draws; image i of a side draws from (seed, "encode/{side}", i)
    reconstruct: PositiveInt | None = None  # training images decoded again, the first ones; null: all; held-out: all

    def __post_init__(self):
        _require(self.sigma_data > 0, "encoding.sigma_data", "a positive number", self.sigma_data)

    @property
    def id(self) -> str:
        """What changes the latents, as a name in their path. How they are normalised touches the statistics alone."""
        return self.sample if self.sample == "mode" or self.seed == 0 else f"{self.sample}-s{self.seed}"


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """One dataset: images, their split, autoencoder and encoding. config/datasets/*.yaml adds the extractor."""

    title: str  # name shown in tables
    stands_for: str | None = None  # the paper's dataset whose place this one takes; null: it is that dataset
    note: str | None = None  # what a reader of its numbers should know, printed in the caption
    licence: str | None = field(default=None, metadata=OPTIONAL)  # SPDX id of the images' licence; null: not stated
    source: Source  # where the images come from
    resolution: PositiveInt  # side of the square images, pixels
    train: PositiveInt | None = None  # training images; null: all that are not held out
    heldout: int = 0  # held-out images, used for the floor row only
    split_seed: int = 0  # of the split, the augmentation and the order of the training images
    flips: Literal["none", "appended"] = "none"  # appended: mirror images of all training images follow them
    autoencoder: Autoencoder = field(default_factory=TrainedAutoencoder)  # the autoencoder of the latents
    encoding: Encoding = field(default_factory=Encoding)  # how latents are drawn and normalised

    def __post_init__(self):
        _require(self.heldout >= 0, "heldout", "zero or more", self.heldout)
        if self.train is None:
            expected = "a count (augmented and cropped images have no natural number)"
            drawn = isinstance(self.source, DigitsSource | PatchesSource)
            _require(not drawn, f"train with source {self.source.kind}", expected, None)
        if isinstance(self.source, PatchesSource):
            blocks = self.source.split == "positions" or self.source.block >= self.resolution
            _require(blocks, "source.block", f"at least the resolution, {self.resolution}", self.source.block)
        for reading in readings(self.source):
            needed = (self.train or 1) + self.heldout
            enough = reading.available is None or reading.available >= needed
            require(enough, "train, heldout", f"at most the source's {reading.available} images", needed, COUNTS_ADVICE)
        factor = self.autoencoder.downsampling
        _require(self.resolution % factor == 0, "resolution", f"a multiple of {factor}", self.resolution)

    @property
    def count(self) -> int | None:
        """Training latents: `train`, and their mirror images where those are appended; None: as many as there are."""
        return self.train and self.train * (2 if self.flips == "appended" else 1)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a latent."""
        side = self.resolution // self.autoencoder.downsampling
        return self.autoencoder.latent_channels, side, side


def readings(source: Source) -> tuple[Reading, ...]:
    """Every way in which a source may be read; none for images that are computed."""
    if isinstance(source, DownloadSource):
        return tuple(alternative.read for alternative in source.alternatives)
    return (source,) if isinstance(source, Reading) else ()
