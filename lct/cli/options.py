"""Options that several verbs share: those that select a plan, and the further tables of a scale."""

import argparse

from lct.plan.names import cells_named
from lct.plan.plan import Cell, Plan
from lct.plan.selection import overrides

__all__ = ["all_tables_argument", "overrides", "selected", "which", "with_unlisted"]


def selected(arguments: argparse.Namespace, names: list[str]) -> tuple[Plan, list[Cell]]:
    """The plan of a verb, and the rows that names mean; a run that no table lists has rows too. None: all rows."""
    plan = Plan(arguments.root, overrides(arguments))
    if more_runs := set(names) & set(plan.unlisted()):
        plan = Plan(arguments.root, overrides(arguments), more_runs)
    return plan, cells_named(plan.cells, names or ["all"], plan.scale_name)


def with_unlisted(arguments: argparse.Namespace) -> Plan:
    """The plan of a verb, with the runs that no table lists and that have been trained here."""
    plan = Plan(arguments.root, overrides(arguments))
    more_runs = {run for run, _ in plan.unlisted_trainings(arguments.root)} - plan.runs.keys()
    return Plan(arguments.root, overrides(arguments), more_runs) if more_runs else plan


def all_tables_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="with the tables that only `snakemake all_tables` makes")


def which(arguments: argparse.Namespace) -> str:
    """The tables that a report holds: "tables", those that the scale lists, or "all"."""
    return "all" if arguments.all else "tables"
