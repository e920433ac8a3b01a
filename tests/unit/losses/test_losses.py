"""Distances, weights and objectives: parity with NumPy in float64, then properties and gradients."""

import sys
import types

import numpy as np
import pytest
import torch

from lct.losses import objective
from lct.losses.objective import (
    DISTANCES,
    consistency_terms,
    denoising_terms,
    diffusion_loss,
    low_noise_mask,
    named_distance,
    perturb,
    weight,
)
from lct.losses.settings import DiffusionTerm, Objective, Transport
from lct.schedules import IndexDistribution, NoiseGrid, RobustScale

B, SHAPE, POINTS = 12, (4, 3, 3), 41
FINAL = Objective(loss="cauchy", scale=RobustScale(law="adaptive"), diffusion=DiffusionTerm())  # but for transport

# rho(s) of each loss, written as in the authors' formulas, independently of the code
RHO = {
    "l2": lambda s, c: s,
    "pseudo-huber": lambda s, c: np.sqrt(s + c**2) - c,
    "cauchy": lambda s, c: np.log(0.5 * s + c**2) - 2 * np.log(c),
    "geman-mcclure": lambda s, c: 2 * s / (s + 4 * c**2),
}
REDUCE = {
    "mean": lambda rho, e, c: rho(e.mean(1), c),
    "sum": lambda rho, e, c: rho(e.sum(1), c),
    "elementwise": lambda rho, e, c: rho(e, c).mean(1),
}


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def batch(seed=0):
    """Online and target answers, clean latents, noise levels and indices of a batch, in float64."""
    sigmas = torch.from_numpy(NoiseGrid().sigmas(POINTS))
    index = torch.randint(0, POINTS - 1, (B,), generator=torch.Generator().manual_seed(seed))
    f, g, x = draw(3, B, *SHAPE, seed=seed + 1)
    return f, g, x, sigmas[index], sigmas[index + 1], index


# Distances


@pytest.mark.parametrize("c", [2.53e-4, 0.03456, 3.45])
@pytest.mark.parametrize(("loss", "form"), sorted(DISTANCES))
def test_distances_restated(loss, form, c):
    f, g = draw(2, B, *SHAPE)
    g[0] = f[0]
    e = (f.numpy() - g.numpy()).reshape(B, -1) ** 2
    actual = DISTANCES[loss, form](f, g, c)
    assert actual.shape == (B,) and actual.dtype == torch.float64
    np.testing.assert_allclose(actual.numpy(), REDUCE[form](RHO[loss], e, c), rtol=1e-9, atol=1e-12)


def test_every_loss_exists_in_every_form():
    assert set(DISTANCES) == {(loss, form) for loss in RHO for form in REDUCE}


@pytest.mark.parametrize("c", [1e-3, 0.03, 1.0])
@pytest.mark.parametrize("loss", sorted(RHO))
def test_distances_are_zero_at_zero_and_grow_with_the_residual(loss, c):
    residual = torch.linspace(0, 30, 200, dtype=torch.float64)[:, None]
    distance = DISTANCES[loss, "mean"](residual, torch.zeros_like(residual), c)
    assert distance[0] == 0 and (distance.diff() > 0).all()


def test_robust_losses_forgive_outliers_in_the_order_of_the_paper():
    small, large = torch.tensor([[0.01]]), torch.tensor([[100.0]])
    growth = {}
    for loss in RHO:
        distance = DISTANCES[loss, "mean"]
        growth[loss] = float(distance(large, 0 * large, 0.03) / distance(small, 0 * small, 0.03))
    assert growth["l2"] > growth["pseudo-huber"] > growth["cauchy"] > growth["geman-mcclure"]


def test_mean_form_is_the_sum_form_with_a_larger_scale():
    f, g = draw(2, B, *SHAPE)
    d = f[0].numel()
    torch.testing.assert_close(DISTANCES["cauchy", "mean"](f, g, 0.03), DISTANCES["cauchy", "sum"](f, g, 0.03 * d**0.5))
    huber_sum = DISTANCES["pseudo-huber", "sum"](f, g, 0.03 * d**0.5)
    torch.testing.assert_close(DISTANCES["pseudo-huber", "mean"](f, g, 0.03), huber_sum / d**0.5)


def test_small_residuals_keep_their_value_and_gradient_in_float32():
    f = torch.full((1, 4), 1e-6, requires_grad=True)
    distance = DISTANCES["pseudo-huber", "mean"](f, torch.zeros(1, 4), 0.03456)
    distance.sum().backward()
    assert distance.item() == pytest.approx(1e-12 / (2 * 0.03456), rel=1e-4)
    assert f.grad.sum().item() == pytest.approx(1e-6 / 0.03456, rel=1e-4)


@pytest.mark.parametrize(("loss", "form"), sorted(DISTANCES))
def test_gradients_are_finite_where_online_and_target_agree(loss, form):
    f = torch.zeros(2, 5, requires_grad=True)
    DISTANCES[loss, form](f, torch.zeros(2, 5), 2.5e-4).sum().backward()
    assert (f.grad == 0).all()


@pytest.mark.parametrize(("loss", "form"), sorted(DISTANCES))
def test_gradients_of_distances(loss, form):
    f, g = draw(2, 3, 4, seed=5)
    assert torch.autograd.gradcheck(lambda f: DISTANCES[loss, form](f, g, 0.5), f.requires_grad_())


# Weights and inputs


def test_weights_restated():
    *_, t, r, _ = batch()
    np.testing.assert_allclose(weight("inverse-gap", t, r, 0.5), 1 / (t.numpy() - r.numpy()))
    np.testing.assert_allclose(weight("uniform", t, r, 0.5), np.ones(B))
    np.testing.assert_allclose(weight("edm", t, None, 0.5), 1 / t.numpy() ** 2 + 4, rtol=1e-12)


def test_target_input_is_one_euler_step_with_the_clean_latents_as_denoiser():
    _, noise, x, t, r, _ = batch()
    wide = (-1, 1, 1, 1)
    x_t = perturb(x, noise, t)
    torch.testing.assert_close(x_t, x + t.view(wide) * noise)
    euler = x_t + (r - t).view(wide) * (x_t - x) / t.view(wide)
    torch.testing.assert_close(perturb(x, noise, r), euler)
    torch.testing.assert_close(euler, x + r.view(wide) * noise)


@pytest.mark.parametrize(("threshold", "first"), [(0.0, 0), (0.4, 16), (0.75, 30), (0.9, 36), (1.0, 41)])
def test_threshold_selects_the_low_noise_end(threshold, first):
    index = torch.arange(POINTS)
    assert low_noise_mask(index, POINTS, threshold).nonzero().flatten().tolist() == list(range(first, POINTS))


# Objectives


@pytest.mark.parametrize(
    "diffusion", [None, DiffusionTerm(), DiffusionTerm(threshold=0.4, weight=0.5, weighting="uniform")]
)
@pytest.mark.parametrize("weighting", ["inverse-gap", "uniform", "edm"])
@pytest.mark.parametrize("loss", sorted(RHO))
def test_consistency_objective_restated(loss, weighting, diffusion):
    f, g, x, t, r, index = batch()
    terms = consistency_terms(
        Objective(loss=loss, weighting=weighting, diffusion=diffusion), f, g, x, t, r, index, POINTS, 0.03
    )
    lam = {"inverse-gap": 1 / (t - r), "uniform": torch.ones_like(t), "edm": 1 / t**2 + 4}[weighting].numpy()
    m = ((f - g).numpy() ** 2).mean((1, 2, 3))
    expected = (lam * RHO[loss](m, 0.03)).mean()
    np.testing.assert_allclose(terms.consistency, expected, rtol=1e-9)
    low = 0.0
    if diffusion is not None:
        passing = index.numpy() >= int(diffusion.threshold * POINTS)
        assert 0 < passing.sum() < B
        w = (1 / t.numpy() ** 2 + 1 / 0.25) if diffusion.weighting == "edm" else np.ones(B)
        low = (w * ((f - x).numpy() ** 2).mean((1, 2, 3)))[passing].mean()
        expected = expected + diffusion.weight * low
    np.testing.assert_allclose(terms.diffusion, low, rtol=1e-9)
    np.testing.assert_allclose(terms.total, expected, rtol=1e-9)


@pytest.mark.parametrize(("loss", "c"), [("l2", 1.0), ("cauchy", 3.45)])
def test_denoising_objective_of_the_ldm_restated(loss, c):
    f, _, x, t, *_ = batch()
    terms = denoising_terms(Objective(kind="denoising", loss=loss, weighting="edm"), f, x, t, c)
    m = ((f - x).numpy() ** 2).mean((1, 2, 3))
    expected = ((1 / t.numpy() ** 2 + 4) * RHO[loss](m, c)).mean()  # a scalar weight per sample, no outer product
    np.testing.assert_allclose(terms.total, expected, rtol=1e-9)
    assert terms.consistency == 0 and terms.diffusion == terms.total


def test_gradient_reaches_the_online_answer_only():
    f, g, x, t, r, index = (v.requires_grad_() if v.is_floating_point() else v for v in batch())
    terms = consistency_terms(FINAL, f, g, x.detach(), t.detach(), r.detach(), index, POINTS, 0.03)
    terms.total.backward()
    assert g.grad is None and f.grad.abs().flatten(1).sum(1).min() > 0
    assert not terms.consistency.requires_grad and not terms.diffusion.requires_grad


def test_diffusion_term_reaches_the_selected_samples_only():
    f, _, x, t, r, index = batch()
    f.requires_grad_()
    terms = consistency_terms(FINAL, f, f, x, t, r, index, POINTS, 0.03)  # online equals target: no other gradient
    terms.total.backward()
    reached = f.grad.abs().flatten(1).sum(1) > 0
    assert (reached == low_noise_mask(index, POINTS, 0.75)).all() and reached.any() and not reached.all()


@pytest.mark.parametrize("threshold", [0.75, 1.0])
def test_a_batch_that_selects_nothing_adds_zero(threshold):
    f, g, x, t, r, _ = batch()
    f.requires_grad_()
    index = torch.zeros(B, dtype=torch.long)
    settings = Objective(diffusion=DiffusionTerm(threshold=threshold))
    terms = consistency_terms(settings, f, g, x, t, r, index, POINTS, 0.03)
    terms.total.backward()
    assert terms.diffusion == 0 and terms.total == terms.consistency and torch.isfinite(f.grad).all()


def test_parts_of_a_batch_add_up_to_the_whole():
    f, g, x, t, r, index = batch()
    whole = consistency_terms(FINAL, f, g, x, t, r, index, POINTS, 0.03)
    selected = int(low_noise_mask(index, POINTS, 0.75).sum())
    halves = [
        consistency_terms(FINAL, *(v[half] for v in (f, g, x, t, r, index)), POINTS, 0.03, batch=B, selected=selected)
        for half in (slice(0, 5), slice(5, B))
    ]
    for name in ("total", "consistency", "diffusion"):
        torch.testing.assert_close(sum(getattr(half, name) for half in halves), getattr(whole, name))
    ldm = Objective(kind="denoising", loss="l2", weighting="edm")
    parts = sum(denoising_terms(ldm, f[s], x[s], t[s], 1.0, batch=B).total for s in (slice(0, 5), slice(5, B)))
    torch.testing.assert_close(parts, denoising_terms(ldm, f, x, t, 1.0).total)


def test_float32_is_close_to_float64_at_the_finest_gap():
    sigmas = NoiseGrid().sigmas(641)
    index = torch.full((B,), 639)
    f, g, x = draw(3, B, *SHAPE) * 1e-2
    values = []
    for dtype in (torch.float64, torch.float32):
        levels = torch.from_numpy(sigmas).to(dtype)
        a, b, y = (v.to(dtype) for v in (f, g, x))
        values.append(consistency_terms(FINAL, a, b, y, levels[index], levels[index + 1], index, 641, 2.53e-4).total)
    assert values[1].dtype == torch.float32
    assert float(values[1]) == pytest.approx(float(values[0]), rel=1e-4)


def test_mean_share_selected_by_drawn_indices():
    probabilities = torch.from_numpy(IndexDistribution().probabilities(NoiseGrid().sigmas(641)))
    index = torch.multinomial(probabilities, 100_000, replacement=True, generator=torch.Generator().manual_seed(0))
    assert low_noise_mask(index, 641, 0.75).double().mean().item() == pytest.approx(0.366, abs=0.006)


def test_diffusion_loss_has_a_value_for_every_sample():
    f, _, x, t, *_ = batch()
    assert diffusion_loss(f, x, t, DiffusionTerm(), 0.5).shape == (B,)


# E-LatentLPIPS


class FakeMetric(torch.nn.Module):
    """Stands for the package's metric: same calls, no weights."""

    def __init__(self, encoder, augment, verbose):
        super().__init__()
        assert (encoder, augment, verbose) == ("sd15", None, False)
        self.scale = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, f, g, normalize, ensembling):
        assert not normalize and not ensembling
        return self.scale * (f - g).abs().mean((1, 2, 3), keepdim=True)


def test_perceptual_distance_takes_the_place_of_the_named_one(monkeypatch):
    monkeypatch.setitem(sys.modules, objective.PACKAGE, types.SimpleNamespace(ELatentLPIPS=FakeMetric))
    f, g, x, t, r, index = (v.float() if v.is_floating_point() else v for v in batch())
    settings = Objective(loss="e-latent-lpips")
    terms = consistency_terms(settings, f, g, x, t, r, index, POINTS, 0.0, distance=objective.load_perceptual())
    expected = (2 * (f - g).abs().mean((1, 2, 3)) / (t - r)).mean()
    torch.testing.assert_close(terms.total, expected)


def fails(**_):
    raise OSError("no network\nat all")


@pytest.mark.parametrize("module", [None, types.SimpleNamespace(ELatentLPIPS=fails)], ids=["package", "weights"])
def test_missing_perceptual_package_or_weights(monkeypatch, module):
    monkeypatch.setitem(sys.modules, objective.PACKAGE, module)
    with pytest.raises(ValueError, match="pip install elatentlpips") as error:
        objective.load_perceptual()
    assert "\n" not in str(error.value)


# Bad input


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DiffusionTerm(threshold=1.5), "r from 0 to 1"),
        (lambda: DiffusionTerm(threshold=-0.1), "r from 0 to 1"),
        (lambda: DiffusionTerm(weight=0.0), "diffusion.weight"),
        (lambda: Transport(kind="exact", group=1), "transport.group"),
        (lambda: Transport(kind="sinkhorn", regularisation=0.0), "regularisation"),
        (lambda: Transport(kind="exact").check_batch(1), "batch of 2"),
        (lambda: Transport(kind="exact", group=128).check_batch(192), "divisor of the batch"),
        (lambda: Objective(target_ema=1.0), "target_ema"),
        (lambda: Objective(target_ema_law="adaptive"), "target_ema"),
        (lambda: Objective(loss="l2", scale=RobustScale(multiple=3.0)), "which read c"),
        (lambda: Objective(loss="e-latent-lpips", form="sum"), "form"),
        (lambda: Objective(kind="denoising"), "weighting"),
        (lambda: Objective(kind="denoising", weighting="edm", diffusion=DiffusionTerm()), "diffusion"),
        (lambda: Objective(kind="denoising", weighting="edm", target_ema=0.9), "target_ema"),
        (lambda: Objective(kind="denoising", weighting="edm", loss="e-latent-lpips"), "loss"),
        (lambda: named_distance(Objective(loss="e-latent-lpips")), "E-LatentLPIPS"),
    ],
)
def test_bad_input_is_refused_in_one_line(make, says):
    with pytest.raises(ValueError, match=says) as error:
        make()
    assert "\n" not in str(error.value) and "expected" in str(error.value)


@pytest.mark.parametrize("batch_size", [2, 100, 128, 256])
def test_batches_that_can_be_coupled(batch_size):
    assert Transport(kind="exact", group=128).check_batch(batch_size) is None, "no complaint"
    assert Transport(kind="none").check_batch(1) is None


def test_the_flow_weight_makes_the_error_of_x_that_of_the_velocity():
    """Flow matching written out: y = (1 - tau) x + tau n, velocity n - x; any answer for x implies one for it."""
    draws = np.random.default_rng(0)
    x, n, answer = draws.normal(size=(3, 5, 8))
    for tau in (0.05, 0.5, 0.95):
        y, sigma = (1 - tau) * x + tau * n, tau / (1 - tau)
        np.testing.assert_allclose(y, (1 - tau) * (x + sigma * n), rtol=1e-12)
        implied = (y - (1 - tau) * answer) / tau - answer  # n from y and the answer, minus the answer
        expected = ((implied - (n - x)) ** 2).mean(1)
        t = torch.full((5,), sigma, dtype=torch.float64)
        found = weight("flow", t, None, 0.5).numpy() * ((answer - x) ** 2).mean(1)
        np.testing.assert_allclose(found, expected, rtol=1e-10)
