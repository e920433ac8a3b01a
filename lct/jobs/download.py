"""download: the files of a network or a dataset, from the first of its origins that gives them all."""

from pathlib import Path
from typing import Any

from lct.config.schema import build
from lct.download.fetch import Access, download
from lct.download.known_hashes import KnownHashes
from lct.download.settings import Weights
from lct.files.atomic import write_json
from lct.files.formatting import format_size
from lct.files.records import JobRecord
from lct.jobs import job


def main() -> int:
    parser = job.parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="download.json to write; files go to files/ beside it")
    parser.add_argument(
        "--known-hashes",
        type=Path,
        default=Path("config/pinned.json"),
        help="hashes recorded on first use (default: config/pinned.json)",
    )
    arguments = parser.parse_args()
    return job.run(lambda: fetch(arguments.settings, arguments.out, arguments.known_hashes))


def fetch(settings: dict[str, Any], out: Path, known_hashes: Path) -> str:
    """Bring the files of `settings["origins"]` beside `out` and describe them in it; returns the line for the terminal.

    known_hashes: file of the hashes recorded on first use. ValueError when no origin gives the files."""
    origins = build(Weights, {"title": "-", "licence": "-", "origins": settings["origins"]}, "--settings").origins
    record = JobRecord("download", settings, inputs={})
    hashes = KnownHashes(known_hashes, out.parent.parent / ".pinned.lock")
    content = download(settings["id"], origins, out.parent, hashes, Access.from_environment())
    write_json(out, content)
    record.write([out])
    files = content["files"]
    size, verified = format_size(sum(file["bytes"] for file in files)), sorted({file["verified"] for file in files})
    return f"download {settings['id']}: {len(files)} files, {size}, hashes: {', '.join(verified)}"


if __name__ == "__main__":
    raise SystemExit(main())
