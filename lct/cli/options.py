"""Options that several verbs share: the scale, a dataset of the user's own, the further tables of a scale."""

import argparse
from typing import Any


def scale_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scale", help="scale (default: the one in config/config.yaml)")


def plan_arguments(parser: argparse.ArgumentParser) -> None:
    scale_argument(parser)
    parser.add_argument("--dataset", help="a dataset of your own, as in `snakemake --config dataset=NAME`")


def all_tables_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="with the tables that only `snakemake all_tables` makes")


def which(arguments: argparse.Namespace) -> str:
    """The tables that a report holds: "tables", those that the scale lists, or "all"."""
    return "all" if arguments.all else "tables"


def overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """Keys of config/config.yaml that the command line sets."""
    values = {"scale": arguments.scale, "dataset": getattr(arguments, "dataset", None)}
    return {key: value for key, value in values.items() if value is not None}
