"""Shared by the tests on a real SLURM: projects, controllers, trainings in the middle, and the answers of SLURM."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lct.cluster.attempts import ended
from tests.helpers import copies

HERE = Path(__file__).resolve().parents[1] / "slurm"
STEPS = 240  # of the training that faults hit: 4 to 12 s on an idle core
TRAIN = "results/smoke/train/digits-lct/s0"
TARGET = f"{TRAIN}/step{STEPS}-ema0.9.safetensors"
RULE = "train_digits_lct"
PATIENCE = 1800.0  # seconds until a test gives up on an event; nothing is measured against it
PROFILES = ("--profile", "profiles/default", "--workflow-profile", "profiles/slurm")
QUICK = ("--slurm-init-seconds-before-status-checks", "6", "--latency-wait", "30")


def project(folder: Path) -> Path:
    """A copy of the project's sources in which the training of digits-lct takes longer and tells its step often."""
    copies.project(folder)
    runs = folder / "config" / "runs" / "digits.yaml"
    line = "digits-lct: {dataset: digits, method: lct}"
    assert line in runs.read_text()
    longer = f"digits-lct: {{dataset: digits, method: lct, training: {{steps: {STEPS}}}}}"
    runs.write_text(runs.read_text().replace(line, longer))
    progress = folder / "lct" / "files" / "progress.py"
    seconds = "every_seconds: float = 5.0"  # longer than the training on a fast machine
    assert seconds in progress.read_text()
    progress.write_text(progress.read_text().replace(seconds, "every_seconds: float = 0.2"))
    return folder


def untrained(done: Path, folder: Path) -> Path:
    """A copy of a finished project without the training of digits-lct."""
    shutil.copytree(done, folder, symlinks=True)
    shutil.rmtree(folder / TRAIN)
    shutil.rmtree(folder / "work", ignore_errors=True)
    shutil.rmtree(folder / "logs", ignore_errors=True)
    return folder


def environment(folder: Path, first_in_path: Path | None = None) -> dict[str, str]:
    """For controllers, and so for their jobs: the copied code, one thread, no GPU behind the card that SLURM gives."""
    variables = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "LCT_DEVICE": "cpu"}
    if first_in_path is not None:
        variables["PATH"] = f"{first_in_path}{os.pathsep}{variables['PATH']}"
    return variables


@contextmanager
def cluster(cpus: int = 8) -> Iterator[Path]:
    """A SLURM on this machine while the block runs: four virtual nodes with fake GPUs, accounting and preemption.

    cpus: that each node claims to have."""
    state = Path(tempfile.mkdtemp(prefix="lct-slurm-", dir="/tmp"))  # a short path: it holds sockets
    state.chmod(0o755)
    settings = {"SLURM_UP_NODES": "4", "SLURM_UP_CPUS": str(cpus), "SLURM_UP_MEM_MB": "32000"}
    up = subprocess.run([HERE / "slurm-up", state], env=os.environ | settings, capture_output=True, text=True)
    try:
        assert up.returncode == 0, up.stdout + up.stderr
        yield state
    finally:
        subprocess.run([HERE / "slurm-down", "--purge", state], capture_output=True, check=False)
        shutil.rmtree(state, ignore_errors=True)


class Controller:
    """One `snakemake` on the submitting host."""

    def __init__(self, folder: Path, *words: str, slurm: bool = True, env: dict[str, str] | None = None, wrap=()):
        words = (*PROFILES, *copies.SMOKE, *QUICK, *words) if slurm else (*words, *copies.SMOKE)
        self.folder, self.log = folder, folder / f"controller-{time.monotonic_ns()}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [*wrap, sys.executable, "-m", "snakemake", *words],
                cwd=folder,
                env=env or environment(folder),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def finish(self) -> int:
        try:
            return self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"{self.folder.name}: no end in sight:\n{self.text()[-3000:]}") from None

    def kill(self) -> None:
        """kill -9, the jobs left alone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def text(self) -> str:
        return self.log.read_text(errors="replace")


def until(what: str, condition: Callable[[], object], controller: Controller | None = None, every: float = 0.2):
    """Wait until a condition holds, and return its value. Fails when the controller ends first."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := condition():
            return value
        if controller is not None and controller.process.poll() is not None:
            raise AssertionError(f"the run ended before {what}:\n{controller.text()[-3000:]}")
        time.sleep(every)
    raise AssertionError(f"{what}: not seen within {PATIENCE:.0f} s" + (f"\n{controller.text()}" if controller else ""))


def frozen(folder: Path, controller: Controller) -> tuple[int, list[int]]:
    """Wait until the training is between its first and last step, and stop its processes there, so that a fault meets
    it in the middle however long the fault takes; (step, processes)."""

    def step() -> int:
        for path in folder.glob("work/smoke/digits-lct/s0/*/progress.json"):
            try:
                number = json.loads(path.read_text())["step"]
            except (ValueError, KeyError, FileNotFoundError):
                continue
            if trainers(folder) and 0 < number < STEPS:
                return number
        return 0

    frozen_at = until("the middle of the training", step, controller)
    stopped = trainers(folder)
    for process in stopped:
        os.kill(process, signal.SIGSTOP)
    return frozen_at, stopped


def thaw(processes: list[int]) -> None:
    """Let frozen processes go on, those that are still there."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)


def saved(folder: Path) -> list[str]:
    """The attempts that the training has recorded: why each ended, and at which step."""
    (attempts,) = folder.glob("work/smoke/digits-lct/s0/*/attempts.jsonl")
    return [f"{attempt['reason']} at {attempt['to_step']}" for attempt in ended(attempts.parent)]


def trainers(folder: Path) -> list[int]:
    """Processes that train in a project."""
    processes = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"lct.jobs.train" in words and (entry / "cwd").resolve() == folder.resolve():
                processes.append(int(entry.name))
        except (OSError, ValueError):
            continue
    return processes


def signalled(process: int, number: int) -> bool:
    """Whether a signal waits for a (stopped) process."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return False
    pending = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (number - 1) & 1 for mask in pending)


def slurm(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def resume(node: str) -> None:
    """Put a node back to work; SLURM refuses while it is still cleaning up, and may have done it by itself."""

    def works() -> bool:
        words = ("scontrol", "update", f"nodename={node}", "state=resume")
        subprocess.run(words, capture_output=True, check=False)
        state = slurm("sinfo", "--noheader", f"--nodes={node}", "--format=%T").split()
        return not any(word.startswith(("d", "inval")) for word in state)  # down, drained, draining

    until(f"{node} back at work", works, every=1.0)


def jobs(folder: Path, states: str = "all") -> list[tuple[str, str]]:
    """(id, state) of the jobs submitted from a project, as squeue still knows them."""
    lines = slurm("squeue", "--noheader", f"--states={states}", "--format=%A %T %Z").splitlines()
    return [(job, state) for job, state, where in (line.split(maxsplit=2) for line in lines) if where == str(folder)]


def job(folder: Path, controller: Controller, state: str) -> str:
    """The id of the project's job once it is in a state."""
    return until(
        f"a job in state {state}", lambda: [name for name, current in jobs(folder) if current == state], controller
    )[-1]


def accounted(folder: Path) -> list[list[str]]:
    """(job, state, elapsed, allocation, comment) of every start of the project's jobs, from accounting."""
    rows = slurm(
        *("sacct", "--duplicates", "--allocations", "--parsable2", "--noheader", "--starttime=2000-01-01"),
        "--format=JobIDRaw,State,ElapsedRaw,AllocTRES,Comment,WorkDir",
    ).splitlines()
    return [row.split("|")[:5] for row in rows if row.split("|")[-1] == str(folder)]


def sums(folder: Path, pattern: str) -> dict[str, str]:
    """sha256 of the files of a pattern, by their names under the project."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob(pattern))
    }


def wrapper(folder: Path, command: str, body: str) -> Path:
    """A folder for the front of PATH in which `command` is a shell script; {real} in it is the true command."""
    real = shutil.which(command)
    folder.mkdir()
    script = folder / command
    script.write_text("#!/bin/sh\n" + body.replace("{real}", real))
    script.chmod(0o755)
    return folder
