"""SLURM's commands, asked through argument lists; what they answer is parsed as text from somebody else.

Nothing here imports torch or Snakemake. Odd lines are passed over; `Unanswered` says that a command is missing, failed
or took too long.
"""

import getpass
import os
import re
import shutil
import subprocess
from dataclasses import dataclass

PREFIX = "lct"  # of job names: `slurm-jobname-prefix` of profiles/slurm
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # accounts, partitions, GPU types
_JOB = re.compile(r"[0-9]{1,18}")
_SEPARATOR = "\x1f"


class Unanswered(RuntimeError):
    """A SLURM command gave no answer; the message says why."""


def there_is(command: str) -> bool:
    return shutil.which(command) is not None


def ask(words: list[str], timeout: float = 30.0) -> str:
    """The standard output of a SLURM command. Raises Unanswered."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=timeout, check=False)
    except FileNotFoundError:
        raise Unanswered(f"{words[0]}: not found on this machine; run on a login node, or load SLURM's tools") from None
    except subprocess.TimeoutExpired:
        raise Unanswered(f"{words[0]}: no answer within {timeout:.0f} s; is slurmctld up?") from None
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[:300] or f"exit code {done.returncode}"
        raise Unanswered(f"{words[0]}: {said}")
    return done.stdout


def checked_name(value: str, what: str) -> str:
    """A name that may be put on a command line. Raises ValueError."""
    if not NAME.fullmatch(value):
        raise ValueError(f"{what}: expected letters, digits, dots, hyphens and underscores, found {value!r}; fix it")
    return value


@dataclass(frozen=True)
class QueuedJob:
    """A job that is queued or runs."""

    id: str
    state: str  # PENDING, RUNNING, COMPLETING, ...
    reason: str  # why it waits, or where it runs
    comment: str  # rule_NAME_wildcards_VALUES, from the executor plugin
    folder: str  # where it was submitted


def queued(root: str | os.PathLike) -> list[QueuedJob]:
    """This project's jobs in the queue: ours by the prefix of their name, submitted from `root`. Raises Unanswered."""
    fields = ("%A", "%T", "%R", "%j", "%k", "%Z")
    command = ["squeue", "--noheader", "--user", getpass.getuser(), f"--format={_SEPARATOR.join(fields)}"]
    found, here = [], os.path.realpath(root)
    for line in ask(command).splitlines():
        parts = line.split(_SEPARATOR)
        if len(parts) != len(fields) or not _JOB.fullmatch(parts[0]) or not parts[3].startswith(f"{PREFIX}_"):
            continue
        job, state, reason, _, comment, folder = parts
        if os.path.realpath(folder) == here:
            found.append(QueuedJob(job, state, reason, comment, folder))
    return found


@dataclass(frozen=True)
class Attempt:
    """One start of a job, as accounting has it; a requeued job has several with one id."""

    job: str
    state: str
    seconds: float  # of wall time
    gpus: int
    comment: str

    @property
    def gpu_hours(self) -> float:
        return self.seconds * self.gpus / 3600


def attempts(jobs: list[str]) -> list[Attempt]:
    """Every start of these jobs in SLURM's accounting, requeued and preempted ones included. Raises Unanswered."""
    wanted = sorted({job for job in jobs if _JOB.fullmatch(job)}, key=int)
    found = []
    for first in range(0, len(wanted), 500):  # a command line has its limits
        names = ",".join(wanted[first : first + 500])
        command = ["sacct", "--duplicates", "--allocations", "--parsable2", "--noheader", "--starttime=2000-01-01"]
        for line in ask(
            [*command, "--format=JobIDRaw,State,ElapsedRaw,AllocTRES,Comment", f"--jobs={names}"]
        ).splitlines():
            attempt = _attempt(line)
            found += [attempt] if attempt is not None else []
    return found


def _attempt(line: str) -> Attempt | None:
    parts = line.split("|", 4)
    if len(parts) != 5 or not _JOB.fullmatch(parts[0]) or not parts[2].isdigit():
        return None
    gpus = re.search(r"(?:^|,)gres/gpu=(\d+)", parts[3])
    return Attempt(parts[0], parts[1].split(" ")[0], float(parts[2]), int(gpus.group(1)) if gpus else 0, parts[4])
