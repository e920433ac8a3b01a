"""encode: training images to latents and their statistics; reconstructions of both sides.

The work is cut into parts (lct/data/shards.py), dealt out to one process per visible GPU and kept under --work until
everything is published: the same command goes on after any interruption, to the same bytes for any number of workers.
"""

import logging
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lct.config.schema import build
from lct.data import autoencoder as vae
from lct.data import imageset, shards
from lct.data.distribution import describe, spaced
from lct.data.latents import PART, LatentMoments, LatentStatistics, check_normalised, from_moments
from lct.data.settings import Encoding
from lct.files.atomic import atomic, read_json, write_json
from lct.files.hashing import sha256_json
from lct.files.lock import hold
from lct.files.records import JobRecord, mismatch, settings_path
from lct.files.tensors import pick_rows, read_rows, stream_tensor, write_tensors
from lct.jobs import job, pool
from lct.plan.paths import AUTOENCODER_FILES, IMAGE_SPLITS, LATENT_FILES, RECONSTRUCTIONS, manifest

log = logging.getLogger("lct.encode")

SUMMARY = "summary.json"
SHOWN = 16  # images above their reconstructions in the picture
TAILS = 2000  # latents, evenly spaced, whose pooled values are described in the summary


def main() -> int:
    parser = job.parser(__doc__)
    parser.add_argument("--train", type=Path, required=True, help="manifest of the training images")
    parser.add_argument("--heldout", type=Path, required=True, help="manifest of the held-out images; may be empty")
    parser.add_argument("--autoencoder", type=Path, required=True, help="diffusers folder of the autoencoder")
    parser.add_argument("--work", type=Path, required=True, help="folder for finished parts, until all are published")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--workers", type=int, help="processes (default: one per GPU of the job, one without a GPU)")
    arguments = parser.parse_args()
    return job.run(lambda: encode(arguments))


@dataclass(frozen=True)
class EncoderInputs:
    """What parts are made from, and where they are kept; picklable, so that another process can make them."""

    autoencoder: Path
    manifests: dict[str, Path]  # side -> manifest
    encoding: Encoding
    folder: Path


def encode(arguments) -> str:
    encoding = build(Encoding, arguments.settings["encoding"], "--settings: encoding")
    device = job.device(arguments.device, threads=1)
    manifests = {side: getattr(arguments, side) for side in IMAGE_SPLITS}
    inputs = manifests | {name: arguments.autoencoder / name for name in AUTOENCODER_FILES}
    record = JobRecord("encode", arguments.settings, inputs=inputs, seeds={"encode": encoding.seed}, device=device.type)
    identity = record.deterministic()
    inputs_sha256 = [entry["sha256"] for entry in identity["inputs"].values()]
    name = sha256_json([identity["settings"], inputs_sha256, device.type])[:16]
    # A copy that a killed scheduler left behind may still be encoding: wait for it, then take what it has published.
    with hold(arguments.work / "lock", "encoding of this dataset", wait_seconds=math.inf):
        if not _published(arguments.out, identity):
            _forget_others(arguments.work, name)
            sides = {side: _parts(side, path, encoding) for side, path in manifests.items()}
            source = EncoderInputs(arguments.autoencoder, manifests, encoding, arguments.work / name)
            _make(source, sides, pool.devices(device, arguments.workers))
            outputs = _publish(arguments, encoding, sides, arguments.work / name)
            record.write(outputs)
            shutil.rmtree(arguments.work / name, ignore_errors=True)
    summary = read_json(arguments.out / SUMMARY)
    found = [f"PSNR {summary[f'psnr_{s}']:.1f} dB {s}" for s in IMAGE_SPLITS if summary[f"psnr_{s}"] is not None]
    return f"encode {arguments.out.parent.name}: {summary['count']} latents, {', '.join(found)}"


def _published(out: Path, identity: dict) -> bool:
    """Whether another copy of this very encoding has published everything."""
    last = out / SUMMARY  # recorded last
    if not settings_path(last).exists() or read_json(settings_path(last)) != identity:
        return False
    names = [*LATENT_FILES, *(f"{name}.zip" for name in RECONSTRUCTIONS)]
    return all(mismatch(out / name) is None for name in names)


def _parts(side: str, path: Path, encoding: Encoding) -> list[shards.Shard]:
    with imageset.open_checked(path, deep=True) as images:
        return shards.parts(side, images, encoding, encoding.reconstruct if side == "train" else None)


def _make(source: EncoderInputs, sides: dict[str, list[shards.Shard]], devices: list[str]) -> None:
    """What is not finished yet."""
    wanted = [part for parts in sides.values() for part in parts]
    missing = [part for part in wanted if shards.read(source.folder, part) is None]
    devices = devices[: max(1, len(missing))]
    log.info("encode parts=%d finished=%d on %s", len(wanted), len(wanted) - len(missing), ", ".join(devices))
    count, done = job.counter(sum(part.stop - part.first for part in missing), "encode"), 0
    with pool.Pool(open_encoder, source, devices) as encoders:
        for images in encoders.map(missing):
            count(done := done + images)


def _forget_others(work: Path, name: str) -> None:
    """Remove parts of earlier settings, images or weights: nothing will ask for them again."""
    for folder in work.iterdir():
        if folder.is_dir() and folder.name != name:
            shutil.rmtree(folder, ignore_errors=True)


def open_encoder(source: EncoderInputs, device: str) -> Callable[[shards.Shard], int]:
    """A function that writes a part and returns the number of its images."""
    model = vae.load(source.autoencoder, job.device(device, threads=1))
    opened = {side: imageset.open_checked(path) for side, path in source.manifests.items()}

    def encoder(part: shards.Shard) -> int:
        shards.write(source.folder, part, shards.make(model, opened[part.side], source.encoding, part))
        return part.stop - part.first

    return encoder


def _publish(arguments, encoding: Encoding, sides: dict[str, list[shards.Shard]], folder: Path) -> list[Path]:
    """Outputs from the finished parts, one part in memory at a time; the files written, the summary last."""
    out = arguments.out
    summary = _publish_latents(out, encoding, sides["train"], folder)
    for side, parts in sides.items():
        summary |= _publish_reconstructions(out, side, parts, folder)
    _picture(arguments, "heldout" if sides["heldout"] else "train")
    write_json(out / SUMMARY, summary)
    tensors = [out / name for name in LATENT_FILES if name != SUMMARY]
    return [*tensors, *(out / f"{name}.zip" for name in RECONSTRUCTIONS), out / SUMMARY]


def _publish_latents(out: Path, encoding: Encoding, parts: list[shards.Shard], folder: Path) -> dict:
    """Latents and their statistics, measured as they pass; then checked and described in a second pass."""
    path, moments = out / "latents.safetensors", LatentMoments()
    shape = tuple(_content(folder, parts[0]).latents.shape[1:])

    def measured() -> Iterator[torch.Tensor]:
        for part in parts:
            z = _content(folder, part).latents
            moments.update(z)
            yield z

    count = parts[-1].stop
    stream_tensor(path, "latents", measured(), (count, *shape))
    statistics = from_moments(moments, encoding)
    write_tensors(out / "statistics.safetensors", statistics.tensors() | moments.tensors())
    normalised = (statistics.normalise(z) for z in read_rows(path, "latents", PART))
    spread = check_normalised(normalised, statistics, str(path))
    return {"count": count, "shape": shape, "normalised_std": spread, "tails": tails(path, statistics, count)}


def _publish_reconstructions(out: Path, side: str, parts: list[shards.Shard], folder: Path) -> dict:
    """The decoded images of a side as an image set, and how close they are to the originals."""
    path, squares = out / f"reconstructed-{side}.zip", 0

    def decoded() -> Iterator[np.ndarray]:
        nonlocal squares
        for part in (part for part in parts if part.decoded):
            content = _content(folder, part)
            squares += content.squares
            yield from content.images

    count = sum(part.decoded for part in parts)
    with atomic(path) as partial:
        images = job.progress(decoded(), count, path.stem)
        described = imageset.write_imageset(partial, images, name=path.name, allow_empty=not parts)
    write_json(manifest(str(path)), described)
    values = count * described["height"] * described["width"] * 3
    return {f"reconstructed_{side}": count, f"psnr_{side}": vae.psnr(squares, values) if values else None}


def _content(folder: Path, part: shards.Shard) -> shards.ShardContent:
    if (content := shards.read(folder, part)) is None:
        raise ValueError(f"{folder / part.name}: expected a whole part, found damage; run the same command again")
    return content


def tails(latents: Path, statistics: LatentStatistics, count: int) -> dict[str, float]:
    """How heavy the tails of normalised latents are, from at most TAILS of them."""
    wanted = spaced(count, TAILS)
    found = describe(statistics.normalise(pick_rows(latents, "latents", wanted)).numpy())
    kept = {"outlier_share": found["beyond_outer"]} | {key: found[key] for key in ("excess_kurtosis", "max_abs")}
    return {"latents": len(wanted)} | kept


def _picture(arguments, side: str) -> None:
    """Some images above their reconstructions; held-out ones where there are any."""
    with (
        imageset.open_checked(getattr(arguments, side)) as images,
        imageset.ImageSet(arguments.out / f"reconstructed-{side}.zip") as reconstructed,
        atomic(arguments.out / "reconstructions.grid.png") as partial,
    ):
        shown = min(SHOWN, len(reconstructed))
        pairs = np.concatenate([images.array(0, shown), reconstructed.array(0, shown)])
        imageset.write_grid(partial, pairs, columns=shown, scale=2)


if __name__ == "__main__":
    raise SystemExit(main())
