"""The plan that a verb's arguments select, and its rows."""

import argparse
from typing import Any

from lct.plan.names import cells_named
from lct.plan.plan import Cell, Plan
from lct.plan.selection import overrides


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
