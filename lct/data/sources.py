"""Sources of images: one function per kind of source, from settings to a training and a held-out side.

Every side knows its items (where each image comes from, its label) before an image is decoded, and hands its images
out one at a time, (H, W, 3) uint8. The held-out side is set apart before any augmentation or crop. A new kind of source
is a settings class in lct/data/settings.py and a function in SOURCES.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFile, UnidentifiedImageError

from lct.data.settings import Dataset, DigitsSource, FolderSource, PatchesSource
from lct.streams import generator

_DIGITS_WHITE = 16  # the digits' largest grey level
_WORK = 4  # digits are warped at this multiple of their final side, then reduced: no jagged edges


@dataclass(frozen=True)
class Side:
    """One side of a split: `items[i]` describes the image that `image(i)` makes."""

    items: list[dict[str, Any]]
    image: Callable[[int], np.ndarray]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.image(i) for i in range(len(self)))


@dataclass(frozen=True)
class Sides:
    train: Side
    heldout: Side


def load(dataset: Dataset, root: Path | str = ".") -> Sides:
    """The two sides of `dataset`; relative folders are looked up in `root`."""
    sides = SOURCES[dataset.source.kind](dataset.source, dataset, Path(root))
    return Sides(_with_flips(sides.train), sides.heldout) if dataset.flips == "appended" else sides


def _permutation(count: int, seed: int, stream: str) -> list[int]:
    return torch.randperm(count, generator=generator(seed, stream)).tolist()


def _uniform(seed: int, stream: str, index: int, count: int) -> list[float]:
    """`count` numbers in [-1, 1), a function of (seed, stream, index) alone."""
    return (2 * torch.rand(count, generator=generator(seed, stream, index), dtype=torch.float64) - 1).tolist()


def _with_flips(side: Side) -> Side:
    count = len(side)
    mirrored = [{**item, "source": item["source"] + " mirrored"} for item in side.items]
    return Side(side.items + mirrored, lambda i: side.image(i) if i < count else side.image(i - count)[:, ::-1].copy())


def digits(source: DigitsSource, dataset: Dataset, root: Path) -> Sides:
    """scikit-learn's digits, bicubic from 8x8 to the resolution, each image one affine jitter of one original."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    originals, classes = bunch.images, bunch.target  # (1797, 8, 8) in 0..16; (1797,)
    order = _permutation(len(originals), dataset.split_seed, "digits/split")
    sides = {"train": order[source.heldout_originals :], "heldout": order[: source.heldout_originals]}

    def side(name: str, count: int) -> Side:
        own = sides[name]
        # Whole rounds over the originals, so that no class is drawn more often than it occurs; then one shuffle.
        picks = [own[i % len(own)] for i in range(count)]
        picks = [picks[i] for i in _permutation(count, dataset.split_seed, f"digits/order/{name}")]

        def image(i: int) -> np.ndarray:
            draws = _uniform(dataset.split_seed, f"digits/affine/{name}", i, 4)
            grey = _jitter(originals[picks[i]] / _DIGITS_WHITE, dataset.resolution, source, draws)
            return np.repeat(grey[:, :, None], 3, axis=2)

        return Side([{"source": f"digit {p}", "label": int(classes[p])} for p in picks], image)

    return Sides(side("train", dataset.train), side("heldout", dataset.heldout))


def _jitter(original: np.ndarray, resolution: int, source: DigitsSource, draws: list[float]) -> np.ndarray:
    """One grey image in [0, 1], rotated, zoomed and shifted about its centre, as (resolution, resolution) uint8."""
    side = resolution * _WORK
    canvas = Image.fromarray(original.astype(np.float32), "F").resize((side, side), Image.Resampling.BICUBIC)
    angle, zoom = math.radians(source.rotate * draws[0]), 1 + source.zoom * draws[1]
    shift_x, shift_y = (source.shift * side * draw for draw in draws[2:])
    cos, sin, centre = math.cos(angle) / zoom, math.sin(angle) / zoom, side / 2
    # Pillow asks for the inverse map: output pixel -> input pixel.
    x0, y0 = centre + shift_x, centre + shift_y
    inverse = (cos, sin, centre - cos * x0 - sin * y0, -sin, cos, centre + sin * x0 - cos * y0)
    warped = canvas.transform((side, side), Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR)
    small = np.asarray(warped.resize((resolution, resolution), Image.Resampling.BOX))
    return np.rint(255 * small.clip(0, 1)).astype(np.uint8)


def patches(source: PatchesSource, dataset: Dataset, root: Path) -> Sides:
    """Distinct crops of one photograph, in a seeded order."""
    from sklearn.datasets import load_sample_image

    photograph = Image.fromarray(load_sample_image(f"{source.photograph}.jpg"))
    photograph = photograph.convert("RGB" if source.colour else "L").convert("RGB").reduce(source.shrink)
    size = photograph.width * source.enlarge, photograph.height * source.enlarge
    photograph = photograph.resize(size, Image.Resampling.BICUBIC) if source.enlarge > 1 else photograph
    pixels, crop = np.asarray(photograph), dataset.resolution
    height, width = pixels.shape[:2]
    rows, columns = source.cells

    def side(name: str, positions: np.ndarray, count: int) -> Side:
        if count > len(positions):
            raise ValueError(
                f"{dataset.title}: {name}: expected at most {len(positions)} distinct {crop}x{crop} crops of "
                f"{source.photograph}, found {count} asked for; lower {name} or shrink"
            )
        picks = positions[:count].tolist()

        def item(top: int, left: int) -> dict[str, Any]:
            row, column = (top + crop // 2) * rows // height, (left + crop // 2) * columns // width
            return {"source": f"{source.photograph} {top},{left}", "label": row * columns + column}

        def image(i: int) -> np.ndarray:
            top, left = picks[i]
            return pixels[top : top + crop, left : left + crop].copy()

        return Side([item(top, left) for top, left in picks], image)

    positions = np.argwhere(np.ones((max(0, height - crop + 1), max(0, width - crop + 1)), bool))
    positions = positions[_permutation(len(positions), dataset.split_seed, f"patches/{source.photograph}")]
    if source.split == "positions":
        heldout, train = positions[: dataset.heldout], positions[dataset.heldout :]
    else:
        blocks = _heldout_blocks(-(-height // source.block), -(-width // source.block), dataset.split_seed)
        mask = blocks.repeat(source.block, axis=0).repeat(source.block, axis=1)[:height, :width]
        windows = np.lib.stride_tricks.sliding_window_view(mask, (crop, crop))[tuple(positions.T)]
        heldout, train = positions[windows.all((1, 2))], positions[~windows.any((1, 2))]
    return Sides(side("train", train, dataset.train), side("heldout", heldout, dataset.heldout))


def _heldout_blocks(rows: int, columns: int, seed: int) -> np.ndarray:
    """(rows, columns) bool: one block, drawn by the seed, in every group of 2x2."""
    heldout = np.zeros((rows + rows % 2, columns + columns % 2), bool)
    draws = torch.randint(4, (heldout.shape[0] // 2, heldout.shape[1] // 2), generator=generator(seed, "patches/split"))
    for (row, column), draw in np.ndenumerate(draws.numpy()):
        heldout[2 * row + draw // 2, 2 * column + draw % 2] = True
    return heldout[:rows, :columns]


def folder(source: FolderSource, dataset: Dataset, root: Path) -> Sides:
    """Image files of a folder; held-out ones are drawn by the seed, training ones come in a seeded order."""
    place = root / source.path
    if not place.is_dir():
        raise FileNotFoundError(f"{place}: expected a folder of images, found none; correct source.path of the dataset")
    endings = {"." + extension.lower().lstrip(".") for extension in source.extensions}
    found = place.rglob("*") if source.recursive else place.glob("*")
    names = sorted(p.relative_to(place).as_posix() for p in found if p.suffix.lower() in endings and p.is_file())
    names = names[: source.first]
    if not names:
        raise ValueError(f"{place}: expected images ending in {sorted(endings)}, found none; correct source.path")
    if source.first is not None and len(names) < source.first:
        raise ValueError(f"{place}: expected {source.first} images (source.first), found {len(names)}; complete it")
    train = len(names) - dataset.heldout if dataset.train is None else dataset.train
    if train < 1 or train + dataset.heldout > len(names):
        raise ValueError(
            f"{place}: expected {dataset.heldout} held-out and {dataset.train or 'some'} training images, found "
            f"{len(names)} images in all; lower heldout or train"
        )
    order = _permutation(len(names), dataset.split_seed, "folder/split")

    def side(picks: list[int]) -> Side:
        items = [{"source": names[pick], "label": None} for pick in picks]
        return Side(items, lambda i: read_image(place / names[picks[i]], dataset.resolution, source.convert))

    return Sides(side(order[dataset.heldout : dataset.heldout + train]), side(order[: dataset.heldout]))


def read_image(path: Path, resolution: int, convert: bool = False) -> np.ndarray:
    """One image file as (resolution, resolution, 3) uint8: turned as its EXIF tag says, brought to RGB, centre-cropped.

    Grey is written three times. With `convert`, palette and CMYK images become RGB, transparency is laid over white,
    and 16-bit greys keep their upper eight bits; without it they are refused by name, as are animated images, those
    with no way to RGB, and damaged or cut-off ones.
    """
    from PIL import ImageOps

    if ImageFile.LOAD_TRUNCATED_IMAGES:  # another library's choice would turn a cut-off file into a grey-bottomed image
        raise RuntimeError("Pillow is set to accept cut-off images; unset PIL.ImageFile.LOAD_TRUNCATED_IMAGES")
    try:
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise ValueError(f"{image.n_frames} frames")
            image.load()
            if not convert and (image.mode not in ("RGB", "L") or image.has_transparency_data):
                raise ValueError(f"mode {image.mode}; to bring such images to RGB, set source.convert: true")
            return np.array(centre_crop(_to_rgb(ImageOps.exif_transpose(image)), resolution))
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        reason = str(error).replace(str(path), "").strip() or type(error).__name__
        raise ValueError(
            f"{path}: expected a whole still image that can be made RGB, found {reason}; repair or remove the file"
        ) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit greys arrive as I;16 or, from PNG, as 32-bit integers
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"mode {image.mode} with values {values.min()}..{values.max()}, outside 16 bits")
        return Image.fromarray((values >> 8).astype(np.uint8), "L").convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels of unknown range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def centre_crop(image: Image.Image, resolution: int) -> Image.Image:
    """ADM's crop: halve with a box filter while the shorter side is at least twice the resolution, scale the shorter
    side to it (bicubic), cut out the middle. Source: the authors' preprocessing (their datasets_prep)."""
    while min(image.size) >= 2 * resolution:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = resolution / min(image.size)
    size = (max(resolution, round(image.width * scale)), max(resolution, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (image.width - resolution) // 2, (image.height - resolution) // 2
    return image.crop((left, top, left + resolution, top + resolution))


SOURCES: dict[str, Callable[[Any, Dataset, Path], Sides]] = {"digits": digits, "patches": patches, "folder": folder}
