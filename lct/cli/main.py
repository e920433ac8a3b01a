"""lct: the verbs beside `snakemake`.

Each verb takes --json for programs, and ends with exit code 0 (done), 1 (something is
wrong: one line says what) or 2 (wrong arguments). Colours are for terminals; NO_COLOR=1
switches them off. docs/troubleshooting.md explains errors.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lct.cli import audit, cluster, export, lineage, plan, verbs
from lct.cli.colour import fault, paint


@dataclass(frozen=True)
class Verb:
    """A verb: how it is parsed, what it finds, and how that is said to people."""

    help: str  # one line
    run: Callable[[argparse.Namespace], tuple[int, Any, str]]  # exit code, value for --json, text for people
    arguments: Callable[[argparse.ArgumentParser], None]
    example: str


VERBS = {
    "show": Verb(
        "resolved settings of a run, or what differs between two",
        verbs.show,
        verbs.show_arguments,
        "lct show digits-lct digits-ilct",
    ),
    "plan": Verb(
        "what a scale costs: hours, wall time, disk and money per cell and table; afterwards, against what it took",
        plan.plan_verb,
        plan.arguments,
        "lct plan --scale paper --device h100 --gpus 8 --price 2.5",
    ),
    "status": Verb(
        "what is computed, and how far running trainings are",
        verbs.status,
        cluster.status_arguments,
        "lct status --scale mini --watch",
    ),
    "doctor": Verb(
        "is this machine, or the cluster of a profile, fit for a run?",
        cluster.doctor,
        cluster.doctor_arguments,
        "lct doctor --profile profiles/slurm --scale paper",
    ),
    "report": Verb(
        "render the report from whatever cells exist", verbs.report, verbs.report_arguments, "lct report --scale mini"
    ),
    "audit": Verb(
        "where does a number come from? every link of its chain, checked",
        audit.audit,
        audit.audit_arguments,
        "lct audit table1.a.lct-1.fd",
    ),
    "verify": Verb(
        "do outputs agree with their records?",
        audit.verify,
        audit.verify_arguments,
        "lct verify --deep",
    ),
    "diff": Verb(
        "what differs between two recorded states, or one and the workspace",
        audit.diff,
        audit.diff_arguments,
        "lct diff HEAD~1",
    ),
    "record": Verb(
        "record what a run finished: DVC's lock, settings, runs, Snakemake's metadata",
        lineage.record_verb,
        lineage.record_arguments,
        "lct record --commit",
    ),
    "restore": Verb(
        "bring recorded artifacts back, so that nothing is planned",
        lineage.restore_verb,
        lineage.restore_arguments,
        "lct restore --pull table1.a.lct-1.fd",
    ),
    "why": Verb("why a cell would run again", lineage.why_verb, lineage.why_arguments, "lct why table1.a.lct-1.fd"),
    "export": Verb(
        "results for other programs: a diffusers pipeline, LaTeX, CSV, JSON, an archive that verifies by itself",
        export.export,
        export.export_arguments,
        "lct export table1.a.lct-1 --to diffusers",
    ),
    "completion": Verb(
        "print the script by which a shell completes `lct`",
        export.completion,
        export.completion_arguments,
        'eval "$(lct completion bash)"',
    ),
}


def parser() -> argparse.ArgumentParser:
    examples = "\n".join(f"  {verb.example}" for verb in VERBS.values())
    made = argparse.ArgumentParser(
        prog="lct",
        description=__doc__,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--json", action="store_true", help="print JSON instead of text")
    chosen = made.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        sub = chosen.add_parser(
            name,
            help=verb.help,
            description=f"{verb.help}\n\nexample: {verb.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON instead of text")
        verb.arguments(sub)
    return made


def main(words: list[str] | None = None) -> int:
    arguments = parser().parse_args(words)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(message)s")
    arguments.root = Path.cwd()
    try:
        code, value, text = VERBS[arguments.verb].run(arguments)
    except (ValueError, OSError) as error:
        said = f"lct {arguments.verb}: {' '.join(str(error).split())}"
        print(json.dumps({"error": said}) if arguments.json else fault(said, sys.stderr), file=sys.stderr)
        return 1
    try:
        told = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) if arguments.json else None
        print(paint(text, sys.stdout) if told is None else told, flush=True)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


if __name__ == "__main__":
    raise SystemExit(main())
