"""The page that a rehearsal ends in. It is no job: the graph writes it when a run ends, whatever has failed."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lct.cluster.rehearsal import job_requests, numbers
from lct.cluster.resources import Requests
from lct.files.atomic import write_json, write_text


def write_rehearsal(root: Path, requests: Requests, jobs: Iterable[Any]) -> str:
    """Write page and numbers of the jobs of a Snakemake DAG, and say where. Never raises: a run ends as its jobs do."""
    out = requests.plan.paths.report("rehearsal.html")
    try:
        from lct.report.render import html  # brings Jinja, which only a rehearsal needs here

        result = numbers(requests, job_requests(jobs), root)
        write_text(root / out, html("rehearsal.html", rehearsal=result))
        write_json((root / out).with_suffix(".json"), result)
    except (ValueError, OSError) as error:
        return f"warning: no page of the rehearsal: {' '.join(str(error).split())}"
    return f"What the rehearsal took beside what it asked for: {out}"
