"""The page of a rehearsal: peak memory, time and I/O of its jobs beside what they asked for."""

from typing import Any

from lct.report.render import html


def page(numbers: dict[str, Any]) -> str:
    """rehearsal.html, from the numbers of lct.cluster.rehearsal."""
    return html("rehearsal.html", rehearsal=numbers)
