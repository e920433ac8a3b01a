"""How a job's processes start, so that signals reach them, get their GPUs, and end with their state saved.

    rule's shell -> srun (inside a SLURM job) -> one starter per node -> the job, or one process per GPU of it

With proctrack/cgroup, which nearly every cluster has, SLURM signals only the first process of each task. A job that
Snakemake starts is not that process; as a step of its own (`srun --overlap`) it is. A job of one process replaces its
starter; several are started with the environment that torchrun defines, and every signal is passed on to them.
torchrun itself will not do: it ends with 1 where its processes ended with 75, kills them 30 s after a SIGTERM, whatever
they are saving, and dies of SIGUSR1, leaving them behind.

On a machine without a scheduler, a job takes a lock for each GPU it uses, so that no two jobs share one. The locks are
files in a folder of this user on this machine; the operating system drops them when the job ends, however it ends.
Processes that use a GPU without its lock are not noticed.
"""

import itertools
import logging
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lct.checks import require
from lct.cluster.slurm import UnansweredError, query
from lct.files.lock import LockHeldError, acquire, hold

log = logging.getLogger(__name__)

INTERRUPTED = 75  # exit code: ended on request, with its state saved
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # passed on to every process
GRACE_SECONDS = 20.0  # from a failed process to the end of the others
RANKED = ("train",)  # jobs with one process per device; any other job is one process that sees all devices
MARGIN_SECONDS, MARGIN_SHARE = 120.0, 0.1  # kept free at the end of the wall time: the smaller of both
REQUEUE_SECONDS, TERM_SECONDS = 60.0, 600.0  # that SLURM has to end a job that it puts back, or that it sent SIGTERM


@dataclass(frozen=True)
class Allocation:
    """The nodes, GPUs and cores that a job may use, from the resources of its rule."""

    nodes: int = 1
    gpus: int = 0  # on each node; 0: none asked for, one process takes the GPU it finds, or the CPU
    processes: int = 0  # on each node; 0: one per GPU
    cpus: int = 1  # of each node, for all its processes
    minutes: float = 0.0  # wall time asked of the cluster; 0: none

    def __post_init__(self):
        if self.nodes < 1 or self.cpus < 1 or min(self.gpus, self.processes, self.minutes) < 0:
            raise ValueError(f"expected 1 node and cpu or more, and no negative numbers, found {self}; fix them")

    def processes_per_node(self, job: str) -> int:
        return (self.processes or max(1, self.gpus)) if job in RANKED else 1


def job_id(environment: Mapping[str, str]) -> str | None:
    """The SLURM job this process runs in, checked to be a number; None outside SLURM."""
    job = environment.get("SLURM_JOB_ID")
    if job is not None and not re.fullmatch(r"[0-9]{1,18}", job):
        raise ValueError(f"SLURM_JOB_ID: expected a number, found {job!r}; unset it outside SLURM")
    return job


def step_command(allocation: Allocation, environment: Mapping[str, str], words: list[str]) -> list[str] | None:
    """The srun command that runs `words` as a step, one task per node; None outside SLURM, inside the step, and, with a
    warning, without srun."""
    if job_id(environment) is None or "LCT_STEP" in environment:
        return None
    if shutil.which("srun", path=environment.get("PATH")) is None:
        require(
            allocation.nodes <= 1, "srun", f"it on the PATH for {allocation.nodes} nodes", "none", "load SLURM's tools"
        )
        log.warning("srun is not on the PATH: signals may not reach this job, which then loses up to one saved state")
        return None
    geometry = [f"--nodes={allocation.nodes}", f"--ntasks={allocation.nodes}", "--ntasks-per-node=1"]
    return ["srun", "--overlap", *geometry, f"--cpus-per-task={allocation.cpus}", "--kill-on-bad-exit=0", *words]


def rank_environments(allocation: Allocation, job: str, environment: Mapping[str, str]) -> list[dict[str, str]]:
    """The environment variables of each process of this node; none for a job of a single process."""
    count = allocation.processes_per_node(job)
    if allocation.nodes * count == 1:
        return [{}]
    node, address, port = 0, "127.0.0.1", None
    if allocation.nodes > 1:
        node, address = int(environment["SLURM_NODEID"]), first_host(environment)
        port = 10000 + int(job_id(environment) or 0) % 20000
    common = {"WORLD_SIZE": str(allocation.nodes * count), "LOCAL_WORLD_SIZE": str(count)}
    common |= {"MASTER_ADDR": address, "MASTER_PORT": str(port or _free_port())}
    return [common | {"RANK": str(node * count + local), "LOCAL_RANK": str(local)} for local in range(count)]


def first_host(environment: Mapping[str, str]) -> str:
    """The first node of this step: where rank 0 is."""
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST")
    require(nodes, "SLURM_STEP_NODELIST", "the nodes of this step", "nothing", "start it through srun")
    try:
        return query(["scontrol", "show", "hostnames", nodes]).split()[0]
    except (UnansweredError, IndexError) as error:
        raise ValueError(f"scontrol show hostnames: expected the nodes of {nodes}, found: {error}") from error


def run(command: list[str], environments: list[dict[str, str]]) -> int:
    """Run one process per environment, pass signals on, and return one exit code for all: 0; 75 when all that did not
    finish were interrupted; else the first failure's, or 1 for a process that was killed. After a failure the others
    are ended."""
    if len(environments) == 1:
        sys.stdout.flush()
        os.execvpe(command[0], command, {**os.environ, **environments[0]})  # this process becomes the job
    processes: list[subprocess.Popen] = []

    def pass_on(number, _) -> None:
        for process in processes:
            process.send_signal(number)

    for number in SIGNALS:
        signal.signal(number, pass_on)
    for environment in environments:
        processes.append(subprocess.Popen(command, env={**os.environ, **environment}))
    return _wait(processes)


def _wait(processes: list[subprocess.Popen]) -> int:
    first, kill_at = 0, math.inf  # code of the first failure
    while True:
        codes = [process.poll() for process in processes]
        failures = [(n, code) for n, code in enumerate(codes) if code not in (None, 0, INTERRUPTED)]
        if failures and not first:
            (number, first), kill_at = failures[0], time.monotonic() + GRACE_SECONDS
            if first < 0:
                print(f"error: process {number} of {len(processes)} was killed by signal {-first}", flush=True)
            for process in processes:
                process.terminate()
        if None not in codes:
            return 1 if first < 0 else first or max(codes)
        if time.monotonic() > kill_at:
            for process in processes:
                process.kill()
        time.sleep(0.1)


def requeue(environment: Mapping[str, str]) -> bool:
    """Ask SLURM to run this job again from the queue; False outside SLURM or when it refuses."""
    job, scontrol = job_id(environment), shutil.which("scontrol", path=environment.get("PATH"))
    if job is None or scontrol is None:
        return False
    try:
        query([scontrol, "requeue", job], timeout=120)
    except UnansweredError as error:
        log.warning("scontrol requeue %s: refused (%s); the workflow's retries go on", job, error)
        return False
    return True


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


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
        for number in SIGNALS:
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
    given = f"{len(names)} ({', '.join(names) or 'none'})"
    advice = "lower `gpu` in profiles/workstation, or start without that profile to compute on the CPU"
    require(len(names) >= count, "GPUs", f"{count} or more", given, advice)
    folder = folder or Path(tempfile.gettempdir()) / f"lct-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for seconds in itertools.count():
        # one job chooses at a time: two that each hold half of what they need would wait on
        with hold(folder / "choosing.lock", "job choosing its GPUs", wait_seconds=math.inf):
            locks = _lock_free(names, count, folder)
        if locks:
            break
        if seconds % 60 == 0:
            log.info("waiting for %d of the GPUs %s", count, ", ".join(names))
        sleep(1.0)
    for handle in locks.values():
        os.set_inheritable(handle.fileno(), True)  # the lock goes on through exec
        _HELD.append(handle)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(locks)
    return list(locks)


_HELD: list[IO[str]] = []  # handles live as long as this process


def _lock_free(names: list[str], count: int, folder: Path) -> dict[str, IO[str]]:
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
