"""When a job is to save its state and end: asked to by a signal, or with its wall time nearly over."""

import logging
import math
import os
import signal
import time
from collections.abc import Callable

from lct.cluster.launch import job_id, requeue

log = logging.getLogger(__name__)

MARGIN_SECONDS, MARGIN_SHARE = 120.0, 0.1  # kept free at the end of the wall time: the smaller of both
REQUEUE_SECONDS, TERM_SECONDS = 60.0, 600.0  # that SLURM has to end a job that it puts back, or that it sent SIGTERM


class Stop:
    """Turns true once SIGTERM, SIGINT or SIGUSR1 has come, or the wall time is nearly over.

    minutes: wall time from now; without it, until LCT_DEADLINE in the environment, which lct.jobs.launch sets.
    SIGUSR1 is how SLURM says (`--signal=USR1@300`) that the time limit is near: the job should be queued again.
    SIGTERM may also mean that somebody has cancelled the job.
    """

    def __init__(self, minutes: float | None = None):
        self.reason = ""  # why it turned true
        self.out_of_time = False  # wall time, not somebody, ends the job
        self.margin: Callable[[], float] = lambda: 0.0  # further seconds that saving may need
        self._signals: list[int] = []
        deadline = os.environ.get("LCT_DEADLINE")
        self._deadline = time.time() + 60 * minutes if minutes else float(deadline) if deadline else math.inf
        self._reserve = min(MARGIN_SECONDS, MARGIN_SHARE * (self._deadline - time.time()))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, lambda received, _: self._signals.append(received))

    def __call__(self) -> bool:
        if not self.reason and self._signals:
            self.reason = signal.Signals(self._signals[0]).name
            self.out_of_time = self._signals[0] == signal.SIGUSR1
        if not self.reason and time.time() > self._deadline - self._reserve - self.margin():
            self.reason, self.out_of_time = "wall time nearly over", True
        return bool(self.reason)

    def leave(self) -> None:
        """Before a job ends whose state is saved: under SLURM, ask to be queued again where time is up; after SIGTERM,
        wait for the end, as SLURM puts a preempted job back, but not one that has ended by itself."""
        self()
        before = len(self._signals)
        if self.out_of_time and requeue(os.environ):
            log.info("SLURM puts this job back into the queue")
            until = time.monotonic() + REQUEUE_SECONDS
            while len(self._signals) == before and time.monotonic() < until:  # until SLURM's SIGTERM
                time.sleep(0.2)
        elif self.reason == "SIGTERM" and job_id(os.environ) is not None:
            time.sleep(TERM_SECONDS)
