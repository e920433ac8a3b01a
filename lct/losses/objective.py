"""The objectives: consistency loss with its diffusion term, and the denoising loss of the LDM baseline.

No drawing of noise or time, no network, no files. B = batch; `t > r` are noise levels (B,), neighbours on a descending
grid of N points, in units of the normalised latents, in the dtype of the latents; index i is the position of t.

A distance applies a robust function rho of a squared difference s [latent^2] and a scale c [latent] to the mean, or the
sum, of (f - g)^2 over a sample's elements, or to each element and then averages. The final runs use the mean; with c it
is, up to a factor, the sum form with c sqrt(d).
Sources: arXiv:2310.14189 (iCT), arXiv:2502.01441 (the paper), arXiv:2206.00364 (EDM weights).
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lct.checks import require
from lct.losses.robust import ROBUST_FUNCTIONS
from lct.losses.settings import DiffusionTerm, Objective

PACKAGE = "elatentlpips"
Robust = Callable[[Tensor, float], Tensor]  # rho(s, c), elementwise
Distance = Callable[[Tensor, Tensor, float], Tensor]  # (B, ...), (B, ...), c -> (B,)


def squared(f: Tensor, g: Tensor) -> Tensor:
    """(B, d) squared differences of the elements."""
    return (f - g).square().flatten(1)


FORMS: dict[str, Callable[[Robust], Distance]] = {
    "mean": lambda rho: lambda f, g, c: rho(squared(f, g).mean(1), c),  # the authors' per-sample form
    "sum": lambda rho: lambda f, g, c: rho(squared(f, g).sum(1), c),  # the form of a norm in iCT
    "elementwise": lambda rho: lambda f, g, c: rho(squared(f, g), c).mean(1),  # the authors' `_new` runs
}
DISTANCES: dict[tuple[str, str], Distance] = {
    (loss, form): reduce(rho) for loss, rho in ROBUST_FUNCTIONS.items() for form, reduce in FORMS.items()
}


@dataclass(frozen=True)
class Terms:
    """A loss and its parts: scalars, but for `samples`; only `total` carries a gradient."""

    total: Tensor  # consistency + weight * diffusion
    consistency: Tensor  # mean over the batch of weight(t, r) * distance; 0 for the denoising loss
    diffusion: Tensor  # mean over the selected samples, before its factor; 0 when none is selected
    samples: Tensor  # (B,) what `consistency` (denoising loss: `diffusion`) averages
    residual: Tensor | None = None  # mean over the batch and d of (f - f^-)^2; None for the denoising loss


def perturb(x: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """x + sigma n, the variance-exploding forward process. With the same n at r < t it is also the target's input:
    one Euler step of the ODE from x + t n to r, with the clean latents as the denoiser's answer, ends exactly there."""
    return torch.addcmul(x, sigma.view(-1, *[1] * (x.ndim - 1)), noise)


def weight(weighting: str, t: Tensor, r: Tensor | None, sigma_data: float) -> Tensor:
    """(B,) weights: 1 / (t - r) (iCT), 1 (CM), 1 / t^2 + 1 / sigma_data^2 (EDM), or (1 + 1 / t)^2, by which the squared
    error of x is that of the velocity n - x along a straight path (flow matching; arXiv:2210.02747)."""
    return WEIGHTS[weighting](t, r, sigma_data)


WEIGHTS = {
    "inverse-gap": lambda t, r, sigma_data: 1 / (t - r),
    "uniform": lambda t, r, sigma_data: torch.ones_like(t),
    "edm": lambda t, r, sigma_data: t**-2 + sigma_data**-2,
    "flow": lambda t, r, sigma_data: (1 + 1 / t) ** 2,
}


def low_noise_mask(index: Tensor, points: int, threshold: float) -> Tensor:
    """(B,) bool, i >= floor(threshold * N): samples at the low-noise end of the descending grid."""
    return index >= int(threshold * points)


def diffusion_loss(f: Tensor, x: Tensor, t: Tensor, term: DiffusionTerm, sigma_data: float) -> Tensor:
    """(B,) w(t) * mean over d of (f(x_t, t) - x)^2, for every sample, selected or not."""
    return weight(term.weighting, t, None, sigma_data) * squared(f, x).mean(1)


def consistency_terms(
    settings: Objective,
    f: Tensor,
    f_target: Tensor,
    x: Tensor,
    t: Tensor,
    r: Tensor,
    index: Tensor,
    points: int,
    c: float,
    sigma_data: float = 0.5,
    distance: Distance | None = None,
    batch: int | None = None,
    selected: int | None = None,
) -> Terms:
    """The consistency objective of a batch: weight(t, r) * distance(f(x_t, t), f^-(x_r, r)), and the diffusion term. No
    gradient reaches the target.

    f, f_target: (B, C, H, W) online answer at (x_t, t), target answer at (x_r, r); x: the clean latents.
    index, points: (B,) grid index of t, and N. c: scale of the robust loss.
    distance: replaces the one named in the settings (E-LatentLPIPS, which must be loaded).
    batch, selected: sizes to average over when this is a part of a larger batch, so that parts add up to the whole;
    by default the sizes of this batch. `selected` counts the samples that pass the diffusion threshold.
    """
    distance = distance or named_distance(settings)
    samples = weight(settings.weighting, t, r, sigma_data) * distance(f, f_target.detach(), c)
    consistency = samples.sum() / (batch or len(f))
    residual = squared(f.detach(), f_target.detach()).mean(1).sum() / (batch or len(f))
    if settings.diffusion is None:
        zero = torch.zeros_like(consistency.detach())
        return Terms(consistency, consistency.detach(), zero, samples.detach(), residual)
    term = settings.diffusion
    mask = low_noise_mask(index.to(f.device), points, term.threshold)
    count = mask.sum() if selected is None else torch.as_tensor(selected, device=f.device)
    losses = diffusion_loss(f, x, t, term, sigma_data)
    diffusion = torch.where(mask, losses, 0.0).sum() / count.clamp(min=1)  # an empty selection adds zero
    total = consistency + term.weight * diffusion
    return Terms(total, consistency.detach(), diffusion.detach(), samples.detach(), residual)


def denoising_terms(
    settings: Objective, f: Tensor, x: Tensor, t: Tensor, c: float, sigma_data: float = 0.5, batch: int | None = None
) -> Terms:
    """The denoising objective of a batch, weight(t) * distance(f(x_t, t), x); arguments as in `consistency_terms`.
    Reported as the diffusion part."""
    losses = weight(settings.weighting, t, None, sigma_data) * named_distance(settings)(f, x, c)
    total = losses.sum() / (batch or len(f))
    return Terms(total, torch.zeros_like(total.detach()), total.detach(), losses.detach())


def named_distance(settings: Objective) -> Distance:
    """The distance that (loss, form) name; E-LatentLPIPS is a network and must be loaded first."""
    name, expected = (settings.loss, settings.form), f"a distance of {sorted(DISTANCES)}"
    advice = "load E-LatentLPIPS with load_perceptual and hand it over, or change the loss"
    require(name in DISTANCES, "objective", expected, name, advice)
    return DISTANCES[name]


def load_perceptual(device: torch.device | str = "cpu") -> Distance:
    """E-LatentLPIPS, a learned perceptual distance between latents (arXiv:2405.05967), (f, g, c) -> (B,), with frozen
    weights on `device`; c is not read. Raises ValueError when its package or weights are not available.

    The authors' runs with it use the encoder "sd15" without augmentation or ensembling, on latents that are scaled by
    0.18215 but not normalised; choose that encoding in the dataset's settings. Its weights are its package's to fetch,
    into ./ckpt, when the distance is first loaded. Neither package nor weights are locked or pinned, so no table that
    a bare `snakemake` makes needs them.
    """
    try:
        metric = importlib.import_module(PACKAGE).ELatentLPIPS(encoder="sd15", augment=None, verbose=False)
    except Exception as error:  # the package downloads and unpickles: many ways to fail, all of them "not available"
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"loss e-latent-lpips: expected the package {PACKAGE} and its sd15 weights, found them missing ({reason}); "
            f"run `pip install {PACKAGE}`, and once on a host with network access `python -c 'from lct.losses import "
            "objective; objective.load_perceptual()'`, which puts the weights into ./ckpt; or leave the row out of its "
            "table"
        ) from error
    metric = metric.to(device).eval().requires_grad_(False)

    def distance(f: Tensor, g: Tensor, c: float) -> Tensor:
        return metric(f, g, normalize=False, ensembling=False).flatten()

    return distance
