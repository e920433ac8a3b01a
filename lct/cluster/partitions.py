"""Checks of a cluster for `lct doctor` that need no job: names, commands, partitions, account, accounting."""

import getpass
import re
from typing import Any

from lct.cluster import slurm
from lct.cluster.checks import Finding
from lct.cluster.resources import Class, Cluster, Requests
from lct.plan.plan import Plan

_PLUGIN_TYPE = "[A-Za-z0-9_.]+"  # GPU types that snakemake-executor-plugin-slurm 2.8 accepts
_EXPRESSION = r"[A-Za-z0-9][A-Za-z0-9_.,:&|*()\[\]-]*"  # SLURM's constraints and generic resources
_OTHER_WAY = (
    "set `gpu_type: unspecified`, choose these nodes by `constraint` (sinfo -o '%N %f %G') or by their partition, and "
    "say the memory of a GPU in `gpu_memory`"
)


def check_names(cluster: Cluster, account: str) -> list[Finding]:
    """Names that go onto command lines."""
    names = {"slurm_account": account, "slurm_partition": cluster.partition or ""}
    names |= {"gpu_partition": cluster.gpu_partition or "", "gpu_type": cluster.gpu_type or ""}
    names |= {"qos": cluster.qos} if cluster.qos else {}
    findings = []
    for key, value in names.items():
        try:
            slurm.checked_name(value, f"default-resources: {key}")
        except ValueError as error:
            findings.append(Finding("fail", "profile", str(error).removesuffix("; fix it"), "correct it there"))
    if cluster.has_gpu_type and not re.fullmatch(_PLUGIN_TYPE, cluster.gpu_type or ""):
        words = f"gpu_type: expected letters, digits, dots and underscores, found {cluster.gpu_type!r}"
        findings.append(Finding("fail", "profile", f"{words}: Snakemake's executor submits no other", _OTHER_WAY))
    for key, value in {"constraint": cluster.constraint, "gres": cluster.gres}.items():
        if value and not re.fullmatch(_EXPRESSION, value):
            words = f"{key}: expected names with & | , : * [ ] ( ) between them, found {value!r}"
            findings.append(Finding("fail", "profile", words, "correct it there"))
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


def check_accounting(settings: dict[str, Any]) -> Finding:
    """Without slurmdbd, the executor waits for ever where the sacct binary exists."""
    command = settings.get("slurm-status-command")
    try:
        require_accounting(command)
    except ValueError as error:
        observation, _, remedy = str(error).removeprefix("accounting: ").rpartition("; ")
        return Finding("fail", "accounting", observation, remedy)
    words = "sacct is not asked; jobs are followed by squeue, GPU hours by their own records"
    return Finding("ok", "accounting", words if command == "squeue" else "sacct answers")


def require_accounting(status_command: str | None) -> None:
    """Raise ValueError when the end of jobs would go unseen: they are followed by sacct, and it does not answer."""
    if status_command == "squeue":
        return
    try:
        slurm.query(["sacct", "--noheader", "--allocations", f"--user={getpass.getuser()}"])
    except slurm.UnansweredError as error:
        remedy = "put `slurm-status-command: squeue` into the profile, or finished jobs would go unseen"
        raise ValueError(f"accounting: {error}; {remedy}") from None
