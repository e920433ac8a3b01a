"""Minibatch optimal transport: which noise goes with which latents. NumPy float64 on the CPU, deterministic.

Cost: squared Euclidean distance between flattened latents and unit noises, divided by its largest value; uniform
marginals. Every noise is used exactly once, so the noise of a batch keeps its marginal law exactly. POT and SciPy are
imported where a plan is made: that takes as long as importing torch, and most trainings make none.
Sources: arXiv:2502.01441; arXiv:2302.00482 (minibatch couplings).
"""

import numpy as np
import torch
from torch import Tensor

from lct.checks import require
from lct.losses.settings import Transport


def pair(x: Tensor, noise: Tensor, settings: Transport) -> Tensor:
    """(B,) int64 permutation on the CPU: x[j] is coupled with noise[permutation[j]].

    x, noise: (B, ...) on any device. Pairs are sought within consecutive groups of `settings.group` samples, so a part
    of a batch made of whole groups is coupled as within the batch. A last, smaller group is coupled as it is.
    """
    batch = len(x)
    require(x.shape == noise.shape, "transport", f"noise shaped {tuple(x.shape)}", tuple(noise.shape), "draw it so")
    if settings.kind == "none":
        return torch.arange(batch)
    rows, columns = _flat(x), _flat(noise)
    parts = []
    for start in range(0, batch, settings.group):
        group = slice(start, start + settings.group)
        parts.append(start + ASSIGNMENTS[settings.kind](cost_matrix(rows[group], columns[group]), settings))
    return torch.from_numpy(np.concatenate(parts))


def cost_matrix(x: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """(B, B) squared distances |x_j|^2 + |n_k|^2 - 2 x_j n_k, divided by their maximum."""
    cost = (x**2).sum(1)[:, None] + (noise**2).sum(1)[None, :] - 2 * x @ noise.T
    largest = cost.max()
    require(np.isfinite(largest), "transport", "finite latents and noise", "NaN or infinity", "check the latents")
    return np.maximum(cost, 0) / (largest or 1.0)


def exact(cost: np.ndarray, settings: Transport) -> np.ndarray:
    """Optimal assignment: POT's exact earth mover's plan, which for uniform marginals is a permutation."""
    import ot

    return _permutation(ot.emd([], [], cost))


def sinkhorn(cost: np.ndarray, settings: Transport) -> np.ndarray:
    """Assignment of largest total mass under POT's entropic plan, in place of draws from it: no noise is used twice."""
    import ot

    plan = ot.sinkhorn([], [], cost, settings.regularisation, method="sinkhorn_log", numItermax=1000, warn=False)
    return _permutation(plan)


def _permutation(plan: np.ndarray) -> np.ndarray:
    """The permutation a plan stands for. Round-off or entropy can leave rows that share their largest column (pitfall
    P7): then the assignment that keeps the most mass."""
    from scipy.optimize import linear_sum_assignment

    chosen = plan.argmax(1)
    return chosen if len(set(chosen.tolist())) == len(plan) else linear_sum_assignment(plan, maximize=True)[1]


ASSIGNMENTS = {"exact": exact, "sinkhorn": sinkhorn}


def _flat(x: Tensor) -> np.ndarray:
    return x.detach().flatten(1).to(device="cpu", dtype=torch.float64).numpy()
