"""Opening a source of image files: local or downloaded; a folder, archives, parquet files or an LMDB.

A container knows the names and labels of its images, in an order of its own, and hands out their bytes. What can be
read at any place is read by whoever needs it, in any thread; parquet files and compressed tars are read from front to
end, and where another order is asked for, their images go through a temporary file.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lct.data import databases, filesets
from lct.data.containers import Container, Locations, SourceFiles
from lct.data.settings import DownloadSource, FilesReading, Reading
from lct.files.hashing import sha256_file


def open_source(source: Reading | DownloadSource, locations: Locations) -> tuple[str, Reading, Container]:
    """(name for messages, reading options, opened container) of a source."""
    if isinstance(source, DownloadSource):
        reading, files, described = _downloaded(source, locations)
    else:
        reading, files, described = source, *_local(source, locations)
    container = _OPEN[reading.kind](files, reading)
    if not container.names:
        raise ValueError(f"{files.where}: expected images, found none; correct the dataset's source")
    return files.where, reading, replace(container, source=described | container.source)


def _downloaded(source: DownloadSource, locations: Locations) -> tuple[FilesReading, SourceFiles, dict[str, Any]]:
    fetched = locations.fetched
    if fetched is None:
        raise ValueError("images: expected the dataset's download, found none given; pass --download")
    if fetched.alternative >= len(source.alternatives) or not fetched.files:
        raise ValueError(
            f"{fetched.folder}: expected files of one of {len(source.alternatives)} alternatives, found "
            f"{len(fetched.files)} of number {fetched.alternative}; fetch it again: snakemake --force "
            f"{fetched.folder}/download.json"
        )
    reading = source.alternatives[fetched.alternative].read
    names = {path: path.relative_to(fetched.folder / "files").as_posix() for path, _ in fetched.files}
    described = {
        "kind": "download",
        "read": reading.kind,
        "alternative": fetched.alternative,
        "origin": fetched.origin,
        "files": [{"path": names[path], "sha256": digest} for path, digest in fetched.files],
    }
    unpacked = fetched.folder / "unpacked" / fetched.files[0][1][:16]
    return reading, SourceFiles(str(fetched.folder), names, unpacked, locations.scratch), described


def _local(source: FilesReading, locations: Locations) -> tuple[SourceFiles, dict[str, Any]]:
    path = locations.root / source.path
    if source.kind == "folder" and not path.is_dir():
        raise FileNotFoundError(f"{path}: expected a folder of images, found none; correct source.path")
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected {source.kind} files, found nothing; correct source.path")
    if source.kind == "archive" and path.is_dir():
        raise ValueError(f"{path}: expected a zip or tar archive, found a folder; set `kind: folder`")
    found, hashed = [path], [path]
    if path.is_dir():
        found = _walk(path, recursive=source.kind != "folder" or source.recursive)
        if source.kind == "parquet":
            found = hashed = sorted(file for file in found if file.suffix == ".parquet")
        elif source.kind == "lmdb":
            hashed = sorted(file for file in found if file.name == "data.mdb")
        if not found and source.kind != "folder":
            raise ValueError(f"{path}: expected {source.kind} files, found none; correct source.path")
    names = {file: file.relative_to(path).as_posix() if path.is_dir() else file.name for file in found}
    described = {"kind": source.kind, "path": source.path}
    unpacked = path
    if source.kind != "folder":  # a folder has a listing with its own hash
        described["files"] = [{"path": names[file], "sha256": sha256_file(file)} for file in hashed]
        unpacked = path.parent / f".{path.name}.{described['files'][0]['sha256'][:16]}" if path.is_file() else path
    return SourceFiles(str(path), names, unpacked, locations.scratch), described


def _walk(folder: Path, recursive: bool) -> list[Path]:
    """The files of a folder; links to folders are not followed."""
    found = []
    for location, folders, files in os.walk(folder):
        if not recursive:
            folders.clear()
        found += [Path(location, name) for name in files]
    return found


_OPEN: dict[str, Callable[..., Container]] = {
    "folder": filesets.folder,
    "archive": filesets.archive,
    "parquet": databases.parquet,
    "lmdb": databases.lmdb,
}
