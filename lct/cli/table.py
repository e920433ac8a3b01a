"""`lct table`: results in the terminal."""

import argparse

from lct.cli.options import Result, selected
from lct.report.collect import collect
from lct.report.tables import dump, dumps, loads
from lct.report.terminal import results


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "cells", nargs="*", metavar="CELL", help="a table, sub-table, row or run (default: all results)"
    )


def table(arguments: argparse.Namespace) -> Result:
    """Results in the terminal.

    Rows from the metrics files that exist; the rows that are named, with numbers or without."""
    plan, cells = selected(arguments, arguments.cells)
    names = {cell.name for cell in cells} if arguments.cells else None
    collected = loads(dumps(collect(plan, arguments.root, "all")))
    lines = results(collected, names) or [
        f"nothing is measured yet: snakemake {' '.join([*arguments.cells, ''])}{plan.snakemake_options}"
    ]
    return 0, dump(collected)["tables"], "\n".join(lines)
