"""images: a dataset's training and held-out images as two image sets."""

import logging
from pathlib import Path

from lct.config.schema import build
from lct.data import imageset, sources
from lct.data.containers import DownloadedFiles
from lct.data.prepare import Preparation
from lct.data.settings import DataSettings
from lct.files.atomic import atomic, write_json
from lct.files.records import JobRecord
from lct.jobs import job
from lct.plan.paths import grid, manifest

GRID = 64  # images in the preview
log = logging.getLogger("lct")


def main() -> int:
    parser = job.parser(__doc__)
    parser.add_argument("--train", type=Path, required=True, help="image set to write: training images")
    parser.add_argument("--heldout", type=Path, required=True, help="image set to write: images no training sees")
    parser.add_argument(
        "--download", type=Path, nargs="?", help="download.json of a dataset whose source is a download; else nothing"
    )
    parser.add_argument("--workers", type=int, default=1, help="threads; the result does not depend on it (default: 1)")
    arguments = parser.parse_args()
    return job.run(lambda: images(arguments))


def images(arguments) -> str:
    settings = arguments.settings
    dataset = build(DataSettings, {"title": "-", **settings["dataset"]}, "--settings")
    inputs = {"download": arguments.download} if arguments.download else {}
    record = JobRecord("images", settings, inputs=inputs, seeds={"split": dataset.split_seed})
    arguments.train.parent.mkdir(parents=True, exist_ok=True)
    fetched = _fetched(arguments.download) if arguments.download else None
    sides = sources.load(dataset, fetched=fetched, scratch=arguments.train.parent)
    preparation = Preparation(workers=arguments.workers, report=_report)
    described = {}
    with atomic(arguments.train) as train, atomic(arguments.heldout) as heldout:  # both sides appear, or neither
        for side, out, partial in ((sides.train, arguments.train, train), (sides.heldout, arguments.heldout, heldout)):
            pictures = job.progress(preparation.pictures(side), len(side), out.stem)
            empty = side is sides.heldout and dataset.heldout == 0
            with preparation.side():
                described[out] = imageset.write_imageset(
                    partial, pictures, items=side.items, name=out.name, allow_empty=empty
                )
        preparation.check(sides.where)
    for out, found in described.items():
        origin = {"source": sides.source, "left_out": list(sides.left_out)} if sides.source else {}
        write_json(manifest(str(out)), found | origin)
    with imageset.ImageSet(arguments.train) as written, atomic(grid(str(arguments.train))) as partial:
        imageset.write_grid(partial, written.array(0, min(GRID, len(written))), columns=16, scale=2)
    record.write([arguments.train, arguments.heldout])
    left_out = f", {len(sides.left_out)} left out" if sides.left_out else ""
    name = arguments.train.parent.name
    return f"images {name}: {len(sides.train)} training, {len(sides.heldout)} held out{left_out}"


def _fetched(path: Path) -> DownloadedFiles:
    """The files of a download, their hashes checked before any of them is opened."""
    from lct.download import record

    found = record.read(path)
    files = tuple((found.file(entry["path"]), entry["sha256"]) for entry in found.files)
    return DownloadedFiles(path.parent, files, found.alternative, found.origin)


def _report(unusable) -> None:
    log.warning("unusable image name=%s reason=%s", unusable.name, unusable.reason)


if __name__ == "__main__":
    raise SystemExit(main())
