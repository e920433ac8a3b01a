"""images: a dataset's training and held-out images as two image sets."""

import logging
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from lct.config.schema import build, plain
from lct.data import imageset, sources
from lct.data.decode import UnusableImageError
from lct.data.prepare import Preparation, readable
from lct.data.settings import DataSettings
from lct.download import record as downloads
from lct.files import local_source, selection
from lct.files.atomic import atomic, write_json
from lct.files.records import JobRecord
from lct.jobs import job
from lct.plan.paths import grid, manifest

GRID = 64  # images in the preview
log = logging.getLogger("lct")


def images(
    settings: dict[str, Any],
    train: Annotated[Path, "image set to write: training images"],
    heldout: Annotated[Path, "image set to write: images no training sees"],
    download: Annotated[Path | None, "download.json of a dataset whose source is a download; else nothing"] = None,
    workers: Annotated[int, "threads; the result does not depend on it (default: 1)"] = 1,
) -> str:
    """Write the image sets `train` and `heldout`, their manifests and a preview; arguments are the job's options.

    settings: {"dataset": ...}, the dataset without what later stages read. Images are prepared on the CPU.
    Raises ValueError where an image cannot be used; then neither set appears."""
    dataset = build(DataSettings, {"title": "-", **settings["dataset"]}, "--settings")
    inputs = {"download": download} if download else {}
    record = JobRecord("images", settings, inputs=inputs, seeds={"split": dataset.split_seed})
    train.parent.mkdir(parents=True, exist_ok=True)
    source = plain(dataset.source)
    held = local_source.read_state(source) if local_source.is_local(source) else None
    files = downloads.read(download) if download else None
    try:
        splits = sources.load(dataset, download=files, scratch=train.parent)
    except sources.TooFewImagesError as error:
        raise ValueError(f"{error}{_home_of_counts(train)}") from error
    preparation = Preparation(workers=workers, report=_report)
    manifests = {}
    with atomic(train) as train_file, atomic(heldout) as heldout_file:  # both sets appear, or neither
        for split, out, file in ((splits.train, train, train_file), (splits.heldout, heldout, heldout_file)):
            watch = partial(job.progress, total=len(split), what=out.stem)
            empty = split is splits.heldout and dataset.heldout == 0
            manifests[out] = preparation.write(file, split, out.name, allow_empty=empty, watch=watch)
        if preparation.unusable:
            log.warning("%s", preparation.setting)
        preparation.check(splits.where)
        if held is not None:
            held.check_unchanged(source)
    duplicates = preparation.duplicates()
    origin = {"source": splits.source, "left_out": list(splits.left_out)} if splits.source else {}
    if splits.source and duplicates:
        origin["duplicates"] = duplicates
    if not_taken := selection.pictures(splits.others):
        origin["not_taken"] = not_taken
    for out, content in manifests.items():
        write_json(manifest(str(out)), content | origin)
    with imageset.ImageSet(train) as written, atomic(grid(str(train))) as file:
        imageset.write_grid(file, written.array(0, min(GRID, len(written))), columns=16, scale=2)
    if held is not None:
        record.source = held.record()
        held.remember(train.parent)
    record.write([train, heldout])
    if splits.others:
        log.info("not taken: %s", ", ".join(f"{count} {kind}" for kind, count in splits.others.most_common()))
    texts = [f"{len(splits.train)} training, {len(splits.heldout)} held out"]
    texts += [f"{len(splits.left_out)} left out"] if splits.left_out else []
    texts += [f"not taken: {selection.describe(splits.others)}"] if not_taken else []
    texts += [_about(duplicates)] if duplicates else []
    return f"images {train.parent.name}: {', '.join(texts)}"


def _home_of_counts(train: Path) -> str:
    """Which files of the configuration set how many images a set has; `train`: its path."""
    if len(train.parts) < 4 or train.parts[-3] != "images":
        return ""
    scale, dataset = train.parts[-4], train.parts[-2]
    return (
        f" in config/scales/{scale}.yaml (key `dataset`), which comes before config/datasets/{dataset}.yaml, or take "
        "another scale"
    )


def _about(duplicates: dict[str, int]) -> str:
    """What copies among the images mean for the numbers."""
    line = (
        "copies: {train} of training images, {heldout} of held-out images, {across} held-out images that are training "
        "images too"
    ).format(**duplicates)
    log.warning(
        "%s. Copies count again in every number, and held-out ones look memorised; remove them from the source", line
    )
    return line


def _report(image: UnusableImageError) -> None:
    log.warning("unusable image name=%s reason=%s", readable(image.name), image.reason)


main = job.program(images)

if __name__ == "__main__":
    raise SystemExit(main())
