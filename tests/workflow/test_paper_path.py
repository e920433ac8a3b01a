"""The paper scale itself on a CPU with small numbers: every dataset and network is fetched from a loopback server, and
goes through the rules, the configuration and the code of the paper. Only sizes and counts are edited."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lct.files.hashing import sha256_file
from lct.files.tensors import read_tensors
from lct.plan import files as stage_files
from lct.plan.plan import Plan
from tests.helpers.paper import COUNTS, edit, served, snakemake


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """The project with a small paper scale of short trainings, and the server that has everything it needs."""
    with served(tmp_path_factory.mktemp("paper")) as (folder, url):
        only = {"tables": ["table1"], "pilot": ["table1.a.lct-1"]}
        edit(folder / "config/scales/paper.yaml", lambda values: values.update(only))
        for name in COUNTS:
            path = folder / f"config/datasets/{name}.yaml"
            edit(path, lambda values: values.update(training={"batch": 16, "steps": 7}))
        yield folder, url


def run(folder: Path, url: str, *targets: str) -> str:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = snakemake(folder, url, *targets, "scale=paper", **pipes)
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
    pilot = stage_files.pilot_distances(plan)
    targets = [*metrics, *floors, *latents, *pilot, *stage_files.figure_numbers(plan)]
    run(folder, url, *targets)
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
    (early,) = (read(folder / path)["values"] for path in pilot)
    assert early["fd"] == read(folder / stage_files.cell_metrics(plan, plan.pilot)[0])["values"]["fd"]
    authors, standard = (read(folder / path)["values"]["fd"] for path in metrics[:2])
    assert authors != standard  # JPEG
    before = {path: sha256_file(folder / path) for path in targets}
    assert "Nothing to be done" in run(folder, url, *targets)
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
