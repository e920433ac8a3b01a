"""lct: the verbs beside `snakemake`.

Each verb takes --json for programs, and ends with exit code 0 (done), 1 (something is
wrong: one line says what) or 2 (wrong arguments). Colours are for terminals; NO_COLOR=1
switches them off. docs/troubleshooting.md explains errors.
"""

import argparse
import json
import logging
import os
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from lct.cli import (
    audit,
    claims,
    completion,
    doctor,
    export,
    lineage,
    measure,
    plan,
    report,
    rm,
    score,
    show,
    status,
    table,
)
from lct.cli.colour import fault, paint
from lct.cli.options import Verb
from lct.cluster import measure_options
from lct.config.schema import did_you_mean
from lct.files.atomic import json_text
from lct.files.lock import LockHeldError
from lct.plan.selection import add_selection

VERBS = {
    "show": Verb(show.show, show.arguments, "lct show digits-lct digits-ilct"),
    "table": Verb(table.table, table.arguments, "lct table table1.a"),
    "score": Verb(score.score, score.arguments, "lct score my-samples.npz --like table1.a.lct-1"),
    "plan": Verb(plan.plan_verb, plan.arguments, "lct plan --scale paper --device h100 --gpus 8 --price 2.5"),
    "status": Verb(status.status, status.arguments, "lct status --scale mini --watch"),
    "doctor": Verb(doctor.doctor, doctor.arguments, "lct doctor --profile profiles/slurm --scale paper"),
    "measure": Verb(measure.measure, measure_options.arguments, "lct measure", selects=False),
    "report": Verb(report.report, report.arguments, "lct report --scale mini"),
    "claims": Verb(claims.claims, claims.claims_arguments, "lct claims lct-beats-ilct"),
    "power": Verb(claims.power, claims.power_arguments, "lct power --difference 5", selects=False),
    "audit": Verb(audit.audit, audit.audit_arguments, "lct audit table1.a.lct-1.fd"),
    "verify": Verb(audit.verify, audit.verify_arguments, "lct verify --deep"),
    "diff": Verb(audit.diff, audit.diff_arguments, "lct diff HEAD~1"),
    "record": Verb(lineage.record_verb, lineage.record_arguments, "lct record --commit"),
    "restore": Verb(lineage.restore_verb, lineage.restore_arguments, "lct restore --pull table1.a.lct-1.fd"),
    "merge": Verb(lineage.merge_verb, lineage.merge_arguments, "lct merge --theirs results/smoke", selects=False),
    "why": Verb(lineage.why_verb, lineage.why_arguments, "lct why table1.a.lct-1.fd"),
    "export": Verb(export.export, export.arguments, "lct export table1.a.lct-1 --to diffusers"),
    "rm": Verb(rm.remove, rm.arguments, "lct rm digits-lct --yes"),
    "completion": Verb(completion.completion, completion.arguments, 'eval "$(lct completion bash)"', selects=False),
}

_PARTS = (
    "config",
    "lineage",
    "results",
    "reports",
    ".dvc",
)  # of a project; a folder with one of them is taken as it is


class _Parser(argparse.ArgumentParser):
    """A parser whose message about an unknown word names the nearest one."""

    def error(self, message: str) -> NoReturn:
        match = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        hint = did_you_mean(match[1], re.findall(r"[\w.-]+", match[2])) if match else ""
        super().error(f"{message}; {hint}" if hint else message)


def parser() -> argparse.ArgumentParser:
    examples = "\n".join(f"  {verb.example}" for verb in VERBS.values())
    root = _Parser(
        prog="lct",
        description=__doc__,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--json", action="store_true", help="print JSON instead of text")
    root.add_argument("--version", action="version", version=f"lct {version('lct')}")
    verbs_parser = root.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        sub = verbs_parser.add_parser(
            name,
            help=verb.help,
            description=f"{verb.help}\n\nexample: {verb.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON instead of text")
        verb.arguments(sub)
        if verb.selects:
            add_selection(sub)
    return root


def _enter_project(arguments: argparse.Namespace) -> Path:
    """Make the project around the current folder the current folder; files named by the user stay where they are.
    Raises ValueError outside a project."""
    here = Path.cwd()
    project = next(
        (
            folder
            for folder in (here, *here.parents)
            if all((folder / name).is_file() for name in ("Snakefile", "config/config.yaml"))
        ),
        None,
    )
    if project is None and not any((here / name).exists() for name in _PARTS):
        if arguments.verb == "completion":
            return here
        raise ValueError(f"{here}: expected the project's folder, or one inside it, found neither; cd to the clone")
    if project not in (None, here):
        for name, value in vars(arguments).items():
            if isinstance(value, Path):
                setattr(arguments, name, here / value)
        os.chdir(project)
    return project or here


def main(words: list[str] | None = None) -> int:
    root = parser()
    arguments = root.parse_args(words)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(message)s")
    arguments.parser = root
    try:
        arguments.root = _enter_project(arguments)
        code, value, text = VERBS[arguments.verb].run(arguments)
    except (ValueError, OSError, LockHeldError) as error:
        line = f"lct {arguments.verb}: {' '.join(str(error).split())}"
        print(json.dumps({"error": line}) if arguments.json else fault(line, sys.stderr), file=sys.stderr)
        return 1
    try:
        if arguments.json:
            print(json_text(value), end="", flush=True)
        else:
            print(paint(text, sys.stdout), flush=True)
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


if __name__ == "__main__":
    raise SystemExit(main())
