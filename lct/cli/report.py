"""`lct report`: results as a report."""

import argparse
from pathlib import Path

from lct.checks import require
from lct.cli.options import Result, all_tables, argument, run_job


@all_tables
@argument("--tables", type=Path, metavar="FILE", help="a tables.json to render instead of what exists")
def report(arguments: argparse.Namespace) -> Result:
    """Render the report from whatever cells exist.

    Collects and renders without the graph; cells that do not exist yet appear as not run. A report of the graph,
    which has records, stays as it is: this one is then written beside it. A file of tables says its scale itself."""
    words = ["--which", arguments.which]
    if arguments.tables:
        where, advice = f"--tables {arguments.tables}", f"some tables alone: lct report --only {arguments.tables.name}"
        require(arguments.tables.exists(), where, "a tables.json", "no such file", advice)
        words += ["--tables", str(arguments.tables.absolute())]
    index, graphs, options = run_job(arguments, "report", *words)
    beside = f"; {graphs} is that of the last run, as its records say" if graphs != index else ""
    command = f"snakemake {graphs} {options}"
    return 0, {"report": index}, f"{index}\nthe graph does the same when all cells exist: {command}{beside}"
