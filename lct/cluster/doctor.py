"""Is this machine, or the cluster of a profile, fit for a run? Every finding says what to do.

Checks of one machine are in lct.cluster.checks. Of a cluster: names, commands, partitions, account and accounting need
no job; then a probe job of a minute runs where the GPUs are, and its answer is compared with this host. Nothing stays
behind: its folder is removed when it has answered.
"""

import getpass
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

from lct.checks import require
from lct.cluster import checks, slurm
from lct.cluster.checks import Finding
from lct.cluster.resources import Class, Cluster, Requests, unquoted
from lct.config.folder import load_yaml
from lct.files.atomic import read_json, write_text
from lct.files.hashing import sha256_json
from lct.plan.plan import Plan

FIX_FIRST = "fix the lines above first"
SHARE = "clone the project into a folder that nodes and login share"
_NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"  # accounts, partitions, GPU types
_PLUGIN_TYPE = "[A-Za-z0-9_.]+"  # GPU types that snakemake-executor-plugin-slurm 2.8 accepts
_EXPRESSION = r"[A-Za-z0-9][A-Za-z0-9_.,:&|*()\[\]-]*"  # SLURM's constraints and generic resources
_OTHER_WAY = (
    "set `gpu_type: unspecified`, choose these nodes by `constraint` (sinfo -o '%N %f %G') or by their partition, and "
    "say the memory of a GPU in `gpu_memory`"
)
GONE_SECONDS = 60.0  # from the job's end until its files must be visible
LATE_SECONDS = 30.0  # after the job's end, from which `latency-wait` is worth raising


def examine(plan: Plan, root: Path, profile: Path | None, patience: float) -> list[Finding]:
    """All checks: of this machine, and, with a SLURM profile, of its cluster. patience: seconds for the probe job."""
    settings = {} if profile is None else read_profile(profile)
    findings = [
        checks.check_packages(root),
        *checks.check_optional(plan),
        *checks.check_folders(root),
        checks.check_disk(plan, root),
        checks.check_clock(root),
    ]
    if settings.get("executor") != "slurm":
        card = next(iter(checks.torch_facts().get("names") or ()), None)  # this machine's first GPU as torch calls it
        return [*findings, checks.check_torch(plan), *checks.check_device(plan, root, card)]
    defaults = _default_resources(settings)
    qos = settings.get("slurm-qos")  # the executor's own option, for all jobs
    cluster = Cluster.of(({} if qos is None else {"qos": qos}) | defaults)
    minutes = float(defaults.get("save_minutes", checks.SAVE_MINUTES))
    findings += checks.check_device(plan, root, cluster.gpu_type if cluster.has_gpu_type else None, minutes)
    account = str(defaults.get("slurm_account", ""))
    reachable = [*check_names(cluster, account), *check_commands()]
    findings += reachable
    if any(finding.level == "fail" for finding in reachable):
        return [*findings, Finding("warn", "the cluster", "not examined further", FIX_FIRST)]
    findings += [*check_partitions(plan, cluster), check_account(account)]
    findings.append(check_accounting(settings.get("slurm-status-command")))
    if any(finding.level == "fail" for finding in findings):
        return [*findings, Finding("warn", "probe job", "not submitted", FIX_FIRST)]
    return findings + probe(root, cluster, account, patience)


def summary(findings: list[Finding]) -> tuple[dict[str, Any], list[str]]:
    """Value and lines of `lct doctor`."""
    failed = sum(finding.level == "fail" for finding in findings)
    lines = [finding.line() for finding in findings]
    lines.append(f"{len(findings)} checks, {failed} failed" + ("; fix them before starting" if failed else ""))
    listed = [
        {"level": finding.level, "what": finding.subject, "found": finding.observation, "remedy": finding.remedy}
        for finding in findings
    ]
    return {"ok": not failed, "checks": listed}, lines


def _default_resources(settings: dict[str, Any]) -> dict[str, Any]:
    """The default resources of a profile, which Snakemake takes as a mapping or as a list of NAME=VALUE."""
    given = settings.get("default-resources") or {}
    if not isinstance(given, dict):
        given = dict(str(word).partition("=")[::2] for word in (given if isinstance(given, list) else [given]))
    return {name: unquoted(value) for name, value in given.items()}


def read_profile(folder: Path) -> dict[str, Any]:
    """config.yaml of a profile. Raises ValueError."""
    path = folder / "config.yaml"
    require(path.exists(), path, "a profile", "nothing", "try --profile profiles/slurm")
    return load_yaml(path)


def check_names(cluster: Cluster, account: str) -> list[Finding]:
    """Names that go onto command lines."""
    names = {"slurm_account": account, "slurm_partition": cluster.partition or ""}
    names |= {"gpu_partition": cluster.gpu_partition or "", "gpu_type": cluster.gpu_type or ""}
    names |= {"qos": cluster.qos} if cluster.qos else {}
    letters, there = "letters, digits, dots, hyphens and underscores", "correct it there"
    rows = [(key, value, _NAME, letters, there) for key, value in names.items()]
    if cluster.has_gpu_type:
        expected = "letters, digits, dots and underscores, as Snakemake's executor submits no other"
        rows.append(("gpu_type", cluster.gpu_type or "", _PLUGIN_TYPE, expected, _OTHER_WAY))
    expressions, expected = {"constraint": cluster.constraint, "gres": cluster.gres}, "names with & | , : * [ ] ( )"
    rows += [(key, value, _EXPRESSION, expected, there) for key, value in expressions.items() if value]
    findings = [
        Finding("fail", "profile", f"default-resources: {key}: expected {expected}, found {value!r}", remedy)
        for key, value, pattern, expected, remedy in rows
        if not re.fullmatch(pattern, value)
    ]
    return findings or [Finding("ok", "profile", ", ".join(f"{key} {value}" for key, value in names.items()))]


def check_commands() -> list[Finding]:
    """SLURM's commands are here, and its controller answers."""
    missing = [name for name in ("sbatch", "squeue", "scancel", "srun", "sinfo") if not slurm.has_command(name)]
    if missing:
        words = f"{', '.join(missing)} not found"
        return [Finding("fail", "SLURM's commands", words, "run on a login node, or load SLURM's module")]
    try:
        version = slurm.query(["sinfo", "--version"]).strip()
        slurm.query(["squeue", "--noheader", "--user", getpass.getuser()])
    except slurm.UnansweredError as error:
        return [Finding("fail", "SLURM", str(error), "wait for it, or ask the cluster's staff")]
    return [Finding("ok", "SLURM", f"{version} answers")]


def check_partitions(plan: Plan, cluster: Cluster) -> list[Finding]:
    """Do the partitions exist, take jobs, last long enough, and have the GPUs?"""
    requests = Requests(plan, cluster)
    stages: list[tuple[Class, str]] = [("gpu_train", "train"), ("gpu_small", "sample"), ("gpu_small", "score")]
    on_gpus = [requests.of(kind, stage, run) for kind, stage in stages for run in plan.runs_of("tables")]
    on_cpus = [requests.of("cpu", "images", dataset) for dataset in plan.datasets]
    if not cluster.has_gpus:
        return [_check_partition(cluster.partition or "", _longest(on_cpus + on_gpus), 0, cluster)]
    most_gpus = max((request["gpu"] for request in on_gpus), default=0)
    return [
        _check_partition(cluster.partition or "", _longest(on_cpus), 0, cluster),
        _check_partition(cluster.gpu_partition or "", _longest(on_gpus), most_gpus, cluster),
    ]


def _longest(requests: list[dict[str, Any]]) -> int:
    return max((request["runtime"] for request in requests), default=0)


def _check_partition(name: str, minutes: int, gpus: int, cluster: Cluster) -> Finding:
    subject = f"partition {name}"
    lines = slurm.query(["sinfo", "--noheader", "--format=%R|%a|%l|%G|%D"]).splitlines()
    every_row = [line.split("|") for line in lines if line.count("|") == 4]
    rows = [row for row in every_row if row[0] == name]
    if not rows:
        names = ", ".join(sorted({row[0] for row in every_row})) or "none"
        return Finding("fail", subject, f"not among this cluster's ({names})", "correct it in the profile")
    if all(row[1] != "up" for row in rows):
        return Finding("fail", subject, f"it is {rows[0][1]}", "wait, or choose another")
    limit = minutes_of(rows[0][2])
    if limit is not None and limit < minutes:
        remedy = f"set `longest: {limit}` in the profile; trainings go on in their next job"
        return Finding("fail", subject, f"jobs may take {limit} minutes, {minutes} are asked for", remedy)
    most = max(gpus_of(row[3], cluster.gpu_type) for row in rows)
    if gpus and most < gpus:
        need = f"{gpus} GPUs" + (f" of type {cluster.gpu_type}" if cluster.has_gpu_type else "")
        nodes = ", ".join(sorted({row[3] for row in rows}))
        words = f"{need} on one node are asked for, its nodes have {nodes}"
        return Finding("fail", subject, words, "choose another type")
    words = f"up, limit {rows[0][2].strip()}" + (f", up to {most} GPUs a node" if gpus else "")
    return Finding("ok", subject, words)


def minutes_of(limit: str) -> int | None:
    """SLURM's [days-]hours:minutes:seconds as minutes; None for infinite and for anything else."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit.strip())
    if match is None:
        return None
    days, hours, minutes, _ = (int(part or 0) for part in match.groups())
    return days * 1440 + hours * 60 + minutes


def gpus_of(gres: str, gpu_type: str | None) -> int:
    """GPUs of a node from its Gres, such as gpu:a100:4(S:0-1),gpu:v100:2."""
    groups = re.findall(r"(?:^|,)gpu(?::([A-Za-z0-9._-]+?))?:(\d+)", gres)
    any_type = gpu_type in (None, "unspecified")
    return sum(int(count) for kind, count in groups if any_type or kind.lower() == str(gpu_type).lower())


def check_account(account: str) -> Finding:
    """Whether the account is among the user's."""
    subject = f"account {account}"
    command = ["sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={getpass.getuser()}"]
    try:
        answer = slurm.query([*command, "format=account"])
    except slurm.UnansweredError as error:
        return Finding("warn", subject, str(error), "the probe job will show whether it is accepted")
    accounts = sorted({line.strip() for line in answer.splitlines() if line.strip()})
    if accounts and account.lower() not in [name.lower() for name in accounts]:
        return Finding("fail", subject, f"yours are {', '.join(accounts)}", "correct it in the profile")
    return Finding("ok", subject, "yours" if accounts else "the cluster lists none")


def check_accounting(status_command: str | None) -> Finding:
    """Without slurmdbd, the executor waits for ever where the sacct binary exists."""
    if status_command == "squeue":
        words = "sacct is not asked; jobs are followed by squeue, GPU hours by their own records"
        return Finding("ok", "accounting", words)
    try:
        slurm.query(["sacct", "--noheader", "--allocations", f"--user={getpass.getuser()}"])
    except slurm.UnansweredError as error:
        remedy = "put `slurm-status-command: squeue` into the profile, or finished jobs would go unseen"
        return Finding("fail", "accounting", str(error), remedy)
    return Finding("ok", "accounting", "sacct answers")


def require_accounting(status_command: str | None) -> None:
    """Raise ValueError when the end of jobs would go unseen: they are followed by sacct, and it does not answer."""
    finding = check_accounting(status_command)
    if finding.level == "fail":
        raise ValueError(f"accounting: {finding.observation}; {finding.remedy}")


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
        remedy = "correct account, partition, GPU type, qos, constraint, gres or slurm_extra in the profile"
        return [Finding("fail", "probe job", str(error), remedy)]
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
    driver, torch, host = answer.get("driver"), answer.get("torch") or {}, str(answer.get("host"))
    is_checked = cluster.has_gpus and driver and "error" not in torch
    drivers = [checks.check_driver(str(driver), torch.get("cuda"), host)] if is_checked else []
    return [
        _check_files(answer, token, late),
        checks.check_skew(f"clock of {answer.get('host')}", apart),
        _check_environment(answer),
        *drivers,
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
        return Finding("fail", "shared file system", words, SHARE)
    end = " ".join(log.read_text(errors="replace").split())[-300:]
    return Finding("fail", "probe job", f"job {job} ended without an answer: {end}", "fix the cause it names")


def _check_files(answer: dict[str, Any], token: str, late: float) -> Finding:
    host = answer.get("host")
    if answer.get("token") != token:
        return Finding("fail", "shared file system", f"{host} does not see a file written here", SHARE)
    level: Literal["ok", "warn"] = "ok" if late < LATE_SECONDS else "warn"
    remedy = "" if level == "ok" else f"raise latency-wait in the profile above {late:.0f}"
    words = f"{host} reads what is written here, and the other way round, {late:.0f} s late"
    return Finding(level, "shared file system", words, remedy)


def _check_environment(answer: dict[str, Any]) -> Finding:
    here, there = checks.packages(), answer.get("packages") or {}
    different = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    host = answer.get("host")
    if different:
        remedy = "use one .venv on the shared file system for login and nodes"
        return Finding("fail", "environment", f"on {host} {', '.join(different[:5])} differ", remedy)
    versions = f"Python {answer.get('python')}, {len(here)} packages ({sha256_json(here)[:8]})"
    return Finding("ok", "environment", f"equal on {host}: {versions}")


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
