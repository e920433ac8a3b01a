"""autoencoder: the VAE of a dataset as a diffusers folder, trained here, or pretrained and checked."""

import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

from lct.checks import require
from lct.config.schema import build
from lct.data import autoencoder as vae
from lct.data import imageset
from lct.data.settings import Autoencoder, TrainedAutoencoder
from lct.download import record as downloads
from lct.files.atomic import copy
from lct.files.records import JobRecord
from lct.jobs import job, resume
from lct.plan.paths import AUTOENCODER_FILES

OPTIONAL = {"nargs": "*", "required": False, "default": []}


def autoencoder(
    settings: dict[str, Any],
    device: str,
    images: Annotated[Path, "manifest of the training images"],
    source: Annotated[list[Path], "pretrained: download.json, or the files of a local folder", OPTIONAL],
    out: job.Folder,
) -> str:
    """Write the autoencoder to the folder `out`; arguments are the job's options.

    settings: {"autoencoder": ...}. Raises ValueError for weights that are not those of the settings."""
    chosen = build(Autoencoder, settings["autoencoder"], "--settings: autoencoder")
    torch_device = job.device(device, threads=1)
    files = {"images": images} | {path.name: path for path in source}
    record = JobRecord("autoencoder", settings, inputs=files, device=torch_device.type)
    checkpoint = resume.checkpoint(record, out, getattr(chosen, "steps", 0))
    checkpoint.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=checkpoint.folder) as name:
        folder = origin = Path(name)
        if isinstance(chosen, TrainedAutoencoder):
            model = vae.create(chosen)
            with imageset.open_checked(images, deep=True) as opened:
                steps = vae.train(model, chosen, opened, device=torch_device, checkpoint=checkpoint)
                losses = list(resume.resumable(steps, checkpoint, "autoencoder"))
            vae.save(model, folder)
            loss = losses[-1] if losses else math.nan  # none where an earlier attempt has taken every step
            line = f"trained {chosen.steps} steps, loss {loss:.4f}"
        else:
            if chosen.folder is None:  # a downloaded one agrees with the record of its download
                download = downloads.read(source[0])
                origin = [download.file(name) for name in AUTOENCODER_FILES][0].parent
            else:
                origin = Path(os.path.expanduser(chosen.folder))
            for file in AUTOENCODER_FILES:
                shutil.copyfile(origin / file, folder / file)
            line = f"copied from {origin}"
        model = vae.load(origin)  # complete and loadable, or one clear error
        # the plan counts parameters and sizes by these two numbers: they must be those of the model
        shape = (model.config.latent_channels, vae.downsampling(model))
        expected = (chosen.latent_channels, chosen.downsampling)
        what = f"latent_channels, downsampling {expected}"
        require(shape == expected, "autoencoder", what, shape, "correct the dataset")
        for file in AUTOENCODER_FILES:
            copy(folder / file, out / file)
    record.write([out / file for file in AUTOENCODER_FILES])
    checkpoint.remove()
    return f"autoencoder {out.name}: {line}"


main = job.program(autoencoder)
