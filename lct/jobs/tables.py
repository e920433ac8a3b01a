"""tables: every cell of a scale in one JSON, from the metrics files and the published values."""

import argparse
from pathlib import Path

from lct.files.atomic import write_json
from lct.files.hashing import sha256_json
from lct.files.records import JobRecord
from lct.jobs import job
from lct.plan import settings as stage_settings
from lct.plan.plan import Plan
from lct.plan.selection import add_selection, overrides
from lct.report.collect import collect
from lct.report.tables import dump


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings-sha256", required=True, help="hash of the settings that the run was planned with")
    add_selection(parser)
    parser.add_argument("--which", choices=("tables", "all"), default="tables", help="those it lists, or all of them")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    arguments = parser.parse_args()
    return job.run(lambda: tables(arguments))


def tables(arguments) -> str:
    plan = Plan(Path.cwd(), overrides(arguments))
    planned = stage_settings.tables(plan, arguments.which)
    if sha256_json(planned) != arguments.settings_sha256:
        raise ValueError("config/: expected what this run was planned with, found changes; run the same command again")
    collected = collect(plan, Path.cwd(), arguments.which)
    rows = [row for _, _, row in collected.rows]
    paths = {value.metrics for row in rows for cell in row.cells.values() for value in cell.values}
    paths |= {part.degraded.path for table in collected.tables for part in table.subtables if part.degraded}
    record = JobRecord("tables", planned, inputs={path: Path(path) for path in sorted(paths)})
    write_json(arguments.out, dump(collected))
    record.write([arguments.out])
    ours = [row.status for row in rows if row.status != "quoted"]
    return f"tables {arguments.scale}: {ours.count('complete')} of {len(ours)} rows computed"


if __name__ == "__main__":
    raise SystemExit(main())
