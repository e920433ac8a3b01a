"""Minibatch transport against brute force over all permutations, against POT, and by its marginals."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from lct.losses.settings import Transport
from lct.losses.transport import _permutation, cost_matrix, pair

EXACT = Transport(kind="exact", group=128)
SINKHORN = Transport(kind="sinkhorn", group=128)


def draw(batch, *shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(2, batch, *shape, generator=generator, dtype=dtype)
    return 0.5 * x, noise


def cost_of(x, noise, permutation):
    return float((x.double() - noise.double()[permutation]).square().sum())


@pytest.mark.parametrize("batch", [2, 3, 6])
@pytest.mark.parametrize("seed", range(4))
def test_exact_pairing_is_the_best_of_all_permutations(batch, seed):
    x, noise = draw(batch, 4, 2, 2, seed=seed)
    best = min(cost_of(x, noise, list(p)) for p in itertools.permutations(range(batch)))
    assert cost_of(x, noise, pair(x, noise, EXACT)) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("batch", [16, 128])
def test_exact_pairing_is_the_solution_of_the_linear_assignment_problem(batch):
    x, noise = draw(batch, 4, 4, 4, seed=batch)
    flat = x.flatten(1).double().numpy(), noise.flatten(1).double().numpy()
    cost = cdist(*flat, metric="sqeuclidean")  # another cost, another solver
    assert pair(x, noise, EXACT).tolist() == linear_sum_assignment(cost)[1].tolist()
    np.testing.assert_allclose(cost_matrix(*flat), cost / cost.max(), rtol=1e-9)


def entropic_plan(cost, regularisation, sweeps=5000):
    """Sinkhorn's iteration, written plainly: scale rows and columns in turn until both sum to 1/B."""
    kernel = np.exp(-cost / regularisation)
    v = np.ones(len(cost))
    for _ in range(sweeps):
        u = 1 / len(cost) / (kernel @ v)
        v = 1 / len(cost) / (kernel.T @ u)
    return u[:, None] * kernel * v[None, :]


def test_sinkhorn_pairing_keeps_the_most_mass_of_the_entropic_plan():
    x, noise = draw(32, 4, 4, 4, seed=3)
    plan = entropic_plan(cost_matrix(x.flatten(1).double().numpy(), noise.flatten(1).double().numpy()), 0.05)
    found = plan[np.arange(32), pair(x, noise, SINKHORN)].sum()
    best = plan[linear_sum_assignment(plan, maximize=True)].sum()
    np.testing.assert_allclose(plan.sum(1), np.full(32, 1 / 32), rtol=1e-9)
    assert found == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize("settings", [EXACT, SINKHORN, Transport(kind="exact", group=8), Transport()])
@pytest.mark.parametrize("batch", [2, 32, 37])
def test_every_noise_is_used_once(settings, batch):
    x, noise = draw(batch, 4, 4, 4)
    permutation = pair(x, noise, settings)
    assert permutation.dtype == torch.int64 and sorted(permutation.tolist()) == list(range(batch))


@pytest.mark.parametrize("kind", ["exact", "sinkhorn"])
def test_groups_are_coupled_by_themselves(kind):
    x, noise = draw(24, 4, 4, 4)
    whole = pair(x, noise, Transport(kind=kind, group=8))
    parts = [pair(x[s : s + 8], noise[s : s + 8], Transport(kind=kind, group=8)) + s for s in (0, 8, 16)]
    assert whole.tolist() == torch.cat(parts).tolist()


def test_no_transport_leaves_the_noise_alone():
    x, noise = draw(5, 3)
    assert pair(x, noise, Transport()).tolist() == [0, 1, 2, 3, 4]


def test_coupling_shortens_the_way_and_sinkhorn_comes_close():
    x, noise = draw(64, 4, 4, 4)
    independent, exact, entropic = (cost_of(x, noise, pair(x, noise, s)) for s in (Transport(), EXACT, SINKHORN))
    assert exact <= entropic < independent
    assert entropic - exact < 0.25 * (independent - exact)


def test_a_sharp_entropic_plan_is_the_exact_one():
    x, noise = draw(16, 4, 4, 4, dtype=torch.float64)
    sharp = pair(x, noise, Transport(kind="sinkhorn", regularisation=0.001))
    assert sharp.tolist() == pair(x, noise, EXACT).tolist()


def test_a_plan_that_is_no_permutation_still_gives_one():
    """Pitfall P7: round-off can leave two rows with the same largest column."""
    plan = np.array([[0.2, 0.13, 0.0], [0.2, 0.0, 0.13], [0.0, 0.3, 0.03]])
    assert _permutation(plan).tolist() == [0, 2, 1]


def test_equal_batches_are_paired_with_themselves_whatever_the_order():
    x, _ = draw(32, 4, 4, 4)
    shuffled = torch.randperm(32, generator=torch.Generator().manual_seed(1))
    assert (x[shuffled][pair(x, x[shuffled], EXACT)] == x).all()


def test_identical_samples_are_no_obstacle():
    assert sorted(pair(torch.zeros(6, 4), torch.zeros(6, 4), EXACT).tolist()) == list(range(6))
    assert sorted(pair(torch.zeros(6, 4), torch.ones(6, 4), SINKHORN).tolist()) == list(range(6))


def test_bad_input_is_refused_in_one_line():
    x, noise = draw(4, 3)
    with pytest.raises(ValueError, match="expected noise shaped"):
        pair(x, noise[:3], EXACT)
    x[0, 0] = torch.nan
    with pytest.raises(ValueError, match="finite"):
        pair(x, noise, EXACT)
