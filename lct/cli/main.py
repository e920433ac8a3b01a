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
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn, TextIO

from lct.checks import did_you_mean
from lct.cli.options import Verb
from lct.cluster import measure_options
from lct.files.atomic import json_text
from lct.files.lock import LockHeldError

_PARTS = ("config", "lineage", "results", "reports", ".dvc")  # a folder with one of them is taken as a project
GREEN, YELLOW, RED, PLAIN = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[0m"
_COLOURS = {
    **dict.fromkeys(("ok", "equal", "same", "reproduced", "whole"), GREEN),
    **dict.fromkeys(("stale", "dirty", "unchecked", "interrupted", "partial", "half-finished"), YELLOW),
    **dict.fromkeys(("broken", "missing", "differs", "failed", "error", "REFUSED"), RED),
}
_STATE = re.compile(rf"(?m)^(\s*)({'|'.join(map(re.escape, _COLOURS))})(?=[\s:,]|$)")


def shows_colour(stream: TextIO) -> bool:
    """Whether a stream is a terminal with colours, and the user did not switch them off (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, stream: TextIO) -> str:
    """Text for a stream: a state at the start of a line in its colour where that can be seen."""
    if not shows_colour(stream):
        return text
    return _STATE.sub(lambda m: f"{m[1]}{_COLOURS[m[2]]}{m[2]}{PLAIN}", text)


def fault(text: str, stream: TextIO) -> str:
    """An error line for a stream."""
    return f"{RED}{text}{PLAIN}" if shows_colour(stream) else text


VERBS = {
    "show": Verb("show.show", "lct show digits-lct digits-ilct"),
    "table": Verb("results.table", "lct table table1.a"),
    "score": Verb("results.score", "lct score my-samples.npz --like table1.a.lct-1"),
    "plan": Verb("machines.plan_verb", "lct plan --scale paper --device h100 --gpus 8 --price 2.5"),
    "status": Verb("runs.status", "lct status --scale mini --watch"),
    "doctor": Verb("machines.doctor", "lct doctor --profile profiles/slurm --scale paper"),
    "measure": Verb("machines.measure", "lct measure", shared=measure_options.arguments),
    "report": Verb("report.report", "lct report --scale mini"),
    "claims": Verb("claims.claims", "lct claims lct-beats-ilct"),
    "power": Verb("claims.power", "lct power --difference 5", shared=None),
    "audit": Verb("audit.audit", "lct audit table1.a.lct-1.fd"),
    "verify": Verb("audit.verify", "lct verify --deep"),
    "diff": Verb("audit.diff", "lct diff HEAD~1"),
    "record": Verb("lineage.record_verb", "lct record --commit"),
    "restore": Verb("lineage.restore_verb", "lct restore --pull table1.a.lct-1.fd"),
    "merge": Verb("lineage.merge_verb", "lct merge --theirs results/smoke", shared=None),
    "why": Verb("lineage.why_verb", "lct why table1.a.lct-1.fd"),
    "export": Verb("export.export", "lct export table1.a.lct-1 --to diffusers"),
    "rm": Verb("runs.remove", "lct rm digits-lct --yes"),
    "completion": Verb("completion.completion", 'eval "$(lct completion bash)"', shared=None),
}


class _Parser(argparse.ArgumentParser):
    """A parser whose message about an unknown word names the nearest one."""

    def error(self, message: str) -> NoReturn:
        match = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        hint = did_you_mean(match[1], re.findall(r"[\w.-]+", match[2])) if match else ""
        super().error(f"{message}; {hint}" if hint else message)


def parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser of all verbs; where `words` begin with a verb, of that one alone, which spares loading the others."""
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
    first = next((word for word in words if word != "--json"), "")
    alone = {first: VERBS[first]} if first in VERBS and first != "completion" else VERBS
    for name, verb in alone.items():
        sub = verbs_parser.add_parser(
            name,
            help=verb.help,
            description=f"{verb.help}\n\nexample: {verb.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON instead of text")
        for flags, options in getattr(verb.run, "arguments", ()):
            sub.add_argument(*flags, **options)
        if verb.shared is not None:
            verb.shared(sub)
    return root


def _enter_project(arguments: argparse.Namespace) -> Path:
    """Make the project around the current folder the current folder; files named by the user stay where they are.
    Raises ValueError outside a project."""
    here = Path.cwd()
    marks = ("Snakefile", "config/config.yaml")
    projects = (folder for folder in (here, *here.parents) if all((folder / mark).is_file() for mark in marks))
    project = next(projects, None)
    if project is None and arguments.verb != "completion" and not any((here / name).exists() for name in _PARTS):
        raise ValueError(f"{here}: expected the project's folder, or one inside it, found neither; cd to the clone")
    if project not in (None, here):
        for name, value in vars(arguments).items():
            if isinstance(value, Path):
                setattr(arguments, name, here / value)
        os.chdir(project)
    return project or here


def main(words: list[str] | None = None) -> int:
    root = parser(sys.argv[1:] if words is None else words)
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
        print(json_text(value).rstrip("\n") if arguments.json else paint(text, sys.stdout), flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to print
        if not isinstance(error, BrokenPipeError):  # the reader, such as `head`, has closed the pipe
            print(f"lct {arguments.verb}: expected to print its answer, found: {error.strerror}", file=sys.stderr)
            return 1
    return code


if __name__ == "__main__":
    raise SystemExit(main())
