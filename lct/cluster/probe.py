"""The probe job of `lct doctor`: a minute on a node where the GPUs are, compared with what is seen here."""

import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from lct.cluster import slurm
from lct.cluster.machine import Finding, packages, skew
from lct.cluster.resources import Cluster
from lct.files.atomic import read_json, write_text
from lct.files.hashing import sha256_json

GONE_SECONDS = 60.0  # from the job's end until its files must be seen


def probe(root: Path, cluster: Cluster, account: str, patience: float, sleep: Callable = time.sleep) -> list[Finding]:
    """Submit a job of a minute where the GPUs are, and compare what it sees with what is here."""
    folder = root / "work" / f"doctor-{uuid.uuid4().hex[:8]}"
    write_text(folder / "token", token := uuid.uuid4().hex)
    partition = cluster.gpu_partition if cluster.has_gpus else cluster.partition
    command = ["sbatch", "--parsable", f"--account={account}", f"--partition={partition}", "--time=5", "--nodes=1"]
    command += ["--ntasks=1", "--mem=4000", "--job-name=lct_doctor", f"--output={folder}/log", f"--chdir={root}"]
    if cluster.has_gpus:
        kind = "" if cluster.gpu_type in (None, "unspecified") else f"{cluster.gpu_type}:"
        command.append(f"--gpus={kind}1")
    script = folder / "job.sh"
    words = [sys.executable, "-m", "lct.jobs.probe", "--token", f"{folder}/token", "--out", f"{folder}/answer.json"]
    write_text(script, "#!/bin/sh\nexec " + " ".join(f"'{word}'" for word in words) + "\n")
    try:
        answered = slurm.ask([*command, str(script)])
        match = re.match(r"\s*(\d+)", answered)
        if match is None:
            return [Finding("fail", "probe job", f"sbatch said {answered[:80]!r}", "ask the cluster's staff")]
        return _compare(folder, match.group(1), token, cluster, patience, sleep)
    except slurm.Unanswered as error:
        return [Finding("fail", "probe job", str(error), "correct account, partition or GPU type in the profile")]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _compare(folder: Path, job: str, token: str, cluster: Cluster, patience: float, sleep: Callable) -> list[Finding]:
    ended_at = None
    started, looked = time.monotonic(), time.time()
    while not (folder / "answer.json").exists():
        looked = time.time()
        state = _state(job)
        if state is None:
            ended_at = ended_at or time.monotonic()
            if time.monotonic() - ended_at > GONE_SECONDS:
                return [_unanswered(folder, job)]
        elif time.monotonic() - started > patience and state[0] == "PENDING":
            slurm.ask(["scancel", job])
            words = f"not started within {patience / 60:.0f} minutes ({state[1]})"
            return [Finding("warn", "probe job", words, "the cluster is busy: --patience MINUTES waits longer")]
        sleep(1.0)
    late = 0.0 if ended_at is None else time.monotonic() - ended_at
    seen, now = read_json(folder / "answer.json"), time.time()
    written = float(seen.get("time", 0.0))  # by the node's clock; by ours, between the last two looks
    apart = min(0.0, written - (looked - late)) + max(0.0, written - now)
    return [
        *_shared(seen, token, late),
        skew(f"clock of {seen.get('host')}", apart),
        *_same_environment(seen),
        _gpu(seen, cluster),
    ]


def _state(job: str) -> tuple[str, str] | None:
    """(state, reason) of a job in the queue; None once it has left."""
    try:
        answer = slurm.ask(["squeue", "--noheader", f"--jobs={job}", "--format=%T|%r"]).strip()
    except slurm.Unanswered:  # squeue fails for jobs it has forgotten
        return None
    state, _, reason = answer.partition("|")
    return (state, reason) if state else None


def _unanswered(folder: Path, job: str) -> Finding:
    log = folder / "log"
    if not log.exists():
        found = f"job {job} ended, but nothing it wrote is seen here"
        return Finding(
            "fail", "shared file system", found, "clone the project into a folder that nodes and login share"
        )
    said = " ".join(log.read_text(errors="replace").split())[-300:]
    return Finding("fail", "probe job", f"job {job} ended without an answer: {said}", "mend what it says")


def _shared(seen: dict[str, Any], token: str, late: float) -> list[Finding]:
    host = seen.get("host")
    if seen.get("token") != token:
        remedy = "clone the project into a folder that both see"
        return [Finding("fail", "shared file system", f"{host} does not see a file written here", remedy)]
    words = f"{host} reads what is written here, and the other way round"
    level: Literal["ok", "warn"] = "ok" if late < 30 else "warn"
    remedy = "" if level == "ok" else f"raise latency-wait in the profile above {late:.0f}"
    return [Finding(level, "shared file system", f"{words}, {late:.0f} s late", remedy)]


def _same_environment(seen: dict[str, Any]) -> list[Finding]:
    here, there = packages(), seen.get("packages") or {}
    other = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    if other:
        remedy = "use one .venv on the shared file system for login and nodes"
        return [Finding("fail", "environment", f"on {seen.get('host')} {', '.join(other[:5])} differ", remedy)]
    words = f"equal on {seen.get('host')}: Python {seen.get('python')}, {len(here)} packages ({sha256_json(here)[:8]})"
    return [Finding("ok", "environment", words)]


def _gpu(seen: dict[str, Any], cluster: Cluster) -> Finding:
    torch = seen.get("torch") or {"error": "no answer"}
    if "error" in torch:
        return Finding("fail", "torch on the node", torch["error"], "install the locked packages where nodes see them")
    if not cluster.has_gpus:
        return Finding("ok", "torch on the node", f"{torch['version']}; no GPU was asked for")
    if seen.get("given_gpus") != 1:
        found = f"1 GPU was asked for, the job was given {seen.get('given_gpus')}"
        return Finding("fail", "GPU", found, "does the partition set CUDA_VISIBLE_DEVICES? ask the cluster's staff")
    if torch.get("gpus") == 1:
        return Finding("ok", "GPU", f"{torch['names'][0]}, torch {torch['version']}, CUDA {torch['cuda']}")
    if os.environ.get("LCT_DEVICE") == "cpu":
        return Finding("warn", "GPU", "given, and not used: LCT_DEVICE=cpu is set", "unset it to compute on GPUs")
    remedy = "its driver is too old for this CUDA, or the device is broken: compare with nvidia-smi on the node"
    return Finding("fail", "GPU", f"given, but torch (CUDA {torch.get('cuda')}) sees {torch.get('gpus')}", remedy)
