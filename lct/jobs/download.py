"""download: the files of a network or a dataset, from the first of its origins that gives them all."""

from pathlib import Path

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
    return job.run(lambda: fetch(arguments))


def fetch(arguments) -> str:
    settings, folder = arguments.settings, arguments.out.parent
    described = {"title": "-", "licence": "-", "origins": settings["origins"]}
    origins = build(Weights, described, "--settings").origins
    record = JobRecord("download", settings, inputs={})
    known_hashes = KnownHashes(arguments.known_hashes, folder.parent / ".pinned.lock")
    content = download(settings["id"], origins, folder, known_hashes, Access.from_environment())
    write_json(arguments.out, content)
    record.write([arguments.out])
    files = content["files"]
    size, verified = format_size(sum(file["bytes"] for file in files)), sorted({file["verified"] for file in files})
    return f"download {settings['id']}: {len(files)} files, {size}, hashes: {', '.join(verified)}"


if __name__ == "__main__":
    raise SystemExit(main())
