"""Images that were made elsewhere: a folder, a zip or tar, or an npz or npy file of one array (N, H, W, 3) uint8."""

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from lct.data.containers import Content, Locations
from lct.data.decode import decode, formats
from lct.data.readers import open_source
from lct.data.settings import ArchiveSource, FolderSource


@dataclass(frozen=True)
class GivenImages:
    """The first images of a container, in sorted order of their names."""

    images: Iterator[np.ndarray]  # (side, side, 3) uint8 each; ValueError with one line for another size, or damage
    names: list[str]  # as many
    available: int  # in the container
    others: Counter[str] = field(default_factory=Counter)  # what else it holds, by kind (lct/files/selection.py)


def open_images(path: Path, side: int, count: int) -> GivenImages:
    """The first `count` images at `path`, which are read one after the other.

    Raises ValueError with one line for too few images, and what is no container of images."""
    if path.suffix in (".npz", ".npy"):
        array, others = _array(path)
        _check_count(str(path), len(array), count, array.shape[1:3], side)
        _check_size(str(path), *array.shape[1:3], side)
        return GivenImages(iter(array[:count]), [f"{path.name} {i}" for i in range(count)], len(array), others)
    if not path.exists():
        raise ValueError(f"{path}: expected a folder, zip, tar, npz or npy of images, found nothing; correct the path")
    source = FolderSource(path=str(path)) if path.is_dir() else ArchiveSource(path=str(path))
    where, _, container = open_source(source, Locations(Path.cwd()))
    if len(container.names) < count:
        _check_count(where, len(container.names), count, _size(next(container.contents([0]))()), side)
    names = list(container.names[:count])
    contents = zip(names, container.contents(range(count)), strict=True)
    return GivenImages((_image(where, *pair, side) for pair in contents), names, len(container.names), container.others)


def _image(where: str, name: str, content: Content, side: int) -> np.ndarray:
    encoded = content()
    image = decode(lambda: encoded, f"{where}: {name}", side, advice="save it as RGB with 8 bits a channel")
    _check_size(f"{where}: {name}", *_size(encoded), side)
    return image


def _size(encoded: bytes) -> tuple[int, int] | None:
    """(height, width) of an image as it is stored; None for what is no image."""
    try:
        with Image.open(io.BytesIO(encoded), formats=formats()) as image:
            return image.height, image.width
    except Exception:  # noqa: BLE001 damaged bytes make decoders raise anything
        return None


def _array(path: Path) -> tuple[np.ndarray, Counter[str]]:
    """The images of a file of arrays, (N, H, W, 3) uint8, and its other arrays by kind."""
    try:
        content = np.load(path, allow_pickle=False)
        arrays = {name: content[name] for name in content.files} if path.suffix == ".npz" else {"": content}
    except Exception as error:  # damaged files make NumPy and zlib raise anything
        raise ValueError(f"{path}: expected a whole {path.suffix[1:]} file, found {error}; copy it again") from error
    images = [array for array in arrays.values() if array.ndim == 4]
    if len(images) != 1 or images[0].dtype != np.uint8 or images[0].shape[3] != 3:
        shapes = ", ".join(f"{array.dtype} {array.shape}" for array in arrays.values())
        raise ValueError(f"{path}: expected one array (N, H, W, 3) of uint8, found {shapes}; save it so")
    others = Counter(f"array {ascii(name)}" for name, array in arrays.items() if array is not images[0])
    return images[0], others


def _check_count(where: str, available: int, count: int, size: tuple[int, int] | None, side: int) -> None:
    if available < count:
        height, width = size or (side, side)
        of = "" if (height, width) == (side, side) else f" of {width} x {height} pixels, not of {side} x {side}"
        raise ValueError(f"{where}: expected {count} images, as the protocol says, found {available}{of}; make more")


def _check_size(where: str, height: int, width: int, side: int) -> None:
    if (height, width) != (side, side):
        raise ValueError(
            f"{where}: expected {side} x {side} pixels, as the real images have, found {width} x {height}; resize all"
        )
