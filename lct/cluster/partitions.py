"""Checks of a cluster for `lct doctor` that need no job: names, commands, partitions, account, accounting."""

import getpass
import re
from typing import Any

from lct.cluster import slurm
from lct.cluster.machine import Finding
from lct.cluster.resources import Cluster, asked, demand
from lct.plan.plan import Plan


def check_names(cluster: Cluster, account: str) -> list[Finding]:
    """Names that go onto command lines."""
    given = {"slurm_account": account, "slurm_partition": cluster.partition or ""}
    given |= {"gpu_partition": cluster.gpu_partition or "", "gpu_type": cluster.gpu_type or ""}
    found = []
    for key, value in given.items():
        try:
            slurm.checked_name(value, f"default-resources: {key}")
        except ValueError as error:
            found.append(Finding("fail", "profile", str(error).removesuffix("; fix it"), "correct it there"))
    return found or [Finding("ok", "profile", ", ".join(f"{key} {value}" for key, value in given.items()))]


def commands(settings: dict[str, Any]) -> list[Finding]:
    missing = [name for name in ("sbatch", "squeue", "scancel", "srun", "sinfo") if not slurm.there_is(name)]
    if missing:
        found = f"{', '.join(missing)} not found"
        return [Finding("fail", "SLURM's commands", found, "run on a login node, or load SLURM's module")]
    try:
        version = slurm.ask(["sinfo", "--version"]).strip()
        slurm.ask(["squeue", "--noheader", "--user", getpass.getuser()])
    except slurm.Unanswered as error:
        return [Finding("fail", "SLURM", str(error), "wait for it, or ask the cluster's staff")]
    return [Finding("ok", "SLURM", f"{version} answers")]


def partitions(plan: Plan, cluster: Cluster) -> list[Finding]:
    """Do the partitions exist, take jobs, last long enough, and have the GPUs?"""
    longest = {"cpu": 0, "gpu": 0}
    most_gpus = 0
    for stage, kind in (("train", "gpu_train"), ("sample", "gpu_small"), ("score", "gpu_small")):
        for run in plan.runs_of("tables"):
            wanted = asked(kind, demand(stage, plan, run, cluster), cluster)  # type: ignore[arg-type]
            longest["gpu"] = max(longest["gpu"], wanted["runtime"])
            most_gpus = max(most_gpus, wanted.get("gpu", 0))
    for dataset in plan.datasets:
        longest["cpu"] = max(longest["cpu"], asked("cpu", demand("images", plan, dataset, cluster), cluster)["runtime"])
    if not cluster.has_gpus:
        longest = {"cpu": max(longest.values())}
    found = []
    for kind, minutes in longest.items():
        name = cluster.partition if kind == "cpu" else cluster.gpu_partition
        found.append(_partition(name or "", minutes, most_gpus if kind == "gpu" else 0, cluster.gpu_type))
    return found


def _partition(name: str, minutes: int, gpus: int, gpu_type: str | None) -> Finding:
    what = f"partition {name}"
    rows = slurm.ask(["sinfo", "--noheader", "--format=%R|%a|%l|%G|%D"]).splitlines()
    table = [row.split("|") for row in rows if row.count("|") == 4]
    mine = [row for row in table if row[0] == name]
    if not mine:
        there = ", ".join(sorted({row[0] for row in table})) or "none"
        return Finding("fail", what, f"not among this cluster's ({there})", "correct it in the profile")
    if all(row[1] != "up" for row in mine):
        return Finding("fail", what, f"it is {mine[0][1]}", "wait, or choose another")
    limit = minutes_of(mine[0][2])
    if limit is not None and limit < minutes:
        remedy = f"set `longest: {limit}` in the profile; trainings go on in their next job"
        return Finding("fail", what, f"jobs may take {limit} minutes, {minutes} are asked for", remedy)
    per_node = [gpus_of(row[3], gpu_type) for row in mine]
    if gpus and max(per_node) < gpus:
        wanted = f"{gpus} GPUs" + ("" if gpu_type in (None, "unspecified") else f" of type {gpu_type}")
        has = ", ".join(sorted({row[3] for row in mine}))
        return Finding("fail", what, f"{wanted} on one node are asked for, its nodes have {has}", "choose another type")
    return Finding(
        "ok", what, f"up, limit {mine[0][2].strip()}" + (f", up to {max(per_node)} GPUs a node" if gpus else "")
    )


def minutes_of(limit: str) -> int | None:
    """SLURM's [days-]hours:minutes:seconds as minutes; None for infinite and for anything else."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit.strip())
    if match is None:
        return None
    days, hours, minutes, _ = (int(part or 0) for part in match.groups())
    return days * 1440 + hours * 60 + minutes


def gpus_of(gres: str, gpu_type: str | None) -> int:
    """GPUs of a node from its Gres, such as gpu:a100:4(S:0-1),gpu:v100:2."""
    found = 0
    for kind, count in re.findall(r"(?:^|,)gpu(?::([A-Za-z0-9._-]+?))?:(\d+)", gres):
        if gpu_type in (None, "unspecified") or kind.lower() == str(gpu_type).lower():
            found += int(count)
    return found


def known_account(account: str) -> Finding:
    user = getpass.getuser()
    try:
        words = ["sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={user}", "format=account"]
        mine = sorted({line.strip() for line in slurm.ask(words).splitlines() if line.strip()})
    except slurm.Unanswered as error:
        return Finding("warn", f"account {account}", str(error), "the probe job will show whether it is accepted")
    if mine and account.lower() not in [name.lower() for name in mine]:
        return Finding("fail", f"account {account}", f"yours are {', '.join(mine)}", "correct it in the profile")
    return Finding("ok", f"account {account}", "yours" if mine else "the cluster lists none")


def accounting(settings: dict[str, Any]) -> Finding:
    """Without slurmdbd, the executor waits for ever where the sacct binary exists."""
    by_squeue = settings.get("slurm-status-command") == "squeue"
    try:
        slurm.ask(["sacct", "--noheader", "--allocations", f"--user={getpass.getuser()}"])
    except slurm.Unanswered as error:
        if by_squeue:
            return Finding("ok", "accounting", "none; jobs are followed by squeue, GPU hours by their own records")
        remedy = "put `slurm-status-command: squeue` into the profile, or finished jobs would go unseen"
        return Finding("fail", "accounting", str(error), remedy)
    return Finding("ok", "accounting", "sacct answers")
