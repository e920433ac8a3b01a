"""Containers of encoded images: folders and archives; and how one that only reads forward serves any order."""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from lct.checks import invalid
from lct.data.settings import ArchiveReading, FolderReading
from lct.files.file_type import HEAD_BYTES, is_image
from lct.files.hashing import sha256_json
from lct.files.local_source import select
from lct.files.zip_tar import Archive, naming_damage

Content = Callable[[], bytes]  # gives the encoded bytes of one image, in any thread
LARGEST = 2**28  # bytes of one encoded image


@dataclass(frozen=True)
class SourceFiles:
    """The files of one source."""

    where: str  # name of the source in messages
    names: dict[Path, str]  # file -> its name in the source, in reading order
    unpacked: Path  # folder for the content of an archive that has to be unpacked
    scratch: Path | str | None  # folder for temporary files
    source: dict[str, Any]  # what is read, for the manifest
    others: Counter[str] = field(default_factory=Counter)  # what lies beside the files and is not read, by kind


@dataclass(frozen=True)
class Container:
    """Encoded images, numbered in the container's own order."""

    names: list[str]  # different from each other
    contents: Callable[[Sequence[int]], Iterator[Content]]  # the images of these numbers, in the order of the argument
    others: Counter[str]  # what else there is, by kind (lct/files/local_source.py)
    labels: Sequence[int | None] = ()  # of all images, or of none where the container does not know them
    source: dict[str, Any] = field(default_factory=dict)  # what was read, for the manifest, beside that of its files


class Sequential:
    """Contents of a container that is read from front to end.

    Images are passed on as they are read where their numbers are in that order. Otherwise all of them go through one
    temporary file, which the operating system removes whatever happens.

    forward: gives (number, encoded bytes) of every image.
    ordered: whether `forward` gives rising numbers."""

    def __init__(self, forward: Callable[[], Iterator[tuple[int, bytes]]], scratch: Path | str | None, ordered=False):
        self._forward, self._scratch, self._ordered = forward, scratch, ordered
        self._spans: dict[int, tuple[int, int]] | None = None  # number -> (offset, size) in the temporary file

    def __call__(self, indices: Sequence[int]) -> Iterator[Content]:
        indices = list(indices)
        if self._ordered and all(a < b for a, b in zip(indices, indices[1:], strict=False)) and len(indices) > 1:
            numbers = set(indices)
            passing = (content for i, content in self._forward() if i in numbers)
            return (lambda content=content: content for content in islice(passing, len(numbers)))
        return self._spool(indices)

    def _spool(self, indices: list[int]) -> Iterator[Content]:
        if self._spans is None:
            self._file = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115 lives as long as this object
            spans, offset = {}, 0
            for i, content in self._forward():
                self._file.write(content)
                spans[i] = offset, len(content)
                offset += len(content)
            self._file.flush()
            self._spans = spans
        for i in indices:
            offset, size = self._spans[i]
            yield partial(os.pread, self._file.fileno(), size, offset)


def folder(files: SourceFiles, reading: FolderReading) -> Container:
    """Image files of a folder, in sorted order of their names."""
    images, others = select(((name, path) for path, name in files.names.items()), reading.extensions, _is_image)
    images.sort()
    names = [name for name, _ in images]
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise invalid(files.where, "names in UTF-8", f"{os.fsencode(name)!r}", "rename it") from None
    listing = [[name, path.stat().st_size] for name, path in images]
    source = {"images": len(images), "bytes": sum(size for _, size in listing), "listing_sha256": sha256_json(listing)}

    def contents(indices: Sequence[int]) -> Iterator[Content]:
        return (images[i][1].read_bytes for i in indices)

    return Container(names, contents, others, source=source)


def _is_image(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return is_image(file.read(HEAD_BYTES))
    except OSError:
        return False


def archive(files: SourceFiles, reading: ArchiveReading) -> Container:
    """Image files of one or several archives, in sorted order of their names.

    Members of a zip or an uncompressed tar are read where they are; a compressed tar is read from front to end."""
    inside = reading.inside.strip("/") + "/" if reading.inside.strip("/") else ""
    archives = [Archive(path, reading.limits) for path in files.names]
    images = []  # (name, number of its archive, member), over all archives
    others: Counter[str] = Counter()
    for number, (archive, archive_name) in enumerate(zip(archives, files.names.values(), strict=True)):
        prefix = f"{archive_name}/" if len(archives) > 1 else ""
        every, rest = select(((m.name.removeprefix(inside), m) for m in archive.members), reading.extensions)
        taken = [(prefix + name, number, member) for name, member in every if member.name.startswith(inside)]
        others += rest + Counter({f"outside {ascii(inside)}": len(every) - len(taken)})
        images += taken
    images.sort(key=lambda image: image[0])
    names = [name for name, _, _ in images]

    def read(i: int) -> bytes:
        _, number, member = images[i]
        if member.size > LARGEST:
            raise ValueError(f"{member.size} bytes, more than an image has")
        return archives[number].read(member)

    if all(archive.random_access for archive in archives):
        return Container(names, lambda indices: (partial(read, i) for i in indices), others)
    index = {(number, member.key): i for i, (_, number, member) in enumerate(images)}

    def forward() -> Iterator[tuple[int, bytes]]:
        for number, archive in enumerate(archives):
            for member, handle in archive.stream():
                if (i := index.get((number, member.key))) is not None:
                    with naming_damage(archive.path, member.name):
                        content = handle.read(LARGEST)
                    yield i, content

    return Container(names, Sequential(forward, files.scratch), others)
