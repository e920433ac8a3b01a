"""Is this machine, or the cluster of a profile, fit for a run? Every finding says what to do.

Nothing stays behind: the probe job's folder is removed when the job has answered.
"""

from pathlib import Path
from typing import Any

from lct.cluster.checks import (
    Finding,
    check_clock,
    check_device,
    check_disk,
    check_folders,
    check_optional,
    check_packages,
    check_torch,
    torch_facts,
)
from lct.cluster.partitions import check_account, check_accounting, check_commands, check_names, check_partitions
from lct.cluster.probe import probe
from lct.cluster.resources import Cluster, unquoted
from lct.config import yaml
from lct.plan.plan import Plan

FIX_FIRST = "fix the lines above first"


def examine(plan: Plan, root: Path, profile: Path | None, patience: float) -> list[Finding]:
    """All checks: of this machine, and, with a SLURM profile, of its cluster. patience: seconds for the probe job."""
    settings = {} if profile is None else read_profile(profile)
    findings = [
        check_packages(root),
        *check_optional(plan),
        *check_folders(root),
        check_disk(plan, root),
        check_clock(root),
    ]
    if settings.get("executor") != "slurm":
        card = next(iter(torch_facts().get("names") or ()), None)  # this machine's first GPU as torch calls it
        return [*findings, check_torch(plan), *check_device(plan, root, card)]
    defaults = _default_resources(settings)
    qos = settings.get("slurm-qos")  # the executor's own option, for all jobs
    cluster = Cluster.of(({} if qos is None else {"qos": qos}) | defaults)
    findings += check_device(plan, root, cluster.gpu_type if cluster.has_gpu_type else None)
    account = str(defaults.get("slurm_account", ""))
    reachable = [*check_names(cluster, account), *check_commands()]
    findings += reachable
    if any(finding.level == "fail" for finding in reachable):
        return [*findings, Finding("warn", "the cluster", "not examined further", FIX_FIRST)]
    findings += [*check_partitions(plan, cluster), check_account(account), check_accounting(settings)]
    if any(finding.level == "fail" for finding in findings):
        return [*findings, Finding("warn", "probe job", "not submitted", FIX_FIRST)]
    return findings + probe(root, cluster, account, patience)


def summary(findings: list[Finding]) -> tuple[dict[str, Any], list[str]]:
    """Value and lines of `lct doctor`."""
    failed = sum(finding.level == "fail" for finding in findings)
    lines = [finding.line() for finding in findings]
    lines.append(f"{len(findings)} checks, {failed} failed" + ("; fix them before starting" if failed else ""))
    checks = [
        {"level": finding.level, "what": finding.subject, "found": finding.observation, "remedy": finding.remedy}
        for finding in findings
    ]
    return {"ok": not failed, "checks": checks}, lines


def _default_resources(settings: dict[str, Any]) -> dict[str, Any]:
    """The default resources of a profile, which Snakemake takes as a mapping or as a list of NAME=VALUE."""
    given = settings.get("default-resources") or {}
    if not isinstance(given, dict):
        given = dict(str(word).partition("=")[::2] for word in (given if isinstance(given, list) else [given]))
    return {name: unquoted(value) for name, value in given.items()}


def read_profile(folder: Path) -> dict[str, Any]:
    """config.yaml of a profile. Raises ValueError."""
    path = folder / "config.yaml"
    if not path.exists():
        raise ValueError(f"{path}: expected a profile, found nothing; try --profile profiles/slurm")
    return yaml.load(path)
