"""One pixel, Gaussian data: everything that training should find is known in closed form.

Data x ~ N(m, v), noise level t, y = x + t n. The ODE's trajectories through (y, t) end at sigma_min in
    f(y, t) = m + (y - m) sqrt((v + sigma_min^2) / (v + t^2))                                          (consistency)
and the best denoiser is E[x | y] = m + (y - m) v / (v + t^2)                                            (denoising).
With exact transport of large batches x and n have the same rank: y = m + (sqrt(v) + t) n, paths are straight, and
    f(y, t) = m + (y - m) (sqrt(v) + sigma_min) / (sqrt(v) + t)                                        (coupled).
"""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lct.losses.objective import consistency_terms, denoising_terms, perturb
from lct.losses.settings import Objective, Transport
from lct.losses.transport import pair
from lct.networks.settings import Scaling
from lct.networks.unet import consistency
from lct.schedules import Curriculum, IndexDistribution, LearningRate, NoiseGrid, RobustScale

MEAN, STD = 0.2, 0.45
GRID, SCALING = NoiseGrid(), Scaling(sigma_min=0.002)


class Affine(nn.Module):
    """F(x, label) = a(label) x + b(label), with a and b interpolated linearly between knots in the noise label."""

    def __init__(self, knots=24):
        super().__init__()
        low, high = (SCALING.label_scale * math.log(sigma) for sigma in (GRID.sigma_min, GRID.sigma_max))
        self.knots, self.low, self.step = knots, low, (high - low) / (knots - 1)
        self.table = nn.Parameter(torch.zeros(knots, 2, dtype=torch.float64))

    def forward(self, x, label, dropout=None):
        position = ((label - self.low) / self.step).clamp(0, self.knots - 1 - 1e-9)
        left = position.floor().long()
        share = (position - left)[:, None]
        slope, offset = ((1 - share) * self.table[left] + share * self.table[left + 1]).view(-1, 2, 1, 1, 1).unbind(1)
        return slope * x + offset


def train(objective, curriculum, index, steps, batch, tail=0.2, seed=0):
    """Train the affine model on the one-pixel data: float64, Adam, cosine decay; mean weights of the last `tail`."""
    generator = torch.Generator().manual_seed(seed)
    model, rate = Affine(), LearningRate(kind="cosine", lr=0.03, final_fraction=0.1)
    average, averaged = torch.zeros_like(model.table.data), int(tail * steps)
    optimiser = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99))
    for step in range(steps):
        intervals = curriculum.intervals(step, steps)
        sigmas = GRID.sigmas(intervals + 1)
        denoising = objective.kind == "denoising"
        p = torch.from_numpy(index.probabilities(sigmas, include_last=denoising))
        i = torch.multinomial(p, batch, replacement=True, generator=generator)
        levels = torch.from_numpy(sigmas)
        x, noise = torch.randn(2, batch, 1, 1, 1, dtype=torch.float64, generator=generator)
        x = MEAN + STD * x
        noise = noise[pair(x, noise, objective.transport)]
        t = levels[i]
        f = consistency(model, perturb(x, noise, t), t, SCALING)
        if denoising:
            terms = denoising_terms(objective, f, x, t, c=1.0)
        else:
            r = levels[i + 1]
            with torch.no_grad():
                f_target = consistency(model, perturb(x, noise, r), r, SCALING)
            c = objective.scale.c(intervals, curriculum.s0, 1, GRID)
            terms = consistency_terms(objective, f, f_target, x, t, r, i, intervals + 1, c)
        optimiser.zero_grad()
        terms.total.backward()
        optimiser.param_groups[0]["lr"] = rate.at(step, steps)
        optimiser.step()
        if step >= steps - averaged:
            average += model.table.detach() / averaged
    model.table.data.copy_(average)
    return model


def slope_and_centre(model, sigma):
    """f(y, sigma) = centre + slope (y - MEAN), read off at two points."""
    y = torch.tensor([MEAN, MEAN + 1.0], dtype=torch.float64).view(2, 1, 1, 1)
    with torch.no_grad():
        f = consistency(model, y, torch.full((2,), sigma, dtype=torch.float64), SCALING)
    at_mean, beyond = f.flatten().tolist()
    return beyond - at_mean, at_mean


SIGMAS = np.geomspace(0.01, 80, 25)


def ode_slope(sigma):
    return math.sqrt((STD**2 + GRID.sigma_min**2) / (STD**2 + sigma**2))


def denoiser_slope(sigma):
    return STD**2 / (STD**2 + sigma**2)


def coupled_slope(sigma):
    return (STD + GRID.sigma_min) / (STD + sigma)


def discrete_slopes(points):
    """Slopes that minimise the l2 consistency loss on a grid: f_i(y) = E[f_{i+1}(x + r n) | x + t n = y], so that going
    up from sigma_min each pair multiplies the slope by (v + t r) / (v + t^2). Returned for every grid point."""
    sigmas = GRID.sigmas(points)
    t, r = sigmas[:-1], sigmas[1:]
    factors = (STD**2 + t * r) / (STD**2 + t**2)
    return sigmas, np.append(np.cumprod(factors[::-1])[::-1], 1.0)


def errors(model, slope, sigmas=SIGMAS):
    """Largest relative error of the slope, and largest error of the centre in standard deviations of the data."""
    learned = np.array([slope_and_centre(model, float(sigma)) for sigma in sigmas])
    expected = np.array([slope(sigma) for sigma in sigmas])
    return np.abs(learned[:, 0] / expected - 1).max(), np.abs(learned[:, 1] - MEAN).max() / STD


@pytest.mark.parametrize("points", [41, 161, 641, 2561])
def test_discrete_optimum_approaches_the_ode_at_first_order(points):
    sigmas, slopes = discrete_slopes(points)
    error = np.abs(slopes / [ode_slope(sigma) for sigma in sigmas] - 1).max()
    assert 2.8 / points < error < 2.9 / points


@pytest.mark.parametrize(
    "objective",
    [
        pytest.param(Objective(loss="l2"), marks=pytest.mark.slow),
        Objective(loss="cauchy", scale=RobustScale(multiple=1000.0)),
    ],
    ids=["l2", "cauchy-with-a-large-scale"],
)
def test_consistency_training_finds_the_optimum_of_its_grid_and_with_it_the_ode(objective):
    model = train(objective, Curriculum(s0=10, s1=160), IndexDistribution(), steps=3000, batch=1024)
    sigmas, slopes = discrete_slopes(161)
    table = dict(zip(sigmas, slopes, strict=True))
    slope, centre = errors(model, table.get, sigmas[:-10:5])
    assert slope < 0.06 and centre < 0.06
    slope, _ = errors(model, ode_slope)
    assert slope < 0.08  # the grid's own 0.02, and what training leaves
    at_top, _ = slope_and_centre(model, 80.0)
    assert at_top * math.hypot(80.0, STD) == pytest.approx(STD, rel=0.08)  # one-step samples have the data's spread


def test_denoising_training_finds_the_posterior_mean():
    objective = Objective(kind="denoising", loss="l2", weighting="edm")
    curriculum = Curriculum(kind="constant", s1=999)
    model = train(objective, curriculum, IndexDistribution(kind="uniform"), steps=1000, batch=512)
    learned = np.array([slope_and_centre(model, float(sigma)) for sigma in SIGMAS])
    spread = np.hypot(SIGMAS, STD)  # of y, so that slope errors are errors of f
    assert (np.abs(learned[:, 0] - denoiser_slope(SIGMAS)) * spread / STD).max() < 0.03
    assert np.abs(learned[:, 1] - MEAN).max() / STD < 0.03


@pytest.mark.slow
def test_exact_transport_straightens_the_trajectories():
    objective = Objective(loss="l2", transport=Transport(kind="exact", group=64))
    model = train(objective, Curriculum(s0=10, s1=80), IndexDistribution(), steps=1000, batch=512, tail=0.5)
    slope, centre = errors(model, coupled_slope)  # straight paths have no error of the grid
    assert slope < 0.10 and centre < 0.10
    slope, _ = errors(model, ode_slope)
    assert slope > 0.25  # without coupling the curved trajectories would be learned
