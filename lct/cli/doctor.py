"""`lct doctor`: is this machine, or the cluster of a profile, fit for a run?"""

import argparse

from lct.cli.options import Result, selected_plan
from lct.cluster.checks import Finding
from lct.cluster.doctor import examine, summary
from lct.lineage.dvc import place_fault


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", help="profile of a cluster, such as profiles/slurm (default: this machine alone)")
    parser.add_argument(
        "--patience", type=float, default=10.0, metavar="MINUTES", help="wait for the probe job to start (default: 10)"
    )


def doctor(arguments: argparse.Namespace) -> Result:
    """Is this machine, or the cluster of a profile, fit for a run?

    Exit code 1 when something would make a run fail."""
    plan = selected_plan(arguments)
    profile = None if arguments.profile is None else arguments.root / arguments.profile
    findings = examine(plan, arguments.root, profile, 60 * arguments.patience)
    fault = place_fault(arguments.root)
    if fault and plan.main.record:
        findings.append(Finding("fail", "recording", fault))
    elif plan.main.record:
        findings.append(Finding("ok", "recording", "git and DVC take what a run makes here"))
    value, lines = summary(findings)
    return int(not value["ok"]), value, "\n".join(lines)
