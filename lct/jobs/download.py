"""download: the files of a network or a dataset, from the first of its origins that gives them all."""

from pathlib import Path
from typing import Annotated, Any

from lct.config.schema import build
from lct.download.fetch import Access, download
from lct.download.settings import Weights
from lct.files.atomic import write_json
from lct.files.formatting import format_size
from lct.files.records import JobRecord
from lct.jobs import job


def fetch(
    settings: dict[str, Any],
    out: Annotated[Path, "download.json to write; files go to files/ beside it"],
    known_hashes: Annotated[Path, "hashes recorded on first use (default: config/pinned.json)"] = Path(
        "config/pinned.json"
    ),
) -> str:
    """Bring the files of `settings["origins"]` beside `out` and describe them in it; returns the line for the terminal.

    ValueError when no origin gives the files."""
    origins = build(Weights, {"title": "-", "licence": "-", "origins": settings["origins"]}, "--settings").origins
    record = JobRecord("download", settings, inputs={})
    content = download(settings["id"], origins, out.parent, known_hashes, Access.from_environment())
    write_json(out, content)
    record.write([out])
    files = content["files"]
    size, verified = format_size(sum(file["bytes"] for file in files)), sorted({file["verified"] for file in files})
    return f"download {settings['id']}: {len(files)} files, {size}, hashes: {', '.join(verified)}"


main = job.program(fetch)
