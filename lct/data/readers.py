"""Opening a source of image files: local or downloaded; a folder, archives, parquet files or an LMDB.

A container knows the names and labels of its images, in an order of its own, and hands out their bytes. Folders, zips,
plain tars and LMDBs are read at any place, in any thread. Parquet files and compressed tars are read from front to end;
for any other order their images go through a temporary file. Images that were made elsewhere may also be one array.
"""

import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from lct.checks import require
from lct.data import containers, databases
from lct.data.containers import Container, Content, SourceFiles
from lct.data.decode import decode, formats
from lct.data.settings import ArchiveSource, DownloadSource, FilesReading, FolderSource, Reading
from lct.download.record import Download
from lct.files.advice import force
from lct.files.local_source import check_link, content_sha256, describe, relevant, select, walk


def open_source(
    source: Reading | DownloadSource, download: Download | None = None, scratch: Path | str | None = None
) -> tuple[str, Reading, Container]:
    """(name for messages, reading options, opened container) of a source, whose relative path is looked up here.

    download: of a source that is one. scratch: folder for temporary files; None: the system's."""
    downloaded = isinstance(source, DownloadSource)
    reading, files = _downloaded(source, download, scratch) if downloaded else (source, _local(source, scratch))
    container = CONTAINERS[reading.kind](files, reading)
    others, names = files.others + container.others, container.names
    endings = f" ending in {sorted(reading.extensions)}" if hasattr(reading, "extensions") else ""
    below = f" below {inside + '/'!r}" if (inside := getattr(reading, "inside", "").strip("/")) else ""
    given = f"none ({text})" if (text := describe(others)) else "none"
    require(names, files.where, f"images{endings}{below}", given, "correct the source")
    classed = getattr(reading, "labels", "none") == "folders"
    labels = _folder_labels(files.where, names) if classed else container.labels or [None] * len(names)
    complete = replace(container, labels=labels, others=others, source=files.source | container.source)
    return files.where, reading, complete


def _folder_labels(where: str, names: list[str]) -> list[int]:
    """The label of every image: the number of its sub-folder. Raises ValueError for an image in none."""
    alone = next((name for name in names if "/" not in name), None)
    advice = "move it, or set `labels: none`"
    require(alone is None, f"{where}: labels", "every image in a sub-folder", f"{alone!r} in none", advice)
    folders = [name.partition("/")[0] for name in names]
    classes = sorted(set(folders))
    require(len(classes) >= 2, f"{where}: labels", "two sub-folders or more", classes, "set `labels: none`")
    return [classes.index(folder) for folder in folders]


def _downloaded(
    source: DownloadSource, download: Download | None, scratch: Path | str | None
) -> tuple[FilesReading, SourceFiles]:
    require(download is not None, "images", "the dataset's download", "none given", "pass --download")
    folder = download.path.parent
    fits, expected = download.alternative < len(source.alternatives), f"one of {len(source.alternatives)} alternatives"
    given, advice = f"{len(download.files)} of number {download.alternative}", f"fetch it again: {force(download.path)}"
    require(fits and download.files, folder, f"files of {expected}", given, advice)
    reading = source.alternatives[download.alternative].read
    names = {download.file(name): name for name in download.names}  # their hashes are checked before any is opened
    description = {
        "kind": "download",
        "read": reading.kind,
        "alternative": download.alternative,
        "origin": download.origin,
        "files": [{key: entry[key] for key in ("path", "sha256")} for entry in download.files],
    }
    unpacked = folder / "unpacked" / download.files[0]["sha256"][:16]
    return reading, SourceFiles(str(folder), names, unpacked, scratch, description)


def _local(source: FilesReading, scratch: Path | str | None) -> SourceFiles:
    path = Path(os.path.expanduser(source.path))
    check_link(path)
    if source.kind == "folder" and not path.is_dir():
        raise FileNotFoundError(f"{path}: expected a folder of images, found none; correct source.path")
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected {source.kind} files, found nothing; correct source.path")
    is_folder = source.kind == "archive" and path.is_dir()
    require(not is_folder, path, "a zip or tar archive", "a folder", "set `kind: folder`")
    files, others = [path], Counter()
    if path.is_dir():
        files, others = walk(path, recursive=source.kind != "folder" or source.recursive)
    hashed = [] if source.kind == "folder" else sorted(relevant({"kind": source.kind}, path, files).values())
    if source.kind == "parquet":
        others += select(((file.name, None) for file in sorted(set(files) - set(hashed))), ())[1]
        files = hashed
    require(files or source.kind == "folder", path, f"{source.kind} files", "none", "correct source.path")
    names = {file: file.relative_to(path).as_posix() if path.is_dir() else file.name for file in files}
    description, unpacked = {"kind": source.kind, "path": source.path}, path
    if source.kind != "folder":  # a folder has a listing with its own hash
        description["files"] = [{"path": names[file], "sha256": content_sha256(file)} for file in hashed]
        if path.is_file():
            unpacked = path.parent / f".{path.name}.{description['files'][0]['sha256'][:16]}"
    return SourceFiles(str(path), names, unpacked, scratch, description, others)


@dataclass(frozen=True)
class GivenImages:
    """The first images of a container, in sorted order of their names."""

    images: Iterator[np.ndarray]  # (side, side, 3) uint8 each; ValueError with one line for another size, or damage
    names: list[str]  # as many
    available: int  # in the container
    others: Counter[str] = field(default_factory=Counter)  # what else it holds, by kind (lct/files/local_source.py)


def open_images(path: Path, side: int, count: int) -> GivenImages:
    """The first `count` images at `path`, which are read one after the other.

    Raises ValueError with one line for too few images, and what is no container of images."""
    if path.suffix in (".npz", ".npy"):
        array, others = _array(path)
        _check_count(str(path), len(array), count, array.shape[1:3], side)
        _check_size(str(path), *array.shape[1:3], side)
        return GivenImages(iter(array[:count]), [f"{path.name} {i}" for i in range(count)], len(array), others)
    require(path.exists(), path, "a folder, zip, tar, npz or npy of images", "nothing", "correct the path")
    source = FolderSource(path=str(path)) if path.is_dir() else ArchiveSource(path=str(path))
    where, _, container = open_source(source)
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
    expected = f"{side} x {side} pixels, as the real images have"
    require((height, width) == (side, side), where, expected, f"{width} x {height}", "resize all")


CONTAINERS: dict[str, Callable[..., Container]] = {
    "folder": containers.folder,
    "archive": containers.archive,
    "parquet": databases.parquet,
    "lmdb": databases.lmdb,
}
