"""What verbs share: a verb and its arguments, the plan that these select, and the jobs of the graph that it runs."""

import argparse
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lct.plan.names import cells_named
from lct.plan.plan import Cell, Plan
from lct.plan.selection import add_selection, option_words, overrides

Result = tuple[int, Any, str]  # exit code, value for --json, text for people
Run = Callable[[argparse.Namespace], Result]  # the function of a verb


@dataclass(frozen=True)
class Verb:
    """A verb: the function that runs it and returns what is printed, and an example."""

    run: Run
    example: str
    shared: Callable[[argparse.ArgumentParser], None] | None = add_selection  # adds options that jobs have too

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


def selected_plan(arguments: argparse.Namespace, **changes: Any) -> Plan:
    """The plan of a verb. changes: of keys of config/config.yaml."""
    return Plan(arguments.root, overrides(arguments) | changes)


def selected(arguments: argparse.Namespace, names: list[str]) -> tuple[Plan, list[Cell]]:
    """The plan of a verb, and the rows that names mean; a run that no table lists has rows too. None: all rows."""
    plan = selected_plan(arguments)
    if more_runs := set(names) & set(plan.unlisted()):
        plan = Plan(arguments.root, overrides(arguments), more_runs)
    return plan, cells_named(plan.cells, names or ["all"], plan.scale_name)


def with_unlisted(arguments: argparse.Namespace) -> Plan:
    """The plan of a verb, with the runs that no table lists and that have been trained here."""
    plan = selected_plan(arguments)
    more_runs = {run for run, _ in plan.unlisted_trainings(arguments.root)} - plan.runs.keys()
    return Plan(arguments.root, overrides(arguments), more_runs) if more_runs else plan


def run_job(root: Path, plan: Plan, name: str, *words: str) -> str:
    """Standard output of `python -m lct.jobs.NAME`, a process of its own as in the graph. ValueError with the line that
    the job ends with if it fails."""
    command = [sys.executable, "-m", f"lct.jobs.{name}", "--scale", plan.scale_name, *option_words(plan), *words]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines()
        raise ValueError(lines[-1].removeprefix("error: ") if lines else f"the job {name} ended without a message")
    return done.stdout
