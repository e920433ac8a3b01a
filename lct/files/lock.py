"""Locks that the operating system drops when their holder dies, kill -9 included."""

import errno
import fcntl
import logging
import math
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from lct.files.atomic import writing

log = logging.getLogger(__name__)


class LockHeldError(RuntimeError):
    """Another process holds the lock."""


def acquire(path: Path | str, what: str) -> IO[str]:
    """Lock `path` for the life of the returned handle; raises LockHeldError naming the holder's process id."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = open(path, "a+")  # noqa: SIM115 the handle is the lock and outlives this call
    try:
        _lock(handle, path, what)
        job = os.environ.get("SLURM_JOB_ID")
        with writing(path):
            handle.truncate(0)
            handle.write(f"{os.getpid()} on {platform.node()}{f', SLURM job {job}' if job else ''}\n")
            handle.flush()
    except (OSError, LockHeldError):
        with suppress(OSError):
            handle.close()
        raise
    return handle


def _lock(handle: IO[str], path: Path, what: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            advice = "mount it with them (Lustre: -o flock), or work on another one"
            text = f"{path}: expected a file system with locks, found: {os.strerror(error.errno)}; {advice}"
            raise OSError(error.errno, text) from error
        handle.seek(0)
        holder, advice = handle.read().strip() or "unknown", "wait for it to end, or stop it"
        raise LockHeldError(f"{path}: expected no other {what}, found one (process {holder}); {advice}") from None


def is_held(path: Path | str) -> bool:
    """Whether some process holds the lock on `path`; asks without taking it away from anyone."""
    if not Path(path).exists():
        return False
    try:
        acquire(path, "question").close()
    except LockHeldError:
        return True
    return False


@contextmanager
def hold(path: Path | str, what: str, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock on `path` inside a `with` block, waiting up to `wait_seconds` for another holder to end."""
    started, last_message = time.monotonic(), -math.inf
    while True:
        try:
            handle = acquire(path, what)
            break
        except LockHeldError as error:
            waited = time.monotonic() - started
            if waited >= wait_seconds:
                raise
            if waited - last_message >= 60:
                last_message = waited
                log.info("waiting: %s", error)
            time.sleep(0.5)
    with handle:
        yield
