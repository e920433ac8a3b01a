"""The one image-set format: a zip of stored lossless WebP files 000000.webp, 000001.webp, ..., RGB uint8, of one size.

Real images, reconstructions and samples are written and read here and nowhere else. Equal images give equal bytes
(fixed names, dates and encoder settings), so a set is identified by its hash. Entries are stored, not deflated, so
image i is one positioned read, safe from several threads and processes at once. The caller chooses the names of files
and moves them to where they belong.

Why a zip and not an LMDB: reading 130 kB at random from the cache takes 22 us of a core here, 12 us from an LMDB, and
decoding them 1400 us, so the container is not what readers wait for (benchmarks/images.py). A zip has the same
bytes on every machine, opens everywhere, and a cut-off one is an error, where a memory map would kill its reader.
"""

import hashlib
import io
import json
import os
import struct
import weakref
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lct.checks import invalid, require
from lct.files.advice import make, make_again
from lct.files.hashing import sha256_file

FORMAT = 1
ENDINGS = ("webp", "png")  # written; and written by earlier versions, or brought by users
_DATE = (1980, 1, 1, 0, 0, 0)  # the zip format's epoch: the same images give the same bytes on any day
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")  # fixed part of a zip entry's local header


@dataclass(frozen=True)
class EncodedImage:
    """An image with its bytes in a set. Encoding is most of the work of writing, and can be done in any thread."""

    pixels: np.ndarray  # (H, W, 3) uint8
    content: bytes


def encode(image: np.ndarray) -> EncodedImage:
    """One (H, W, 3) uint8 image, losslessly encoded.

    Per 256x256 photograph on one core: 2.0 ms and 132 kB, read in 1.8 ms. PNG at level 6 took 11.7 ms and 133 kB, read
    in 2.1 ms; its fastest useful setting, run lengths only, 5.5 ms and 133 kB. Slower WebP methods save 7 to 11 % for 4
    to 25 times the time (benchmarks/images.py).
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected uint8 (H, W, 3), found {image.dtype} {image.shape}; convert it to RGB first")
    buffer = io.BytesIO()
    Image.fromarray(image, "RGB").save(buffer, "WEBP", lossless=True, quality=0, method=0)
    return EncodedImage(image, buffer.getvalue())


def png(image: np.ndarray) -> bytes:
    """One (H, W, 3) or (H, W) uint8 image as PNG bytes, for people to look at."""
    buffer = io.BytesIO()
    Image.fromarray(image, "RGB" if image.ndim == 3 else "L").save(buffer, "PNG", compress_level=6, optimize=False)
    return buffer.getvalue()


def write_imageset(
    path: Path | str,
    images: Iterable[np.ndarray | EncodedImage],
    *,
    items: Sequence[dict[str, Any]] | None = None,
    name: str | None = None,
    allow_empty: bool = False,
) -> dict[str, Any]:
    """Stream `images` into a new set at `path`; returns its manifest.

    images: (H, W, 3) uint8 arrays of one size, or such images encoded already, consumed one at a time.
    items:  a description of each image, {"source": str, "label": int | None}; as many as there are images.
    name:   the file's final name where `path` is a temporary one.
    allow_empty: whether a set may have no image, as the held-out split of a dataset that holds none out.
    """
    content, shape, count = hashlib.sha256(), None, 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for image in images:
            where = f"image {count} of {name or path}"
            try:
                picture = image if isinstance(image, EncodedImage) else encode(image)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
            shape = shape or picture.pixels.shape
            if picture.pixels.shape != shape:
                raise invalid(where, f"{shape} like the first", picture.pixels.shape, "resize all alike")
            entry = zipfile.ZipInfo(f"{count:06d}.{ENDINGS[0]}", _DATE)
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # the same on every operating system
            archive.writestr(entry, picture.content)
            content.update(np.ascontiguousarray(picture.pixels))
            count += 1
    require(shape or allow_empty, name or path, "at least one image", "none", "check the source's settings")
    items = [{"source": f"{i:06d}", "label": None} for i in range(count)] if items is None else list(items)
    require(len(items) == count, name or path, "one item per image", f"{len(items)} for {count} images")
    height, width = shape[:2] if shape else (0, 0)
    return {
        "format": FORMAT,
        "file": name or Path(path).name,
        "bytes": os.path.getsize(path),
        "sha256": sha256_file(path),
        "count": count,
        "height": height,
        "width": width,
        "content_sha256": content.hexdigest(),  # of the pixels alone, whatever container holds them
        "items": items,
    }


class ImageSet(AbstractContextManager):
    """A set opened for reading. `len(s)`, `s[i]` -> (H, W, 3) uint8, `s.array(a, b)`, `s.batches(size)`."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        try:
            with zipfile.ZipFile(self.path) as archive:
                entries = archive.infolist()
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path}: expected an image set, found nothing; `{make(path)}` makes it") from error
        except zipfile.BadZipFile as error:
            raise invalid(path, "a whole image set", f"a damaged zip ({error})", make_again(path)) from error
        ending = entries[0].filename.rpartition(".")[2] if entries else ENDINGS[0]
        expected = [f"{i:06d}.{ending}" for i in range(len(entries))]
        stored = not any(entry.compress_type for entry in entries)
        ours = ending in ENDINGS and [entry.filename for entry in entries] == expected and stored
        files, advice = f"stored 000000.{ENDINGS[0]}, 000001.{ENDINGS[0]}, ...", "make it with write_imageset"
        require(ours, path, files, f"a zip of {len(entries)} other files", advice)
        self._spans = [(entry.header_offset, entry.file_size) for entry in entries]
        self._descriptor = os.open(self.path, os.O_RDONLY)
        self.close = weakref.finalize(self, os.close, self._descriptor)
        self.height, self.width = self[0].shape[:2] if entries else (0, 0)

    def __len__(self) -> int:
        return len(self._spans)

    def read(self, index: int) -> bytes:
        """The encoded bytes of one image."""
        offset, size = self._spans[index]
        header = os.pread(self._descriptor, _LOCAL_HEADER.size, offset)
        if len(header) == _LOCAL_HEADER.size and header[:4] == b"PK\x03\x04":
            *_, name, extra = _LOCAL_HEADER.unpack(header)
            content = os.pread(self._descriptor, size, offset + _LOCAL_HEADER.size + name + extra)
            if len(content) == size:
                return content
        raise ValueError(f"{self.path}: image {index}: expected {size} bytes, found damage; {make_again(self.path)}")

    def __getitem__(self, index: int) -> np.ndarray:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.path}: image {index} of {len(self)}")
        content = self.read(index)
        try:
            with Image.open(io.BytesIO(content), formats=("WEBP", "PNG")) as image:
                if image.mode != "RGB":
                    raise ValueError(f"mode {image.mode}")
                return np.array(image)
        except (OSError, ValueError, SyntaxError) as error:
            raise invalid(
                f"{self.path}: image {index}", "a whole RGB image", f"damage ({error})", make_again(self.path)
            ) from error

    def array(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Images start..stop-1 as one (n, H, W, 3) array; all of them by default."""
        indices = range(len(self))[start:stop]
        return np.stack([self[i] for i in indices]) if indices else np.empty((0, self.height, self.width, 3), np.uint8)

    def batch(self, start: int, size: int, count: int) -> tuple[np.ndarray, int]:
        """((size, H, W, 3) images from `start` on, how many of them count): those before `count`, filled up by
        repeating the last one, so that a result never depends on how the work is divided."""
        images = self.array(start, min(start + size, count))
        valid = len(images)
        return np.concatenate([images, np.repeat(images[-1:], size - valid, axis=0)]), valid

    def batches(self, size: int, limit: int | None = None) -> Iterator[tuple[int, np.ndarray, int]]:
        """(first index, images, how many of them count), batch after batch: batch j holds images j*size.."""
        count = len(self) if limit is None else min(limit, len(self))
        for start in range(0, count, size):
            yield start, *self.batch(start, size, count)

    def __exit__(self, *_: object) -> None:
        self.close()


def read_manifest(path: Path | str) -> dict[str, Any]:
    """The manifest at `path`, with its keys checked."""
    try:
        manifest = json.loads(Path(path).read_text())
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: expected a manifest, found nothing; `{make(path)}` makes it") from error
    except ValueError as error:
        raise ValueError(f"{path}: expected a manifest in JSON, found {error}; {make_again(path)}") from error
    keys = {"format", "file", "bytes", "sha256", "count", "height", "width", "content_sha256", "items"}
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or not keys <= manifest.keys():
        raise ValueError(f"{path}: expected a manifest of format {FORMAT} with {sorted(keys)}; {make_again(path)}")
    return manifest


def open_checked(path: Path | str, deep: bool = False) -> ImageSet:
    """The image set beside the manifest at `path`, checked against it: size and count always, the hash if `deep`."""
    manifest = read_manifest(path)
    archive = Path(path).parent / Path(manifest["file"]).name

    def compare(expected: str, actual: str) -> None:
        require(actual == expected, archive, f"{expected} (from {path})", actual, make_again(path))

    if not archive.exists():
        raise FileNotFoundError(f"{archive}: named in {path}, found nothing; {make_again(path)}")
    compare(f"{manifest['bytes']} bytes", f"{archive.stat().st_size} bytes")
    if deep:
        compare(f"sha256 {manifest['sha256']}", f"sha256 {sha256_file(archive)}")
    images = ImageSet(archive)
    size = "{} images of {} x {} pixels"
    expected = size.format(manifest["count"], manifest["height"], manifest["width"])
    compare(expected, size.format(len(images), images.height, images.width))
    return images


def labels(path: Path | str) -> list[int | None]:
    """The label of every image of the manifest at `path`, in order; None where the source gives none."""
    return [item["label"] for item in read_manifest(path)["items"]]


def write_grid(path: Path | str, images: Iterable[np.ndarray], columns: int, *, scale: int = 1) -> None:
    """A PNG of `images` (each (H, W, 3) uint8) in rows of `columns`, each pixel drawn scale x scale, a white line of
    one pixel around every image. Equal images give equal bytes."""
    tiles = [np.repeat(np.repeat(image, scale, axis=0), scale, axis=1) for image in images]
    require(tiles and columns >= 1, path, "at least one image and one column", f"{len(tiles)} and {columns}")
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    columns = min(columns, len(tiles))
    canvas = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = 1 + i // columns * (height + 1), 1 + i % columns * (width + 1)
        canvas[top : top + height, left : left + width] = tile
    Path(path).write_bytes(png(canvas))
