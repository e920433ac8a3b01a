"""The paper scale on a CPU: small networks, and pictures drawn here, served in the place of every download.

    python -m tests.helpers.paper FOLDER [--slurm] [WORDS...]   # such as only=table1.a, --cores 2

makes a project in FOLDER/project, serves what it downloads, and runs its rehearsal there: every job of the paper's
graph; with --slurm on a SLURM of virtual nodes on this machine (as root). Only sizes, counts and the hashes of
downloads are edited.
"""

import contextlib
import io
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import lmdb
import numpy as np
import pyarrow
import pyarrow.parquet
import torch
import yaml
from PIL import Image

from lct.data import autoencoder as vae
from lct.files.hashing import sha256_file
from tests.helpers import slurm
from tests.helpers.copies import project
from tests.helpers.networks import SD_VAE, Script
from tests.helpers.server import Repository, serve
from tests.helpers.warm import warm

COUNTS = {"celebahq": (96, 24), "church": (48, 16), "ffhq": (48, 0)}  # training and held-out images
VAE, VAE_REVISION = "stabilityai/sd-vae-ft-ema", "f04b2c4b98319346dad8c65879f680b1997b204a"
SMALL_VAE = replace(SD_VAE, block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_groups=4)
NETWORK = {"channels": 16, "channel_mult": [1, 2], "blocks": 1, "attention_resolutions": [4], "head_channels": 16}
CELEBAHQ, CELEBAHQ_REVISION = "mattymchen/celeba-hq", "1bc5dfbeb766d03abeddf5a48b9871479a4395bb"


def pictures(count: int, seed: int, format: str) -> list[bytes]:
    """Encoded images of different sizes: soft blobs on a gradient."""
    draws, encoded = np.random.default_rng(seed), []
    for _ in range(count):
        height, width = draws.integers(70, 150, 2)
        y, x = np.mgrid[:height, :width] / 100
        centre, colours = draws.uniform(0.2, 0.8, 2), draws.uniform(0, 255, (2, 3))
        blob = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 0.05)[:, :, None]
        pixels = blob * colours[0] + (1 - blob) * colours[1] * (0.5 + y[:, :, None] / 2)
        with io.BytesIO() as file:
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, format)
            encoded.append(file.getvalue())
    return encoded


def parquet(images: list[bytes]) -> bytes:
    rows = [{"bytes": image, "path": f"{i}.jpg"} for i, image in enumerate(images)]
    with io.BytesIO() as file:
        pyarrow.parquet.write_table(pyarrow.table({"image": rows}), file, row_group_size=20)
        return file.getvalue()


def lsun(images: list[bytes], folder: Path) -> bytes:
    """A zip that holds an LMDB, as LSUN gives it."""
    with lmdb.open(str(folder / "church_outdoor_train_lmdb"), map_size=1 << 24) as store, store.begin(write=True) as t:
        for i, image in enumerate(images):
            t.put(f"{i * 7919 % 1000003:040x}".encode(), image)
    return Path(shutil.make_archive(str(folder / "lsun"), "zip", folder, "church_outdoor_train_lmdb")).read_bytes()


def zipped(images: list[bytes]) -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            for i, image in enumerate(images):
                archive.writestr(f"images256x256/{i:05d}.png", image)
        return file.getvalue()


def edit(path: Path, change) -> None:
    """Change the values of a YAML file in place."""
    values = yaml.safe_load(path.read_text())
    change(values)
    path.write_text(yaml.safe_dump(values, sort_keys=False))


def shrink(folder: Path, given: dict[str, Path]) -> None:
    """Sizes and counts of the paper's configuration made small; hashes of the networks those of the stand-ins."""

    def scale(values: dict) -> None:
        values["dataset"] = {"resolution": 64, "encoding": {"batch": 8, "reconstruct": 16}}
        values["sampling"] |= {"num_images": 8, "batch": 8, "grid_images": 8}
        values["training"] |= {"network": NETWORK, "log_every": 1}
        for protocol in values["protocols"]:
            protocol |= {"num_images": 8, "batch": 8}
        values["more_tables"] = []  # their largest batches are more than the images here
        values["distance"] = "FD"  # FID is the name of Inception's

    edit(folder / "config/scales/paper.yaml", scale)
    for dataset, (train, heldout) in COUNTS.items():

        def counts(values: dict, train: int = train, heldout: int = heldout) -> None:
            values |= {"train": train, "heldout": heldout}
            values["training"]["batch"] //= 8
            for alternative in values["source"]["alternatives"]:
                alternative["read"]["count"] = train + heldout

        edit(folder / f"config/datasets/{dataset}.yaml", counts)
    for path in (folder / "config/runs").glob("*.yaml"):

        def batches(values: dict) -> None:
            for run in values.values():
                if "batch" in (training := run.get("training", {})):
                    training["batch"] //= 8

        edit(path, batches)
    edit(folder / "config/methods/ldm.yaml", lambda values: values["samplers"]["euler-250"].update(clamp=None))
    for name, path in given.items():
        facts = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        edit(
            folder / f"config/weights/{name}.yaml",
            lambda values, facts=facts: values["origins"][0]["files"][0].update(facts),
        )
    script = {"architecture": "torchscript", "resize": "own", "features": 12}  # small networks in the place of large
    for path in (folder / "config/extractors").glob("*.yaml"):
        edit(path, lambda values: values.update(script))
    small = {"images": 32, "pairs": 32, "training": {"steps": 4, "batch": 16, "network": {"channels": 32}}}
    edit(folder / "config/figures/figure1.yaml", lambda values: values["scales"].update(paper=small))


@contextlib.contextmanager
def served(root: Path) -> Iterator[tuple[Path, str]]:
    """A project in `root` with a small paper scale, and the address of the server that has everything it needs."""
    folder = root / "project"
    given = dict.fromkeys(("inception-pytorch-fid", "vgg16-torch-fidelity", "vgg16-stylegan2-ada"), root / "small.pt")
    if not folder.exists():  # else the same command goes on
        project(folder)
        torch.jit.script(Script().eval()).save(str(root / "small.pt"))
        shrink(folder, given)
        vae.save(vae.create(SMALL_VAE), root / "vae")
    total = {name: sum(counts) for name, counts in COUNTS.items()}
    faces = pictures(total["celebahq"], 0, "JPEG")
    hub = [
        Repository(
            VAE, "model", VAE_REVISION, {p.name: p.read_bytes() for p in (root / "vae").iterdir()}, ("config.json",)
        ),
        Repository(
            CELEBAHQ,
            "dataset",
            CELEBAHQ_REVISION,
            {
                "data/train-00000-of-00001.parquet": parquet(faces[:40]),
                "data/validation-00000-of-00001.parquet": parquet(faces[40:]),
            },
        ),
    ]
    mirrored = {
        "church/files/church_outdoor_train_lmdb.zip": lsun(pictures(total["church"], 1, "WEBP"), root),
        "ffhq/files/ffhq.zip": zipped(pictures(total["ffhq"], 2, "PNG")),
    }
    for name, path in given.items():
        listed = yaml.safe_load((folder / f"config/weights/{name}.yaml").read_text())
        mirrored[f"{name}/files/{listed['origins'][0]['files'][0]['path']}"] = path.read_bytes()
    with serve(mirrored, hub=hub) as url:
        yield folder, url


def snakemake(folder: Path, url: str, *words: str, **pipes) -> subprocess.CompletedProcess:
    """What `snakemake` did there, at the scale `rehearsal` by default. words: its own, and KEY=VALUE for `--config`."""
    environment = slurm.environment(folder) | {"HF_ENDPOINT": url, "LCT_MIRROR": url, "HF_TOKEN": ""}
    environment.pop("LCT_CACHE", None)
    given = [word for word in words if word[0] != "-" and "=" in word]
    config = {"scale": "rehearsal"} | dict(word.split("=", 1) for word in given)
    command = [sys.executable, "-m", "snakemake", *(word for word in words if word not in given)]
    command += ["--config", *(f"{key}={value}" for key, value in config.items())]
    on_nodes = "profiles/slurm" in words  # which start their own
    with contextlib.nullcontext(environment) if on_nodes else warm(environment, folder) as variables:
        return subprocess.run(command, cwd=folder, env=variables, check=False, **pipes)


def main(root: str, *words: str) -> int:
    own, options, cluster = [word for word in words if word != "--slurm"], (), contextlib.nullcontext()
    if "--slurm" in words:
        options, cluster = (*slurm.PROFILES, *slurm.QUICK), slurm.cluster(cpus=16)
    with served(Path(root).absolute()) as (folder, url), cluster:
        return snakemake(folder, url, *options, *own).returncode


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
