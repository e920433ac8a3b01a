"""Options that say what a plan is of: scale, dataset, rows, seeds and own runs, for verbs and jobs alike."""

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lct.plan.plan import Plan  # takes a quarter of a second to load, which a verb that starts a job can spare

_KEYS = ("scale", "dataset", "only", "seeds", "own_runs")  # of config/config.yaml


def add_selection(parser: argparse.ArgumentParser) -> None:
    """The options by which a verb or a job names a plan; each stands for the same key of `snakemake --config`."""
    parser.add_argument("--scale", help="scale (default: the one in config/config.yaml)")
    parser.add_argument("--dataset", help="a dataset of your own, as in `snakemake --config dataset=NAME`")
    parser.add_argument(
        "--only", metavar="NAMES", help="only these tables, sub-tables, rows or runs: table1.a,table1.b; or claims"
    )
    parser.add_argument("--seeds", metavar="SEEDS", help="training seeds beside those of the scale: 1,2")
    parser.add_argument("--own-runs", type=lambda text: text.split(",") if text else [], help=argparse.SUPPRESS)


def overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """Keys of config/config.yaml that these options set."""
    values = {key: getattr(arguments, key, None) for key in _KEYS}
    return {key: value for key, value in values.items() if value is not None}


def plan_of(plan: "Plan", own_runs: Iterable[str] = ()) -> dict[str, Any]:
    """The keys by which another process gets the same plan. own_runs: further runs that it shows."""
    values = {key: getattr(plan.main, key) for key in ("dataset", "only", "seeds")}
    given = {key: ",".join(map(str, value)) if isinstance(value, tuple) else value for key, value in values.items()}
    shown = sorted({*plan.own_runs, *own_runs})
    own = {"own_runs": shown} if shown else {}
    return {"scale": plan.scale_name} | {key: value for key, value in given.items() if value not in (None, "")} | own


def option_words(plan: "Plan", own_runs: Iterable[str] = ()) -> list[str]:
    """The same as words of a command line, without the scale."""
    given = as_options({key: value for key, value in plan_of(plan, own_runs).items() if key != "scale"})
    return [word for pair in given.items() for word in pair]


def as_options(values: dict[str, Any]) -> dict[str, str]:
    """Option -> its text, of keys of config/config.yaml."""
    texts = {key: ",".join(value) if isinstance(value, list) else str(value) for key, value in values.items()}
    return {f"--{key.replace('_', '-')}": text for key, text in texts.items()}
