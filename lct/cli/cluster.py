"""The verbs of `lct` about running jobs: status and doctor."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from lct.cli.options import plan_arguments
from lct.cluster.doctor import examine
from lct.cluster.status import STATES, statuses
from lct.plan import files as stage_files
from lct.plan.plan import Plan

Result = tuple[int, Any, str]


def status_arguments(parser: argparse.ArgumentParser) -> None:
    plan_arguments(parser)
    parser.add_argument("--watch", action="store_true", help="show it again every few seconds, until all is computed")
    parser.add_argument(
        "--hung-after", type=float, default=10.0, metavar="MINUTES", help="silence that counts as hung (default: 10)"
    )


def runs(plan: Plan, arguments: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Value and lines of `lct status` about results and runs."""
    planned = stage_files.report_metrics(plan, "tables")
    done = [path for path in planned if (arguments.root / path).exists()]
    found, unseen = statuses(plan, arguments.root, 60 * arguments.hung_after)
    counts = Counter(status.state for status in found)
    summary = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    lines = [f"{plan.scale_name}: {len(done)} of {len(planned)} metrics files computed; trainings: {summary}"]
    lines += [status.line() for status in sorted(found, key=lambda s: (STATES.index(s.state), s.run, s.seed))]
    lines += [f"SLURM's queue cannot be seen ({unseen}); what is queued looks like waiting"] if unseen else []
    value = {"scale": plan.scale_name, "planned": len(planned), "computed": len(done)}
    return value | {"trainings": [asdict(status) for status in found], "queue_unseen": unseen}, lines


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
            return code, value, "what was seen last is above"


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
    failed = [finding for finding in findings if finding.level == "fail"]
    lines = [finding.line() for finding in findings]
    lines.append(f"{len(findings)} checks, {len(failed)} failed" + ("; mend them before starting" if failed else ""))
    return int(bool(failed)), {"ok": not failed, "checks": [asdict(finding) for finding in findings]}, "\n".join(lines)
