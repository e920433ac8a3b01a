"""report: HTML, Markdown, LaTeX and CSV from tables.json."""

import argparse
from pathlib import Path

from lct.cli import job
from lct.files.atomic import read_json, write_text
from lct.files.records import Job


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path, required=True, help="tables.json to render")
    parser.add_argument("--files", type=Path, nargs="+", required=True, help="files to write")
    arguments = parser.parse_args()
    return job.run(lambda: report(arguments))


def report(arguments) -> str:
    from lct.report.render import render

    record = Job("report", {"recipe": 1}, inputs={"tables": arguments.tables})
    contents = render(read_json(arguments.tables), Path.cwd())
    for path in arguments.files:
        write_text(path, contents[path.name])
    record.record([path for path in arguments.files if path.suffix == ".html"])
    return f"report {arguments.files[0]}: open it in a browser"


if __name__ == "__main__":
    raise SystemExit(main())
