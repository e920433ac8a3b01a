"""What verbs share: a verb and its arguments, and the jobs that it starts. Nothing here needs a plan, which takes a
quarter of a second to load."""

import argparse
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lct.plan.selection import add_selection, as_options, overrides

Result = tuple[int, Any, str]  # exit code, value for --json, text for people
Run = Callable[[argparse.Namespace], Result]  # the function of a verb


@dataclass(frozen=True)
class Verb:
    """A verb: the function that runs it and returns what is printed, loaded when it is needed, and an example."""

    place: str  # of the function: MODULE.NAME in lct.cli
    example: str
    shared: Callable[[argparse.ArgumentParser], None] | None = add_selection  # adds options that jobs have too

    @property
    def run(self) -> Run:
        module, _, name = self.place.partition(".")
        return getattr(importlib.import_module(f"lct.cli.{module}"), name)

    @property
    def help(self) -> str:
        """One line: the first of the function's docstring."""
        line = str(self.run.__doc__).partition("\n")[0].removesuffix(".")
        return line[0].lower() + line[1:]


def argument(*words: str, **options: Any) -> Callable[[Run], Run]:
    """A decorator that gives a verb's function one more argument, described as for argparse's `add_argument`."""

    def declare(run: Run) -> Run:
        run.arguments = [(words, options), *getattr(run, "arguments", ())]
        return run

    return declare


all_tables = argument(
    "--all",
    dest="which",
    action="store_const",
    const="all",
    default="tables",
    help="with the tables that only `snakemake all_tables` makes",
)


def run_job(arguments: argparse.Namespace, name: str, *words: str) -> Any:
    """The JSON in the last line that `python -m lct.jobs.NAME` prints, a process of its own as in the graph. ValueError
    with the line that the job ends with if it fails."""
    options = [f"{option}={text}" for option, text in as_options(overrides(arguments)).items()]
    command = [sys.executable, "-m", f"lct.jobs.{name}", *options, *words]
    done = subprocess.run(command, cwd=arguments.root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines()
        raise ValueError(lines[-1].removeprefix("error: ") if lines else f"the job {name} ended without a message")
    return json.loads(done.stdout.splitlines()[-1])
