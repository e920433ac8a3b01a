"""Many images prepared at once, in order, by threads: Pillow releases Python's lock while it decodes, scales, encodes.

Measured on one Xeon core: 96 images/s from 1024x1024 JPEG to 256x256, 335 from 256x256 JPEG; two threads on two cores
give twice that. Results do not depend on the number of threads.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lct.data.decode import UnusableImageError
from lct.data.imageset import EncodedImage, encode, write_imageset
from lct.data.sources import Split, Task
from lct.data.threads import in_order

NAMED = 20  # most unusable images whose names fit into an error's line
MOST = 1000  # unusable images at which the preparation gives up


class IncompleteSplitError(Exception):
    """A split that cannot be written: some of its images are unusable."""


class Preparation:
    """Writes the splits of a dataset, and collects the names of all images that cannot be used, up to MOST of them."""

    def __init__(self, report: Callable[[UnusableImageError], None], workers: int = 1):
        self.unusable: dict[str, str] = {}  # name -> reason
        self._report, self._workers = report, workers

    def write(
        self,
        path: Path,
        split: Split,
        name: str,
        allow_empty: bool,
        watch: Callable[[Iterable[EncodedImage]], Iterable[EncodedImage]] = iter,
    ) -> dict[str, Any] | None:
        """Write a split as an image set; returns its manifest.

        Returns None where an image was unusable, in this split or an earlier one: the set at `path` is then incomplete.
        All images are tried all the same, so that `check` names every unusable one.

        name:  the file's final name; `path` is a temporary one.
        watch: passes images through, to show progress."""
        images = watch(self._images(split))
        try:
            return write_imageset(path, images, items=split.items, name=name, allow_empty=allow_empty)
        except IncompleteSplitError:
            return None

    def _images(self, split: Split) -> Iterator[EncodedImage]:
        tasks = (partial(_prepare, task) for task in split.tasks(range(len(split))))
        for image in in_order(tasks, self._workers):
            if len(self.unusable) >= MOST:
                break
            if isinstance(image, UnusableImageError):
                if image.name not in self.unusable:  # mirror images fail a second time
                    self._report(image)
                self.unusable[image.name] = image.reason
            elif not self.unusable:
                yield image
        if self.unusable:
            raise IncompleteSplitError

    def check(self, where: str) -> None:
        """Raises ValueError where images were unusable, with the setting that leaves them out."""
        if not (count := len(self.unusable)):
            return
        shown = list(self.unusable.items())[:3]
        examples = "; ".join(f"{name} ({reason})" for name, reason in shown)
        setting = f"`exceptions: [{', '.join(map(_quoted, self.unusable))}]`"
        if count > NAMED:
            setting = "`exceptions` (the log lists all names)"
        more = " or more; is this the right dataset?" if count >= MOST else ""
        raise ValueError(
            f"{where}: expected usable images only, found {count}{more} that are not: {examples}"
            f"{'; ...' if count > len(shown) else ''}; repair them, or leave them out and count them: {setting}"
        )


def _prepare(task: Task) -> EncodedImage | UnusableImageError:
    try:
        return encode(task())
    except UnusableImageError as error:
        return error


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
