"""Sources of images: one function per kind of source, from settings to a training and a held-out split.

Every split knows its items (where each image comes from, its label) before an image is decoded. It gives one task per
image, in order; a task returns the image, (H, W, 3) uint8, in any thread. The held-out split is set apart before any
augmentation or crop. A new kind of source is a settings class in lct/data/settings.py and a function in COMPUTED; a new
container of image files is one in lct/data/readers.py.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lct.checks import invalid, require
from lct.data.decode import decode
from lct.data.readers import open_source
from lct.data.settings import DataSettings, DigitsSource, DownloadSource, PatchesSource, Reading
from lct.download.record import Download
from lct.streams import generator

_DIGITS_WHITE = 16  # the digits' largest grey level
_WORK = 4  # digits are warped at this multiple of their final side, then reduced: no jagged edges


Task = Callable[[], np.ndarray]  # returns one image


class TooFewImagesError(ValueError):
    """A source with fewer images than a dataset's counts ask for."""


@dataclass(frozen=True)
class Split:
    """Images of one split: `items[i]` describes image i; `tasks` gives those of some numbers, in that order."""

    items: list[dict[str, Any]]
    tasks: Callable[[Sequence[int]], Iterator[Task]]
    mirrored: int = 0  # how many of the images, the last ones, are mirror images of others

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class Splits:
    """The images of a dataset."""

    train: Split
    heldout: Split
    where: str = ""  # name of the source in messages
    source: dict[str, Any] = field(default_factory=dict)  # what was read: kind, files with their hashes, origin
    left_out: tuple[str, ...] = ()  # names of the source's images that settings leave out of both splits
    others: Counter[str] = field(default_factory=Counter)  # what else the source holds, by kind


def load(dataset: DataSettings, download: Download | None = None, scratch: Path | str | None = None) -> Splits:
    """The two splits of `dataset`.

    download: of a dataset whose source is one.
    scratch:  folder for temporary files, for containers that cannot be read in any order; None: the system's.
    """
    source = dataset.source
    computed = COMPUTED.get(source.kind)
    splits = computed(source, dataset) if computed else files(source, dataset, download, scratch)
    return dataclasses.replace(splits, train=_with_flips(splits.train)) if dataset.flips == "appended" else splits


def _each(image: Callable[[int], np.ndarray]) -> Callable[[Sequence[int]], Iterator[Task]]:
    """Tasks of images that are made from their index alone."""
    return lambda indices: (partial(image, i) for i in indices)


def _permutation(count: int, seed: int, stream: str) -> list[int]:
    return torch.randperm(count, generator=generator(seed, stream)).tolist()


def _with_flips(split: Split) -> Split:
    """A split and behind it the mirror images of all its images."""
    count = len(split)
    mirrored = [{**item, "source": item["source"] + " mirrored"} for item in split.items]

    def mirror(task: Task) -> np.ndarray:
        return task()[:, ::-1].copy()

    def tasks(indices: Sequence[int]) -> Iterator[Task]:
        for flip, run in groupby(indices, lambda i: i >= count):
            originals = split.tasks([i - count * flip for i in run])
            yield from (partial(mirror, task) for task in originals) if flip else originals

    return Split(split.items + mirrored, tasks, count)


def digits(source: DigitsSource, dataset: DataSettings) -> Splits:
    """scikit-learn's digits, bicubic from 8x8 to the resolution, each image one affine jitter of one original."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    originals, classes = bunch.images, bunch.target  # (1797, 8, 8) in 0..16; (1797,)
    order = _permutation(len(originals), dataset.split_seed, "digits/split")
    numbers = {"train": order[source.heldout_originals :], "heldout": order[: source.heldout_originals]}

    def split(name: str, count: int) -> Split:
        own = numbers[name]
        # Whole rounds over the originals, so that no class is drawn more often than it occurs; then one shuffle.
        picks = [own[i % len(own)] for i in range(count)]
        picks = [picks[i] for i in _permutation(count, dataset.split_seed, f"digits/order/{name}")]

        def image(i: int) -> np.ndarray:
            own_generator = generator(dataset.split_seed, f"digits/affine/{name}", i)
            draws = 2 * torch.rand(4, generator=own_generator, dtype=torch.float64) - 1
            grey = _jitter(originals[picks[i]] / _DIGITS_WHITE, dataset.resolution, source, draws.tolist())
            return np.repeat(grey[:, :, None], 3, axis=2)

        return Split([{"source": f"digit {p}", "label": int(classes[p])} for p in picks], _each(image))

    return Splits(split("train", dataset.train), split("heldout", dataset.heldout))


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


def patches(source: PatchesSource, dataset: DataSettings) -> Splits:
    """Distinct crops of one photograph, in a seeded order."""
    from sklearn.datasets import load_sample_image

    photograph = Image.fromarray(load_sample_image(f"{source.photograph}.jpg"))
    photograph = photograph.convert("RGB" if source.colour else "L").convert("RGB").reduce(source.shrink)
    size = photograph.width * source.enlarge, photograph.height * source.enlarge
    photograph = photograph.resize(size, Image.Resampling.BICUBIC) if source.enlarge > 1 else photograph
    pixels, crop = np.asarray(photograph), dataset.resolution
    height, width = pixels.shape[:2]
    rows, columns = source.cells

    def split(name: str, positions: np.ndarray, count: int) -> Split:
        where, expected = f"{dataset.title}: {name}", f"at most {len(positions)} distinct {crop}x{crop} crops"
        expected, advice = f"{expected} of {source.photograph}", f"lower {name} or shrink"
        require(count <= len(positions), where, expected, f"{count} asked for", advice)
        picks = positions[:count].tolist()

        def item(top: int, left: int) -> dict[str, Any]:
            row, column = (top + crop // 2) * rows // height, (left + crop // 2) * columns // width
            return {"source": f"{source.photograph} {top},{left}", "label": row * columns + column}

        def image(i: int) -> np.ndarray:
            top, left = picks[i]
            return pixels[top : top + crop, left : left + crop].copy()

        return Split([item(top, left) for top, left in picks], _each(image))

    positions = np.argwhere(np.ones((max(0, height - crop + 1), max(0, width - crop + 1)), bool))
    positions = positions[_permutation(len(positions), dataset.split_seed, f"patches/{source.photograph}")]
    if source.split == "positions":
        heldout, train = positions[: dataset.heldout], positions[dataset.heldout :]
    else:
        blocks = _heldout_blocks(-(-height // source.block), -(-width // source.block), dataset.split_seed)
        mask = blocks.repeat(source.block, axis=0).repeat(source.block, axis=1)[:height, :width]
        windows = np.lib.stride_tricks.sliding_window_view(mask, (crop, crop))[tuple(positions.T)]
        heldout, train = positions[windows.all((1, 2))], positions[~windows.any((1, 2))]
    return Splits(split("train", train, dataset.train), split("heldout", heldout, dataset.heldout))


def _heldout_blocks(rows: int, columns: int, seed: int) -> np.ndarray:
    """(rows, columns) bool: one block, drawn by the seed, in every group of 2x2."""
    heldout = np.zeros((rows + rows % 2, columns + columns % 2), bool)
    draws = torch.randint(4, (heldout.shape[0] // 2, heldout.shape[1] // 2), generator=generator(seed, "patches/split"))
    for (row, column), draw in np.ndenumerate(draws.numpy()):
        heldout[2 * row + draw // 2, 2 * column + draw % 2] = True
    return heldout[:rows, :columns]


def files(
    source: Reading | DownloadSource, dataset: DataSettings, download: Download | None, scratch: Path | str | None
) -> Splits:
    """Images in files of some kind, local or downloaded: chosen and divided as the reading options say."""
    where, reading, container = open_source(source, download, scratch)
    usable = _usable(where, reading, container.names)
    train = len(usable) - dataset.heldout if dataset.train is None else dataset.train
    if train < 1 or train + dataset.heldout > len(usable):
        raise TooFewImagesError(
            f"{where}: expected {dataset.heldout} held-out and {dataset.train or 'some'} training images, found "
            f"{len(usable)} images in all; lower heldout or train"
        )

    def split(numbers: list[int]) -> Split:
        def tasks(indices: Sequence[int]) -> Iterator[Task]:
            picks = [numbers[i] for i in indices]
            for i, content in zip(picks, container.contents(picks), strict=True):
                name = container.names[i]
                yield partial(decode, content, name, dataset.resolution, reading.convert, reading.min_side)

        return Split([{"source": container.names[i], "label": container.labels[i]} for i in numbers], tasks)

    left_out = tuple(sorted(reading.exceptions, key=container.names.index))
    if reading.split == "seeded":
        order = [usable[i] for i in _permutation(len(usable), dataset.split_seed, "folder/split")]
        heldout, chosen = order[: dataset.heldout], order[dataset.heldout :][:train]
    else:
        heldout, chosen = usable[len(usable) - dataset.heldout :], usable[:train]
    return Splits(split(chosen), split(heldout), where, container.source, left_out, container.others)


def _usable(where: str, reading: Reading, names: list[str]) -> list[int]:
    """The numbers of the images that a split may take. Raises ValueError where the source is not as declared."""
    if reading.count is not None and len(names) != reading.count:
        raise invalid(where, f"{reading.count} images (`count`)", len(names), "complete the files or correct `count`")
    exceptions = set(reading.exceptions)
    missing, advice = min(exceptions - set(names), default=None), f"names look like {names[0]!r}"
    expected = "every name of `exceptions` among the images"
    require(missing is None, where, expected, f"none called {missing!r}", advice)
    usable = [i for i, name in enumerate(names) if name not in exceptions][: reading.first]
    require(len(usable) >= (reading.first or 0), where, f"{reading.first} images (`first`)", len(usable), "complete it")
    return usable


COMPUTED: dict[str, Callable[[Any, DataSettings], Splits]] = {"digits": digits, "patches": patches}
