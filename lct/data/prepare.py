"""Many images prepared at once, in order, by threads: Pillow releases Python's lock while it decodes, scales, encodes.

Measured on one Xeon core: 96 images/s from 1024x1024 JPEG to 256x256, 335 from 256x256 JPEG; two threads on two cores
give twice that. Results do not depend on the number of threads.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

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
        self._digests: list[array] = []  # of each split: eight bytes of the hash of every image, mirror images apart
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
        self._digests.append(array("Q"))
        images = watch(self._images(split))
        try:
            return write_imageset(path, images, items=split.items, name=name, allow_empty=allow_empty)
        except IncompleteSplitError:
            return None

    def _images(self, split: Split) -> Iterator[EncodedImage]:
        tasks = (partial(_prepare, task) for task in split.tasks(range(len(split))))
        for number, image in enumerate(in_order(tasks, self._workers)):
            if len(self.unusable) >= MOST:
                break
            if isinstance(image, UnusableImageError):
                if image.name not in self.unusable:  # mirror images fail a second time
                    self._report(image)
                self.unusable[image.name] = image.reason
            elif not self.unusable:
                if number < len(split) - split.mirrored:
                    digest = hashlib.blake2b(image.content, digest_size=8).digest()
                    self._digests[-1].append(int.from_bytes(digest, "little"))
                yield image
        if self.unusable:
            raise IncompleteSplitError

    def duplicates(self) -> dict[str, int]:
        """How many images have the same pixels as an earlier one: of the first split, of the second one, and how many
        images of the second split are in the first one too. Empty where there are none."""
        train, heldout = (np.asarray(digests, np.uint64) for digests in self._digests)
        distinct = np.unique(train), np.unique(heldout)
        counts = {
            "train": len(train) - len(distinct[0]),
            "heldout": len(heldout) - len(distinct[1]),
            "across": int(np.isin(heldout, distinct[0]).sum()),
        }
        return counts if any(counts.values()) else {}

    @property
    def setting(self) -> str:
        """The line of a dataset's `source` that leaves all unusable images out."""
        return f"exceptions: [{', '.join(map(quoted, self.unusable))}]"

    def check(self, where: str) -> None:
        """Raises ValueError where images were unusable, with the setting that leaves them out."""
        if not (count := len(self.unusable)):
            return
        shown = list(self.unusable.items())[:3]
        examples = "; ".join(f"{readable(name)} ({reason})" for name, reason in shown)
        setting = f"`{self.setting}`" if count <= NAMED else "`exceptions` (the log has the line to paste)"
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


def quoted(name: str) -> str:
    """A name as a double-quoted YAML value that stays the same however its line is wrapped or its spaces are joined."""
    return '"' + "".join(map(_escaped, " " + name, name)) + '"'


def readable(name: str) -> str:
    """A name for a message: as it is, or quoted where that would not show all of it."""
    plain = name.isprintable() and " ".join(name.split()) == name
    return name if plain else quoted(name)


def _escaped(before: str, character: str) -> str:
    """A character of a double-quoted YAML value, in which `before` stands in front of it."""
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable() and (character, before) != (" ", " "):
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
