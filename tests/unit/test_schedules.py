"""Schedules against formulas written a second time (NumPy, SciPy) and against printed tables."""

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy.special import erf

from lct.schedules import (
    Curriculum,
    IndexDistribution,
    LearningRate,
    NoiseGrid,
    RobustScale,
    residual_by_stage,
    target_rate,
)

GRID = NoiseGrid()
STAGES = (10, 20, 40, 80, 160, 320, 640)
LATENT_ELEMENTS = 4 * 32 * 32


def karras(points):
    ramp = np.linspace(0, 1, points)
    return (80 ** (1 / 7) * (1 - ramp) + 0.002 ** (1 / 7) * ramp) ** 7


# Noise grid


@pytest.mark.parametrize("points", [2, 11, 641, 1000, 1281])
def test_grid_is_the_karras_grid_with_exact_ends(points):
    sigmas = GRID.sigmas(points)
    np.testing.assert_allclose(sigmas, karras(points), rtol=1e-12)
    assert sigmas.dtype == np.float64 and (np.diff(sigmas) < 0).all()
    assert sigmas[0] == 80.0 and sigmas[-1] == 0.002


@pytest.mark.parametrize(
    ("index", "points", "printed"),
    [
        (440, 641, "0.36932"),
        (400, 641, "0.74338"),
        (420, 641, "0.52856"),
        (460, 641, "0.25310"),
        (480, 641, "0.16975"),
        (320, 641, "2.51522"),
        (640, 1281, "2.51522"),
        (300, 641, "3.309"),
        (315, 641, "2.696"),
        (335, 641, "2.033"),
        (360, 641, "1.404"),
    ],
)
def test_noise_levels_of_the_two_step_samplers(index, points, printed):
    assert f"{GRID.sigma(index, points):.{len(printed) - 2}f}" == printed


def test_refining_a_grid_keeps_its_points():
    np.testing.assert_allclose(GRID.sigmas(1281)[::2], GRID.sigmas(641), rtol=1e-12)


# Curriculum


def test_ict_stages_of_the_final_celeba_run():
    curriculum = Curriculum(s0=10, s1=640)
    total = 27_000 // 128 * 1400
    assert (total, curriculum.stage_steps(total), curriculum.stages) == (294_000, 42_000, 7)
    points = [curriculum.intervals(stage * 42_000, total) + 1 for stage in range(7)]
    assert points == [11, 21, 41, 81, 161, 321, 641]
    assert [curriculum.intervals(stage * 42_000 - 1, total) + 1 for stage in range(1, 8)] == points
    assert curriculum.intervals(total + 210, total) == 640  # the pass too many of the authors' loop


@pytest.mark.parametrize(
    ("s0", "s1", "total"), [(10, 640, 7), (10, 1280, 1000), (10, 100, 777), (4, 4, 10), (3, 50, 999)]
)
def test_ict_rule_restated(s0, s1, total):
    curriculum = Curriculum(s0=s0, s1=s1)
    stage = math.floor(total / (math.log2(math.floor(s1 / s0)) + 1))
    expected = np.minimum(s0 * 2.0 ** np.floor(np.arange(total + 3) / stage), s1)
    assert [curriculum.intervals(k, total) for k in range(total + 3)] == expected.tolist()


@pytest.mark.parametrize("total", [1, 10, 997])
def test_progressive_rule_of_the_original_consistency_models(total):
    curriculum = Curriculum(kind="progressive", s0=2, s1=150)
    k = np.arange(total + 1)
    expected = np.maximum(np.ceil(np.sqrt(k / total * (151**2 - 2**2) + 2**2) - 1), 1)
    assert [curriculum.intervals(int(step), total) for step in k] == expected.tolist()
    assert (expected[0], expected[-1]) == (1, 150)
    assert curriculum.intervals(2 * total, total) == 150


def test_constant_curriculum_is_the_1000_point_grid_of_the_ldm():
    curriculum = Curriculum(kind="constant", s0=10, s1=999)
    assert {curriculum.intervals(k, 5) for k in range(8)} == {999}


# Index distribution


@pytest.mark.parametrize("points", [11, 21, 641])
def test_lognormal_probabilities_restated(points):
    z = erf((np.log(karras(points)) + 1.1) / (math.sqrt(2) * 2.0))
    expected = (z[:-1] - z[1:]) / (z[0] - z[-1])
    actual = IndexDistribution().probabilities(GRID.sigmas(points))
    np.testing.assert_allclose(actual, expected, rtol=1e-9)
    assert actual.shape == (points - 1,) and actual.min() > 0 and abs(actual.sum() - 1) < 1e-12


@pytest.mark.parametrize(("intervals", "percent"), [(10, 24.4), *((s, 36.6) for s in STAGES[1:])])
def test_share_of_samples_that_the_diffusion_loss_selects(intervals, percent):
    probabilities = IndexDistribution().probabilities(GRID.sigmas(intervals + 1))
    assert round(100 * probabilities[int(0.75 * (intervals + 1)) :].sum(), 1) == percent


def test_noise_levels_that_the_diffusion_loss_selects():
    assert f"{GRID.sigma(int(0.75 * 641), 641):.3f}" == "0.170"
    assert f"{GRID.sigma(int(0.75 * 11), 11):.3f}" == "0.085"


def test_uniform_distribution_with_and_without_the_last_point():
    sigmas = GRID.sigmas(1000)
    uniform = IndexDistribution(kind="uniform")
    np.testing.assert_allclose(uniform.probabilities(sigmas), np.full(999, 1 / 999))
    np.testing.assert_allclose(uniform.probabilities(sigmas, include_last=True), np.full(1000, 1 / 1000))
    lognormal = IndexDistribution().probabilities(sigmas, include_last=True)
    assert lognormal.shape == (1000,) and lognormal[-1] == 0 and abs(lognormal.sum() - 1) < 1e-12


# The scale c


def scale(law, intervals, **settings):
    return RobustScale(law=law, **settings).c(intervals, 10, LATENT_ELEMENTS, GRID)


def test_base_constant():
    assert f"{scale('constant', 640):.5f}" == "0.03456"
    assert scale("constant", 640, multiple=0.3) == pytest.approx(0.010368, rel=1e-12)
    assert scale("constant", 10, multiple=100.0) == pytest.approx(3.456, rel=1e-12)


def test_c0_by_value_holds_for_latents_of_any_size():
    small = [RobustScale(c0=0.03456, multiple=m).c(10, 10, d, GRID) for d in (64, 4096) for m in (1.0, 3.0)]
    assert small == pytest.approx([0.03456, 0.10368] * 2, rel=1e-12)
    adaptive = RobustScale(c0=0.03456, law="adaptive")
    assert adaptive.c(20, 10, 64, GRID) == scale("adaptive", 20)  # above s0 the law alone counts


@pytest.mark.parametrize(
    ("intervals", "printed"),
    list(zip(STAGES, ("0.03456", "0.013635", "0.006144", "0.002769", "0.001248", "0.000562", "0.000253"), strict=True)),
)
def test_adaptive_law_of_the_paper(intervals, printed):
    assert f"{scale('adaptive', intervals):.{len(printed) - 2}f}" == printed
    if intervals > 10:
        assert scale("adaptive", intervals) == pytest.approx(intervals**-1.15 * math.exp(-0.85), rel=1e-12)


def test_sigma_gap_law():
    assert f"{scale('nfe-sigma', 10):.4f}" == "0.1459"
    assert f"{scale('nfe-sigma', 640):.5f}" == "0.00228"
    assert scale("nfe-sigma", 80) == pytest.approx((80 ** (1 / 7) - 0.002 ** (1 / 7)) / 80, rel=1e-12)


def test_scale_held_from_a_stage_on():
    held = [scale("adaptive", s, from_intervals=40) for s in STAGES]
    np.testing.assert_allclose(held, [0.03456, 0.03456] + [0.00614442] * 5, rtol=1e-5)
    assert scale("adaptive", 640, from_intervals=80) == pytest.approx(0.00276883, rel=1e-5)


def test_the_residual_of_a_stage_is_the_root_of_its_mean_square():
    curve = {"intervals": [20, 10, 10, 20], "residual_rms": [0.5, 3.0, 4.0, None]}
    assert residual_by_stage(curve) == pytest.approx({10: math.sqrt(12.5), 20: 0.5})
    assert list(residual_by_stage(curve)) == [10, 20]
    assert residual_by_stage({"intervals": [10, 20]}) == {}  # a curve from before the column
    assert residual_by_stage({"intervals": [999], "residual_rms": [None]}) == {}  # the denoising objective


# Learning rate, target rate


def test_learning_rates():
    assert {LearningRate().at(k, 100) for k in (0, 50, 99, 200)} == {1e-4}
    cosine = LearningRate(kind="cosine", lr=1.0, warmup_steps=4, final_fraction=0.05)
    rates = np.array([cosine.at(k, 105) for k in range(105)])
    np.testing.assert_allclose(rates[:4], [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(rates[4:], 0.05 + 0.95 * np.cos(np.linspace(0, np.pi / 2, 101)) ** 2, rtol=1e-12)
    assert cosine.at(104, 105) == pytest.approx(0.05) == cosine.at(999, 105)


def test_target_rate_of_the_original_consistency_models():
    assert target_rate("constant", 0.0, 2, 150) == 0.0 == target_rate("adaptive", 0.0, 2, 150)
    assert target_rate("constant", 0.95, 2, 150) == 0.95
    assert target_rate("adaptive", 0.95, 2, 1) == pytest.approx(0.95**2)
    assert target_rate("adaptive", 0.95, 2, 150) == pytest.approx(0.95 ** (2 / 150))


# Bad input: one line that says where, what was expected, what was found


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Curriculum(s0=20, s1=10), "s0 <= s1"),
        (lambda: Curriculum(s0=0), "1 <= s0"),
        (lambda: Curriculum().stage_steps(6), "at least 7 steps"),
        (lambda: Curriculum().intervals(0, 6), "at least 7 steps"),
        (lambda: Curriculum().intervals(-1, 700), "step from 0"),
        (lambda: Curriculum(kind="constant").intervals(0, 0), "1 training step"),
        (lambda: NoiseGrid(sigma_min=80.0), "sigma_min < sigma_max"),
        (lambda: NoiseGrid(sigma_min=0.0), "0 < sigma_min"),
        (lambda: NoiseGrid(sigma_max=math.nan), "0 < sigma_min"),
        (lambda: NoiseGrid(rho=0.0), "rho"),
        (lambda: GRID.sigmas(1), "2 points"),
        (lambda: GRID.sigma(641, 641), "0 to 640"),
        (lambda: GRID.sigma(-1, 641), "0 to 640"),
        (lambda: IndexDistribution(p_std=0.0), "p_std"),
        (lambda: IndexDistribution(p_mean=1e6).probabilities(GRID.sigmas(11)), "p_mean"),
        (lambda: RobustScale(base=0.0), "positive base"),
        (lambda: RobustScale(multiple=-1.0), "positive base"),
        (lambda: RobustScale(c0=0.0), r"scale\.c0: expected a positive number, found 0\.0"),
        (lambda: RobustScale(law="adaptive", from_intervals=0), "from_intervals"),
        (lambda: RobustScale(from_intervals=40), "from_intervals"),
        (lambda: LearningRate(lr=0.0), "lr > 0"),
        (lambda: LearningRate(warmup_steps=-1), "warmup_steps"),
        (lambda: LearningRate(kind="cosine", final_fraction=2.0), "final_fraction"),
    ],
)
def test_bad_input_is_refused_in_one_line(make, says):
    with pytest.raises(ValueError, match=says) as error:
        make()
    assert "\n" not in str(error.value) and "expected" in str(error.value)


def test_settings_do_not_import_torch():
    modules = "lct.schedules, lct.losses.settings, lct.networks.settings"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_flow_law_draws_the_time_of_a_straight_path_uniformly():
    sigmas = NoiseGrid().sigmas(1000)
    law = IndexDistribution(kind="flow")
    p = law.probabilities(sigmas)
    assert p.shape == (999,) and p.sum() == pytest.approx(1) and (p > 0).all()
    assert law.probabilities(sigmas, include_last=True)[-1] == 0
    tau = sigmas[:-1] / (1 + sigmas[:-1])
    low, high = sigmas[-1] / (1 + sigmas[-1]), sigmas[0] / (1 + sigmas[0])
    for quarter in (0.25, 0.5, 0.75):  # the share of mass below each time is that time's place between the ends
        time = low + quarter * (high - low)
        assert p[tau <= time].sum() == pytest.approx(quarter, abs=0.01)
