"""The encode and autoencoder jobs: the same bytes however they are divided or interrupted, and what they refuse."""

import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lct.config.schema import plain
from lct.data import autoencoder as vae
from lct.data import imageset
from lct.data.latents import LatentMoments, LatentStatistics, from_moments
from lct.data.settings import Encoding, PretrainedAutoencoder, TrainedAutoencoder
from lct.files.atomic import write_json
from lct.files.hashing import sha256_file
from lct.files.records import mismatch
from lct.files.tensors import read_tensors, write_tensors
from lct.jobs import autoencoder as autoencoder_job
from lct.jobs import encode as encode_job
from lct.jobs import train as train_job
from lct.plan.paths import AUTOENCODER_FILES, manifest
from lct.training.settings import Training
from tests.helpers.latents import statistics
from tests.helpers.networks import SD_VAE

TINY = TrainedAutoencoder(block_out_channels=(8, 8, 8), norm_groups=4)
RESULTS = ("latents.safetensors", "statistics.safetensors", "summary.json", "reconstructions.grid.png")
RESULTS += tuple(f"reconstructed-{side}.{end}" for side in ("train", "heldout") for end in ("zip", "manifest.json"))


def write_images(path: Path, count: int, seed: int, side: int = 16) -> Path:
    y, x = np.mgrid[:side, :side] / (side - 1)
    draws = np.random.default_rng(seed).normal(size=(count, 2, 3))
    waves = np.sin(3 * (x[None, ..., None] * draws[:, None, None, 0] + y[None, ..., None] * draws[:, None, None, 1]))
    described = imageset.write_imageset(path, (127.5 + 127 * waves).astype(np.uint8), allow_empty=count == 0)
    write_json(manifest(str(path)), described)
    return Path(manifest(str(path)))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(encode_job, "_IMAGES", 8)  # of two batches of four


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Training images, held-out images and an autoencoder."""
    root = tmp_path_factory.mktemp("given")
    vae.save(vae.create(TINY), root / "vae")
    return SimpleNamespace(
        train=write_images(root / "train.zip", 21, 0),
        heldout=write_images(root / "heldout.zip", 9, 1),
        vae=root / "vae",
    )


def job(given, root: Path, encoding: Encoding | None = None, workers: int | None = None, **changes) -> SimpleNamespace:
    values = {
        "settings": {"recipe": 1, "encoding": plain(encoding or Encoding(batch=4))},
        "device": "cpu",
        "workers": workers,
        "train": given.train,
        "heldout": given.heldout,
        "autoencoder": given.vae,
        "work": root / "work",
        "out": root / "dataset" / "posterior",
    }
    return SimpleNamespace(**values | changes)


def encode(arguments: SimpleNamespace) -> str:
    return encode_job.encode(**vars(arguments))


def contents(out: Path) -> dict[str, str]:
    return {name: sha256_file(out / name) for name in RESULTS}


@pytest.fixture(scope="module")
def undisturbed(given, tmp_path_factory):
    """One run without interruption: its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode_job, "_IMAGES", 8)
        root = tmp_path_factory.mktemp("undisturbed")
        encode(job(given, root))
    return root / "dataset" / "posterior"


def forked(body) -> int:
    """Exit code of `body()` in a child process, which may kill itself."""
    process = multiprocessing.get_context("fork").Process(target=body)
    process.start()
    process.join(120)
    return process.exitcode


# --- what is written ----------------------------------------------------------------------------------------------
def test_latents_and_statistics_are_those_of_one_pass_over_all_images(given, undisturbed):
    model = vae.load(given.vae)
    with imageset.open_checked(given.train) as images:
        z = vae.encode(model, images, Encoding(batch=4), "train")
    write_tensors(undisturbed.parent / "whole.safetensors", {"latents": z})
    assert (undisturbed / "latents.safetensors").read_bytes() == (undisturbed.parent / "whole.safetensors").read_bytes()
    stored = read_tensors(undisturbed / "statistics.safetensors")
    exact = z.numpy().astype(np.float64)
    np.testing.assert_allclose(stored["mean"].numpy(), exact.mean(0), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(stored["std"].numpy(), exact.std(0, ddof=1), rtol=1e-12)
    moments = LatentMoments()
    moments.count, moments.mean, moments.m2 = (stored[f"moments.{name}"] for name in ("count", "mean", "m2"))
    channel = from_moments(moments, Encoding(normalisation="per-channel"))
    assert moments.count == 21
    np.testing.assert_allclose(channel.mean.numpy().ravel(), exact.mean((0, 2, 3)), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(channel.std.numpy().ravel(), exact.std((0, 2, 3), ddof=1), rtol=1e-12)


def test_the_summary_and_the_reconstructions_agree_with_the_images(given, undisturbed):
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert summary["count"] == 21 and summary["shape"] == [4, 4, 4]
    assert summary["normalised_std"] == pytest.approx(0.5, rel=1e-6)
    model = vae.load(given.vae)
    for side, count in (("train", 21), ("heldout", 9)):
        with imageset.open_checked(getattr(given, side)) as images:
            z = vae.encode(model, images, Encoding(batch=4), side)
            expected = np.stack(list(vae.decode(model, z, 4)))
            with imageset.open_checked(undisturbed / f"reconstructed-{side}.manifest.json", deep=True) as found:
                assert (found.array() == expected).all() and summary[f"reconstructed_{side}"] == count
            error = np.mean((images.array().astype(float) - expected) ** 2)
            assert summary[f"psnr_{side}"] == pytest.approx(10 * np.log10(255**2 / error), rel=1e-12)
    for name in ("latents.safetensors", "reconstructed-heldout.zip", "summary.json"):
        assert mismatch(undisturbed / name) is None


def test_finished_parts_are_removed(undisturbed):
    assert [path.name for path in (undisturbed.parents[1] / "work").iterdir()] == ["lock"]


@pytest.mark.parametrize(("asked", "made"), [(1, 1), (5, 5), (21, 21), (100, 21)])
def test_only_so_many_training_images_are_decoded_again_and_the_latents_stay(given, undisturbed, tmp_path, asked, made):
    encode(job(given, tmp_path, Encoding(batch=4, reconstruct=asked)))
    out = tmp_path / "dataset" / "posterior"
    assert sha256_file(out / "latents.safetensors") == sha256_file(undisturbed / "latents.safetensors")
    with (
        imageset.open_checked(out / "reconstructed-train.manifest.json", deep=True) as found,
        imageset.open_checked(undisturbed / "reconstructed-train.manifest.json") as whole,
    ):
        assert len(found) == made and (found.array() == whole.array(0, made)).all()
    assert json.loads((out / "summary.json").read_text())["reconstructed_heldout"] == 9


def test_a_dataset_may_hold_out_nothing(given, undisturbed, tmp_path):
    empty = write_images(tmp_path / "none.zip", 0, 0)
    encode(job(given, tmp_path, heldout=empty))
    out = tmp_path / "dataset" / "posterior"
    summary = json.loads((out / "summary.json").read_text())
    assert summary["psnr_heldout"] is None and summary["reconstructed_heldout"] == 0
    assert sha256_file(out / "latents.safetensors") == sha256_file(undisturbed / "latents.safetensors")
    with imageset.open_checked(out / "reconstructed-heldout.manifest.json", deep=True) as found:
        assert len(found) == 0 and list(found.batches(4)) == []
    assert (out / "reconstructions.grid.png").stat().st_size > 1000


def test_the_mode_draws_nothing_and_names_of_encodings_say_what_changes_latents():
    assert [Encoding(sample=sample, seed=seed).id for sample in ("posterior", "mode") for seed in (0, 3)] == [
        *("posterior", "posterior-s3"),
        *("mode", "mode"),
    ]
    assert Encoding(normalisation="per-channel", reconstruct=7).id == "posterior"


# --- division and interruption ------------------------------------------------------------------------------------
@pytest.mark.slow
def test_two_workers_write_what_one_writes(given, undisturbed, tmp_path):
    """In processes of their own, as with two GPUs."""
    arguments = job(given, tmp_path)
    program = (
        "from lct.jobs import encode; encode._IMAGES = 8; from lct.jobs.encode import main; raise SystemExit(main())"
    )
    words = [
        f"--{key}={getattr(arguments, key)}" for key in ("train", "heldout", "autoencoder", "work", "out", "device")
    ]
    command = [sys.executable, "-c", program, f"--settings={json.dumps(arguments.settings)}", *words, "--workers=2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "on cpu, cpu" in done.stderr
    assert contents(arguments.out) == contents(undisturbed)


def test_a_part_is_the_same_whoever_makes_it(given):
    with imageset.open_checked(given.train) as images:
        found = encode_job.cut_shards("train", images, Encoding(batch=4), 10)
        assert [(p.first, p.stop, p.decoded) for p in found] == [(0, 8, 8), (8, 16, 2), (16, 21, 0)]
        model = vae.load(given.vae)
        forwards = [encode_job.compute_shard(model, images, Encoding(batch=4), part) for part in found]
        backwards = [encode_job.compute_shard(model, images, Encoding(batch=4), part) for part in reversed(found)][::-1]
        for a, b in zip(forwards, backwards, strict=True):
            assert a.latents.equal(b.latents) and (a.images == b.images).all() and a.squares == b.squares
        large = encode_job.cut_shards("train", images, Encoding(batch=250), None)
        assert [(p.first, p.stop) for p in large] == [(0, 21)]  # a batch is never divided


def killed_at(arguments, number: int) -> int:
    """Run the job in a process that kills itself with -9 right before its `number`-th file appears (from 0 on)."""

    def body():
        replace, count = os.replace, iter(range(10**6))

        def die(source, target):
            if next(count) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)

        os.replace = die
        encode(arguments)

    return forked(body)


def test_killed_again_and_again_it_goes_on_to_the_same_bytes(given, undisturbed, tmp_path):
    """Killed at its first file, then at its second, and so on: each attempt starts from what the one before left."""
    arguments, codes = job(given, tmp_path), []
    while not codes or codes[-1] != 0:
        shutil.rmtree(arguments.out, ignore_errors=True)  # as Snakemake does before a start
        codes.append(killed_at(arguments, len(codes)))
    assert len(codes) > 15 and set(codes) == {0, -signal.SIGKILL}
    assert contents(arguments.out) == contents(undisturbed)


@pytest.mark.slow
def test_killed_at_every_file_a_second_run_finishes(given, undisturbed, tmp_path):
    number, codes = 0, []
    while not codes or codes[-1] != 0:
        arguments = job(given, tmp_path / str(number))
        codes.append(killed_at(arguments, number))
        if codes[-1] != 0:
            shutil.rmtree(arguments.out, ignore_errors=True)
            encode(arguments)
            assert contents(arguments.out) == contents(undisturbed), f"killed at file {number}"
            assert [path.name for path in arguments.work.iterdir()] == ["lock"]
        number += 1
    assert len(codes) > 15 and set(codes) == {0, -signal.SIGKILL}


def interrupted(arguments, after: int = 2) -> list[Path]:
    """Parts that an attempt leaves which is killed after `after` files."""
    assert killed_at(arguments, after) == -signal.SIGKILL
    return sorted(arguments.work.glob("*/shard-*.safetensors"))


def test_a_part_that_is_lost_or_cut_before_it_is_published_is_made_by_the_same_command(tmp_path):
    inputs, shard = encode_job.EncoderInputs(tmp_path, {}, Encoding(), tmp_path), encode_job.Shard("train", 0, 0, 4, 4)
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"00000\.safetensors: expected a whole shard, .* run the same command again"
        ):
            inputs.read(shard)
        (tmp_path / shard.name).write_bytes(b"cut")


@pytest.mark.parametrize("damage", ["truncated", "one bit", "another part", "no safetensors"])
def test_a_damaged_part_is_made_again(given, undisturbed, tmp_path, damage):
    arguments = job(given, tmp_path)
    first, second = interrupted(arguments)
    content = bytearray(first.read_bytes())
    content[-5] ^= 4
    wrong = {
        "truncated": bytes(content[:-100]),
        "one bit": bytes(content),
        "another part": second.read_bytes(),
        "no safetensors": b"<html>",
    }
    first.write_bytes(wrong[damage])
    encode(arguments)
    assert contents(arguments.out) == contents(undisturbed)


@pytest.mark.parametrize("changed", ["autoencoder", "images", "seed"])
def test_parts_of_other_inputs_are_never_used(given, tmp_path, changed):
    interrupted(job(given, tmp_path), after=4)
    changes, encoding = {}, Encoding(batch=4)
    if changed == "autoencoder":
        vae.save(vae.create(TrainedAutoencoder(block_out_channels=(8, 8, 8), norm_groups=4, seed=5)), tmp_path / "vae")
        changes["autoencoder"] = tmp_path / "vae"
    elif changed == "images":
        changes["train"] = write_images(tmp_path / "train.zip", 21, 7)
    else:
        encoding = Encoding(batch=4, seed=1)
    encode(job(given, tmp_path, encoding, **changes))
    fresh = job(given, tmp_path / "fresh", encoding, **changes)
    encode(fresh)
    assert contents(tmp_path / "dataset" / "posterior") == contents(fresh.out)
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["lock"]


def test_a_copy_left_behind_publishes_once(given, tmp_path, monkeypatch):
    arguments = job(given, tmp_path)
    encode(arguments)
    monkeypatch.setattr(encode_job, "compute_shard", lambda *_: pytest.fail("made again"))
    assert "21 latents" in encode(arguments)
    (arguments.out / "latents.safetensors").write_bytes(b"")
    monkeypatch.undo()
    encode(arguments)
    assert mismatch(arguments.out / "latents.safetensors") is None


# --- what is refused ----------------------------------------------------------------------------------------------
def test_a_full_disk_stops_with_one_line_and_a_good_run_follows(given, undisturbed, tmp_path):
    arguments = job(given, tmp_path)

    def body():
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))  # what an ordinary user can have of a full disk
        with pytest.raises(OSError, match=r"expected a writable place, found: File too large; .*free space") as error:
            encode(arguments)
        raise SystemExit("\n" in str(error.value))

    assert forked(body) == 0
    assert not list(tmp_path.rglob("*.partial"))
    encode(arguments)
    assert contents(arguments.out) == contents(undisturbed)


@pytest.mark.slow  # mounts a small file system, as root
def test_a_small_file_system_fills_up_and_a_good_run_follows(given, undisturbed, tmp_path):
    arguments = job(given, tmp_path)
    arguments.work.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(arguments.work)], check=True)
    try:
        with pytest.raises(OSError, match="No space left on device; .*free space"):
            encode(arguments)
        assert not list(tmp_path.rglob("*.partial"))
        subprocess.run(["mount", "-o", "remount,size=16m", str(arguments.work)], check=True)
        encode(arguments)
        assert contents(arguments.out) == contents(undisturbed)
    finally:
        subprocess.run(["umount", str(arguments.work)], check=True)


def test_latents_that_are_not_finite_stop_the_job_before_anything_is_written(given, tmp_path):
    model = vae.create(TINY)
    model.quant_conv.weight.data.fill_(3e38)  # finite, but no latent is
    vae.save(model, tmp_path / "vae")
    with pytest.raises(ValueError, match="train.zip: image 0: expected finite latents") as error:
        encode(job(given, tmp_path, autoencoder=tmp_path / "vae"))
    assert "\n" not in str(error.value) and not (tmp_path / "dataset").exists()


@pytest.mark.parametrize("count", [0, -1])
def test_a_job_needs_a_worker(given, tmp_path, count):
    with pytest.raises(ValueError, match="--workers: expected 1 or more"):
        encode(job(given, tmp_path, workers=count))


@pytest.mark.parametrize("factor", [0.18215, 1 / 0.18215])
def test_training_refuses_statistics_of_latents_of_another_scale(undisturbed, tmp_path, factor):
    """Pitfall P4: the authors' FFHQ statistics look computed on latents that had been scaled already."""
    z = read_tensors(undisturbed / "latents.safetensors")["latents"]
    scaled = statistics(factor * z, Encoding())
    write_tensors(tmp_path / "statistics.safetensors", scaled.tensors())
    assert LatentStatistics.from_tensors(scaled.tensors()).std.mean() != pytest.approx(1.0)
    arguments = SimpleNamespace(
        settings={"recipe": 1, "training": plain(Training(steps=100, batch=4))},
        device="cpu",
        seed=0,
        latents=undisturbed / "latents.safetensors",
        statistics=tmp_path / "statistics.safetensors",
        work=tmp_path / "work",
        out=tmp_path / "out",
        minutes=None,
        latents_in="auto",
        draws="auto",
    )
    with pytest.raises(ValueError, match=r"standard deviation 0.5 within 2 %, found \d") as error:
        train_job.train_run(**vars(arguments))
    assert "\n" not in str(error.value)


# --- pretrained autoencoders --------------------------------------------------------------------------------------
def downloaded(folder: Path, model: Path) -> Path:
    """What the download rule leaves: files beside their record."""
    shutil.copytree(model, folder / "files")
    files = [
        {
            "path": name,
            "url": f"https://example.org/{name}",
            "bytes": (folder / "files" / name).stat().st_size,
            "sha256": sha256_file(folder / "files" / name),
            "verified": "declared",
        }
        for name in AUTOENCODER_FILES
    ]
    content = {"format": 1, "id": "vae", "origin": {"kind": "web"}, "alternative": 0, "files": files}
    write_json(folder / "download.json", content)
    return folder / "download.json"


def pretrained(given, tmp_path: Path, source: list[Path], **settings) -> SimpleNamespace:
    values = plain(PretrainedAutoencoder(**{"weights": "vae", "downsampling": 4} | settings))
    return SimpleNamespace(
        settings={"recipe": 1, "autoencoder": values},
        device="cpu",
        images=given.train,
        source=source,
        out=tmp_path / "autoencoder",
    )


def test_downloaded_and_local_weights_are_taken_over_unchanged(given, tmp_path):
    source = downloaded(tmp_path / "resources", given.vae)
    local = [given.vae / name for name in AUTOENCODER_FILES]
    for settings, files in (({}, [source]), ({"weights": None, "folder": str(given.vae)}, local)):
        arguments = pretrained(given, tmp_path, files, **settings)
        autoencoder_job.autoencoder(**vars(arguments))
        for name in AUTOENCODER_FILES:
            assert (arguments.out / name).read_bytes() == (given.vae / name).read_bytes()
            assert mismatch(arguments.out / name) is None
        shutil.rmtree(arguments.out)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("cut", "expected [0-9]+ bytes, found 1000; "),
        ("flipped", "expected sha256 [0-9a-f]{64}, found [0-9a-f]{64}; "),
        ("gone", "expected [0-9]+ bytes, found nothing; "),
        ("unlisted", "download.json: expected a file 'config.json', found"),
        ("missing tensor", "1 missing"),
        ("extra tensor", "1 extra"),
        ("shape", "expected latent_channels, downsampling"),
    ],
)
def test_wrong_weights_are_refused_in_one_line(given, tmp_path, damage, message):
    model = tmp_path / "model"
    shutil.copytree(given.vae, model)
    weights = model / "diffusion_pytorch_model.safetensors"
    if "tensor" in damage:
        tensors = load_file(weights)
        tensors.update(surplus=torch.zeros(2)) if damage == "extra tensor" else tensors.popitem()
        save_file(tensors, weights, metadata={"format": "pt"})
    record = downloaded(tmp_path / "resources", model)
    stored = tmp_path / "resources" / "files" / weights.name
    content = bytearray(stored.read_bytes())
    content[5000] ^= 1
    if damage == "cut":
        stored.write_bytes(content[:1000])
    elif damage == "flipped":
        stored.write_bytes(content)
    elif damage == "gone":
        stored.unlink()
    elif damage == "unlisted":
        write_json(record, json.loads(record.read_text()) | {"files": []})
    arguments = pretrained(given, tmp_path, [record], downsampling=8 if damage == "shape" else 4)
    with pytest.raises(ValueError, match=message) as error:
        autoencoder_job.autoencoder(**vars(arguments))
    assert "\n" not in str(error.value) and not arguments.out.exists()


@pytest.mark.parametrize("given_by", [{}, {"weights": "a", "folder": "b"}, {"weights": "A/b"}])
def test_a_pretrained_autoencoder_comes_from_one_place(given_by):
    with pytest.raises(ValueError, match="autoencoder.weights"):
        PretrainedAutoencoder(**given_by)


def test_the_shape_of_the_papers_autoencoder_goes_through_both_jobs(tmp_path):
    """83.7 million random weights in the shape of sd-vae-ft-ema, a few images of 32 pixels."""
    vae.save(vae.create(SD_VAE), tmp_path / "made")
    record = downloaded(tmp_path / "resources", tmp_path / "made")
    images = SimpleNamespace(
        train=write_images(tmp_path / "train.zip", 5, 0, 32),
        heldout=write_images(tmp_path / "heldout.zip", 2, 1, 32),
        vae=tmp_path / "autoencoder",
    )
    autoencoder_job.autoencoder(**vars(pretrained(images, tmp_path, [record], downsampling=8)))
    assert sum(p.numel() for p in vae.load(images.vae).parameters()) == 83_653_863
    encode(job(images, tmp_path, Encoding(batch=2, reconstruct=2)))
    out = tmp_path / "dataset" / "posterior"
    assert read_tensors(out / "latents.safetensors")["latents"].shape == (5, 4, 4, 4)
    assert json.loads((out / "summary.json").read_text())["reconstructed_train"] == 2
    shutil.rmtree(tmp_path)  # a gigabyte of weights
