"""The trainings of an autoencoder and an extractor, killed in the middle: the same job goes on to the same bytes."""

import dataclasses
import json
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest

from lct.cluster.status import small_trainings
from lct.data.imageset import write_imageset
from lct.data.settings import TrainedAutoencoder
from lct.files.atomic import write_json
from lct.files.tensors import read_metadata
from lct.jobs.autoencoder import autoencoder
from lct.jobs.extractor import extractor
from lct.metrics.settings import TrainedExtractor

STEPS = 30
AUTOENCODER = TrainedAutoencoder(block_out_channels=(8, 8, 8), steps=STEPS, batch=4, norm_groups=4)
EXTRACTOR = TrainedExtractor(id="cnn8", channels=(4, 6), features=8, steps=STEPS, batch=8)


def as_json(settings: dict) -> dict:
    """Settings as a rule hands them to its job."""
    return json.loads(json.dumps(settings))


def train_autoencoder(out: Path, images: Path) -> list[Path]:
    settings = as_json({"recipe": 1, "autoencoder": dataclasses.asdict(AUTOENCODER) | {"kind": "trained"}})
    autoencoder(settings, "cpu", images, [], out / "d")
    return [out / "d/config.json", out / "d/diffusion_pytorch_model.safetensors"]


def train_extractor(out: Path, images: Path) -> list[Path]:
    settings = as_json({"recipe": 1, "extractor": dataclasses.asdict(EXTRACTOR)})
    extractor(settings, "cpu", images, out / "d/cnn8.safetensors", out / "d/cnn8.summary.json")
    return [out / "d/cnn8.safetensors", out / "d/cnn8.summary.json"]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("images") / "train.zip"
    pixels = np.random.default_rng(0).integers(0, 255, (24, 16, 16, 3), dtype=np.uint8)
    described = write_imageset(path, pixels, items=[{"source": str(i), "label": i % 2} for i in range(24)])
    write_json(path.with_suffix(".manifest.json"), described)
    return path.with_suffix(".manifest.json")


@pytest.mark.parametrize("train", [train_autoencoder, train_extractor])
def test_a_killed_job_goes_on_to_the_same_bytes_and_its_progress_shows(train, images, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LCT_SAVE_MINUTES", "0")  # a state after every step
    kind = train.__name__.removeprefix("train_")
    undisturbed = [path.read_bytes() for path in train(tmp_path / "undisturbed", images)]

    out = Path("results/toy", kind)
    process = multiprocessing.get_context("fork").Process(target=train, args=(out, images))
    process.start()
    work, until = Path("work/toy", kind), time.monotonic() + 60
    while not (states := list(work.rglob("state.safetensors"))) or read_metadata(states[0])["step"] < 3:
        assert process.is_alive() and time.monotonic() < until, "it ended before it could be killed"
        time.sleep(0.002)
    process.kill()
    process.join()
    step = read_metadata(states[0])["step"]
    assert 3 <= step < STEPS and not list(out.rglob("*.safetensors"))
    (line,) = small_trainings(work)
    assert f"{kind}/d" in line and f"of {STEPS}, on " in line

    caplog.set_level("INFO")
    assert [path.read_bytes() for path in train(out, images)] == undisturbed
    assert f"goes on from step {step} of {STEPS}" in caplog.text
    assert not list(work.rglob("*.*")), "nothing of the killed training is left"
