"""Options that several verbs share: which scale, and whether it is about a dataset of the user's own."""

import argparse
from typing import Any


def scale_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scale", help="scale (default: the one in config/config.yaml)")


def plan_arguments(parser: argparse.ArgumentParser) -> None:
    scale_argument(parser)
    parser.add_argument("--dataset", help="a dataset of your own, as in `snakemake --config dataset=NAME`")


def overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the command line sets on top of config/config.yaml."""
    given = {"scale": arguments.scale, "dataset": getattr(arguments, "dataset", None)}
    return {key: value for key, value in given.items() if value is not None}
