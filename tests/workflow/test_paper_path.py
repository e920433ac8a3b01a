"""The paper scale itself on a CPU with small numbers: every dataset and network is fetched from a loopback server, and
goes through the rules, the configuration and the code of the paper. Only sizes and counts are edited."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from lct.data import autoencoder as vae
from lct.files.hashing import sha256_file
from lct.files.tensors import read_tensors
from lct.plan import files as stage_files
from lct.plan.plan import Plan
from tests.helpers.copies import project
from tests.helpers.networks import SD_VAE, Script
from tests.helpers.paper import (
    CELEBAHQ,
    CELEBAHQ_REVISION,
    COUNTS,
    VAE,
    VAE_REVISION,
    edit,
    lsun,
    parquet,
    pictures,
    zipped,
)
from tests.helpers.server import Repository, serve

SCALE = ("--config", "scale=paper")


def shrink(folder: Path, given: dict[str, Path]) -> None:
    """Sizes and counts of the paper's configuration made small; hashes of the networks those of the stand-ins."""

    def scale(values: dict) -> None:
        values["dataset"] = {"resolution": 64, "encoding": {"batch": 8, "reconstruct": 16}}
        values["sampling"] |= {"num_images": 8, "batch": 8, "grid_images": 8}
        values["training"] |= {"network": {"channels": 32, "head_channels": 32}, "log_every": 1}
        for protocol in values["protocols"]:
            protocol |= {"num_images": 8, "batch": 8}
        values["tables"], values["more_tables"] = ["table1"], []
        values["distance"] = "FD"  # FID is the name of Inception's

    edit(folder / "config/scales/paper.yaml", scale)
    for dataset, (train, heldout) in COUNTS.items():

        def counts(values: dict, train: int = train, heldout: int = heldout) -> None:
            values |= {"train": train, "heldout": heldout, "training": {"batch": 16, "steps": 7}}
            for alternative in values["source"]["alternatives"]:
                alternative["read"]["count"] = train + heldout

        edit(folder / f"config/datasets/{dataset}.yaml", counts)
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


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """The project with a small paper scale, and the server that has everything it needs."""
    root = tmp_path_factory.mktemp("paper")
    folder = project(root / "project")
    given = dict.fromkeys(("inception-pytorch-fid", "vgg16-torch-fidelity", "vgg16-stylegan2-ada"), root / "small.pt")
    torch.jit.script(Script().eval()).save(str(root / "small.pt"))
    shrink(folder, given)
    vae.save(vae.create(SD_VAE), root / "vae")
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


def snakemake(folder: Path, url: str, *words: str) -> str:
    environment = os.environ | {"HF_ENDPOINT": url, "LCT_MIRROR": url, "HF_TOKEN": ""}
    environment.pop("LCT_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *words, *SCALE],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def read(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.mark.slow
def test_the_paper_runs_from_downloads_to_the_report(paper):
    folder, url = paper
    plan = Plan(folder, {"scale": "paper"})
    mine = [run.id for run in plan.runs.values() if run.dataset == "celebahq"]
    metrics = [path for run in mine for path in stage_files.metrics(plan, run, 0)]
    floors = stage_files.floors(plan, "celebahq") + stage_files.floors(plan, "ffhq")
    latents = [stage_files.latents(plan, name, "summary.json") for name in COUNTS]
    targets = [*metrics, *floors, *latents, *stage_files.figure_numbers(plan)]
    snakemake(folder, url, *targets)
    for name, (train, heldout) in COUNTS.items():
        flips = 2 if name == "church" else 1
        for side, count in (("train", train * flips), ("heldout", heldout)):
            described = read(folder / f"results/paper/images/{name}/{side}.manifest.json")
            assert (described["count"], described["height"], described["width"]) == (count, *(2 * (64 * (count > 0),)))
        found = read_tensors(folder / stage_files.latents(plan, name, "latents.safetensors"))["latents"]
        assert found.shape == (train * flips, 4, 8, 8) and found.dtype == torch.float32
    origins = {name: read(folder / f"resources/{name}/download.json") for name in (*COUNTS, "sd-vae-ft-ema")}
    assert [origin["origin"]["kind"] for origin in origins.values()] == ["hub", "web", "manual", "hub"]
    assert {entry["verified"] for entry in origins["church"]["files"]} == {"first use"}
    assert "church/church_outdoor_train_lmdb.zip" in (folder / "config/pinned.json").read_text()
    assert len(metrics) == 2 * 5  # two protocols, five rows
    for path in metrics:
        content = read(folder / path)
        assert content["protocol"]["id"] == Path(path).stem and content["values"]["fd"] > 0
        assert 0 <= content["values"]["recall"] <= 1 and content["num_images"] == 8
    authors, standard = (read(folder / path)["values"]["fd"] for path in metrics[:2])
    assert authors != standard  # JPEG
    before = {path: sha256_file(folder / path) for path in targets}
    assert "Nothing to be done" in snakemake(folder, url, *targets)
    assert before == {path: sha256_file(folder / path) for path in targets}
    done = subprocess.run(
        [sys.executable, "-m", "lct.cli.main", "report", "--scale", "paper"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page = (folder / "reports/paper/numbers.html").read_text()
    assert "celebahq-lct" in page and "FD(cnn64)" not in page
