"""Small trainings that go on after an interruption: where their state lies, and when they end early."""

import logging
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from lct.cluster.cost_model import SAVE_MINUTES
from lct.cluster.signals import Stop
from lct.files.checkpoint import Checkpoint
from lct.files.progress import ProgressLogger
from lct.files.records import JobRecord
from lct.jobs import job

log = logging.getLogger("lct")
T = TypeVar("T")


def checkpoint(record: JobRecord, out: Path, total: int) -> Checkpoint:
    """The checkpoint of a job's training, below work/ where its results are below results/."""
    described = record.deterministic()
    inputs = {role: entry["sha256"] for role, entry in described["inputs"].items()}
    identity = {"settings": described["settings"], "seeds": described["seeds"], "inputs": inputs}
    inside = out.parts[:1] == ("results",)
    folder = Path("work", *out.parts[1:]).with_suffix("") if inside else out.with_name(f".{out.name}.work")
    return Checkpoint(folder, identity, total, 60 * float(os.environ.get("LCT_SAVE_MINUTES", SAVE_MINUTES)))


def resumable(steps: Iterable[T], state: Checkpoint, what: str) -> Iterator[T]:
    """Pass the steps of a training through and log how far it is. Raises InterruptedJobError with the state saved
    after a signal and near the end of the wall time."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    stop, progress_logger = Stop(), None
    try:
        for step in steps:
            progress_logger = progress_logger or ProgressLogger(what, state.total, done=state.step - 1)
            progress_logger(state.step)
            yield step
            if state.step < state.total and stop():
                state.save()
                log.info("state saved at step %d of %d", state.step, state.total)
                stop.leave()
                raise job.InterruptedJobError(f"state saved at step {state.step} of {state.total} ({stop.reason})")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
