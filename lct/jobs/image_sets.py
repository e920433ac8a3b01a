"""Image sets as jobs write them: whole or not at all, with a manifest and a preview beside them."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lct.data import imageset
from lct.files import local_source
from lct.files.atomic import atomic, link_or_copy, write_json
from lct.jobs import job
from lct.plan.paths import grid, manifest


def write_set(
    out: Path,
    images: Iterable[np.ndarray | imageset.EncodedImage],
    shown: int = 0,
    items: Sequence[dict[str, Any]] | None = None,
    check: Callable[[], None] = lambda: None,
    others: Counter[str] | None = None,
) -> dict[str, Any]:
    """Write an image set and its manifest, which is returned, and a preview of its first `shown` images.

    items: a description of each image, as `imageset.write_imageset` takes them.
    check: called when all images are written; what it raises keeps the set from its place.
    others: what the source holds besides the images, by kind."""
    with atomic(out) as temporary:
        description = imageset.write_imageset(temporary, images, items=items, name=out.name)
        check()
    if not_taken := local_source.pictures(others or Counter()):
        description["not_taken"] = not_taken
    write_json(manifest(str(out)), description)
    write_preview(out, shown)
    return description


def write_preview(out: Path, shown: int) -> None:
    """A picture of the first `shown` images of a set; none for 0."""
    with imageset.ImageSet(out) as written:
        if (shown := min(shown, len(written))) > 0:
            with atomic(grid(str(out))) as temporary:
                imageset.write_grid(temporary, written.array(0, shown), columns=min(8, shown), scale=2)


class UnfinishedSet:
    """An image set in work/: a part for each batch of it, until all are there and it is written as a whole."""

    def __init__(self, path: Path, starts: range, count: int):
        """path: of the whole set, named as it will be; starts: first index of every batch; count: of images."""
        self.path, self.starts, self.count = path, starts, count

    @cached_property
    def missing(self) -> list[int]:
        """Batches that have no whole part, by their first index; none where the set is whole."""
        return [] if self._is_whole else [start for start in self.starts if not _is_checked(self._part(start))]

    def publish(self, sampled: Iterator[list[imageset.EncodedImage]], out: Path, shown: int) -> None:
        """Make the set whole by the `missing` batches, taken from `sampled`, and give it its place, manifest and
        preview."""
        if not self._is_whole:
            images = job.progress(self._images(sampled), self.count, "/".join(out.with_suffix("").parts[-3:]))
            write_set(self.path, images)
            shutil.rmtree(self._part(0).parent)
        link_or_copy(self.path, out)
        write_json(manifest(str(out)), imageset.read_manifest(manifest(str(self.path))))
        write_preview(out, shown)

    def _images(self, sampled: Iterator[list[imageset.EncodedImage]]) -> Iterator[imageset.EncodedImage]:
        for start in self.starts:
            if start in self.missing:
                batch = next(sampled)
                write_set(self._part(start), batch)
            else:
                with imageset.ImageSet(self._part(start)) as part:
                    batch = [imageset.EncodedImage(part[i], part.read(i)) for i in range(len(part))]
            yield from batch

    def _part(self, start: int) -> Path:
        return self.path.with_suffix("") / f"{start:06d}.part"

    @cached_property
    def _is_whole(self) -> bool:
        return _is_checked(self.path)


def _is_checked(path: Path) -> bool:
    """Whether a set is there, and has the bytes that its manifest says."""
    try:
        imageset.open_checked(manifest(str(path)), deep=True).close()
    except (OSError, ValueError):
        return False
    return True
