"""The verbs of `lct` about running jobs: status and doctor."""

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

from lct.cli.options import plan_arguments
from lct.cluster.doctor import examine, summary
from lct.plan.plan import Plan

Result = tuple[int, Any, str]


def status_arguments(parser: argparse.ArgumentParser) -> None:
    plan_arguments(parser)
    parser.add_argument("--watch", action="store_true", help="show it again every few seconds, until all is computed")
    parser.add_argument(
        "--hung-after", type=float, default=10.0, metavar="MINUTES", help="silence that counts as hung (default: 10)"
    )


def watch(show: Callable[[], Result], every_seconds: float = 5.0) -> Result:
    """Show a status again and again, in place on a terminal, until everything is computed or Ctrl-C."""
    clear = "\x1b[H\x1b[2J" if sys.stdout.isatty() else ""
    while True:
        code, value, text = show()
        print(clear, end="")
        if value["computed"] >= value["planned"]:
            return code, value, text
        print(text, flush=True)
        try:
            time.sleep(every_seconds)
        except KeyboardInterrupt:
            return code, value, "the last status is above"


def doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", help="profile of a cluster, such as profiles/slurm (default: this machine alone)")
    parser.add_argument("--scale", help="scale that is to be run (default: the one in config/config.yaml)")
    parser.add_argument(
        "--patience", type=float, default=10.0, metavar="MINUTES", help="wait for the probe job to start (default: 10)"
    )


def doctor(arguments: argparse.Namespace) -> Result:
    """Check machine or cluster; exit code 1 when something would make a run fail."""
    plan = Plan(arguments.root, {} if arguments.scale is None else {"scale": arguments.scale})
    profile = None if arguments.profile is None else arguments.root / arguments.profile
    findings = examine(plan, arguments.root, profile, 60 * arguments.patience)
    value, lines = summary(findings)
    return int(not value["ok"]), value, "\n".join(lines)
