"""Jobs that go on after an interruption: where their state lies, and when small trainings end early.

Snakemake deletes the outputs of a job before it starts it again, so what is finished of them lies in work/.
"""

import logging
import math
import os
import shutil
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from lct.cluster.cost_model import SAVE_MINUTES
from lct.cluster.launch import Stop
from lct.files.checkpoint import Checkpoint
from lct.files.hashing import sha256_json
from lct.files.lock import hold
from lct.files.progress import ProgressLogger
from lct.files.records import JobRecord
from lct.jobs import job

log = logging.getLogger("lct")
T = TypeVar("T")


def work_folder(out: Path) -> Path:
    """Where the state of a job lies that writes to `out`: below work/ where its results are below results/."""
    inside = out.parts[:1] == ("results",)
    return Path("work", *out.parts[1:]) if inside else out.with_name(f".{out.name}.work")


def identity_of(record: JobRecord) -> dict[str, Any]:
    """Settings, seeds and hashes of the inputs of a job: what its result depends on, wherever its files lie."""
    described = record.deterministic()
    inputs = {role: entry["sha256"] for role, entry in described["inputs"].items()}
    return {"settings": described["settings"], "seeds": described["seeds"], "inputs": inputs}


@contextmanager
def finished_parts(record: JobRecord, work: Path, what: str) -> Iterator[Path]:
    """The folder in `work` for what a job has finished, by a hash of all that it depends on. Other folders there, of
    earlier settings or inputs, are removed; this one is when the block ends well. A copy of the job that a killed
    scheduler has left behind is waited for: then `record.has_written` tells what it has published.

    record: names the inputs of the whole job. what: the job's name for the log."""
    identity = identity_of(record)
    folder = work / sha256_json([identity["settings"], [*identity["inputs"].values()], record.device])[:16]
    with hold(work / "lock", what, wait_seconds=math.inf):
        for other in work.iterdir():
            if other.is_dir() and other != folder:
                shutil.rmtree(other, ignore_errors=True)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)


def checkpoint(record: JobRecord, out: Path, total: int) -> Checkpoint:
    """The checkpoint of a job's training, below work/ where its results are below results/."""
    folder = work_folder(out)
    folder = folder.with_suffix("") if folder.parts[:1] == ("work",) else folder
    return Checkpoint(folder, identity_of(record), total, 60 * float(os.environ.get("LCT_SAVE_MINUTES", SAVE_MINUTES)))


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
