"""Is this machine, or the cluster of a profile, fit for a run? Every finding says what was found and what to do.

Nothing is left behind but the probe job's folder, which is removed when the job has answered.
"""

from pathlib import Path
from typing import Any

import yaml

from lct.cluster.machine import Finding, clock, disk, folders, local_torch, packages_installed
from lct.cluster.partitions import accounting, check_names, commands, known_account, partitions
from lct.cluster.probe import probe
from lct.cluster.resources import Cluster
from lct.plan.plan import Plan


def examine(plan: Plan, root: Path, profile: Path | None, patience: float) -> list[Finding]:
    """All checks: of this machine, and, with a SLURM profile, of its cluster. patience: seconds for the probe job."""
    settings = {} if profile is None else read_profile(profile)
    found = [packages_installed(root), *folders(root), disk(plan, root), clock(root)]
    if settings.get("executor") != "slurm":
        return [*found, local_torch(plan)]
    cluster = Cluster.of(settings.get("default-resources") or {})
    account = str((settings.get("default-resources") or {}).get("slurm_account", ""))
    names = check_names(cluster, account)
    reachable = commands(settings)
    found += [*names, *reachable]
    if any(finding.level == "fail" for finding in (*names, *reachable)):
        return [*found, Finding("warn", "the cluster", "not asked further", "mend the lines above first")]
    found += [*partitions(plan, cluster), known_account(account), accounting(settings)]
    if any(finding.level == "fail" for finding in found):
        return [*found, Finding("warn", "probe job", "not submitted", "mend the lines above first")]
    return found + probe(root, cluster, account, patience)


def read_profile(folder: Path) -> dict[str, Any]:
    """config.yaml of a profile. Raises ValueError."""
    path = folder / "config.yaml"
    try:
        found = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path}: expected a profile, found nothing; try --profile profiles/slurm") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: expected YAML, found damage ({error}); fix it") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected keys and values, found {type(found).__name__}; fix it")
    return found
