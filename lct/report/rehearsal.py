"""The page of a rehearsal: peak memory, time and I/O of its jobs beside what they asked for."""

from typing import Any

from lct.files.formatting import format_duration, format_size
from lct.report.render import templates


def page(numbers: dict[str, Any]) -> str:
    """rehearsal.html, from the numbers of lct.cluster.rehearsal."""
    environment = templates(autoescape=True)
    environment.filters |= {"size": format_size, "duration": format_duration}
    return environment.get_template("rehearsal.html.jinja").render(rehearsal=numbers)
