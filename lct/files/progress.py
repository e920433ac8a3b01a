"""Progress of long work in the log: how much is done, the rate, and the time that remains."""

import logging
import time
from collections.abc import Callable

from lct.files.formatting import format_duration

log = logging.getLogger(__name__)


class ProgressLogger:
    """Called with the amount that is done; logs a line every few seconds, and one at the end.

    total:  amount of all work; None: not known
    done:   amount that an earlier process did; it does not count in the rate
    amount: an amount as text
    """

    def __init__(
        self, what: str, total: float | None, *, done: float = 0, every_seconds: float = 5.0, amount: Callable = str
    ):
        self.what, self.total, self.amount, self.every_seconds = what, total, amount, every_seconds
        self._first, self._started, self._last = done, time.monotonic(), time.monotonic()

    def __call__(self, done: float) -> None:
        now = time.monotonic()
        if now - self._last < self.every_seconds and done != self.total:
            return
        self._last = now
        rate = (done - self._first) / max(now - self._started, 1e-9)
        facts = [f"done={self.amount(done)}", f"rate={self.amount(round(rate, 1))}/s"]
        if self.total is not None:
            facts.insert(1, f"total={self.amount(self.total)}")
            facts.append(f"eta={format_duration((self.total - done) / rate if rate else 0)}")
        log.info("%s %s", self.what, " ".join(facts))
