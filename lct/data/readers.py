"""Opening a source of image files: local or downloaded; a folder, archives, parquet files or an LMDB.

A container knows the names and labels of its images, in an order of its own, and hands out their bytes. Folders, zips,
plain tars and LMDBs are read at any place, in any thread. Parquet files and compressed tars are read from front to end;
for any other order their images go through a temporary file.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lct.data import databases, filesets
from lct.data.containers import Container, Locations, SourceFiles
from lct.data.settings import DownloadSource, FilesReading, Reading
from lct.files.advice import force
from lct.files.local_source import content_sha256, relevant
from lct.files.selection import check_link, select, walk


def open_source(source: Reading | DownloadSource, locations: Locations) -> tuple[str, Reading, Container]:
    """(name for messages, reading options, opened container) of a source."""
    if isinstance(source, DownloadSource):
        reading, files, description = _downloaded(source, locations)
    else:
        reading, files, description = source, *_local(source, locations)
    container = _OPEN[reading.kind](files, reading)
    if not container.names:
        raise ValueError(f"{files.where}: expected images, found none; correct the dataset's source")
    return files.where, reading, replace(container, source=description | container.source)


def _downloaded(source: DownloadSource, locations: Locations) -> tuple[FilesReading, SourceFiles, dict[str, Any]]:
    download = locations.download
    if download is None:
        raise ValueError("images: expected the dataset's download, found none given; pass --download")
    folder = download.path.parent
    if download.alternative >= len(source.alternatives) or not download.files:
        raise ValueError(
            f"{folder}: expected files of one of {len(source.alternatives)} alternatives, found "
            f"{len(download.files)} of number {download.alternative}; fetch it again: {force(download.path)}"
        )
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
    return reading, SourceFiles(str(folder), names, unpacked, locations.scratch), description


def _local(source: FilesReading, locations: Locations) -> tuple[SourceFiles, dict[str, Any]]:
    path = locations.root / Path(source.path).expanduser()
    check_link(path)
    if source.kind == "folder" and not path.is_dir():
        raise FileNotFoundError(f"{path}: expected a folder of images, found none; correct source.path")
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected {source.kind} files, found nothing; correct source.path")
    if source.kind == "archive" and path.is_dir():
        raise ValueError(f"{path}: expected a zip or tar archive, found a folder; set `kind: folder`")
    files, others = [path], Counter()
    if path.is_dir():
        files, others = walk(path, recursive=source.kind != "folder" or source.recursive)
    hashed = [] if source.kind == "folder" else sorted(relevant({"kind": source.kind}, path, files).values())
    if source.kind == "parquet":
        others += select(((file.name, None) for file in sorted(set(files) - set(hashed))), ())[1]
        files = hashed
    if not files and source.kind != "folder":
        raise ValueError(f"{path}: expected {source.kind} files, found none; correct source.path")
    names = {file: file.relative_to(path).as_posix() if path.is_dir() else file.name for file in files}
    description, unpacked = {"kind": source.kind, "path": source.path}, path
    if source.kind != "folder":  # a folder has a listing with its own hash
        description["files"] = [{"path": names[file], "sha256": content_sha256(file)} for file in hashed]
        if path.is_file():
            unpacked = path.parent / f".{path.name}.{description['files'][0]['sha256'][:16]}"
    return SourceFiles(str(path), names, unpacked, locations.scratch, others), description


_OPEN: dict[str, Callable[..., Container]] = {
    "folder": filesets.folder,
    "archive": filesets.archive,
    "parquet": databases.parquet,
    "lmdb": databases.lmdb,
}
