"""report: every page, table and drawn figure from tables.json, and the page that traces every number of it.

Without --tables, tables are collected from whatever exists. Without --out, as `lct report` starts it, the pages go to
the report's own place, or beside it where the graph has rendered one, and a line of JSON says where. Nothing is
recorded in either case.
"""

import argparse
import gc
import json
import os
from pathlib import Path

from lct.checks import require
from lct.cluster.cost_model import CostModel
from lct.cluster.forecast import costs
from lct.cluster.rates import card
from lct.cluster.timeline import LONGEST, QUEUE, chart, with_pilot
from lct.config.claims import FOLDER as CLAIMS
from lct.config.folder import ConfigFolder
from lct.files.atomic import write_bytes, write_text
from lct.files.records import JobRecord, settings_path
from lct.jobs import job
from lct.lineage.cells import report_audits
from lct.plan.files import claimed_tables
from lct.plan.paths import EVIDENCE
from lct.plan.plan import Plan
from lct.plan.selection import add_selection, overrides
from lct.plan.settings import RECIPES
from lct.report import audit
from lct.report.collect import collect
from lct.report.evidence import FOLDER
from lct.report.headline import trust
from lct.report.render import pictures, render
from lct.report.tables import Tables, dumps, loads, read

PREVIEWS = "reports/preview"  # for reports of what exists, where the graph has rendered one already


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path, help="tables.json to render")
    parser.add_argument("--which", choices=("tables", "all"), default="tables", help="tables to collect, and to place")
    add_selection(parser)
    parser.add_argument("--out", type=Path, help="folder to write")
    arguments = parser.parse_args()
    return job.run(lambda: report(arguments))


def report(arguments: argparse.Namespace) -> str | None:
    gc.set_threshold(20_000)  # the cycles in every drawing make the collector walk what is alive again
    root = Path.cwd()
    if arguments.tables is None:
        plan = Plan(root, overrides(arguments))
        tables = loads(dumps(collect(plan, root, arguments.which)))  # as tables.json holds it
    else:
        tables, scales = read(arguments.tables), ConfigFolder(root).names("scales")
        is_here, where = arguments.scale or tables.scale in scales, f"{arguments.tables}: scale"
        require(is_here, where, f"one of {scales}", repr(tables.scale), "say --scale NAME")
        plan = Plan(root, {"scale": tables.scale} | overrides(arguments))
    if arguments.out is None:
        graphs = index = plan.paths.report("index.html", arguments.which)
        if settings_path(root / index).exists():
            index = f"{PREVIEWS}/{index.removeprefix('reports/')}"
        write(tables, root, Path(index).parent, plan)
        print(json.dumps([index, graphs, plan.snakemake_options]), flush=True)
        return None
    record = _record(arguments.tables, plan) if arguments.tables else None
    return f"report {write(tables, root, arguments.out, plan, record)}: open it in a browser"


def _record(tables: Path, plan: Plan) -> JobRecord:
    inputs = {"tables": tables} | {name: FOLDER / name for name in EVIDENCE}
    inputs |= {f"claims/{path.name}": path for path in sorted(CLAIMS.glob("*.yaml"))}
    inputs |= {path: Path(path) for path in claimed_tables(plan)}
    return JobRecord("report", {"recipe": RECIPES["report"]}, inputs=inputs)


def write(tables: Tables, root: Path, out: Path, plan: Plan, record: JobRecord | None = None) -> Path:
    """Everything of a report into the folder `out`, with records if `record` is given; returns its first page."""
    spent = costs(plan, root, [run for run in tables.runs if run in plan.runs])
    drawn = pictures(tables, root)
    audits = report_audits(plan, root, [cell.id for _, _, row in tables.rows for cell in row.cells.values()])
    up = os.path.relpath(root, out)
    measured = [(read(root / path), plan.claims_paths.report("claims.html")) for path in claimed_tables(plan)]
    claimed = measured[0] if measured else None
    contents = render(tables, root, up, spent, facts=root, drawn=drawn, trust=trust(audits), claimed=claimed)
    contents["audit.html"] = audit.page(audits, "index.html", timelines(plan, root), tables.watermark)
    for name, content in contents.items():
        write_text(out / name, content)
    for name, content in drawn.items():
        write_bytes(out / name, content)
    if record is not None:
        record.write([out / name for name in (*contents, *drawn)])
    return out / "index.html"


def timelines(plan: Plan, root: Path) -> list[tuple[str, str]]:
    """When the tables of a scale for GPUs appear on 8 of two kinds: what each drawing is, and the drawing."""
    drawn = []
    for name in ("a100", "h100") if plan.scale.comparable else ():
        model, title = CostModel(plan, card(name, root=root)), f"{plan.scale_name} scale on 8 x {name.upper()}"
        simulated = with_pilot(model, plan.cells_of("tables"), 8, QUEUE, LONGEST)
        drawn.append((title, chart(simulated, title)))
    return drawn


if __name__ == "__main__":
    raise SystemExit(main())
