"""The two JSON files beside each output X, what a job took, by these, and the mark of a file that was dropped.

X.settings.json  deterministic: resolved settings, recipe, seeds and input hashes; what lineage compares.
X.run.json       what happened: when, where, versions, device, cost, and the hash of X; never an input of anything.
X.dropped        X is not here since nothing needs it any more; its records stay, and its job can make it again.
"""

import datetime
import functools
import importlib.metadata
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lct.files import local_source
from lct.files.atomic import read_json, write_json, write_text
from lct.files.git import git_state
from lct.files.hashing import sha256_file

FORMAT = 1
SETTINGS, RUN = ".settings.json", ".run.json"  # endings of the two records
SETTINGS_CHANGED = "its settings changed"
_COMPARED = ("results/", "resources/")  # folders of files that the graph makes
_SMALL = 1_000_000  # bytes; a file without a record of its own is hashed up to this size
_PACKAGES = ("torch", "diffusers", "torch-fidelity", "clean-fid", "POT", "numpy", "scikit-learn", "snakemake")
_SLURM = ("SLURM_JOB_ID", "SLURM_JOB_NODELIST")
_ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "requirements-cuda12.lock")  # of environments, the default first


def settings_path(output: Path | str) -> Path:
    return Path(f"{output}{SETTINGS}")


def run_path(output: Path | str) -> Path:
    return Path(f"{output}{RUN}")


def outputs_below(root: Path, folder: str, ending: str = RUN) -> list[str]:
    """The outputs below a folder of the project that have a record of this ending beside them, sorted."""
    return sorted(str(path.relative_to(root)).removesuffix(ending) for path in (root / folder).rglob(f"*{ending}"))


@dataclass
class JobRecord:
    """One job of the graph, from its start to its records."""

    stage: str  # name of the stage, e.g. "train"
    settings: dict[str, Any]  # resolved settings of the stage, its `recipe` included
    inputs: dict[str, Path]  # role -> file read
    seeds: dict[str, int] = field(default_factory=dict)  # role -> seed
    device: str = "cpu"  # device kind that computed
    started: float = field(default_factory=time.time)  # seconds since the epoch
    cost: dict[str, Any] | None = None  # over all attempts at the outputs, where there may be several
    source: dict[str, Any] | None = None  # of a local source of images: `SourceState.record()`

    def deterministic(self) -> dict[str, Any]:
        """What X.settings.json holds."""
        return {
            "format": FORMAT,
            "stage": self.stage,
            "settings": self.settings,
            "seeds": self.seeds,
            "inputs": {
                role: {"path": str(path), "sha256": sha256_file(path)} for role, path in sorted(self.inputs.items())
            },
            **({"source": self.source} if self.source is not None else {}),
        }

    def has_written(self, outputs: list[Path]) -> bool:
        """Whether a job with this very record has finished all of `outputs`, and they are as it wrote them."""
        paths = [settings_path(output) for output in outputs]
        if not all(path.exists() for path in paths):
            return False
        identity = self.deterministic()
        return all(read_json(path) == identity for path in paths) and all(mismatch(o) is None for o in outputs)

    def write(self, outputs: list[Path]) -> None:
        """Write both records beside each finished output."""
        settings = self.deterministic()
        run = self._run() | ({"cost": self.cost} if self.cost is not None else {})
        for output in outputs:
            write_json(settings_path(output), settings)
            content = {"path": str(output), "bytes": output.stat().st_size, "sha256": sha256_file(output)}
            write_json(run_path(output), run | {"output": content})
            mark_path(output).unlink(missing_ok=True)

    def _run(self) -> dict[str, Any]:
        finished = time.time()
        return {
            "format": FORMAT,
            "stage": self.stage,
            "started": _utc(self.started),
            "finished": _utc(finished),
            "seconds": round(finished - self.started, 3),
            "cpu_seconds": round(time.process_time(), 3),
            "peak_memory_bytes": _peak_memory(),
            **_gpu_memory(),
            **_transferred(),
            "device": self.device,
            "host": platform.node(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cpus",
            "python": platform.python_version(),
            "packages": versions(),
            "environment_lock_sha256": sha256_file(lock) if (lock := environment_lock(_ROOT)).exists() else None,
            "git": git_state(),
            "slurm": {key: os.environ[key] for key in _SLURM if key in os.environ} or None,
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        }


def environment_lock(root: Path) -> Path:
    """The lock that this environment was installed from: the one whose torch it has, otherwise the default."""
    try:
        pin = f"\ntorch=={importlib.metadata.version('torch')} "
    except importlib.metadata.PackageNotFoundError:
        return root / LOCKS[0]
    locks = (root / name for name in LOCKS)
    return next((lock for lock in locks if lock.exists() and pin in lock.read_text()), root / LOCKS[0])


def mismatch(output: Path) -> str | None:
    """Why `output` does not agree with its records, in one line; None when it does."""
    if not output.exists():
        return f"{output}: recorded, but missing"
    try:
        read_json(settings_path(output))
        content = read_json(run_path(output))["output"]
    except ValueError as error:
        return str(error)
    except (KeyError, TypeError):
        return f"{run_path(output)}: expected a record with `output`, found something else"
    if output.stat().st_size != content["bytes"]:
        return f"{output}: expected {content['bytes']} bytes, found {output.stat().st_size}"
    if (sha256 := sha256_file(output)) != content["sha256"]:
        return f"{output}: expected sha256 {content['sha256'][:12]}, found {sha256[:12]}"
    return None


def disagreements(outputs: Iterable[str], settings: dict[str, Any], root: Path = Path()) -> list[str]:
    """Why finished outputs are not what a job with these settings makes from the files that are here; [] if they are.

    The records beside the outputs decide, whatever else remembers or has forgotten how they were made. Each output must
    have its settings file; its settings must be equal, and each input that the graph made must still have the hash that
    was read, and a local source its content. Outputs and inputs that are not here are not judged. Paths are relative to
    `root`.
    """
    reasons: dict[str, None] = {}
    configured, judged = json.dumps(settings, sort_keys=True), set()
    for output in outputs:
        if not os.path.exists(os.path.join(root, output)):
            continue
        record = f"{output}{SETTINGS}"
        try:
            text = Path(root, record).read_bytes()
            if (text, os.path.dirname(output)) in judged:
                continue
            content = json.loads(text)
            inputs = [(used["path"], used["sha256"]) for used in content.get("inputs", {}).values()]
            judged.add((text, os.path.dirname(output)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            fault = "damaged" if os.path.exists(os.path.join(root, record)) else "missing"
            reasons[f"{record} is {fault}, so nothing says how {output} was made"] = None
            continue
        if json.dumps(content.get("settings"), sort_keys=True) != configured:
            reasons[SETTINGS_CHANGED] = None
        for path, sha256 in inputs:
            current = _current_sha256(os.path.join(root, path)) if path.startswith(_COMPARED) else None
            if current not in (None, sha256):
                reasons[f"made from {path} as it was before: read with sha256 {sha256[:12]}, now {current[:12]}"] = None
        if (source := content.get("source")) is not None:
            if (change := local_source.change(settings, source, (root / output).parent, root)) is not None:
                reasons[change] = None
    return list(reasons)


def _current_sha256(path: str) -> str | None:
    """Hash of a file by its record, or of a small file by its content; None where neither says it."""
    for place, of in ((f"{path}{RUN}", _recorded_sha256), (path, sha256_file)):
        with suppress(OSError, ValueError, KeyError, TypeError):
            status = os.stat(place)
            if os.path.exists(path) and status.st_size <= _SMALL:
                return _remembered(of, place, status.st_mtime_ns, status.st_size)
    return None


def _recorded_sha256(record: str) -> str:
    return read_json(record)["output"]["sha256"]


@functools.lru_cache(maxsize=4096)
def _remembered(of: Callable[[str], str], place: str, _mtime_ns: int, _size: int) -> str:
    """The result for a file, until its time or size changes."""
    return of(place)


def _utc(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def _peak_memory() -> int:
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    unit = 1 if sys.platform == "darwin" else 1024
    return max(own, children) * unit


def _gpu_memory() -> dict[str, int]:
    """Most memory of its GPU that this process has held, where it used one; without the CUDA context."""
    torch = sys.modules.get("torch")
    used = torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()
    return {"peak_gpu_memory_bytes": torch.cuda.max_memory_reserved()} if used else {}


def _transferred() -> dict[str, int]:
    """Bytes that this process has read and written by system calls, where the system counts them."""
    with suppress(OSError, ValueError, KeyError):
        lines = Path("/proc/self/io").read_text().splitlines()
        counts = {name: int(count) for name, count in (line.split(": ") for line in lines)}
        return {"read_bytes": counts["rchar"], "written_bytes": counts["wchar"]}
    return {}


@functools.cache
def versions() -> dict[str, str]:
    """Version of each installed package that numbers may depend on."""
    installed = {}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


def mark_path(output: Path | str) -> Path:
    """The file beside a dropped one that says so."""
    return Path(f"{output}.dropped")


def is_dropped(output: Path | str) -> bool:
    """Whether a file is not here because it was dropped."""
    return mark_path(output).exists() and not os.path.lexists(output)


def mark(output: Path) -> None:
    """Say of a file that is not here that it was dropped."""
    write_text(mark_path(output), "Dropped: everything that reads it is computed, and its job can make it again.\n")


def drop(output: Path) -> None:
    """Take a file away, or a link to it; its records stay."""
    mark(output)  # first: a file that is here counts as here
    output.unlink()


@dataclass(frozen=True)
class JobCost:
    """What one job took, over all its attempts."""

    seconds: float  # wall time
    cpu_seconds: float  # of the last attempt
    gpu_seconds: float
    attempts: int
    slurm_ids: tuple[str, ...]  # of all attempts; empty without SLURM


def job_costs(runs: Iterable[dict[str, Any]]) -> list[JobCost]:
    """The jobs that wrote some outputs, from the outputs' run records.

    Records of one process count together: each has the seconds since its own `started`, and CPU seconds that run on
    from record to record. A job of several attempts records their sums itself, under `cost`."""
    processes: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        processes.setdefault(repr((run.get("host"), run.get("command"), _slurm_id(run))), []).append(run)
    return [_job_cost(records) for records in processes.values()]


def _job_cost(records: list[dict[str, Any]]) -> JobCost:
    seconds: dict[str, float] = {}
    for record in records:
        started = str(record.get("started"))
        seconds[started] = max(seconds.get(started, 0.0), float(record.get("seconds") or 0))
    total = sum(seconds.values())
    cost = next((record["cost"] for record in reversed(records) if record.get("cost")), {})
    return JobCost(
        seconds=float(cost.get("seconds", total)),
        cpu_seconds=max(float(record.get("cpu_seconds") or 0) for record in records),
        gpu_seconds=float(cost.get("gpu_seconds", total if records[-1].get("device") == "cuda" else 0.0)),
        attempts=int(cost.get("attempts", 1)),
        slurm_ids=tuple(str(job) for job in cost.get("jobs") or [_slurm_id(records[-1])] if job),
    )


def _slurm_id(run: dict[str, Any]) -> str | None:
    return (run.get("slurm") or {}).get("SLURM_JOB_ID")


MISSING = type("Missing", (), {"__repr__": lambda self: "nothing"})()  # in the place of a value that a side lacks


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}; lists stay values, empty dictionaries give nothing."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        leaves |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


def differences(old: Any, new: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (old value, new value) of each leaf that differs; MISSING where a side has none."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return {} if old == new else {prefix: (old, new)}
    return {
        name: pair
        for key in dict.fromkeys([*old, *new])
        for name, pair in differences(
            old.get(key, MISSING), new.get(key, MISSING), f"{prefix}.{key}" if prefix else str(key)
        ).items()
    }
