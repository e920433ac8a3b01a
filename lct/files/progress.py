"""Progress of long work in the log: how much is done, the rate, and the time that remains."""

import logging
import time
from collections.abc import Callable

from lct.files.formatting import format_duration

log = logging.getLogger(__name__)


class ProgressLogger:
    """Logs a line every few seconds, and one at the end.

    what:   name of the work
    total:  amount of all work; None: not known
    done:   amount that an earlier process did; it does not count in the rate
    amount: an amount as text
    """

    def __init__(
        self,
        what: str,
        total: float | None,
        *,
        done: float = 0,
        every_seconds: float = 5.0,
        amount: Callable[[float], str] = str,
    ):
        self.what, self.total, self.amount, self.every_seconds = what, total, amount, every_seconds
        self._first, self._started = done, time.monotonic()
        self._last = self._started

    def __call__(self, done: float) -> None:
        now = time.monotonic()
        if now - self._last >= self.every_seconds or done == self.total:
            self._last = now
            log.info("%s", self.line(done, now - self._started))

    def line(self, done: float, seconds: float) -> str:
        """The line for `done` after `seconds` of work."""
        rate = (done - self._first) / max(seconds, 1e-9)
        total, eta = "", ""
        if self.total is not None:
            total = f" total={self.amount(self.total)}"
            eta = f" eta={format_duration((self.total - done) / rate if rate else 0)}"
        return f"{self.what} done={self.amount(done)}{total} rate={self.amount(round(rate, 1))}/s{eta}"
