"""What a container of encoded images is, whatever its format, and how one that only reads forward serves any order."""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from lct.download.record import Download

Content = Callable[[], bytes]  # gives the encoded bytes of one image, in any thread
LARGEST = 2**28  # bytes of one encoded image


@dataclass(frozen=True)
class Locations:
    """Where a source's files may be."""

    root: Path  # relative paths are looked up here
    download: Download | None = None  # of a dataset whose source is a download
    scratch: Path | str | None = None  # folder for temporary files; None: the system's


@dataclass(frozen=True)
class SourceFiles:
    """The files of one source."""

    where: str  # name of the source in messages
    names: dict[Path, str]  # file -> its name in the source, in reading order
    unpacked: Path  # folder for the content of an archive that has to be unpacked
    scratch: Path | str | None  # folder for temporary files
    others: Counter[str] = field(default_factory=Counter)  # what lies beside the files and is not read, by kind


@dataclass(frozen=True)
class Container:
    """Encoded images, numbered in the container's own order."""

    names: list[str]  # different from each other
    labels: list[int | None]
    contents: Callable[[Sequence[int]], Iterator[Content]]  # the images of these numbers, in the order of the argument
    source: dict[str, Any] = field(default_factory=dict)  # what was read, for the manifest
    others: Counter[str] = field(default_factory=Counter)  # what else there is, by kind (lct/files/selection.py)


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
            return self._pass_on(indices)
        return self._spool(indices)

    def _pass_on(self, indices: list[int]) -> Iterator[Content]:
        remaining = iter(indices)
        target = next(remaining)
        for i, content in self._forward():
            if i == target:
                yield lambda content=content: content
                if (target := next(remaining, None)) is None:
                    return

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
