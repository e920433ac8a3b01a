"""The two JSON files beside each output X.

X.settings.json  deterministic: resolved settings, recipe, seeds and input hashes; what lineage compares.
X.run.json       what happened: when, where, versions, device, cost, and the hash of X; never an input of anything.
"""

import datetime
import importlib.metadata
import os
import platform
import resource
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lct.files.atomic import read_json, write_json
from lct.files.git import git_state
from lct.files.hashing import sha256_file

FORMAT = 1
_PACKAGES = ("torch", "diffusers", "torch-fidelity", "clean-fid", "POT", "numpy", "scikit-learn", "snakemake")
_SLURM = ("SLURM_JOB_ID", "SLURM_JOB_NODELIST")
_LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"


def settings_path(output: Path | str) -> Path:
    return Path(f"{output}.settings.json")


def run_path(output: Path | str) -> Path:
    return Path(f"{output}.run.json")


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
        }

    def write(self, outputs: list[Path]) -> None:
        """Write both records beside each finished output."""
        settings = self.deterministic()
        run = self._run() | ({"cost": self.cost} if self.cost is not None else {})
        for output in outputs:
            write_json(settings_path(output), settings)
            content = {"path": str(output), "bytes": output.stat().st_size, "sha256": sha256_file(output)}
            write_json(run_path(output), run | {"output": content})

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
            "device": self.device,
            "host": platform.node(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cpus",
            "python": platform.python_version(),
            "packages": _versions(),
            "environment_lock_sha256": sha256_file(_LOCK) if _LOCK.exists() else None,
            "git": git_state(),
            "slurm": {key: os.environ[key] for key in _SLURM if key in os.environ} or None,
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        }


def mismatch(output: Path, deep: bool = True) -> str | None:
    """Why `output` does not agree with its records, in one line; None when it does. `deep` hashes its content."""
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
    if deep and (sha256 := sha256_file(output)) != content["sha256"]:
        return f"{output}: expected sha256 {content['sha256'][:12]}, found {sha256[:12]}"
    return None


def _utc(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def _peak_memory() -> int:
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    unit = 1 if sys.platform == "darwin" else 1024
    return max(own, children) * unit


def _versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
