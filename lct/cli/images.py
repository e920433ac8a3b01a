"""images: a dataset's training and held-out images as two image sets."""

from pathlib import Path

from lct.cli import job
from lct.config.model import DataSettings
from lct.config.paths import grid, manifest
from lct.config.schema import build
from lct.data import imageset, sources
from lct.files.atomic import atomic, write_json
from lct.files.records import Job

GRID = 64  # images in the preview


def main() -> int:
    parser = job.parser(__doc__)
    parser.add_argument("--train", type=Path, required=True, help="image set to write: training images")
    parser.add_argument("--heldout", type=Path, required=True, help="image set to write: images no training sees")
    arguments = parser.parse_args()
    return job.run(lambda: images(arguments))


def images(arguments) -> str:
    settings = arguments.settings
    dataset = build(DataSettings, {"title": "-", **settings["dataset"]}, "--settings")
    record = Job("images", settings, inputs={}, seeds={"split": dataset.split_seed})
    sides = sources.load(dataset)
    for side, out in ((sides.train, arguments.train), (sides.heldout, arguments.heldout)):
        counted = job.progress(side, len(side), out.stem)
        with atomic(out) as partial:
            empty = side is sides.heldout and dataset.heldout == 0
            described = imageset.write_imageset(partial, counted, items=side.items, name=out.name, allow_empty=empty)
        write_json(manifest(str(out)), described)
    with imageset.ImageSet(arguments.train) as written, atomic(grid(str(arguments.train))) as partial:
        imageset.write_grid(partial, written.array(0, min(GRID, len(written))), columns=16, scale=2)
    record.record([arguments.train, arguments.heldout])
    return f"images {arguments.train.parent.name}: {len(sides.train)} training, {len(sides.heldout)} held out"


if __name__ == "__main__":
    raise SystemExit(main())
