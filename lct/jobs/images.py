"""images: a dataset's training and held-out images as two image sets.

Threads prepare many images at once, in order: Pillow releases Python's lock while it decodes, scales, encodes. Measured
on one Xeon core: 96 images/s from 1024x1024 JPEG to 256x256, 335 from 256x256 JPEG; two threads on two cores give twice
that. Results do not depend on the number of threads.
"""

import hashlib
import logging
from array import array
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from lct.config.schema import build, plain
from lct.data import imageset, sources
from lct.data.decode import UnusableImageError
from lct.data.imageset import EncodedImage, encode
from lct.data.settings import DataSettings
from lct.data.sources import Split, Task
from lct.data.threads import in_order
from lct.download import record as downloads
from lct.files import local_source
from lct.files.atomic import atomic, write_json
from lct.files.records import JobRecord
from lct.jobs import job
from lct.plan.paths import grid, manifest

GRID = 64  # images in the preview
NAMED = 20  # most unusable images whose names fit into an error's line
MOST = 1000  # unusable images at which the preparation gives up
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
    preparation = Preparation(workers)
    manifests = {}
    with atomic(train) as train_file, atomic(heldout) as heldout_file:  # both sets appear, or neither
        for split, out, file in ((splits.train, train, train_file), (splits.heldout, heldout, heldout_file)):
            manifests[out] = preparation.write(file, split, out)
        if preparation.unusable:
            log.warning("%s", preparation.setting)
        preparation.check(splits.where)
        if held is not None:
            held.check_unchanged(source)
    duplicates = preparation.duplicates()
    origin = {"source": splits.source, "left_out": list(splits.left_out)} if splits.source else {}
    if splits.source and duplicates:
        origin["duplicates"] = duplicates
    if not_taken := local_source.pictures(splits.others):
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
    texts += [f"not taken: {local_source.describe(splits.others)}"] if not_taken else []
    if duplicates:
        of = "{train} of training images, {heldout} of held-out images, {across} held-out images that are training "
        texts.append(f"copies: {of.format(**duplicates)}images too")
        advice = "Copies count again in every number, and held-out ones look memorised; remove them from the source"
        log.warning("%s. %s", texts[-1], advice)
    return f"images {train.parent.name}: {', '.join(texts)}"


def _home_of_counts(train: Path) -> str:
    """Which files of the configuration set how many images a set has; `train`: its path."""
    if len(train.parts) < 4 or train.parts[-3] != "images":
        return ""
    scale, dataset = train.parts[-4], train.parts[-2]
    first = f"config/scales/{scale}.yaml (key `dataset`), which comes before config/datasets/{dataset}.yaml"
    return f" in {first}, or take another scale"


class Preparation:
    """Writes the splits of a dataset, and collects the names of all images that cannot be used, up to MOST of them."""

    def __init__(self, workers: int):
        self.unusable: dict[str, str] = {}  # name -> reason
        self._digests: list[array] = []  # of each split: eight bytes of the hash of every image, mirror images apart
        self._workers = workers

    def write(self, path: Path, split: Split, out: Path) -> dict[str, Any] | None:
        """Write a split as an image set to the temporary `path`; returns its manifest.

        Returns None where an image was unusable, in this split or an earlier one: the set at `path` is then incomplete.
        All images are tried all the same, so that `check` names every unusable one."""
        self._digests.append(array("Q"))
        images, items = job.progress(self._images(split), len(split), out.stem), split.items
        try:
            return imageset.write_imageset(path, images, items=items, name=out.name, allow_empty=not items)
        except UnusableImageError:
            return None

    def _images(self, split: Split) -> Iterator[EncodedImage]:
        tasks = (partial(_prepare, task) for task in split.tasks(range(len(split))))
        for number, image in enumerate(in_order(tasks, self._workers)):
            if len(self.unusable) >= MOST:
                break
            if isinstance(image, UnusableImageError):
                if image.name not in self.unusable:  # mirror images fail a second time
                    log.warning("unusable image name=%s reason=%s", readable(image.name), image.reason)
                self.unusable[image.name] = image.reason
            elif not self.unusable:
                if number < len(split) - split.mirrored:
                    digest = hashlib.blake2b(image.content, digest_size=8).digest()
                    self._digests[-1].append(int.from_bytes(digest, "little"))
                yield image
        if self.unusable:
            raise UnusableImageError(*next(iter(self.unusable.items())))

    def duplicates(self) -> dict[str, int]:
        """How many images have the same pixels as an earlier one: of the first split, of the second one, and how many
        images of the second split are in the first one too. Empty where there are none."""
        train, heldout = (np.asarray(digests, np.uint64) for digests in self._digests)
        distinct = np.unique(train), np.unique(heldout)
        counts = {
            "train": len(train) - len(distinct[0]),
            "heldout": len(heldout) - len(distinct[1]),
            "across": int(np.isin(heldout, distinct[0]).sum()),
        }
        return counts if any(counts.values()) else {}

    @property
    def setting(self) -> str:
        """The line of a dataset's `source` that leaves all unusable images out."""
        return f"exceptions: [{', '.join(map(quoted, self.unusable))}]"

    def check(self, where: str) -> None:
        """Raises ValueError where images were unusable, with the setting that leaves them out."""
        if not (count := len(self.unusable)):
            return
        shown = list(self.unusable.items())[:3]
        examples = "; ".join(f"{readable(name)} ({reason})" for name, reason in shown)
        setting = f"`{self.setting}`" if count <= NAMED else "`exceptions` (the log has the line to paste)"
        more = " or more; is this the right dataset?" if count >= MOST else ""
        raise ValueError(
            f"{where}: expected usable images only, found {count}{more} that are not: {examples}"
            f"{'; ...' if count > len(shown) else ''}; repair them, or leave them out and count them: {setting}"
        )


def _prepare(task: Task) -> EncodedImage | UnusableImageError:
    try:
        return encode(task())
    except UnusableImageError as error:
        return error


def quoted(name: str) -> str:
    """A name as a double-quoted YAML value that stays the same however its line is wrapped or its spaces are joined."""
    return '"' + "".join(map(_escaped, " " + name, name)) + '"'


def readable(name: str) -> str:
    """A name for a message: as it is, or quoted where that would not show all of it."""
    plain = name.isprintable() and " ".join(name.split()) == name
    return name if plain else quoted(name)


def _escaped(before: str, character: str) -> str:
    """A character of a double-quoted YAML value, in which `before` stands in front of it."""
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable() and (character, before) != (" ", " "):
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


main = job.program(images)
