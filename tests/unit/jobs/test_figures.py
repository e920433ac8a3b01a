"""Figure 1: distributions against NumPy and SciPy, temporal differences against their formula, the job, the report."""

import json
import math
import shutil
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image

from lct.config.claims import BOXES
from lct.config.schema import plain
from lct.data import imageset
from lct.data.distribution import describe, outliers, spaced
from lct.data.settings import Encoding
from lct.files.atomic import write_json
from lct.files.lock import acquire
from lct.files.records import mismatch
from lct.files.tensors import write_tensors
from lct.jobs import figure1 as figure_job
from lct.jobs import figure2, figure3
from lct.jobs.job import InterruptedJobError
from lct.networks.settings import Network
from lct.plan import files as stage_files
from lct.plan.paths import PICTURES, manifest
from lct.plan.plan import Plan
from lct.report.collect import collect
from lct.report.plotting import box_plots, picture, pictures
from lct.report.render import render
from lct.schedules import Curriculum
from lct.training.settings import Training
from lct.training.trainer import Trainer
from tests.helpers import ROOT
from tests.helpers.fake_tables import fake_tables, loaded
from tests.helpers.latents import statistics

TINY = Network(channels=8, channel_mult=(1,), blocks=1, attention_resolutions=(), head_channels=8)
TRAINING = Training(network=TINY, curriculum=Curriculum(kind="constant", s1=20), batch=8, steps=6, emas=(0.0,))


def draws(kind: str, count: int = 40_000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return {
        "normal": lambda: rng.normal(3.0, 7.0, count),
        "uniform": lambda: rng.uniform(-1, 1, count),
        "skewed": lambda: rng.exponential(2.0, count),
        "heavy": lambda: rng.standard_t(2, count),
        "levels": lambda: rng.integers(0, 256, count) / 127.5 - 1,
    }[kind]()


# --- distributions ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["normal", "uniform", "skewed", "heavy", "levels"])
@pytest.mark.parametrize("count", [40_000, 1001, 5])
def test_numbers_of_a_box_match_numpy_and_scipy(kind, count):
    values = draws(kind, count)
    found = describe(values.reshape(-1, 1))
    x = scipy.stats.zscore(values)
    q1, median, q3 = np.percentile(x, [25, 50, 75])
    np.testing.assert_allclose(found["quartiles"], [q1, median, q3], rtol=1e-12, atol=1e-13)
    for reach, name in ((1.5, "inner"), (3.0, "outer")):
        low, high = q1 - reach * scipy.stats.iqr(x), q3 + reach * scipy.stats.iqr(x)
        np.testing.assert_allclose(found[f"{name}_fences"], [low, high], rtol=1e-12, atol=1e-13)
        assert found[f"beyond_{name}"] == np.mean((x < low) | (x > high))
    low, high = found["inner_fences"]
    inside = x[(x >= low) & (x <= high)]
    np.testing.assert_allclose(found["whiskers"], [inside.min(), inside.max()], rtol=1e-12)
    assert found["excess_kurtosis"] == pytest.approx(scipy.stats.kurtosis(values), rel=1e-10, abs=1e-12)
    assert found["max_abs"] == pytest.approx(np.abs(x).max(), rel=1e-12) and found["count"] == count
    assert (found["mean"], found["sd"]) == pytest.approx((values.mean(), values.std()), rel=1e-12)


def test_float32_values_are_described_in_float64():
    values = (1000 + draws("normal")).astype(np.float32)
    assert describe(values)["sd"] == pytest.approx(values.astype(np.float64).std(), rel=1e-12)


def test_heavy_tails_are_flagged_and_gaussian_ones_are_not():
    rng = np.random.default_rng(1)
    gaussian = rng.normal(size=200_000)
    impulsive = np.where(rng.random(200_000) < 0.005, 30.0, 1.0) * gaussian
    calm, wild = describe(gaussian), describe(impulsive)
    assert abs(calm["excess_kurtosis"]) < 0.05 and calm["beyond_outer"] < 1e-5 and calm["max_abs"] < 6
    assert calm["beyond_inner"] == pytest.approx(0.006977, rel=0.1)  # of a Gaussian: 0.7 %
    assert wild["excess_kurtosis"] > 50 and wild["beyond_outer"] > 0.003 and wild["max_abs"] > 20


@pytest.mark.parametrize("values", [[], [1.0, 1.0], [1.0, math.nan], [1.0, math.inf]])
def test_values_without_a_spread_are_refused_in_one_line(values):
    with pytest.raises(ValueError, match="expected finite values that vary") as error:
        describe(np.array(values))
    assert "\n" not in str(error.value)


def test_drawn_outliers_hold_the_extremes_and_stay_apart():
    values = draws("heavy")
    drawn, found = np.array(outliers(values, most=30, gap=0.1)), describe(values)
    x = scipy.stats.zscore(values)
    np.testing.assert_allclose([drawn[0], drawn[-1]], [x.min(), x.max()])
    low, high = found["inner_fences"]
    assert ((drawn < low) | (drawn > high)).all() and np.isin(drawn.round(9), x.round(9)).all()
    for side in (drawn[drawn < 0], drawn[drawn > 0]):
        assert 5 < len(side) <= 31 and np.diff(side).min() >= 0.1 - 1e-12
    assert outliers(draws("uniform")) == []


def test_spaced_indices_cover_the_whole():
    assert spaced(10, 100).tolist() == list(range(10)) and spaced(10, 5).tolist() == [0, 2, 4, 6, 8]
    assert len(set(spaced(126_000, 2000).tolist())) == 2000 and spaced(0, 5).tolist() == []


# --- temporal differences -----------------------------------------------------------------------------------------
def test_temporal_differences_follow_their_formula():
    """An untrained network answers zero: f(x, sigma) = c_skip x, so the difference is known in closed form."""
    data = 0.5 * torch.randn(40, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    trainer = Trainer(TRAINING, data, 0, torch.device("cpu"))
    drawn = trainer.draw(11)
    x, noise, index = (value.double().numpy() for value in (drawn.x, drawn.noise, drawn.index))
    sigmas = TRAINING.grid.sigmas(21)
    t, r = (sigmas[index.astype(int) + later][:, None, None, None] for later in (0, 1))
    expected = [0.25 / ((s - 0.002) ** 2 + 0.25) * (x + s * noise) for s in (t, r)]
    found = trainer.temporal_difference(11)
    np.testing.assert_allclose(found.numpy(), expected[0] - expected[1], rtol=1e-3, atol=1e-4)
    assert not found.requires_grad
    terms = trainer.terms(11)  # the loss is a size of the same difference: pseudo-Huber of its mean square, over t - r
    c = 0.00054 * math.sqrt(32)
    square = np.square(found.double().numpy()).mean((1, 2, 3))
    loss = (np.sqrt(square + c**2) - c) / (t - r).ravel()
    assert float(terms.consistency) == pytest.approx(loss.mean(), rel=1e-4)


# --- the job ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Images with a black border, and latents of theirs."""
    root = tmp_path_factory.mktemp("given")
    rng = np.random.default_rng(0)
    images = np.zeros((40, 16, 16, 3), np.uint8)
    images[:, 4:] = rng.integers(0, 256, (40, 12, 16, 3))
    write_json(manifest(str(root / "train.zip")), imageset.write_imageset(root / "train.zip", images))
    z = torch.from_numpy(3 + 2 * rng.standard_t(3, (40, 4, 4, 4))).float()
    write_tensors(root / "latents.safetensors", {"latents": z})
    write_tensors(root / "statistics.safetensors", statistics(z, Encoding()).tensors())
    return root


def job(given: Path, out: Path, **changes) -> SimpleNamespace:
    cost = {"images": 40, "values": 4096, "pairs": 20} | changes
    return SimpleNamespace(
        settings={"recipe": 1, "figure": cost, "seed": 0, "training": plain(TRAINING)},
        device="cpu",
        images=given / "train.manifest.json",
        latents=given / "latents.safetensors",
        statistics=given / "statistics.safetensors",
        work=out / "work",
        out=out / "digits.json",
        pictures=[out / f"digits.{kind}" for kind in PICTURES],
    )


@pytest.fixture(scope="module")
def made(given, tmp_path_factory):
    arguments = job(given, tmp_path_factory.mktemp("made"))
    line = figure_job.figure1(**vars(arguments))
    return arguments, json.loads(arguments.out.read_text()), line


def test_the_job_writes_numbers_and_pictures(made):
    arguments, numbers, line = made
    boxes = {box["id"]: box for box in numbers["boxes"]}
    assert list(boxes) == list(BOXES)
    assert (numbers["intervals"], numbers["points"], numbers["steps"], numbers["images"]) == (20, 21, 6, 40)
    assert boxes["pixels"]["count"] == 40 * 768 and boxes["reduced"]["count"] == 40 * 48
    assert boxes["td-pixels"]["count"] == 24 * 48 and boxes["td-latents"]["count"] == 24 * 64  # 20 in full batches of 8
    assert boxes["z"]["mean"] == pytest.approx(3, abs=0.2) and boxes["x"]["mean"] == pytest.approx(0, abs=1e-6)
    assert "beyond the outer fences" in line
    assert (
        arguments.pictures[0].read_bytes().startswith(b"<?xml")
        and b"<dc:date>" not in arguments.pictures[0].read_bytes()
    )
    with Image.open(arguments.pictures[1]) as picture:
        assert picture.size[0] > 1500
    assert arguments.pictures[2].read_bytes().startswith(b"%PDF")
    assert all(mismatch(path) is None for path in (arguments.out, *arguments.pictures))
    assert not list(arguments.work.rglob("*.safetensors"))


def test_pixel_and_latent_boxes_are_those_of_the_files(given, made):
    boxes = {box["id"]: box for box in made[1]["boxes"]}
    with imageset.open_checked(given / "train.manifest.json") as images:
        pixels = images.array() / 127.5 - 1
    assert boxes["pixels"]["quartiles"] == pytest.approx(describe(pixels)["quartiles"], rel=1e-6)
    areas = pixels.reshape(40, 4, 4, 4, 4, 3).mean((2, 4))
    spread = areas.std(0, ddof=1)
    assert (spread == 0).any(), "the black border never varies"
    y = (areas - areas.mean(0)) / np.where(spread > 0, spread, 1)
    assert boxes["reduced"]["excess_kurtosis"] == pytest.approx(scipy.stats.kurtosis(y.ravel()), rel=1e-4)


def test_equal_settings_give_equal_bytes_and_a_killed_job_goes_on(given, made, tmp_path, monkeypatch):
    reference, arguments = made[0], job(given, tmp_path)
    calls = []

    def stop_in_the_second(*words):
        calls.append(words)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return Trainer(*words)

    monkeypatch.setattr(figure_job, "Trainer", stop_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        figure_job.figure1(**vars(arguments))
    assert not arguments.out.exists() and len(list(tmp_path.rglob("pixels/state-*.safetensors"))) == 1
    monkeypatch.undo()
    figure_job.figure1(**vars(arguments))
    for first, second in zip((reference.out, *reference.pictures), (arguments.out, *arguments.pictures), strict=True):
        assert first.read_bytes() == second.read_bytes(), second.name


def test_a_figure_that_is_asked_to_stop_goes_on_to_the_same_bytes(given, made, tmp_path, monkeypatch):
    reference, arguments = made[0], job(given, tmp_path)

    class Asked:
        reason, calls, left = "SIGUSR1", 0, 0

        def __call__(self):
            self.calls += 1
            return self.calls == 4

        def leave(self):
            self.left += 1

    asked = Asked()
    monkeypatch.setattr(figure_job, "Stop", lambda: asked)
    with pytest.raises(InterruptedJobError, match=r"state saved at step 4 of \d+ \(SIGUSR1\)"):
        figure_job.figure1(**vars(arguments))
    assert asked.left == 1 and not arguments.out.exists()
    figure_job.figure1(**vars(arguments))
    assert arguments.out.read_bytes() == reference.out.read_bytes()


def test_a_copy_of_a_figure_waits_and_takes_what_is_published(given, tmp_path, monkeypatch):
    arguments = job(given, tmp_path)
    line = figure_job.figure1(**vars(arguments))
    written = arguments.out.stat().st_mtime_ns
    monkeypatch.setattr(figure_job, "Trainer", None)  # it trains no step
    held = acquire(arguments.work / "lock", "first copy")
    threading.Timer(1.0, held.close).start()
    assert figure_job.figure1(**vars(arguments)) == line and held.closed
    assert arguments.out.stat().st_mtime_ns == written


def test_fewer_images_and_values_are_spread_over_the_data(given, tmp_path):
    arguments = job(given, tmp_path, images=10, values=16, pairs=1)
    figure_job.figure1(**vars(arguments))
    counts = {box["id"]: box["count"] for box in json.loads(arguments.out.read_text())["boxes"]}
    assert counts == {"pixels": 160, "reduced": 160, "z": 160, "x": 160, "td-pixels": 128, "td-latents": 128}


def test_statistics_of_other_latents_are_refused(given, tmp_path):
    z = torch.randn(40, 4, 4, 4)
    write_tensors(tmp_path / "statistics.safetensors", statistics(z, Encoding()).tensors())
    arguments = job(given, tmp_path)
    arguments.statistics = tmp_path / "statistics.safetensors"
    with pytest.raises(ValueError, match="standard deviation 0.5 within 2 %"):
        figure_job.figure1(**vars(arguments))


# --- the plan and the report --------------------------------------------------------------------------------------
@pytest.fixture
def project(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path


def test_every_scale_makes_the_figure_for_its_datasets():
    for scale, datasets in (("smoke", 1), ("mini", 3), ("paper", 3)):
        plan = Plan(ROOT, {"scale": scale})
        numbers = stage_files.figure_numbers(plan)
        assert len(numbers) == 3 * datasets and set(numbers) <= set(stage_files.report_inputs(plan, "tables"))
        _, training = plan.figures["figure1"]
        assert training.curriculum.intervals(0, 100) == 20 and training.objective.loss == "pseudo-huber"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: constant, s1: 20", "kind: ict, s1: 20", "training at scale mini: expected a consistency objective"),
        ("method: ilct", "method: ldm", "training at scale mini: "),
        ("method: ilct", "method: nothing", "config/figures/figure1.yaml: method: expected a method of"),
        ("mini: {images: 6000", "mini: {images: 0", "images: expected a positive count"),
        ("pairs: 2048", "pears: 2048", "unknown key 'pears'"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(project, old, new, message):
    path = project / "config/figures/figure1.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message) as error:
        Plan(project, {"scale": "mini"})
    assert "\n" not in str(error.value)


def test_a_scale_that_is_not_listed_does_not_make_the_figure(project):
    path = project / "config/figures/figure1.yaml"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if "  smoke:" not in line))
    plan = Plan(project, {"scale": "smoke"})
    assert "figure1" not in plan.figures and not any("figure1" in path for path in stage_files.figure_numbers(plan))
    assert collect(plan, project).figures[0].id == "figure2"


def test_the_report_shows_each_dataset_or_says_that_it_was_not_run(made, tmp_path):
    plan = Plan(ROOT, {"scale": "mini"})
    done, missing = stage_files.figure_numbers(plan)[:2]
    (tmp_path / done).parent.mkdir(parents=True)
    (tmp_path / done).write_bytes(made[0].out.read_bytes())
    out = render(collect(plan, tmp_path), tmp_path)
    box = next(box for box in made[1]["boxes"] if box["id"] == "td-latents")
    for name in ("figures.html", "report.md"):
        page = out[name]
        assert "Figure 1. Outliers" in page and page.count("temporal differences: latents x") == 1
        assert f"{box['excess_kurtosis']:.2f}".replace("-", "\N{MINUS SIGN}") in page
        assert f"snakemake {missing} --config scale=mini" in page and f"snakemake {done}" not in page
    assert out["figures.html"].count("<svg") == 2, "figure 4 needs no job"
    assert 'id="figure-figure1-digits-' in out["figures.html"] and 'id="figure-figure4-' in out["figures.html"]
    assert f"../../{done.removesuffix('json')}png" in out["report.md"]


def test_a_report_without_figures_has_no_section_for_them(tmp_path):
    assert "Figure 1" not in render(loaded(fake_tables(curves=False)), tmp_path)["figures.html"]


@pytest.mark.parametrize("extreme", [2.0, 40.0, 3000.0])
def test_any_extent_can_be_drawn(made, extreme):
    numbers = json.loads(json.dumps(made[1]))
    numbers["boxes"][0]["drawn"] = [-extreme, extreme]
    draw = partial(box_plots, numbers)
    assert picture(draw, "svg") == picture(draw, "svg")
    assert pictures(draw, ("svg", "png", "pdf")) == {kind: picture(draw, kind) for kind in ("svg", "png", "pdf")}


# --- figures 2 and 3 ----------------------------------------------------------------------------------------------
@pytest.fixture
def latents(tmp_path):
    """Correlated latents in two clusters, with their statistics."""
    draws = torch.Generator().manual_seed(0)
    z = torch.randn(300, 4, 4, 4, generator=draws) + 3 * torch.randint(0, 2, (300, 1, 1, 1), generator=draws)
    write_tensors(tmp_path / "latents.safetensors", {"latents": z})
    write_tensors(tmp_path / "statistics.safetensors", statistics(z, Encoding()).tensors())
    paths = {"latents": tmp_path / "latents.safetensors", "statistics": tmp_path / "statistics.safetensors"}
    return paths | {
        "device": "cpu",
        "out": tmp_path / "f.json",
        "pictures": [tmp_path / f"f.{kind}" for kind in PICTURES],
    }


def test_figure_2_draws_the_functions_of_training_and_their_derivatives(latents):
    """Against closed forms, and differences of the values for the slopes."""
    figure2.figure2(settings={"recipe": 1, "kind": "losses"}, **latents)
    numbers = json.loads(latents["out"].read_text())
    c = 0.00054 * math.sqrt(64)
    assert numbers["c"] == pytest.approx(c) and numbers["dimension"] == 64
    e = np.array(numbers["residual"])
    forms = {
        "pseudo-huber": (lambda e: np.sqrt(e**2 + 1) - 1, lambda e: e / np.sqrt(e**2 + 1)),
        "cauchy": (lambda e: np.log(1 + e**2 / 2), lambda e: 2 * e / (2 + e**2)),
        "geman-mcclure": (lambda e: 2 * e**2 / (e**2 + 4), lambda e: 16 * e / (e**2 + 4) ** 2),
    }  # in units of c
    fine = np.linspace(0, 1000, 2_000_001)
    for one in numbers["curves"]:
        value, slope = forms[one["name"]]
        np.testing.assert_allclose(one["value"], value(e) / value(3.0), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(one["slope"], slope(e) / slope(fine).max(), rtol=1e-4, atol=1e-9)
        assert one["tail"] == pytest.approx(slope(10.0) / slope(fine).max(), rel=1e-4)
    assert all(mismatch(path) is None for path in (latents["out"], *latents["pictures"]))


def test_figure_3_measures_what_coupling_does(latents):
    settings = {"recipe": 1, "kind": "couplings", "seed": 0, "groups": [4, 32], "images": 300, "pairs": 256}
    settings["random"] = {"shape": [1, 2, 2], "group": 32, "pairs": 256}
    figure3.figure3(settings=settings, **latents)
    first = latents["out"].read_bytes()
    numbers = json.loads(first)
    independent, small, large = numbers["couplings"]
    assert [one["group"] for one in numbers["couplings"]] == [0, 4, 32]
    assert independent["distance"] == pytest.approx(1 + 0.25, rel=0.1)  # |x - n|^2 / d of spreads 0.5 and 1
    assert abs(independent["cosine"]) < 0.1 < large["cosine"]
    assert numbers["random"]["cosine"] > 0.5  # four dimensions are coupled strongly
    assert large["distance"] < small["distance"] < independent["distance"]
    assert large["variance"] < independent["variance"]
    assert all(sum(shares) == pytest.approx(1) for shares in numbers["histograms"]["shares"].values())
    figure3.figure3(settings=settings, **latents)
    assert latents["out"].read_bytes() == first
    assert all(path.stat().st_size > 1000 and mismatch(path) is None for path in latents["pictures"])


def test_the_variance_near_a_noisy_sample_is_what_a_gaussian_has():
    """x ~ N(0, 1/4) in one dimension and independent noise: Var(x | x + sigma n) = 1 / (4 + 1 / sigma^2) = 0.2."""
    draws = torch.Generator().manual_seed(0)
    x = 0.5 * torch.randn(4000, 1, 1, 1, generator=draws)
    found, _ = figure3.measure(x, torch.randn(4000, 1, 1, 1, generator=draws), torch.arange(4000))
    assert found["variance"] == pytest.approx(0.2, rel=0.08) and abs(found["cosine"]) < 0.05


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: couplings", "kind: losses", "groups: expected sizes from 2 on, of `couplings` alone"),
        ("groups: [2, 16, 128, 512]", "groups: [1]", "groups: expected sizes"),
        ("kind: couplings", "kind: coupling", "kind: expected one of"),
    ],
)
def test_wrong_kinds_are_refused_in_one_line(project, old, new, message):
    path = project / "config/figures/figure3.yaml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message) as error:
        Plan(project, {"scale": "mini"})
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_figures_of_the_paper_are_left_out_of_a_report_on_an_own_dataset(project):
    (project / "config/datasets/mine.yaml").write_text(
        "title: mine\nsource: {kind: digits}\nresolution: 16\ntrain: 100\nheldout: 50\n"
    )
    plan = Plan(project, {"scale": "mini", "dataset": "mine"})
    assert set(plan.figures) == {"figure1", "figure2", "figure3"} and stage_files.report_figures(plan) == []
    assert list(Plan(project, {"scale": "mini"}).figures) == [f"figure{i}" for i in range(1, 12)]
