"""Many images made at once, in order, by threads: Pillow lets go of Python's lock while it decodes, scales and encodes.

Measured on one Xeon core: 96 images/s from 1024x1024 JPEG to 256x256, 335 from 256x256 JPEG; two threads on two cores
give twice that. Results do not depend on the number of threads.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from lct.data.decode import UnusableImageError
from lct.data.imageset import EncodedImage, encode
from lct.data.sources import Split, Task
from lct.data.threads import in_order

NAMED = 20  # unusable images whose names fit into an error's line
MOST = 1000  # unusable images after which the rest is not looked at


class IncompleteSplitError(Exception):
    """A side that cannot be written: some of its images are unusable."""


class Preparation:
    """The images of both sides of a dataset, and the names of all that cannot be used, until there are MOST of them."""

    def __init__(self, report: Callable[[UnusableImageError], None], workers: int = 1):
        self.unusable: dict[str, str] = {}  # name -> reason
        self._report, self._workers = report, workers

    def pictures(self, side: Split) -> Iterator[EncodedImage]:
        """The images of a side, ready to be written. Raises IncompleteSplitError behind the last one if
        any was unusable, on this side or before."""
        for made in in_order((partial(_made, task) for task in side.tasks(range(len(side)))), self._workers):
            if len(self.unusable) >= MOST:
                break
            if isinstance(made, UnusableImageError):
                if made.name not in self.unusable:  # mirror images fail a second time
                    self._report(made)
                self.unusable[made.name] = made.reason
            elif not self.unusable:
                yield made
        if self.unusable:
            raise IncompleteSplitError

    @contextmanager
    def side(self) -> Iterator[None]:
        """A block that writes a side: left early when the side is incomplete, so that the next one is looked at too."""
        try:
            yield
        except IncompleteSplitError:
            pass

    def check(self, where: str) -> None:
        """Stop with all that was unusable, and what to paste where they are to be left out."""
        if not (count := len(self.unusable)):
            return
        shown = list(self.unusable.items())[:3]
        examples = "; ".join(f"{name} ({reason})" for name, reason in shown)
        if count > NAMED:
            paste = "`exceptions` (the log lists all names)"
        else:
            paste = f"`exceptions: [{', '.join(map(_quoted, self.unusable))}]`"
        more = " or more; is this the right dataset?" if count >= MOST else ""
        raise ValueError(
            f"{where}: expected usable images only, found {count}{more} that are not: {examples}"
            f"{'; ...' if count > len(shown) else ''}; repair them, or leave them out and count them: {paste}"
        )


def _made(task: Task) -> EncodedImage | UnusableImageError:
    try:
        return encode(task())
    except UnusableImageError as error:
        return error


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
