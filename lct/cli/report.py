"""`lct report`: the report of what exists, rendered by the graph's own job."""

import argparse
from pathlib import Path

from lct.cli.options import Result, all_tables_argument, run_job, selected_plan, which
from lct.files.records import settings_path

PREVIEWS = "reports/preview"  # for reports of what exists, where the graph has rendered one already


def arguments(parser: argparse.ArgumentParser) -> None:
    all_tables_argument(parser)
    parser.add_argument("--tables", type=Path, metavar="FILE", help="a tables.json to render instead of what exists")


def report(arguments: argparse.Namespace) -> Result:
    """Render the report from whatever cells exist.

    Collects and renders without the graph; cells that do not exist yet appear as not run. A report of the graph, which
    has records, stays as it is: this one is then written beside it."""
    plan, tables = selected_plan(arguments), which(arguments)
    graphs = index = plan.paths.report("index.html", tables)
    if settings_path(arguments.root / index).exists():
        index = f"{PREVIEWS}/{index.removeprefix('reports/')}"
    if arguments.tables and not arguments.tables.exists():
        raise ValueError(
            f"--tables {arguments.tables}: expected a tables.json, found no such file; some tables alone: "
            f"lct report --only {arguments.tables.name}"
        )
    words = ["--preview", "--tables", str(arguments.tables.absolute())] if arguments.tables else ["--collect", tables]
    run_job(arguments.root, plan, "report", *words, "--out", index.removesuffix("index.html"))
    beside = f"; {graphs} is that of the last run, as its records say" if graphs != index else ""
    command = f"snakemake {graphs} {plan.snakemake_options}"
    return 0, {"report": index}, f"{index}\nthe graph does the same when all cells exist: {command}{beside}"
