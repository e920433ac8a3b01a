"""Checks of one machine for `lct doctor`: packages, folders, disk, clock, torch."""

import functools
import getpass
import importlib.metadata
import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from packaging.utils import canonicalize_name

from lct.cluster.cost_model import SAVE_MINUTES, CostModel, minutes_between_states, state_bytes
from lct.cluster.rates import CORE, card_name, read_device
from lct.cluster.slurm import UnansweredError, query
from lct.config.folder import ConfigFolder
from lct.config.schema import plain
from lct.files.formatting import format_size
from lct.files.lock import acquire
from lct.files.records import environment_lock
from lct.plan.plan import Plan

FOLDERS = ("results", "reports", "logs", "work", ".dvc/cache", ".snakemake")
DRIVERS = {13: 580, 12: 525}  # CUDA that torch is built for -> oldest NVIDIA driver; 13: of requirements.lock
SKEW_WARN, SKEW_FAIL = 2.0, 30.0  # seconds between two clocks: Snakemake compares times of files
_TORCH = """
import json, torch
seen, fault = torch.cuda.is_available(), None
try:
    if seen and torch.ones(1000, device="cuda").sum().item() != 1000:
        fault = "expected the sum 1000 of 1000 ones, found another"
except RuntimeError as error:
    fault = str(error).splitlines()[0]
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "available": seen,
                  "gpus": torch.cuda.device_count() if seen else 0,
                  "names": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if seen else [],
                  "fault": fault}))
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
    every = importlib.metadata.distributions()
    return {canonicalize_name(d.metadata["Name"]): d.version for d in every if d.metadata["Name"]}


def check_packages(root: Path) -> Finding:
    """The installed packages against the lock they came from."""
    lock = environment_lock(root)
    pattern = r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)(?= ?\\?$)"
    pins = {canonicalize_name(name): pin for name, pin in re.findall(pattern, lock.read_text(), re.MULTILINE)}
    here = {name: version for name, version in packages().items() if name in pins}
    wrong = sorted(name for name, pin in pins.items() if here.get(name) != pin)
    different = [f"{name} {here.get(name, 'missing')} instead of {pins[name]}" for name in wrong]
    if not different:
        return Finding("ok", "packages", f"the {len(pins)} of {lock.name}, Python {sys.version.split()[0]}")
    words = f"{len(different)} differ from {lock.name}: {', '.join(different[:3])}"
    return Finding("warn", "packages", words, "`make install` puts the locked ones into .venv; start from there")


def check_optional(plan: Plan) -> list[Finding]:
    """Packages that are not locked, and that some runs need: none of those that a bare `snakemake` trains."""
    trained = {name: run.training for name, run in plan.runs.items() if run.is_trained}
    runs = sorted(name for name, training in trained.items() if training.objective.loss == "e-latent-lpips")
    if not runs or importlib.util.find_spec("elatentlpips") is not None:
        return []
    words = f"elatentlpips is not installed; {', '.join(runs)} of `snakemake all_tables` need it"
    remedy = "`pip install elatentlpips`, and load it once where there is a network: it fetches its weights into ./ckpt"
    return [Finding("warn", "optional packages", words, remedy)]


def check_folders(root: Path) -> list[Finding]:
    """Each folder that a run writes to: can it be written, and does it know locks?"""
    findings = []
    for name in FOLDERS:
        folder = root / name
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        try:
            with tempfile.NamedTemporaryFile(prefix=".lct-doctor-", dir=existing) as trial:
                acquire(trial.name, "doctor").close()  # which writes into it
        except OSError as error:
            words = f"cannot be written or locked ({os.strerror(error.errno or 0)})"
            findings.append(Finding("fail", str(folder), words, "fix its permissions, its mount or the quota"))
    return findings or [Finding("ok", "folders", f"{', '.join(FOLDERS)} can be written and locked")]


def check_disk(plan: Plan, root: Path) -> Finding:
    """Free space, and what a quota leaves of it, against what the scale's tables take by the cost model, as `lct plan`
    shows it."""
    model = CostModel(plan, CORE)
    needed, free = model.total(model.needed(plan.cells_of("tables"))).disk, shutil.disk_usage(root).free
    left = quota_left(root)
    words = f"{format_size(free)} free" + ("" if left is None else f", {format_size(max(left, 0))} of your quota")
    words += f", {format_size(needed)} for the {plan.scale_name} scale (estimated)"
    enough = min(free, math.inf if left is None else left) > needed
    return Finding("ok", "disk", words) if enough else Finding("fail", "disk", words, "free space or move there")


def quota_left(root: Path) -> float | None:
    """Bytes that the user may still write into the file system of `root`, by Lustre's quota or the system's; None
    where no quota is set, or where none is reported."""
    mount = next(folder for folder in (root.resolve(), *root.resolve().parents) if folder.is_mount())
    commands = (["lfs", "quota", "-q", "-u", getpass.getuser(), str(root)], ["quota", "-w", "-f", str(mount)])
    for command in commands:
        try:
            # quota ends with 1 where a limit is passed
            answer = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        # file system, blocks of 1024 bytes in use (with a * beyond the quota), quota, limit; 0: none
        match = re.search(r"^\s*/?\S+\s+(\d+)\*?\s+(\d+)\s+(\d+)\b", answer.stdout, re.MULTILINE)
        if match is not None:
            used, quota, limit = (1024.0 * int(word) for word in match.groups())
            return (limit or quota) - used if limit or quota else None
    return None


def check_clock(root: Path) -> Finding:
    """This host's clock against that of the file system."""
    before = time.time()
    with tempfile.NamedTemporaryFile(prefix=".lct-doctor-", dir=root) as trial:
        written = os.stat(trial.name).st_mtime
    return check_skew("clock of the file system", written - before)


def check_skew(subject: str, seconds: float) -> Finding:
    """The difference between two clocks."""
    if abs(seconds) < SKEW_WARN:
        return Finding("ok", subject, f"{abs(seconds):.1f} s apart")
    level: Literal["warn", "fail"] = "warn" if abs(seconds) < SKEW_FAIL else "fail"
    return Finding(level, subject, f"{seconds:+.1f} s apart", "Snakemake compares times of files; have the clocks set")


@functools.cache
def torch_facts() -> dict[str, Any]:
    """What torch is and which GPUs it sees, from a process of its own."""
    done = subprocess.run([sys.executable, "-c", _TORCH], capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": " ".join(done.stderr.split())[-300:] or f"exit code {done.returncode}"}


def driver_version() -> str | None:
    """NVIDIA's driver here, as 570.86.15; None without one, or without nvidia-smi."""
    try:
        answer = query(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], timeout=60)
    except UnansweredError:
        return None
    match = re.search(r"^\s*(\d+(?:\.\d+)+)\s*$", answer, re.MULTILINE)
    return match and match[1]


def check_driver(driver: str, cuda: str | None, where: str) -> Finding:
    """Is a driver new enough for the CUDA that torch is built for? Otherwise, which lock it can run."""
    major, built = int(driver.partition(".")[0]), int((cuda or "13").partition(".")[0])
    words = f"{driver} on {where}; torch is built for CUDA {cuda or 'of no version'}"
    if cuda is None:
        return Finding("fail", "driver", words, "`make install` installs the locked packages")
    if major >= DRIVERS.get(built, 0):
        return Finding("ok", "driver", words)
    usable = next((version for version, oldest in DRIVERS.items() if major >= oldest), None)
    ways = [f"{DRIVERS[built]} or newer"]
    ways += [
        f"{least} or newer with `make install CUDA={version}`" for version, least in DRIVERS.items() if version < built
    ]
    remedy = f"`make install CUDA={usable}`" if usable else f"have the driver updated to {', or to '.join(ways)}"
    return Finding("fail", "driver", f"{words}, which needs {DRIVERS[built]} or newer", remedy)


def check_device(plan: Plan, root: Path, card: str | None, save_minutes: float = SAVE_MINUTES) -> list[Finding]:
    """The file of `lct measure` about a GPU, and which of its switches the trainings of this scale have on.

    card: the GPU as torch or the cluster calls it; None: none is known, and nothing is checked. save_minutes: between
    two states of a training, where the configuration does not say it."""
    if card is None:
        return []
    name = card_name(card, ConfigFolder(root).names("devices"))
    if name is None:
        words = f"config/devices/ has none about {card}, so that plans and requests rest on its data sheet"
        return [Finding("warn", "device file", words, "`lct measure` on that GPU writes it in 8 minutes")]
    try:
        device, source = read_device(root, name)
    except ValueError as error:
        words, _, remedy = str(error).partition("; ")
        return [Finding("fail", "device file", words, remedy)]
    trained = [plain(run.training) for run in plan.runs.values() if run.is_trained]
    before = next((switch.milliseconds for switch in device.switches if not switch.training), None)
    words = []
    for switch in device.switches:
        if switch.training and switch.milliseconds and before:
            on = all(values[key] == value for values in trained for key, value in switch.training.items())
            words.append(f"{switch.name} {'on' if on else 'off'} ({before / switch.milliseconds:.2f} times as fast)")
    switches = f"switches of the {plan.scale_name} scale: {', '.join(words) or 'none measured'}"
    file = Finding("ok", "device file", f"{source}, measured on {device.title}; {switches}")
    return [file, *([] if (rate := device.write_gb_per_second) is None else [check_writing(plan, rate, save_minutes)])]


def check_writing(plan: Plan, rate: float, save_minutes: float) -> Finding:
    """Whether the file system takes the states of trainings as fast as they come. rate: as measured, in GB a second."""
    trained = [name for name, run in plan.runs.items() if run.is_trained]
    size, minutes = max(
        ((state_bytes(plan, name), minutes_between_states(plan, name, save_minutes)) for name in trained),
        default=(0, save_minutes),
    )
    seconds = size / 1e9 / rate
    words = f"{rate:.3g} GB a second, so that a state of {format_size(size)} takes {seconds:.3g} s"
    words += f", every {minutes:.3g} minutes"
    if seconds < 30 * minutes:
        return Finding("ok", "writing", words)
    remedy = f"--config save_minutes={math.ceil(seconds / 15)}, or a faster file system for work/"
    return Finding("warn", "writing", words, remedy)


def check_torch(plan: Plan) -> Finding:
    """torch and its GPUs on this machine."""
    facts = torch_facts()
    if "error" in facts:
        return Finding("fail", "torch", facts["error"], "`make install` installs the locked packages")
    if facts.get("fault"):
        return Finding("fail", "torch", f"a GPU computes nothing: {facts['fault']}", "compare with nvidia-smi")
    if facts["available"]:
        return Finding("ok", "torch", f"{facts['version']}, CUDA {facts['cuda']}, {', '.join(facts['names'])}")
    if shutil.which("nvidia-smi") and os.environ.get("LCT_DEVICE") != "cpu":
        driver = driver_version()
        finding = driver and check_driver(driver, facts["cuda"], "this machine")
        if finding and finding.level == "fail":
            return finding
        words = f"{facts['version']} (CUDA {facts['cuda']}) sees no GPU, though nvidia-smi is there"
        return Finding("fail", "torch", words, "does nvidia-smi list one? is CUDA_VISIBLE_DEVICES empty?")
    if plan.scale.needs_gpus:
        return Finding("warn", "torch", f"{facts['version']}, no GPU", "the paper's scale needs some: --profile")
    return Finding("ok", "torch", f"{facts['version']}, no GPU; the {plan.scale_name} scale needs none")
