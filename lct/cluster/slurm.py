"""SLURM's commands, called with argument lists; their answers are parsed as text from somebody else.

Nothing here imports torch or Snakemake. Lines of an unexpected form are skipped; `UnansweredError` says that a command
is missing, failed or took too long.
"""

import getpass
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lct.checks import require

PREFIX = "lct"  # of job names: `slurm-jobname-prefix` of profiles/slurm
_JOB = re.compile(r"[0-9]{1,18}")
_SEPARATOR = "\x1f"
_JOBS_PER_COMMAND = 500  # a command line has its limits


class UnansweredError(RuntimeError):
    """A command gave no answer; the message says why."""


def has_command(name: str) -> bool:
    return shutil.which(name) is not None


def query(command: list[str], timeout: float = 30.0) -> str:
    """The standard output of a command. Raises UnansweredError."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout, check=False)
    except FileNotFoundError:
        advice = "run on a login node, or load SLURM's tools"
        raise UnansweredError(f"{command[0]}: not found on this machine; {advice}") from None
    except subprocess.TimeoutExpired:
        raise UnansweredError(f"{command[0]}: no answer within {timeout:.0f} s; is slurmctld up?") from None
    if done.returncode != 0:
        reason = " ".join(done.stderr.split())[:300] or f"exit code {done.returncode}"
        raise UnansweredError(f"{command[0]}: {reason}")
    return done.stdout


def recording_step(defaults: Mapping[str, Any]) -> list[str]:
    """The words before `lct record` that run it on a node, as `record: job` among a profile's default resources asks
    for; none without it. Raises ValueError for another value."""
    where, advice = defaults.get("record", "here"), "--config record=false is off"
    require(where in ("here", "job"), "default-resources: record", "here or job", repr(where), advice)
    if where == "here":
        return []
    names = {"account": "slurm_account", "partition": "slurm_partition", "qos": "qos", "constraint": "constraint"}
    options = [f"--{option}={defaults[key]}" for option, key in names.items() if defaults.get(key) is not None]
    hours = ["--time=240", "--nodes=1", "--ntasks=1", "--cpus-per-task=4", "--mem=8000"]
    return ["srun", *options, *hours, f"--job-name={PREFIX}_record", "--quiet"]


@dataclass(frozen=True)
class QueuedJob:
    """A job that is queued or runs."""

    id: str
    state: str  # PENDING, RUNNING, COMPLETING, ...
    reason: str  # why it waits, or where it runs
    comment: str  # rule_NAME_wildcards_VALUES, from the executor plugin


def queued_jobs(root: str | os.PathLike) -> list[QueuedJob]:
    """This project's jobs in the queue: their names have our prefix, and they were submitted from `root`. Raises
    UnansweredError."""
    fields = ("%A", "%T", "%R", "%j", "%k", "%Z")
    command = ["squeue", "--noheader", "--user", getpass.getuser(), f"--format={_SEPARATOR.join(fields)}"]
    jobs, here = [], os.path.realpath(root)
    for line in query(command).splitlines():
        parts = line.split(_SEPARATOR)
        if len(parts) != len(fields) or not _JOB.fullmatch(parts[0]):
            continue
        job, state, reason, name, comment, folder = parts
        if name.startswith(f"{PREFIX}_") and os.path.realpath(folder) == here:
            jobs.append(QueuedJob(job, state, reason, comment))
    return jobs


@dataclass(frozen=True)
class JobStart:
    """One start of a job, from accounting; a requeued job has several with one id."""

    job: str
    state: str
    seconds: float  # of wall time
    gpus: int
    comment: str

    @property
    def gpu_hours(self) -> float:
        return self.seconds * self.gpus / 3600


def job_starts(jobs: list[str]) -> list[JobStart]:
    """Every start of these jobs in SLURM's accounting, requeued and preempted ones included. Raises UnansweredError."""
    ids = sorted({job for job in jobs if _JOB.fullmatch(job)}, key=int)
    command = ["sacct", "--duplicates", "--allocations", "--parsable2", "--noheader", "--starttime=2000-01-01"]
    command.append("--format=JobIDRaw,State,ElapsedRaw,AllocTRES,Comment")
    starts = []
    for first in range(0, len(ids), _JOBS_PER_COMMAND):
        answer = query([*command, f"--jobs={','.join(ids[first : first + _JOBS_PER_COMMAND])}"])
        for parts in (line.split("|", 4) for line in answer.splitlines()):
            if len(parts) == 5 and _JOB.fullmatch(parts[0]) and parts[2].isdigit():
                job, state, seconds, allocation, comment = parts
                gpus = re.search(r"(?:^|,)gres/gpu=(\d+)", allocation)
                count = int(gpus.group(1)) if gpus else 0
                starts.append(JobStart(job, state.split(" ")[0], float(seconds), count, comment))
    return starts
