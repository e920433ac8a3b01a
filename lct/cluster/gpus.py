"""GPUs of a machine without a scheduler: a job takes a lock for each GPU it uses, so that no two jobs share one.

The locks are files in a folder of this user on this machine; the operating system drops them when the job ends, however
it ends. Which processes use a GPU without asking for its lock is not looked at.
"""

import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lct.files.lock import LockHeldError, acquire

log = logging.getLogger(__name__)


def visible() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them; without that, all that nvidia-smi lists."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip().isdigit()]


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
    names = visible() if gpus is None else gpus
    if len(names) < count:
        raise ValueError(
            f"GPUs: expected {count} or more, found {len(names)} ({', '.join(names) or 'none'}); lower `gpu` in "
            "profiles/workstation, or start without that profile to compute on the CPU"
        )
    folder = folder or Path(tempfile.gettempdir()) / f"lct-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    waited = 0
    while True:
        taken = {}
        with take_turn(folder, sleep):  # one chooser at a time: two that each hold half of what they need would wait on
            for name in names:
                try:
                    taken[name] = acquire(folder / f"{name.replace('/', '-')}.lock", f"job on GPU {name}")
                except LockHeldError:
                    continue
                if len(taken) == count:
                    break
            if len(taken) == count:
                break
            for handle in taken.values():
                handle.close()
        if waited % 60 == 0:
            log.info("waiting for %d of the GPUs %s", count, ", ".join(names))
        waited += 1
        sleep(1.0)
    for handle in taken.values():
        os.set_inheritable(handle.fileno(), True)  # the lock goes on through exec
        _HELD.append(handle)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
    return list(taken)


_HELD: list = []  # handles live as long as this process


def take_turn(folder: Path, sleep: Callable[[float], None]):
    """The right to choose, held for the moment of choosing."""
    while True:
        try:
            return acquire(folder / "choosing.lock", "job choosing its GPUs")
        except LockHeldError:
            sleep(0.05)
