"""report: HTML, Markdown, LaTeX and CSV from tables.json."""

import argparse
import os
from pathlib import Path

from lct.cli import job
from lct.config.recipes import RECIPES
from lct.files.atomic import write_text
from lct.files.records import Job
from lct.report.check import read
from lct.report.render import render


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path, required=True, help="tables.json to render")
    parser.add_argument("--files", type=Path, nargs="+", required=True, help="files to write")
    arguments = parser.parse_args()
    return job.run(lambda: report(arguments))


def report(arguments) -> str:
    record = Job("report", {"recipe": RECIPES["report"]}, inputs={"tables": arguments.tables})
    up = os.path.relpath(Path.cwd(), arguments.files[0].parent)
    contents = render(read(arguments.tables), Path.cwd(), up)
    for path in arguments.files:
        write_text(path, contents[path.name])
    record.record(arguments.files)
    return f"report {arguments.files[0]}: open it in a browser"


if __name__ == "__main__":
    raise SystemExit(main())
