"""lct/sampling: samplers against closed forms, per-image seeds, fixed batches."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from lct.config.schema import plain
from lct.data import autoencoder
from lct.data.settings import Encoding, TrainedAutoencoder
from lct.files.tensors import write_tensors
from lct.jobs import sample as jobs_sample
from lct.networks.settings import Network, Scaling
from lct.networks.unet import UNet
from lct.sampling.samplers import generate, image_noise, middle_sigmas, sample
from lct.sampling.settings import ConsistencySampler, OdeSampler, Sampling
from lct.schedules import NoiseGrid
from lct.streams import generator
from tests.helpers.latents import statistics

GRID = NoiseGrid()
S = 0.5  # standard deviation of the data in the closed forms: x ~ N(0, S^2)


def denoiser(x, sigma):
    """E[x0 | x] for Gaussian data: S^2 / (S^2 + sigma^2) x."""
    return x * (S**2 / (S**2 + sigma.view(-1, 1, 1, 1) ** 2))


def consistency_function(x, sigma):
    """The exact consistency function of this data: the ODE scales x by sqrt((S^2 + sigma_min^2) / (S^2 + sigma^2))."""
    return x * math.sqrt(S**2 + GRID.sigma_min**2) / torch.sqrt(S**2 + sigma.view(-1, 1, 1, 1) ** 2)


def noises(count=20_000):
    made = {
        k: torch.randn(count, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
        for k in range(4)
    }
    return lambda k: made[k]


def test_one_step_is_the_function_at_sigma_max():
    noise = noises(10)
    x = sample(consistency_function, ConsistencySampler(), GRID, noise)
    expected = 80 * noise(0) * math.sqrt(S**2 + 0.002**2) / math.sqrt(S**2 + 80**2)
    torch.testing.assert_close(x, expected, rtol=1e-12, atol=0)


def test_two_steps_follow_their_formula_and_keep_the_distribution():
    noise, sampler = noises(), ConsistencySampler(middle_indices=(440,))
    x = sample(consistency_function, sampler, GRID, noise)
    first = 80 * noise(0) * math.sqrt((S**2 + 0.002**2) / (S**2 + 80**2))
    sigma = (80 ** (1 / 7) + 440 / 640 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    expected = (first + math.sqrt(sigma**2 - 0.002**2) * noise(1)) * math.sqrt((S**2 + 0.002**2) / (S**2 + sigma**2))
    torch.testing.assert_close(x, expected, rtol=1e-12, atol=1e-15)
    assert abs(float(x.std()) - S) < 0.01


@pytest.mark.parametrize(
    ("indices", "points", "sigma"), [((440,), 641, 0.36932), ((420,), 641, 0.52856), ((640,), 1281, 2.51522)]
)
def test_middle_levels_are_those_of_the_fact_sheet(indices, points, sigma):
    found = middle_sigmas(ConsistencySampler(middle_indices=indices, grid_points=points), GRID)
    assert found == [pytest.approx(sigma, abs=5e-6)]
    assert middle_sigmas(ConsistencySampler(middle_sigmas=(sigma,)), GRID) == [sigma]


@pytest.mark.parametrize(("solver", "steps", "error"), [("euler", 250, 0.02), ("heun", 40, 0.012)])
def test_solvers_approach_the_exact_solution(solver, steps, error):
    noise = noises(50)
    x = sample(denoiser, OdeSampler(solver=solver, steps=steps, clamp=None), GRID, noise)
    exact = 80 * noise(0) * S / math.sqrt(S**2 + 80**2)
    assert float(((x - exact) / exact).abs().max()) < error


def test_heun_is_of_second_order():
    noise = noises(5)
    exact = 80 * noise(0) * S / math.sqrt(S**2 + 80**2)

    def error(solver, steps):
        x = sample(denoiser, OdeSampler(solver=solver, steps=steps, clamp=None), GRID, noise)
        return float(((x - exact) / exact).abs().max())

    assert 1.7 < error("euler", 40) / error("euler", 80) < 2.4
    assert error("heun", 40) / error("heun", 80) > 3


@pytest.mark.parametrize(
    "sampler",
    [
        OdeSampler(steps=7, clamp=None),
        OdeSampler(solver="heun", steps=7, clamp=None),
        ConsistencySampler(),
        ConsistencySampler(middle_sigmas=(2.0, 0.5)),
    ],
)
def test_nfe_counts_the_calls(sampler):
    calls = []

    def counted(x, sigma):
        calls.append(1)
        return denoiser(x, sigma)

    sample(counted, sampler, GRID, noises(3))
    assert len(calls) == sampler.nfe


def test_published_nfe_are_properties_of_the_samplers():
    assert OdeSampler(steps=250).nfe == 250
    assert OdeSampler(solver="heun", steps=40).nfe == 79
    assert ConsistencySampler(middle_indices=(440,)).nfe == 2


def test_clamping_bounds_every_denoised_latent():
    noise = noises(1000)
    assert float(sample(denoiser, OdeSampler(steps=50, clamp=0.3), GRID, noise).abs().max()) <= 0.3 + 1e-9
    assert float(sample(denoiser, OdeSampler(steps=50, clamp=None), GRID, noise).abs().max()) > 0.6


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (ConsistencySampler, {"middle_indices": (640,)}, "inside the grid"),
        (ConsistencySampler, {"middle_indices": (0,)}, "inside the grid"),
        (ConsistencySampler, {"middle_indices": (440, 320)}, "noisiest first"),
        (ConsistencySampler, {"middle_sigmas": (0.0,)}, "middle_sigmas: .*positive"),
        (ConsistencySampler, {"middle_sigmas": (1.0,), "middle_indices": (3,)}, "found both"),
        (OdeSampler, {"steps": 1}, "expected 2 or more"),
        (OdeSampler, {"clamp": -1.0}, "expected a positive number"),
    ],
)
def test_impossible_samplers_are_refused(cls, values, message):
    with pytest.raises(ValueError, match=message):
        cls(**values)


def images(settings: Sampling, draw: int = 0, f=consistency_function) -> np.ndarray:
    def decode(x):
        return (x.clamp(-1, 1) * 127 + 128).to(torch.uint8).permute(0, 2, 3, 1).numpy()

    sampler = ConsistencySampler(middle_indices=(440,))
    made = generate(f, decode, sampler, settings, GRID, draw, (3, 4, 4), torch.device("cpu"))
    return np.stack(list(made))


def test_an_image_depends_on_its_index_and_draw_alone():
    few, many = images(Sampling(num_images=5, batch=4)), images(Sampling(num_images=11, batch=4))
    assert few.shape == (5, 4, 4, 3)
    np.testing.assert_array_equal(few, many[:5])
    assert not np.array_equal(few, images(Sampling(num_images=5, batch=4), draw=1))
    assert len({image.tobytes() for image in many}) == 11


def test_noise_of_an_image_does_not_depend_on_its_neighbours():
    together = image_noise(0, 1, range(0, 6), (2, 3))
    torch.testing.assert_close(together[4], image_noise(0, 1, range(4, 5), (2, 3))[0], rtol=0, atol=0)
    assert not torch.equal(together[4], image_noise(0, 0, range(4, 5), (2, 3))[0])


def test_latents_that_are_not_finite_name_their_image():
    def broken(x, sigma):
        x = consistency_function(x, sigma)
        return torch.where(torch.arange(len(x)).view(-1, 1, 1, 1) == 2, torch.nan, x)

    with pytest.raises(FloatingPointError, match="image 2 of draw 0: expected finite latents"):
        images(Sampling(num_images=8, batch=4), f=broken)


def test_full_batches_round_the_number_of_images_up():
    assert Sampling(num_images=50_000, batch=256, full_batches=True).count == 50_176  # what the authors scored
    assert Sampling(num_images=50_000, batch=256).count == 50_000
    assert Sampling(num_images=512, batch=256, full_batches=True).count == 512


def test_every_image_asked_for_is_made_and_no_surplus():
    pixels = torch.randint(256, (6, 16, 16, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8).numpy()

    def images(**options):
        settings = Sampling(num_images=5, batch=3, **options)
        made = generate(
            lambda x, sigma: x, lambda z: pixels[: len(z)], ConsistencySampler(), settings, GRID, 0, (1, 2, 2), "cpu"
        )
        return list(made)

    assert len(images()) == 5 and len(images(full_batches=True)) == 6
    assert all(np.array_equal(a, b) for a, b in zip(images(), pixels[[0, 1, 2, 0, 1]], strict=True))


# --- the job ----------------------------------------------------------------------------------------------------------

NETWORK = Network(channels=8, channel_mult=(1,), blocks=1, attention_resolutions=(), head_channels=8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder with weights of a network, a small autoencoder, and statistics of its latents."""
    folder = tmp_path_factory.mktemp("weights")
    model = autoencoder.create(TrainedAutoencoder(block_out_channels=(8, 8, 8), norm_groups=4))
    (folder / "vae").mkdir()
    autoencoder.save(model, folder / "vae")
    channels, side = model.config.latent_channels, 16 // autoencoder.downsampling(model)
    network = UNet(NETWORK, channels, side, generator(0, "initial-weights"))
    for name in ("step1-ema0.5", "step2-ema0.5"):
        with torch.no_grad():
            network.output_conv.bias += 0.1
        write_tensors(folder / f"{name}.safetensors", network.state_dict(), {"latent_shape": [channels, side, side]})
    z = torch.randn(64, channels, side, side, generator=torch.Generator().manual_seed(0))
    write_tensors(folder / "statistics.safetensors", statistics(z, Encoding()).tensors())
    return folder


def command(weights, out, count: int, *words: str) -> list[str]:
    settings = {
        "recipe": 1,
        "sampling": plain(Sampling(num_images=count, batch=8, draws=(0, 1), grid_images=4)),
        "samplers": {"one": plain(ConsistencySampler())},
        "wanted": [["step1-ema0.5", "one"], ["step2-ema0.5", "one"]],
        "network": plain(NETWORK),
        "scaling": plain(Scaling(sigma_min=0.002)),
        "grid": plain(NoiseGrid()),
        "encoding": {"batch": 4},
    }
    made = [sys.executable, "-m", "lct.jobs.sample", "--settings", json.dumps(settings), "--train", str(weights)]
    made += ["--statistics", str(weights / "statistics.safetensors"), "--autoencoder", str(weights / "vae")]
    return [*made, "--out", str(out / "run" / "s0"), "--device", "cpu", *words]


@pytest.mark.slow
def test_images_are_the_same_for_any_number_of_workers(weights, tmp_path):
    found = []
    for number in (1, 2):
        out = tmp_path / str(number)
        done = subprocess.run(
            command(weights, out, 21, "--workers", str(number)), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("sample run s0: 21 images each by one, one")
        kinds = (".zip", ".json", ".png")
        files = [p for p in out.rglob("*") if p.suffix in kinds and not p.name.endswith(("run.json", "settings.json"))]
        found.append({path.relative_to(out): path.read_bytes() for path in files})
    assert len(found[0]) == 4 * 3 and found[0] == found[1]
    assert len({content for path, content in found[0].items() if path.suffix == ".zip"}) == 4


class Killed(BaseException):
    """In the place of kill -9: nothing of the job catches it."""


def contents(out) -> dict:
    files = [
        path for path in out.rglob("d*") if path.suffix in (".zip", ".json", ".png") and "run.json" not in path.name
    ]
    return {path.relative_to(out): path.read_bytes() for path in files}


def test_a_killed_sampling_goes_on_from_its_last_batch_to_the_same_bytes(weights, tmp_path, monkeypatch):
    sampled, last = [], [math.inf]

    class Worker(jobs_sample.SamplingWorker):
        def __call__(self, batch):
            if len(sampled) >= last[0]:
                raise Killed
            sampled.append(batch)
            return super().__call__(batch)

    def start(folder, most=math.inf):
        last[0] = most
        sampled.clear()
        options = command(weights, folder, 21)
        values = dict(zip(options[3::2], options[4::2], strict=True))
        paths = {key: Path(values[f"--{key}"]) for key in ("train", "statistics", "autoencoder", "out")}
        jobs_sample.sample(json.loads(values["--settings"]), "cpu", **paths)
        return len(sampled)

    monkeypatch.setattr(jobs_sample, "SamplingWorker", Worker)
    assert start(tmp_path / "undisturbed") == 12  # 2 weights, 2 draws, 3 batches of 8, 8 and 5
    for most in (4, 4, 2):  # the last of these batches is being encoded when the job is killed
        with pytest.raises(Killed):
            start(tmp_path / "killed", most)
        shutil.rmtree(tmp_path / "killed/run/s0", ignore_errors=True)  # as Snakemake does before it starts a job again
    (part,) = (tmp_path / "killed").rglob("*.part")
    part.write_bytes(part.read_bytes()[:-9])
    whole = sorted((tmp_path / "killed").rglob("d*.zip"))
    assert len(whole) == 2, "three batches each"
    assert start(tmp_path / "killed") == 6 and not any(batch[:3] == ("step1-ema0.5", "one", 0) for batch in sampled)
    assert not list((tmp_path / "killed").rglob("*.part"))
    expected = contents(tmp_path / "undisturbed/run/s0")
    assert len(expected) == 4 * 4 and len({path.name for path in expected if path.suffix == ".png"}) == 2
    settings = {path for path in expected if path.name.endswith("settings.json")}
    assert contents(tmp_path / "killed/run/s0") == expected
    assert len(settings) == 4
    assert start(tmp_path / "killed") == 0, "whole sets that are in their place are not sampled again"


def children(process: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True, check=False)
    return [int(number) for number in found.stdout.split()]


@pytest.mark.parametrize("victim", ["worker", "job"])
@pytest.mark.slow
def test_a_killed_process_leaves_no_images_and_no_process(weights, tmp_path, victim):
    process = subprocess.Popen(
        command(weights, tmp_path, 100_000, "--workers", "2"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300  # two processes load torch
    while not list(tmp_path.rglob(".*.partial")) and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = children(process.pid)
    assert len(workers) >= 2
    os.kill(workers[-1] if victim == "worker" else process.pid, signal.SIGKILL)
    output, log = process.communicate(timeout=60)
    if victim == "worker":
        assert process.returncode == 1, log
        assert output == "error: worker: expected it to finish, found it killed; run the same command again\n"
    while any(os.path.exists(f"/proc/{worker}") for worker in workers) and time.monotonic() < deadline + 30:
        time.sleep(0.05)
    assert not any(os.path.exists(f"/proc/{worker}") for worker in workers)
    assert not list(tmp_path.rglob("*.zip"))
