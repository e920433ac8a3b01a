"""How a job's processes are started, so that signals reach them: as a step of their own under SLURM, one per GPU.

    rule's shell -> srun (inside a SLURM job) -> one starter per node -> the job, or one process per GPU of it

With proctrack/cgroup, which nearly every cluster has, SLURM signals only the first process of each task. A job that
Snakemake starts is not that process; as a step of its own (`srun --overlap`) it is. A job of one process replaces its
starter; several are started with the environment that torchrun defines, and every signal is passed on to them.
torchrun itself will not do: it ends with 1 where its processes ended with 75, kills them 30 s after a SIGTERM, whatever
they are saving, and dies of SIGUSR1, leaving them behind.
"""

import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from lct.cluster import slurm

log = logging.getLogger(__name__)

INTERRUPTED = 75  # exit code: ended on request, with its state saved
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # passed on to every process
GRACE_SECONDS = 20.0  # from a failed process to the end of the others
RANKED = ("train",)  # jobs with one process per device; any other job is one process that sees all devices


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
        if allocation.nodes > 1:
            raise ValueError(
                f"srun: expected it on the PATH for {allocation.nodes} nodes, found none; load SLURM's tools"
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
    if not nodes:
        raise ValueError("SLURM_STEP_NODELIST: expected the nodes of this step, found nothing; start it through srun")
    try:
        return slurm.query(["scontrol", "show", "hostnames", nodes]).split()[0]
    except (slurm.UnansweredError, IndexError) as error:
        raise ValueError(f"scontrol show hostnames: expected the nodes of {nodes}, found: {error}") from error


def run(command: list[str], environments: list[dict[str, str]]) -> int:
    """Run one process per environment, pass signals on, and return one exit code for all: 0; 75 when all that did not
    finish were interrupted; else the first failure's, or 1 for a process that was killed. After a failure the others
    are ended."""
    if len(environments) == 1:
        sys.stdout.flush()
        os.execvpe(command[0], command, {**os.environ, **environments[0]})  # this process becomes the job
    processes: list[subprocess.Popen] = []
    waiting: list[int] = []

    def pass_on(number, _) -> None:
        waiting.append(number)
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    for number in SIGNALS:
        signal.signal(number, pass_on)
    for environment in environments:
        processes.append(subprocess.Popen(command, env={**os.environ, **environment}))
    return _wait(processes)


def _wait(processes: list[subprocess.Popen]) -> int:
    first: int | None = None
    failed_at = 0.0
    while True:
        codes = [process.poll() for process in processes]
        ended = [code for code in codes if code is not None]
        if first is None and any(code not in (0, INTERRUPTED) for code in ended):
            number, first = next((n, c) for n, c in enumerate(codes) if c not in (None, 0, INTERRUPTED))
            failed_at = time.monotonic()
            if first < 0:
                print(f"error: process {number} of {len(processes)} was killed by signal {-first}", flush=True)
            for process in processes:
                if process.poll() is None:
                    process.terminate()
        if len(ended) == len(processes):
            if first is not None:
                return first if first > 0 else 1
            return INTERRUPTED if INTERRUPTED in ended else 0
        if first is not None and time.monotonic() - failed_at > GRACE_SECONDS:
            for process in processes:
                if process.poll() is None:
                    process.kill()
        time.sleep(0.1)


def requeue(environment: Mapping[str, str]) -> bool:
    """Ask SLURM to run this job again from the queue; False outside SLURM or when it refuses."""
    job, scontrol = job_id(environment), shutil.which("scontrol", path=environment.get("PATH"))
    if job is None or scontrol is None:
        return False
    try:
        slurm.query([scontrol, "requeue", job], timeout=120)
    except slurm.UnansweredError as error:
        log.warning("scontrol requeue %s: refused (%s); the workflow's retries go on", job, error)
        return False
    return True


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
