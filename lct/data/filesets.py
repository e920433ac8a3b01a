"""Folders and archives of image files."""

import os
from collections.abc import Iterator, Sequence
from functools import partial

from lct.data.containers import LARGEST, Container, Content, Sequential, SourceFiles
from lct.data.settings import ArchiveReading, FolderReading
from lct.files.hashing import sha256_json
from lct.files.zip_tar import Archive


def _is_image(name: str, extensions: Sequence[str]) -> bool:
    """Whether a relative name has one of the extensions and is not hidden, as macOS's ._ companions are."""
    *folders, last = name.split("/")
    ending = last.rpartition(".")[2].lower()
    wanted = {extension.lower().lstrip(".") for extension in extensions}
    return "." in last[1:] and ending in wanted and not last.startswith(".") and "__MACOSX" not in folders


def _labels(where: str, names: list[str], labels: str) -> list[int | None]:
    if labels == "none":
        return [None] * len(names)
    folders = [name.partition("/")[0] if "/" in name else None for name in names]
    if None in folders:
        raise ValueError(
            f"{where}: labels: expected every image in a sub-folder, found {names[folders.index(None)]!r} in none; "
            "move it, or set `labels: none`"
        )
    classes = sorted(set(folders))
    if len(classes) < 2:
        raise ValueError(f"{where}: labels: expected two sub-folders or more, found {classes}; set `labels: none`")
    return [classes.index(folder) for folder in folders]


def folder(files: SourceFiles, reading: FolderReading) -> Container:
    images = sorted((name, path) for path, name in files.names.items() if _is_image(name, reading.extensions))
    if not images:
        endings = sorted(reading.extensions)
        raise ValueError(f"{files.where}: expected images ending in {endings}, found none; correct source.path")
    for name, _ in images:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"{files.where}: expected names in UTF-8, found {os.fsencode(name)!r}; rename it"
            ) from None
    listing = [[name, path.stat().st_size] for name, path in images]
    source = {"images": len(images), "bytes": sum(size for _, size in listing), "listing_sha256": sha256_json(listing)}

    def contents(indices: Sequence[int]) -> Iterator[Content]:
        return (images[i][1].read_bytes for i in indices)

    found = [name for name, _ in images]
    return Container(found, _labels(files.where, found, reading.labels), contents, source)


def archive(files: SourceFiles, reading: ArchiveReading) -> Container:
    inside = reading.inside.strip("/") + "/" if reading.inside.strip("/") else ""
    images = []  # (name, number of its archive, member), over all archives
    archives = [Archive(path, reading.limits) for path in files.names]
    for number, (archive, of) in enumerate(zip(archives, files.names.values(), strict=True)):
        prefix = f"{of}/" if len(archives) > 1 else ""
        for member in archive.members:
            if member.name.startswith(inside) and _is_image(member.name, reading.extensions):
                images.append((prefix + member.name.removeprefix(inside), number, member))
    if not images:
        below = f" below {inside!r}" if inside else ""
        raise ValueError(f"{files.where}: expected images ending in {sorted(reading.extensions)}{below}, found none")
    images.sort(key=lambda image: image[0])

    def read(i: int) -> bytes:
        _, number, member = images[i]
        if member.size > LARGEST:
            raise ValueError(f"{member.size} bytes, more than an image has")
        return archives[number].read(member)

    if all(archive.random_access for archive in archives):

        def contents(indices: Sequence[int]) -> Iterator[Content]:
            return (partial(read, i) for i in indices)
    else:
        at = {(number, member.key): i for i, (_, number, member) in enumerate(images)}

        def forward() -> Iterator[tuple[int, bytes]]:
            for number, archive in enumerate(archives):
                for member, handle in archive.stream():
                    if (i := at.get((number, member.key))) is not None:
                        yield i, handle.read(LARGEST)

        contents = Sequential(forward, files.scratch)
    found = [name for name, _, _ in images]
    return Container(found, _labels(files.where, found, reading.labels), contents)
