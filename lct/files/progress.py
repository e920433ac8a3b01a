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

    def __call__(self, done: float, **values: object) -> bool:
        """Log a line, with further `values`, if one is due; returns whether it was."""
        now = time.monotonic()
        if now - self._last < self.every_seconds and done != self.total:
            return False
        self._last = now
        facts = [f"done={self.amount(done)}"]
        facts += [f"total={self.amount(self.total)}"] if self.total is not None else []
        facts += [f"{name}={value}" for name, value in values.items() if value is not None]
        facts.append(f"rate={self.amount(round(self.rate(done), 1))}/s")
        facts += [f"eta={format_duration(self.remaining_seconds(done))}"] if self.total is not None else []
        log.info("%s %s", self.what, " ".join(facts))
        return True

    def rate(self, done: float) -> float:
        """Amount per second since the start."""
        return (done - self._first) / max(time.monotonic() - self._started, 1e-9)

    def remaining_seconds(self, done: float) -> float:
        """Estimated seconds until `total` is reached; 0 as long as there is no rate."""
        rate = self.rate(done)
        return ((self.total or 0) - done) / rate if rate else 0.0
