"""Checks of one machine for `lct doctor`: packages, folders, disk, clock, torch."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lct.files.lock import acquire
from lct.plan.plan import Plan

FOLDERS = ("results", "reports", "logs", "work", ".dvc/cache", ".snakemake")
SKEW_WARN, SKEW_FAIL = 2.0, 30.0  # seconds between two clocks: Snakemake compares times of files
_TORCH = """
import json, torch
seen = torch.cuda.is_available()
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "available": seen,
                  "gpus": torch.cuda.device_count() if seen else 0,
                  "names": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if seen else []}))
"""


@dataclass(frozen=True)
class Finding:
    """One check."""

    level: Literal["ok", "warn", "fail"]
    what: str  # what was checked
    found: str
    remedy: str = ""  # what to do, unless ok

    def line(self) -> str:
        return f"{self.level:<4}  {self.what}: {self.found}" + (f"; {self.remedy}" if self.remedy else "")


def packages() -> dict[str, str]:
    """Versions of everything installed."""
    return {_normal(d.metadata["Name"]): d.version for d in importlib.metadata.distributions() if d.metadata["Name"]}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def packages_installed(root: Path) -> Finding:
    lock = root / "requirements.lock"
    wanted = dict(
        re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)(?= ?\\?$)", lock.read_text(), re.MULTILINE)
    )
    have = packages()
    other = sorted(
        f"{name} {have.get(_normal(name), 'missing')} instead of {version}"
        for name, version in wanted.items()
        if have.get(_normal(name)) != version
    )
    if not other:
        return Finding("ok", "packages", f"the {len(wanted)} of requirements.lock, Python {sys.version.split()[0]}")
    found = f"{len(other)} differ from requirements.lock: {', '.join(other[:3])}"
    return Finding("warn", "packages", found, "`make tables` installs the locked ones into .venv; start from there")


def folders(root: Path) -> list[Finding]:
    """Each folder that a run writes to: can it be written, and does it know locks?"""
    found = []
    for name in FOLDERS:
        folder = root / name
        there = next(path for path in (folder, *folder.parents) if path.exists())
        trial = there / f".lct-doctor-{uuid.uuid4().hex}"
        try:
            trial.write_text("written by lct doctor\n")
            acquire(trial, "doctor").close()
        except OSError as error:
            words = f"cannot be written or locked ({os.strerror(error.errno or 0)})"
            found.append(Finding("fail", str(folder), words, "fix its permissions, its mount or the quota"))
        finally:
            trial.unlink(missing_ok=True)
    return found or [Finding("ok", "folders", f"{', '.join(FOLDERS)} can be written and locked")]


def disk(plan: Plan, root: Path) -> Finding:
    """Free space against what the scale's images, latents and weights take: estimated, 1.5 bytes a pixel."""
    images = sum(d.resolution**2 * (d.count or 0) * 1.5 for d in plan.datasets.values())
    latents = sum(4 * 8**-2 * 4 * d.resolution**2 * (d.count or 0) for d in plan.datasets.values())
    samples = weights = 0.0
    for run in plan.runs_of("tables"):
        pixels, seeds = plan.datasets[plan.runs[run].dataset].resolution ** 2, len(plan.seeds_of(run))
        samples += 1.5 * pixels * plan.scale.sampling.count * len(plan.sample_sets(run)) * seeds
        weights += 4 * plan.parameters_of(run)[0] * (len(plan.kept_weights(run)) + 10) * seeds
    needed, free = (images + latents + samples + weights) / 1e9, shutil.disk_usage(root).free / 1e9
    words = f"{free:.0f} GB free, about {max(needed, 1):.0f} GB for the {plan.scale_name} scale (estimated)"
    return Finding("ok", "disk", words) if free > needed else Finding("fail", "disk", words, "free space or move there")


def clock(root: Path) -> Finding:
    """This host's clock against that of the file system."""
    trial = root / f".lct-doctor-{uuid.uuid4().hex}"
    try:
        before = time.time()
        trial.write_text("")
        written = trial.stat().st_mtime
    finally:
        trial.unlink(missing_ok=True)
    return skew("clock of the file system", written - before)


def skew(what: str, seconds: float) -> Finding:
    if abs(seconds) < SKEW_WARN:
        return Finding("ok", what, f"{abs(seconds):.1f} s apart")
    level: Literal["warn", "fail"] = "warn" if abs(seconds) < SKEW_FAIL else "fail"
    return Finding(level, what, f"{seconds:+.1f} s apart", "Snakemake compares times of files; have the clocks set")


def torch_facts() -> dict[str, Any]:
    """What torch is and sees, asked in a process of its own."""
    done = subprocess.run([sys.executable, "-c", _TORCH], capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": " ".join(done.stderr.split())[-300:] or f"exit code {done.returncode}"}


def local_torch(plan: Plan) -> Finding:
    facts = torch_facts()
    listed = bool(shutil.which("nvidia-smi"))
    if "error" in facts:
        return Finding("fail", "torch", facts["error"], "install the locked packages: make tables")
    if facts["available"]:
        return Finding("ok", "torch", f"{facts['version']}, CUDA {facts['cuda']}, {', '.join(facts['names'])}")
    if listed and os.environ.get("LCT_DEVICE") != "cpu":
        remedy = f"torch is built for CUDA {facts['cuda']}; update the driver (nvidia-smi shows its CUDA version)"
        return Finding("fail", "torch", f"{facts['version']} sees no GPU, though nvidia-smi is there", remedy)
    if plan.scale.comparable:
        return Finding("warn", "torch", f"{facts['version']}, no GPU", "the paper's scale needs some: --profile")
    return Finding("ok", "torch", f"{facts['version']}, no GPU; the {plan.scale_name} scale needs none")
