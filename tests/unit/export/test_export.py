"""Exports: a pipeline that stock diffusers loads and that makes the same images, an archive that verifies by itself,
and one clear line where something is missing."""

import ast
import dataclasses
import io
import json
import os
import subprocess
import sys
import tracemalloc
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from lct.cli.main import main, parser
from lct.config.schema import plain
from lct.data import autoencoder
from lct.data.latents import LatentStatistics
from lct.data.settings import TrainedAutoencoder
from lct.export import bundle, diffusers, verify
from lct.export.diffusers import GeneratorFiles
from lct.files.atomic import write_json
from lct.files.hashing import sha256_file
from lct.files.records import run_path, settings_path
from lct.files.tensors import write_tensors
from lct.networks.settings import Network, Scaling
from lct.networks.unet import UNet
from lct.sampling.settings import ConsistencySampler, OdeSampler, Sampling
from lct.schedules import NoiseGrid
from lct.streams import generator
from tests.helpers import ROOT

SAMPLERS = {
    "one": ConsistencySampler(),
    "two": ConsistencySampler(middle_indices=(440,)),
    "euler": OdeSampler(steps=4, clamp=1.0),
    "clamped": ConsistencySampler(clamp=0.3),
}
NETWORK = Network(
    channels=32, channel_mult=(1, 2), blocks=1, attention_resolutions=(4,), block_norm="non-scaling-layer"
)
LOAD = """
import sys
sys.path.append(sys.argv[4])
import numpy as np
import torch
torch.set_num_threads(1)
from diffusers import DiffusionPipeline
pipeline = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
np.save(sys.argv[2], pipeline(batch_size=11, draw=3, exact=True, output_type="np").images)
alone = pipeline(2, first=6, draw=3, exact=True).images
np.save(sys.argv[3], np.stack([np.array(image) for image in alone]))
quick = pipeline(2, first=6, draw=3, output_type="np").images.astype(int)
assert abs(quick - np.stack([np.array(image) for image in alone])).max() <= 1, "other batches, other rounding alone"
seeded = [pipeline(3, generator=torch.Generator().manual_seed(s), output_type="np").images for s in (0, 0, 1)]
assert (seeded[0] == seeded[1]).all() and (seeded[0] != seeded[2]).any()
each = [torch.Generator().manual_seed(0) for _ in range(2)]
pair, = pipeline(2, generator=each, output_type="np", return_dict=False)
assert pair.shape == quick.shape and abs(pair[0].astype(int) - pair[1]).max() <= 1, "a generator for each image"
steps = [pipeline(2, draw=3, num_inference_steps=n, output_type="np").images for n in (2, 3)]
assert (steps[0] != steps[1]).any() and steps[0].shape == quick.shape
for bad in ({"batch_size": 0}, {"exact": True, "generator": each[0]}, {"num_inference_steps": 0}):
    try:
        pipeline(**bad)
    except ValueError as error:
        assert next(iter(bad)).split("_")[-1] in str(error) and "expected" in str(error)
    else:
        raise AssertionError(f"{bad} was accepted")
assert not any(name == "lct" or name.startswith("lct.") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def stored(warm_variables, tmp_path_factory):
    """Weights, statistics and an autoencoder as files, and what the sampling job makes of them."""
    folder = tmp_path_factory.mktemp("run")
    unet = UNet(NETWORK, 4, 4, generator(0, "test"))
    with torch.no_grad():
        for parameter in unet.parameters():  # no zeros, so that every part of the network counts
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator(1, "test")))
    write_tensors(folder / "train/step5-ema0.9.safetensors", unet.state_dict(), {"latent_shape": [4, 4, 4]})
    draws = generator(2, "test")
    statistics = LatentStatistics(
        torch.randn(4, 4, 4, generator=draws).double(), 1 + torch.rand(4, 4, 4, generator=draws).double(), 0.5
    )
    write_tensors(folder / "statistics.safetensors", statistics.tensors())
    autoencoder.save(
        autoencoder.create(TrainedAutoencoder(block_out_channels=(8, 8, 8), norm_groups=4)), folder / "vae"
    )
    settings = {
        "recipe": 1,
        "sampling": plain(Sampling(num_images=11, batch=4, draws=(3,), grid_images=4)),
        "samplers": {name: plain(one) for name, one in SAMPLERS.items()},
        "wanted": [["step5-ema0.9", name] for name in SAMPLERS],
        "network": plain(NETWORK),
        "scaling": plain(Scaling(sigma_min=0.002)),
        "grid": plain(NoiseGrid()),
        "encoding": {"batch": 3},
    }
    command = [sys.executable, "-m", "lct.jobs.sample", "--settings", json.dumps(settings), "--device", "cpu"]
    command += ["--train", "train", "--statistics", "statistics.safetensors", "--autoencoder", "vae"]
    command += ["--out", "sample/run/s0"]
    done = subprocess.run(command, cwd=folder, env=os.environ | warm_variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    return folder, settings


def exported(stored, out, name):
    folder, settings = stored
    card = {"title": "t", "warning": "", "run": "r", "method": 'm: "x"', "seed": 0, "weights": "w", "sampler": name}
    card |= {"nfe": SAMPLERS[name].nfe, "scale": "s", "dataset": "d", "model": "consistency_model", "images": 11}
    card |= {"metrics": [("FD", "1.5")], "protocol_hash": "abc", "protocol": "{}", "origin": [("f", "0")], "cell": "c"}
    card |= {"options": "--scale s --dataset mine", "licence": None, "licence_text": "No licence is stated."}
    files = {"weights": folder / "train/step5-ema0.9.safetensors", "statistics": folder / "statistics.safetensors"}
    return diffusers.write(out, GeneratorFiles(**files, vae=folder / "vae", settings=settings), name, card)


def images_in(path):
    with zipfile.ZipFile(path) as archive:
        return np.stack([np.array(Image.open(io.BytesIO(archive.read(name)))) for name in archive.namelist()])


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.slow
def test_stock_diffusers_loads_the_folder_and_makes_the_same_images(stored, tmp_path, name):
    """In a Python of its own, isolated, that cannot import this project."""
    files = exported(stored, tmp_path / "pipeline", name)
    assert {path.suffix for path in files} <= {".json", ".py", ".safetensors", ".md"}, "no pickles"
    packages = str(Path(torch.__file__).parents[1])
    command = [sys.executable, "-I", "-S", "-c", LOAD, str(tmp_path / "pipeline"), str(tmp_path / "all.npy")]
    environment = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin"}
    done = subprocess.run(
        [*command, str(tmp_path / "two.npy"), packages], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    folder, _ = stored
    expected = images_in(folder / f"sample/run/s0/step5-ema0.9/{name}/d3.zip")
    made = np.load(tmp_path / "all.npy")
    assert expected.std() > 5, "images that differ"
    np.testing.assert_array_equal(made, expected)
    np.testing.assert_array_equal(np.load(tmp_path / "two.npy"), expected[6:8])


def test_equal_runs_give_equal_folders_and_the_card_says_what_it_is(stored, tmp_path):
    first, second = (exported(stored, tmp_path / name, "two") for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    card = (tmp_path / "a/README.md").read_text()
    assert "2 network evaluations" in card and "| FD | 1.5 |" in card and "`abc`" in card
    header = yaml.safe_load(card.split("---")[1])
    assert header["license"] == "other" and "--scale s --dataset mine`" in card and "No licence is stated." in card
    assert header["tags"] == ["latent-consistency", 'm: "x"', "arxiv:2502.01441"]
    assert header["model-index"][0]["results"][0]["metrics"] == [{"type": "fd", "name": "FD", "value": 1.5}]
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in first), "others may read what is to be uploaded"
    for name in ("pipeline.py", "generator/consistency_model.py"):
        source = (tmp_path / "a" / name).read_text()
        modules = {
            (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else node.names[0].name.split(".")[0]
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        assert "lct" not in modules and "torch" in modules


# --- the archive --------------------------------------------------------------------------------------------------
def small_project(root):
    """A tables.json over two metrics files, with records."""
    values = []
    for seed in (0, 1):
        path = root / f"results/s/metrics/r/s{seed}/fd.json"
        write_json(path, {"values": {"fd": 1.5 + seed, "recall": None}})
        record(root, path, {})
        values.append(
            {"seed": seed, "value": 1.5 + seed, "metrics": str(path.relative_to(root)), "sha256": sha256_file(path)}
        )
    nan = [value | {"value": "NaN"} for value in values]
    row = {"cells": {"fd": {"id": "t.a.x.fd", "values": values}, "recall": {"id": "t.a.x.recall", "values": nan}}}
    tables = root / "results/s/tables/tables.json"
    write_json(tables, {"tables": [{"subtables": [{"rows": [row], "floors": []}]}]})
    record(root, tables, {v["metrics"]: root / v["metrics"] for v in values})
    (root / "reports/s").mkdir(parents=True)
    (root / "reports/s/index.html").write_text("<!DOCTYPE html>")
    return [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]


def record(root, path, inputs):
    used = {name: {"path": name, "sha256": sha256_file(source)} for name, source in inputs.items()}
    write_json(settings_path(path), {"inputs": used, "settings": {}})
    output = {"path": str(path.relative_to(root)), "bytes": path.stat().st_size, "sha256": sha256_file(path)}
    told = {"stage": path.stem, "started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:00:01+00:00"}
    write_json(run_path(path), told | {"command": ["job", path.name], "output": output})


@pytest.fixture
def bundled(tmp_path):
    """An unpacked bundle."""
    root = tmp_path / "project"
    root.mkdir()
    files = small_project(root)
    for name in ("one.zip", "two.zip"):
        bundle.write(tmp_path / name, root, files, title="T", description="D", command="snakemake")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        archive.extractall(tmp_path / "bundle")
    return tmp_path / "bundle"


def check(folder):
    """verify.py by a Python without any package."""
    return subprocess.run([sys.executable, "-I", "-S", "verify.py"], cwd=folder, capture_output=True, text=True)


def test_a_whole_bundle_verifies_with_python_alone_and_is_a_crate(bundled):
    done = check(bundled)
    assert done.returncode == 0 and done.stdout.startswith("whole"), done.stdout + done.stderr
    assert subprocess.run(["sha256sum", "--quiet", "--check", "SHA256SUMS"], cwd=bundled).returncode == 0
    crate = json.loads((bundled / "ro-crate-metadata.json").read_text())
    entities = {one["@id"]: one for one in crate["@graph"]}
    root = entities["./"]
    assert crate["@context"] == "https://w3id.org/ro/crate/1.1/context" and root["@type"] == "Dataset"
    parts = {one["@id"] for one in root["hasPart"]}
    there = {p.relative_to(bundled).as_posix() for p in bundled.rglob("*") if p.is_file()}
    assert parts == there - {"SHA256SUMS", "ro-crate-metadata.json"} and all(
        entities[name]["@type"] == "File" for name in parts
    )
    actions = [one for one in crate["@graph"] if one["@type"] == "CreateAction"]
    assert len(actions) == 2, "two jobs: the metrics files share stage, start and command"
    (tables,) = [one for one in actions if one["name"] == "tables"]
    assert {one["@id"] for one in tables["object"]} == {f"results/s/metrics/r/s{seed}/fd.json" for seed in (0, 1)}
    assert json.loads((bundled / ".zenodo.json").read_text())["upload_type"] == "dataset"


def test_a_bundle_of_weights_larger_than_memory_is_written_a_piece_at_a_time(tmp_path):
    with open(tmp_path / "step1-ema0.9.safetensors", "wb") as file:
        file.truncate(200_000_000)
    tracemalloc.start()
    bundle.write(tmp_path / "b.zip", tmp_path, ["step1-ema0.9.safetensors"], title="T", description="D", command="c")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000 and (tmp_path / "b.zip").stat().st_size > 200_000_000


METRICS = "results/s/metrics/r/s0/fd.json"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda b: (b / METRICS).write_text("{}"), f"{METRICS}: not the bytes that were bundled"),
        (lambda b: (b / METRICS).unlink(), f"{METRICS}: missing"),
        (lambda b: (b / "more.txt").write_text("x"), "more.txt: not part of the bundle"),
        (lambda b: resummed(b, METRICS, '{"values": {"fd": 9.5, "recall": null}}'), "records another"),
        (lambda b: resummed(b, f"{METRICS}.run.json", b"{}"), "output"),
        (lambda b: outside(b), "../evil: outside the bundle"),
    ],
)
def test_damage_is_named(bundled, damage, says):
    damage(bundled)
    done = check(bundled)
    assert done.returncode == 1 and says in done.stdout + done.stderr


def resummed(folder, name, content):
    """A file replaced, and its line of SHA256SUMS too: only records and numbers can tell."""
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    lines = [f"{sha256_file(folder / name)}  {name}" if line.endswith(f"  {name}") else line for line in lines]
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n")


def outside(folder):
    with open(folder / "SHA256SUMS", "a") as handle:
        handle.write(f"{'0' * 64}  ../evil\n")


def test_a_number_that_its_file_does_not_say_is_named(bundled):
    path = bundled / "results/s/tables/tables.json"
    text = path.read_text().replace("2.5", "2.25")
    resummed(bundled, "results/s/tables/tables.json", text)
    write_json(run_path(path), {"output": {"path": str(path), "sha256": sha256_file(path)}})
    resummed(bundled, "results/s/tables/tables.json.run.json", run_path(path).read_bytes())
    assert verify.faults(bundled) == ["t.a.x.fd: 2.25 is not what results/s/metrics/r/s1/fd.json says"]


# --- the verb -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--to", "diffusers"], "expected one CELL, found 0"),
        (["table1.a.lct-1", "--to", "csv"], "expected no CELL, found 1"),
        (["table1.a.lct-1", "--to", "diffusers", "--seed", "7"], "--seed: expected one of [0], found 7"),
        (["table1.a.nothing", "--to", "diffusers"], "expected table.sub-table.row.metric"),
        (["table1.a.lct-1", "--to", "diffusers"], "expected the file that table1.a.lct-1 is made from"),
        (["table1.a.floor-heldout", "--to", "diffusers"], "expected one row with weights, found 0"),
        (["--to", "bundle"], "expected a finished report, found none; snakemake"),
        (["--to", "csv"], "expected a report, found none; lct report"),
    ],
)
def test_what_is_missing_is_one_line(tmp_path, monkeypatch, capsys, words, says):
    (tmp_path / "config").symlink_to(ROOT / "config")
    monkeypatch.chdir(tmp_path)
    assert main(["export", *words, "--scale", "smoke"]) == 1
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1 and said.startswith("lct export: ")


def test_an_export_never_replaces_other_files(stored, tmp_path):
    (tmp_path / "model_index.json").write_text("x")  # a pipeline that somebody else made
    with pytest.raises(ValueError, match="expected nothing or an earlier export with generator/consistency_model.py"):
        exported(stored, tmp_path, "one")
    assert (tmp_path / "model_index.json").read_text() == "x"


def test_an_earlier_export_stays_until_the_next_one_is_complete(stored, tmp_path, monkeypatch):
    first = {path: path.read_bytes() for path in exported(stored, tmp_path / "out", "one")}

    def full(card):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(diffusers, "model_card", full)
        exported(stored, tmp_path / "out", "two")
    assert {path: path.read_bytes() for path in first} == first and os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out/model_index.json") in exported(stored, tmp_path / "out", "two")
    assert (tmp_path / "out/model_index.json").read_bytes() != first[tmp_path / "out/model_index.json"]


def test_runs_are_logged_to_wandb_when_it_is_there(tmp_path, monkeypatch, capsys):
    root = ROOT
    (tmp_path / "config").symlink_to(root / "config")
    write_json(
        tmp_path / "results/smoke/train/digits-lct/s0/curves.json",
        {"step": [5, 10], "loss": [2.0, 1.0], "c": [None, 0.1]},
    )
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--to", "wandb", "--scale", "smoke"]) == 1 and "pip install wandb" in capsys.readouterr().err
    told = []

    @dataclasses.dataclass
    class Run:
        summary: dict

        def log(self, values, step=None):
            told.append((values, step))

        def finish(self):
            told.append("finished")

    stub = types.ModuleType("wandb")
    stub.__spec__ = types.SimpleNamespace(name="wandb")
    stub.init = lambda **given: told.append(given) or Run({})
    monkeypatch.setitem(sys.modules, "wandb", stub)
    assert main(["export", "--to", "wandb", "--scale", "smoke", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == ["digits-lct-s0"]
    started, *logged = told
    assert started["name"] == "digits-lct-s0" and started["config"]["training"]["steps"] == 40
    assert logged == [({"loss": 2.0}, 5), ({"loss": 1.0, "c": 0.1}, 10), "finished"]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_every_verb_and_bash_reads_it(capsys, shell):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    verbs = parser()._subparsers._group_actions[0].choices
    assert all(verb in script for verb in verbs) and "--scale" in script
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
