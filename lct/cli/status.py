"""`lct status`: what is computed, and how far running trainings are."""

import argparse
import sys
import time
from collections.abc import Callable

from lct.cli.options import Result, with_unlisted
from lct.cluster.status import overview
from lct.lineage.cells import auditor
from lct.lineage.record import training, unrecorded


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--watch", action="store_true", help="show it again every few seconds, until all is computed")
    parser.add_argument(
        "--hung-after", type=float, default=10.0, metavar="MINUTES", help="silence that counts as hung (default: 10)"
    )


def status(arguments: argparse.Namespace) -> Result:
    """What is computed, and how far running trainings are."""
    return watch(lambda: _status(arguments)) if arguments.watch else _status(arguments)


def _status(arguments: argparse.Namespace) -> Result:
    plan = with_unlisted(arguments)
    outdated = auditor(plan, arguments.root, tables=False).outdated
    value, lines = overview(plan, arguments.root, 60 * arguments.hung_after, outdated)
    lines.append(f"what remains, and why: snakemake -n {plan.snakemake_options}")
    paths = unrecorded(arguments.root, plan.scale_name)
    undeclared = [path for path in paths if (of := training(path)) and of[0] not in plan.runs]
    stale = [path for path in paths if path not in undeclared and outdated(path)]
    if count := len(paths) - len(undeclared) - len(stale):
        lines.append(f"{count} outputs are not recorded: lct record {plan.lct_options}")
    if stale:
        lines.append(f"{len(stale)} outputs are outdated, such as {stale[0]}: snakemake {plan.snakemake_options}")
    if undeclared:
        names = sorted({of[0] for path in undeclared if (of := training(path))})
        command = f"lct rm {names[0]} {plan.lct_options}"
        lines.append(f"config/runs/ has no {', '.join(names)}, whose results are here: {command} removes them")
    return 0, value | {"unrecorded": paths}, "\n".join(lines)


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
