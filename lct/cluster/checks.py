"""Checks of one machine for `lct doctor`: packages, folders, disk, clock, torch."""

import importlib.metadata
import importlib.util
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

from lct.cluster.cost_model import CostModel
from lct.cluster.rates import CORE
from lct.files.formatting import format_size
from lct.files.lock import acquire
from lct.plan.plan import Plan

FOLDERS = ("results", "reports", "logs", "work", ".dvc/cache", ".snakemake")
DRIVER = 580  # oldest NVIDIA driver for CUDA 13, which the torch of requirements.lock is built for
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
    """The result of one check."""

    level: Literal["ok", "warn", "fail"]
    subject: str  # what was checked
    observation: str
    remedy: str = ""  # what to do, unless ok

    def line(self) -> str:
        advice = f"; {self.remedy}" if self.remedy else ""
        return f"{self.level:<4}  {self.subject}: {self.observation}{advice}"


def packages() -> dict[str, str]:
    """Versions of everything installed."""
    return {_normal(d.metadata["Name"]): d.version for d in importlib.metadata.distributions() if d.metadata["Name"]}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def check_packages(root: Path) -> Finding:
    """The installed packages against requirements.lock."""
    lock = (root / "requirements.lock").read_text()
    pins = dict(re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)(?= ?\\?$)", lock, re.MULTILINE))
    versions = packages()
    different = sorted(
        f"{name} {versions.get(_normal(name), 'missing')} instead of {version}"
        for name, version in pins.items()
        if versions.get(_normal(name)) != version
    )
    if not different:
        return Finding("ok", "packages", f"the {len(pins)} of requirements.lock, Python {sys.version.split()[0]}")
    words = f"{len(different)} differ from requirements.lock: {', '.join(different[:3])}"
    return Finding("warn", "packages", words, "`make install` puts the locked ones into .venv; start from there")


def check_optional(plan: Plan) -> list[Finding]:
    """Packages that are not locked, and that some runs need: none of those that a bare `snakemake` trains."""
    runs = sorted(name for name, run in plan.runs.items() if run.training.objective.loss == "e-latent-lpips")
    if not runs or importlib.util.find_spec("elatentlpips") is not None:
        return []
    words = f"elatentlpips is not installed; {', '.join(runs)} of `snakemake all_tables` need it"
    remedy = "pip install elatentlpips, and load it once where there is a network: it downloads its weights into ./ckpt"
    return [Finding("warn", "optional packages", words, remedy)]


def check_folders(root: Path) -> list[Finding]:
    """Each folder that a run writes to: can it be written, and does it know locks?"""
    findings = []
    for name in FOLDERS:
        folder = root / name
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        trial = existing / f".lct-doctor-{uuid.uuid4().hex}"
        try:
            trial.write_text("written by lct doctor\n")
            acquire(trial, "doctor").close()
        except OSError as error:
            words = f"cannot be written or locked ({os.strerror(error.errno or 0)})"
            findings.append(Finding("fail", str(folder), words, "fix its permissions, its mount or the quota"))
        finally:
            trial.unlink(missing_ok=True)
    return findings or [Finding("ok", "folders", f"{', '.join(FOLDERS)} can be written and locked")]


def check_disk(plan: Plan, root: Path) -> Finding:
    """Free space against what the scale's tables take by the cost model, as `lct plan` shows it."""
    model = CostModel(plan, CORE)
    needed, free = model.total(model.needed(plan.cells_of("tables"))).disk, shutil.disk_usage(root).free
    words = f"{format_size(free)} free, {format_size(needed)} for the {plan.scale_name} scale (estimated)"
    return Finding("ok", "disk", words) if free > needed else Finding("fail", "disk", words, "free space or move there")


def check_clock(root: Path) -> Finding:
    """This host's clock against that of the file system."""
    trial = root / f".lct-doctor-{uuid.uuid4().hex}"
    try:
        before = time.time()
        trial.write_text("")
        written = trial.stat().st_mtime
    finally:
        trial.unlink(missing_ok=True)
    return check_skew("clock of the file system", written - before)


def check_skew(subject: str, seconds: float) -> Finding:
    """The difference between two clocks."""
    if abs(seconds) < SKEW_WARN:
        return Finding("ok", subject, f"{abs(seconds):.1f} s apart")
    level: Literal["warn", "fail"] = "warn" if abs(seconds) < SKEW_FAIL else "fail"
    return Finding(level, subject, f"{seconds:+.1f} s apart", "Snakemake compares times of files; have the clocks set")


def torch_facts() -> dict[str, Any]:
    """What torch is and which GPUs it sees, from a process of its own."""
    done = subprocess.run([sys.executable, "-c", _TORCH], capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": " ".join(done.stderr.split())[-300:] or f"exit code {done.returncode}"}


def check_torch(plan: Plan) -> Finding:
    """torch and its GPUs on this machine."""
    facts = torch_facts()
    if "error" in facts:
        return Finding("fail", "torch", facts["error"], "install the locked packages: make install")
    if facts["available"]:
        return Finding("ok", "torch", f"{facts['version']}, CUDA {facts['cuda']}, {', '.join(facts['names'])}")
    if shutil.which("nvidia-smi") and os.environ.get("LCT_DEVICE") != "cpu":
        remedy = f"torch is built for CUDA {facts['cuda']}, which needs driver {DRIVER} or newer (nvidia-smi shows it)"
        return Finding("fail", "torch", f"{facts['version']} sees no GPU, though nvidia-smi is there", remedy)
    if plan.scale.comparable:
        return Finding("warn", "torch", f"{facts['version']}, no GPU", "the paper's scale needs some: --profile")
    return Finding("ok", "torch", f"{facts['version']}, no GPU; the {plan.scale_name} scale needs none")
