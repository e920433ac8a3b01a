"""The probe job of `lct doctor`: a minute on a node where the GPUs are; its answer is compared with this host."""

import os
import re
import shlex
import shutil
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from lct.cluster import slurm
from lct.cluster.checks import Finding, check_driver, check_skew, packages
from lct.cluster.resources import Cluster
from lct.files.atomic import read_json, write_text
from lct.files.hashing import sha256_json

GONE_SECONDS = 60.0  # from the job's end until its files must be visible
LATE_SECONDS = 30.0  # after the job's end, from which `latency-wait` is worth raising


def probe(root: Path, cluster: Cluster, account: str, patience: float, sleep: Callable = time.sleep) -> list[Finding]:
    """Submit a job of a minute where the GPUs are, and compare its answer with this host."""
    folder = root / "work" / f"doctor-{uuid.uuid4().hex[:8]}"
    write_text(folder / "token", token := uuid.uuid4().hex)
    partition = cluster.gpu_partition if cluster.has_gpus else cluster.partition
    command = ["sbatch", "--parsable", f"--account={account}", f"--partition={partition}", "--time=5", "--nodes=1"]
    command += ["--ntasks=1", "--mem=4000", "--job-name=lct_doctor", f"--output={folder}/log", f"--chdir={root}"]
    same = {"qos": cluster.qos, "constraint": cluster.constraint, "gres": cluster.gres}  # as every job of the graph has
    command += [f"--{option}={value}" for option, value in same.items() if value]
    command += shlex.split(cluster.slurm_extra)
    if cluster.has_gpus:
        command.append(f"--gpus={cluster.gpu_type}:1" if cluster.has_gpu_type else "--gpus=1")
    script = folder / "job.sh"
    words = [sys.executable, "-m", "lct.jobs.probe", "--token", f"{folder}/token", "--out", f"{folder}/answer.json"]
    write_text(script, "#!/bin/sh\nexec " + " ".join(f"'{word}'" for word in words) + "\n")
    try:
        output = slurm.query([*command, str(script)])
        match = re.match(r"\s*(\d+)", output)
        if match is None:
            return [Finding("fail", "probe job", f"sbatch said {output[:80]!r}", "ask the cluster's staff")]
        return _wait_and_compare(folder, match.group(1), token, cluster, patience, sleep)
    except slurm.UnansweredError as error:
        return [
            Finding(
                "fail",
                "probe job",
                str(error),
                "correct account, partition, GPU type, qos, constraint, gres or slurm_extra in the profile",
            )
        ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_and_compare(
    folder: Path, job: str, token: str, cluster: Cluster, patience: float, sleep: Callable
) -> list[Finding]:
    ended_at = None
    submitted, checked_at = time.monotonic(), time.time()
    while not (folder / "answer.json").exists():
        checked_at = time.time()
        state, reason = _state(job)
        if state is None:
            ended_at = ended_at or time.monotonic()
            if time.monotonic() - ended_at > GONE_SECONDS:
                return [_no_answer(folder, job)]
        elif time.monotonic() - submitted > patience and state == "PENDING":
            slurm.query(["scancel", job])
            words = f"not started within {patience / 60:.0f} minutes ({reason})"
            return [Finding("warn", "probe job", words, "the cluster is busy: --patience MINUTES waits longer")]
        sleep(1.0)
    late = 0.0 if ended_at is None else time.monotonic() - ended_at
    answer, now = read_json(folder / "answer.json"), time.time()
    written = float(answer.get("time", 0.0))  # by the node's clock; by this host's, between the last two checks
    apart = min(0.0, written - (checked_at - late)) + max(0.0, written - now)
    return [
        _check_files(answer, token, late),
        check_skew(f"clock of {answer.get('host')}", apart),
        _check_environment(answer),
        *_check_node_driver(answer, cluster),
        _check_gpu(answer, cluster),
    ]


def _state(job: str) -> tuple[str | None, str]:
    """(state, reason) of a job in the queue; no state once it has left."""
    try:
        answer = slurm.query(["squeue", "--noheader", f"--jobs={job}", "--format=%T|%r"]).strip()
    except slurm.UnansweredError:  # squeue fails for jobs it has forgotten
        return None, ""
    state, _, reason = answer.partition("|")
    return state or None, reason


def _no_answer(folder: Path, job: str) -> Finding:
    log = folder / "log"
    if not log.exists():
        words = f"job {job} ended, but nothing it wrote is seen here"
        return Finding(
            "fail", "shared file system", words, "clone the project into a folder that nodes and login share"
        )
    end = " ".join(log.read_text(errors="replace").split())[-300:]
    return Finding("fail", "probe job", f"job {job} ended without an answer: {end}", "fix the cause it names")


def _check_files(answer: dict[str, Any], token: str, late: float) -> Finding:
    host = answer.get("host")
    if answer.get("token") != token:
        remedy = "clone the project into a folder that both see"
        return Finding("fail", "shared file system", f"{host} does not see a file written here", remedy)
    level: Literal["ok", "warn"] = "ok" if late < LATE_SECONDS else "warn"
    remedy = "" if level == "ok" else f"raise latency-wait in the profile above {late:.0f}"
    words = f"{host} reads what is written here, and the other way round, {late:.0f} s late"
    return Finding(level, "shared file system", words, remedy)


def _check_environment(answer: dict[str, Any]) -> Finding:
    here, there = packages(), answer.get("packages") or {}
    different = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    host = answer.get("host")
    if different:
        remedy = "use one .venv on the shared file system for login and nodes"
        return Finding("fail", "environment", f"on {host} {', '.join(different[:5])} differ", remedy)
    versions = f"Python {answer.get('python')}, {len(here)} packages ({sha256_json(here)[:8]})"
    return Finding("ok", "environment", f"equal on {host}: {versions}")


def _check_node_driver(answer: dict[str, Any], cluster: Cluster) -> list[Finding]:
    driver, torch = answer.get("driver"), answer.get("torch") or {}
    if not cluster.has_gpus or not driver or "error" in torch:
        return []
    return [check_driver(str(driver), torch.get("cuda"), str(answer.get("host")))]


def _check_gpu(answer: dict[str, Any], cluster: Cluster) -> Finding:
    torch = answer.get("torch") or {"error": "no answer"}
    if "error" in torch:
        return Finding("fail", "torch on the node", torch["error"], "install the locked packages where nodes see them")
    if not cluster.has_gpus:
        return Finding("ok", "torch on the node", f"{torch['version']}; no GPU was asked for")
    if answer.get("given_gpus") != 1:
        words = f"1 GPU was asked for, the job was given {answer.get('given_gpus')}"
        return Finding("fail", "GPU", words, "does the partition set CUDA_VISIBLE_DEVICES? ask the cluster's staff")
    if torch.get("fault"):
        return Finding("fail", "GPU", f"it computes nothing: {torch['fault']}", "compare with nvidia-smi on the node")
    if torch.get("gpus") == 1:
        return Finding(
            "ok", "GPU", f"a kernel ran on {torch['names'][0]}, torch {torch['version']}, CUDA {torch['cuda']}"
        )
    if os.environ.get("LCT_DEVICE") == "cpu":
        return Finding("warn", "GPU", "given, and not used: LCT_DEVICE=cpu is set", "unset it to compute on GPUs")
    remedy = "the driver is too old for this CUDA, or the device is broken: compare with nvidia-smi on the node"
    return Finding("fail", "GPU", f"given, but torch (CUDA {torch.get('cuda')}) sees {torch.get('gpus')}", remedy)
