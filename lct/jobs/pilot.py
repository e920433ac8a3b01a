"""pilot: the first milestones of a run against the authors' log, as a page and as JSON."""

from pathlib import Path
from typing import Annotated, Any

from lct.files.atomic import write_json, write_text
from lct.files.records import JobRecord
from lct.jobs import job
from lct.plan.plan import Plan
from lct.report.evidence import FOLDER
from lct.report.pilot import judge
from lct.report.render import html


def pilot(
    settings: dict[str, Any],
    scale: Annotated[str, "scale whose pilot this is"],
    out: Annotated[Path, "page to write; the numbers go beside it, as JSON"],
) -> str:
    """Judge the measured rows and write page and numbers."""
    root = Path.cwd()
    plan = Plan(root, {"scale": scale})
    result = judge(plan, root, plan.pilot)
    inputs = {row["row"]: Path(row["distance"]) for row in result["rows"] if "distance" in row}
    record = JobRecord("pilot", settings, inputs=inputs | {"log": FOLDER / "authors_runs.csv"})
    write_text(out, html("pilot.html", pilot=result))
    write_json(out.with_suffix(".json"), result)
    record.write([out, out.with_suffix(".json")])
    shown = [f"{row['row']} {row['ours']:.4g} against {row['logged']:.4g}" for row in result["rows"] if row["ours"]]
    return f"pilot: {result['verdict']}: {', '.join(shown)}; {out}"


main = job.program(pilot)
