"""take_samples: images made elsewhere as the image set of a run, in the place of training and sampling."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from lct.data.readers import open_images
from lct.files import local_source
from lct.files.records import JobRecord
from lct.jobs import job
from lct.jobs.image_sets import write_set


def take_samples(settings: dict[str, Any], out: Annotated[Path, "image set to write"]) -> str:
    """Write the first images of a source, in the order of their names, as the image set `out`.

    settings: {"source", "images", "resolution", "grid_images"}: where, how many, their side, the preview.
    Raises ValueError with one line for images of another size, too few or damaged ones, and files that change
    meanwhile; then no set appears."""
    source, count = settings["source"], settings["images"]
    record = JobRecord("take", settings, inputs={})
    state = local_source.read_state(source)
    given = open_images(Path(os.path.expanduser(source["path"])), settings["resolution"], count)
    items = [{"source": name, "label": None} for name in given.names]
    images = job.progress(given.images, count, out.stem)
    unchanged = partial(state.check_unchanged, source)
    write_set(out, images, settings["grid_images"], items, unchanged, given.others)
    state.remember(out.parent)
    record.source = state.record()
    record.write([out])
    more = f", the first of {given.available}" if given.available > count else ""
    more += f", not taken: {text}" if (text := local_source.describe(given.others)) else ""
    return f"take {out.parts[-5]}: {count} images of {source['path']}{more}, sha256 {record.source['sha256'][:12]}"


main = job.program(take_samples)
