"""encode: training images to latents and their statistics; reconstructions of both sides."""

from pathlib import Path

import numpy as np
import torch

from lct.cli import job
from lct.config.paths import AUTOENCODER_FILES, manifest
from lct.config.schema import build
from lct.data import autoencoder as vae
from lct.data import imageset
from lct.data.latents import check_normalised, statistics, tails
from lct.data.settings import Encoding
from lct.files.atomic import atomic, write_json
from lct.files.records import Job
from lct.files.tensors import write_tensors

SHOWN = 16  # held-out images above their reconstructions in the picture


def main() -> int:
    parser = job.parser(__doc__)
    parser.add_argument("--train", type=Path, required=True, help="manifest of the training images")
    parser.add_argument("--heldout", type=Path, required=True, help="manifest of the held-out images")
    parser.add_argument("--autoencoder", type=Path, required=True, help="diffusers folder of the autoencoder")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    return job.run(lambda: encode(arguments))


def encode(arguments) -> str:
    encoding = build(Encoding, arguments.settings["encoding"], "--settings: encoding")
    device = job.device(arguments.device, threads=1)
    inputs = {"train": arguments.train, "heldout": arguments.heldout}
    inputs |= {name: arguments.autoencoder / name for name in AUTOENCODER_FILES}
    record = Job("encode", arguments.settings, inputs=inputs, seeds={"encode": encoding.seed}, device=device.type)
    model = vae.load(arguments.autoencoder, device)
    summary = {}
    outputs = []
    for side in ("train", "heldout"):
        with imageset.open_checked(getattr(arguments, side), deep=True) as images:
            z = vae.encode(model, images, encoding, progress=job.counter(len(images), f"encode-{side}"))
            if side == "train":
                outputs += _store(z, encoding, arguments.out, summary)
            out = arguments.out / f"reconstructed-{side}.zip"
            decoded = job.progress(vae.decode(model, z, encoding.batch), len(z), out.stem)
            with atomic(out) as partial:
                described = imageset.write_imageset(partial, decoded, name=out.name)
            write_json(manifest(str(out)), described)
            outputs.append(out)
            with imageset.ImageSet(out) as reconstructed:
                summary[f"psnr_{side}"] = vae.psnr(images, reconstructed)
                if side == "heldout":
                    _picture(images, reconstructed, arguments.out / "reconstructions.grid.png")
    write_json(arguments.out / "summary.json", summary)
    record.record([*outputs, arguments.out / "summary.json"])
    psnr = summary["psnr_heldout"]
    return f"encode {arguments.out.parent.name}: {summary['count']} latents, PSNR {psnr:.1f} dB held out"


def _store(z: torch.Tensor, encoding: Encoding, out: Path, summary: dict) -> list[Path]:
    found = statistics(z, encoding)
    check_normalised(found.normalise(z), found, str(out))
    write_tensors(out / "latents.safetensors", {"latents": z})
    write_tensors(out / "statistics.safetensors", found.tensors())
    summary |= {"count": len(z), "shape": list(z.shape[1:]), "tails": tails(found.normalise(z))}
    return [out / "latents.safetensors", out / "statistics.safetensors"]


def _picture(images, reconstructed, path: Path) -> None:
    shown = min(SHOWN, len(images))
    pairs = np.concatenate([images.array(0, shown), reconstructed.array(0, shown)])
    with atomic(path) as partial:
        imageset.write_grid(partial, pairs, columns=shown, scale=2)


if __name__ == "__main__":
    raise SystemExit(main())
