"""Every attempt at a training and how it ended, in its work folder, across signals, time limits and crashes.

attempts.jsonl  one line per attempt that has ended: when, from step to step, on what, why it ended
attempt.json    the attempt that runs; where the next attempt finds it, the earlier one was killed, and is closed then
progress.json   heartbeat, every few seconds: step, loss, speed, when, where
stuck           written when two attempts in a row under SLURM saved no further step; while it is there, none starts
"""

import json
import os
import platform
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lct.files.atomic import read_json, write_json, write_text, writing

UNPRODUCTIVE = 2  # attempts in a row without progress after which a training counts as stuck


class StuckError(ValueError):
    """A training fails again and again at the same step."""


@dataclass(frozen=True)
class Attempt:
    """The attempt that this process makes."""

    folder: Path
    number: int  # 1 for the first of a training, or of a milestone's job
    start: dict[str, Any]  # what attempt.json holds

    def end(self, step: int, reason: str) -> None:
        """Close the attempt at its saved `step`."""
        _close(self.folder, self.start, step, time.time(), reason)
        _mark_if_stuck(self.folder)

    def gpu_seconds(self) -> float:
        """GPU seconds of all attempts at this job so far, this one included."""
        return sum(map(_gpu_seconds, [*_since_finished(ended(self.folder)), self.start]))


def begin(folder: Path, step: int, processes: int, device: str, gpus: int) -> Attempt:
    """Start an attempt from the saved `step`, in `processes` processes on a kind of device, with `gpus` GPUs in all.

    Raises StuckError, which says how to go on, while the marker `stuck` is there."""
    folder.mkdir(parents=True, exist_ok=True)
    running = folder / "attempt.json"
    if running.exists():
        start = read_json(running)
        _close(folder, start, step, _last_heartbeat(folder, start), "killed")
        _mark_if_stuck(folder)
    marker = folder / "stuck"
    if marker.exists():
        raise StuckError(marker.read_text())
    start = {
        "started": round(time.time(), 3),
        "from_step": step,
        "processes": processes,
        "device": device,
        "gpus": gpus,
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        "host": platform.node(),
        "pid": os.getpid(),
    }
    write_json(running, start)
    return Attempt(folder, len(_since_finished(ended(folder))) + 1, start)


def ended(folder: Path) -> list[dict[str, Any]]:
    """The attempts that have ended, the oldest first."""
    return [line for line in _lines(folder) if "reason" in line]


def _since_finished(attempts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those at the job that runs: after the last one that finished a milestone, or the whole training."""
    last = max((i for i, attempt in enumerate(attempts) if attempt["reason"] == "finished"), default=-1)
    return attempts[last + 1 :]


def cost(folder: Path) -> dict[str, Any]:
    """Sums over the ended attempts at the latest milestone: {attempts, seconds, gpu_seconds, jobs of SLURM}."""
    every = ended(folder)
    attempts = [*_since_finished(every[:-1]), *every[-1:]]
    seconds = sum(attempt["ended"] - attempt["started"] for attempt in attempts)
    gpu_seconds = sum(map(_gpu_seconds, attempts))
    jobs = list(dict.fromkeys(job for attempt in attempts if (job := attempt.get("slurm_job_id"))))
    sums = {"seconds": round(seconds, 1), "gpu_seconds": round(gpu_seconds, 1)}
    return {"attempts": len(attempts), **sums, "jobs": jobs}


def last_lines(log: Path, count: int = 20) -> list[str]:
    """The last lines of a log; none where it cannot be read."""
    try:
        return log.read_text(errors="replace").splitlines()[-count:]
    except OSError:
        return []


def _gpu_seconds(attempt: dict[str, Any]) -> float:
    """Of an attempt that has ended, or until now."""
    seconds = attempt.get("ended", time.time()) - attempt["started"]  # a start is rounded, or a clock set back
    return max(0.0, seconds) * attempt["gpus"]


def _last_heartbeat(folder: Path, start: dict[str, Any]) -> float:
    """When an attempt that could not close itself was last alive: its last heartbeat."""
    try:
        return max(start["started"], read_json(folder / "progress.json")["updated"])
    except (ValueError, KeyError, TypeError):
        return start["started"]


def _close(folder: Path, start: dict[str, Any], step: int, at: float, reason: str) -> None:
    _append(folder, start | {"to_step": step, "ended": round(at, 3), "reason": reason})
    (folder / "attempt.json").unlink(missing_ok=True)


def _mark_if_stuck(folder: Path) -> None:
    attempts = _unproductive(folder)
    if len(attempts) < UNPRODUCTIVE:
        return
    reasons = "; ".join(attempt["reason"] for attempt in attempts)
    marker = folder / "stuck"
    write_text(
        marker,
        f"{marker}: expected progress, found {len(attempts)} attempts in a row that saved no step after "
        f"{attempts[0]['to_step']} ({reasons}); find the cause in {folder / 'train.log'}, then remove this marker and "
        "run the same command again",
    )
    _append(folder, {"stuck": attempts[0]["to_step"]})  # once the marker is removed, counting starts anew


def _unproductive(folder: Path) -> list[dict[str, Any]]:
    """The last attempts in a row that ran under SLURM, did not finish and saved no further step. Without SLURM, a
    person starts each attempt and sees it fail."""
    attempts: list[dict[str, Any]] = []
    for line in reversed(_lines(folder)):
        if line.get("slurm_job_id") is None or line["to_step"] > line["from_step"] or line["reason"] == "finished":
            break
        attempts.insert(0, line)
    return attempts


def _lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / "attempts.jsonl"
    lines = []
    for line in path.read_text().splitlines() if path.exists() else []:
        with suppress(json.JSONDecodeError):  # cut short by a crash
            lines.append(json.loads(line))
    return lines


def _append(folder: Path, line: dict[str, Any]) -> None:
    path = folder / "attempts.jsonl"
    cut_short = path.exists() and not path.read_bytes().endswith(b"\n")
    with writing(path), open(path, "a") as file:
        file.write("\n" * cut_short + json.dumps(line, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
