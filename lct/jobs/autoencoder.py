"""autoencoder: the VAE of a dataset, trained here or checked and taken over, as a diffusers folder."""

import shutil
import tempfile
from pathlib import Path

from lct.config.schema import build
from lct.data import autoencoder as vae
from lct.data import imageset
from lct.data.settings import Autoencoder, PretrainedAutoencoder, TrainedAutoencoder
from lct.download import record
from lct.files.atomic import copy
from lct.files.records import JobRecord
from lct.jobs import job
from lct.plan.paths import AUTOENCODER_FILES


def main() -> int:
    parser = job.parser(__doc__)
    parser.add_argument("--images", type=Path, required=True, help="manifest of the training images")
    parser.add_argument(
        "--source", type=Path, nargs="*", default=[], help="pretrained: download.json, or the files of a local folder"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    return job.run(lambda: autoencoder(arguments))


def settings_of(values: dict) -> Autoencoder:
    kinds = {"trained": TrainedAutoencoder, "pretrained": PretrainedAutoencoder}
    return build(kinds[values["kind"]], values, "--settings: autoencoder")


def check_shape(model, settings: Autoencoder) -> None:
    """The plan counts parameters and sizes by these two numbers: they must be those of the model."""
    found = (model.config.latent_channels, 2 ** (len(model.config.block_out_channels) - 1))
    expected = (settings.latent_channels, settings.downsampling)
    if found != expected:
        raise ValueError(
            f"autoencoder: expected latent_channels, downsampling {expected}, found {found}; correct the dataset"
        )


def autoencoder(arguments) -> str:
    settings = settings_of(arguments.settings["autoencoder"])
    device = job.device(arguments.device, threads=1)
    inputs = {"images": arguments.images} | {path.name: path for path in arguments.source}
    made_by = JobRecord("autoencoder", arguments.settings, inputs=inputs, device=device.type)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.out.parent, prefix=".autoencoder-") as made:
        if isinstance(settings, TrainedAutoencoder):
            loss = _train(settings, arguments.images, device, Path(made))
            line = f"trained {settings.steps} steps, loss {loss:.4f}"
        else:
            folder = _folder(settings, arguments.source)
            for name in AUTOENCODER_FILES:
                shutil.copyfile(folder / name, Path(made) / name)
            line = f"taken over from {folder}"
        check_shape(vae.load(Path(made)), settings)  # complete and loadable, or one clear error
        for name in AUTOENCODER_FILES:
            copy(Path(made) / name, arguments.out / name)
    made_by.write([arguments.out / name for name in AUTOENCODER_FILES])
    return f"autoencoder {arguments.out.name}: {line}"


def _folder(settings: PretrainedAutoencoder, source: list[Path]) -> Path:
    """The folder of a pretrained autoencoder; a downloaded one agrees with the record of its download."""
    if settings.folder is not None:
        return Path(settings.folder)
    files = record.read(source[0])
    checked = [files.file(name) for name in AUTOENCODER_FILES]
    return checked[0].parent


def _train(settings: TrainedAutoencoder, images: Path, device, folder: Path) -> float:
    model = vae.create(settings)
    with imageset.open_checked(images, deep=True) as opened:
        steps = job.progress(vae.train(model, settings, opened, device=device), settings.steps, "autoencoder")
        for progress in steps:
            loss = progress.loss
    vae.save(model, folder)
    return loss


if __name__ == "__main__":
    raise SystemExit(main())
