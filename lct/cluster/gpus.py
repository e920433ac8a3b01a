"""GPUs of a machine without a scheduler: a job takes a lock for each GPU it uses, so that no two jobs share one.

The locks are files in a folder of this user on this machine; the operating system drops them when the job ends, however
it ends. Processes that use a GPU without its lock are not noticed.
"""

import logging
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from lct.cluster.slurm import UnansweredError, query
from lct.files.lock import LockHeldError, acquire

log = logging.getLogger(__name__)


def visible_gpus() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them; without that, all that nvidia-smi lists."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    try:
        answer = query(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], timeout=60)
    except UnansweredError:
        return []
    return [line.strip() for line in answer.splitlines() if line.strip().isdigit()]


def lease(
    count: int,
    gpus: list[str] | None = None,
    folder: Path | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Take `count` free GPUs, waiting for them, and make them the only ones this process and its children see.

    They are free again when this process has ended, and the program that it may have become by exec.
    Raises ValueError where there are fewer than `count`.
    """
    names = visible_gpus() if gpus is None else gpus
    if len(names) < count:
        raise ValueError(
            f"GPUs: expected {count} or more, found {len(names)} ({', '.join(names) or 'none'}); lower `gpu` in "
            "profiles/workstation, or start without that profile to compute on the CPU"
        )
    folder = folder or Path(tempfile.gettempdir()) / f"lct-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    seconds = 0
    while True:
        with _turn(folder, sleep):  # one job chooses at a time: two that each hold half of what they need would wait on
            locks = _lock(names, count, folder)
        if locks:
            break
        if seconds % 60 == 0:
            log.info("waiting for %d of the GPUs %s", count, ", ".join(names))
        seconds += 1
        sleep(1.0)
    for handle in locks.values():
        os.set_inheritable(handle.fileno(), True)  # the lock goes on through exec
        _HELD.append(handle)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(locks)
    return list(locks)


_HELD: list[IO[str]] = []  # handles live as long as this process


def _turn(folder: Path, sleep: Callable[[float], None]) -> IO[str]:
    """The right to choose GPUs: a lock that is held while choosing."""
    while True:
        try:
            return acquire(folder / "choosing.lock", "job choosing its GPUs")
        except LockHeldError:
            sleep(0.05)


def _lock(names: list[str], count: int, folder: Path) -> dict[str, IO[str]]:
    """GPU -> lock, of the first `count` free ones; empty, and none locked, where fewer are free."""
    locks: dict[str, IO[str]] = {}
    for name in names:
        with suppress(LockHeldError):
            locks[name] = acquire(folder / f"{name.replace('/', '-')}.lock", f"job on GPU {name}")
        if len(locks) == count:
            return locks
    for handle in locks.values():
        handle.close()
    return {}
