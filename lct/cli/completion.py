"""`lct completion`: the script by which a shell completes `lct`."""

import argparse
from pathlib import Path

import shtab

from lct.cli.options import Result, argument
from lct.plan.names import target_names
from lct.plan.plan import Plan


@argument("shell", choices=("bash", "zsh"), help="shell to complete in")
def completion(arguments: argparse.Namespace) -> Result:
    """Print the script by which a shell completes `lct`.

    From the parser of all verbs, with the names of scales, rows and runs that exist now."""
    words = _names(arguments.root)
    for action in arguments.parser._actions:  # noqa: SLF001 argparse gives no other way to its arguments
        for verb in (action.choices or {}).values() if isinstance(action.choices, dict) else ():
            for option in verb._actions:  # noqa: SLF001
                kind = "SCALE" if option.dest == "scale" else option.metavar
                option.choices = option.choices or words.get(kind)
    script = shtab.complete(arguments.parser, shell=arguments.shell)
    return 0, {"shell": arguments.shell, "script": script}, script.rstrip("\n")


def _names(root: Path) -> dict[str, list[str]]:
    """What may stand for a scale, cells, a run, or either; nothing outside a project."""
    try:
        plan = Plan(root)
    except (ValueError, OSError):
        return {}
    runs, targets = [*plan.runs, *plan.unlisted()], target_names(plan.cells)
    names = list(dict.fromkeys([*targets, *runs]))
    return {"SCALE": plan.config.names("scales"), "CELL": names, "NAME": names, "NAMES": targets, "RUN": runs}
