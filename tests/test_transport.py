"""Minibatch transport against brute force over all permutations, against POT, and by its marginals."""

import itertools

import numpy as np
import pytest
import torch

from lct.losses.settings import Transport
from lct.losses.transport import cost_matrix, entropic_plan, pair

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
def test_exact_pairing_is_the_plan_of_an_earth_movers_solver(batch):
    import ot  # takes seconds to import, and only this test needs it

    x, noise = draw(batch, 4, 4, 4, seed=batch)
    flat = x.flatten(1).double().numpy(), noise.flatten(1).double().numpy()
    cost = ot.dist(*flat, metric="sqeuclidean")
    uniform = np.full(batch, 1 / batch)
    plan = ot.emd(uniform, uniform, cost / cost.max())
    assert pair(x, noise, EXACT).tolist() == plan.argmax(1).tolist()
    np.testing.assert_allclose(cost_matrix(*flat), cost / cost.max(), rtol=1e-9)
    entropic = ot.sinkhorn(uniform, uniform, cost / cost.max(), reg=0.05, method="sinkhorn_log", stopThr=1e-12)
    np.testing.assert_allclose(entropic_plan(cost / cost.max(), 0.05), entropic, rtol=1e-5, atol=1e-12)


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


def test_entropic_plan_has_uniform_marginals_and_becomes_exact():
    x, noise = draw(16, 4, 4, 4, dtype=torch.float64)
    cost = cost_matrix(x.flatten(1).numpy(), noise.flatten(1).numpy())
    plan = entropic_plan(cost, 0.05)
    np.testing.assert_allclose(plan.sum(0), np.full(16, 1 / 16), rtol=1e-6)
    np.testing.assert_allclose(plan.sum(1), np.full(16, 1 / 16), rtol=1e-6)
    sharp = pair(x, noise, Transport(kind="sinkhorn", regularisation=0.001))
    assert sharp.tolist() == pair(x, noise, EXACT).tolist()


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
