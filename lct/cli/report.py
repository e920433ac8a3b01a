"""report: HTML, Markdown, LaTeX and CSV from tables.json, and the page that traces every number of it."""

import argparse
import os
from pathlib import Path

from lct.cli import job
from lct.cli.audit_verbs import page
from lct.cluster.costs import costs
from lct.config.plan import Plan
from lct.config.recipes import RECIPES
from lct.files.atomic import write_text
from lct.files.records import Job
from lct.report.check import read
from lct.report.render import render


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path, required=True, help="tables.json to render")
    parser.add_argument("--files", type=Path, nargs="+", required=True, help="files to write")
    parser.add_argument("--dataset", help="the tables are those of a dataset of its own")
    arguments = parser.parse_args()
    return job.run(lambda: report(arguments))


def report(arguments) -> str:
    record = Job("report", {"recipe": RECIPES["report"]}, inputs={"tables": arguments.tables})
    up = os.path.relpath(Path.cwd(), arguments.files[0].parent)
    tables = read(arguments.tables)
    plan = Plan(Path.cwd(), {"scale": tables["scale"], "dataset": arguments.dataset})
    spent = costs(plan, Path.cwd(), [run for run in tables["runs"] if run in plan.runs])
    contents = render(tables, Path.cwd(), up, spent)
    contents["audit.html"] = page(plan, Path.cwd(), tables)
    for path in arguments.files:
        write_text(path, contents[path.name])
    record.record(arguments.files)
    return f"report {arguments.files[0]}: open it in a browser"


if __name__ == "__main__":
    raise SystemExit(main())
