"""Robust distances between two batches of latents.

Mathematics only. A robust function rho takes a squared difference s [latent^2] and a scale c [latent], and is applied
to the mean, or the sum, of (f - g)^2 over a sample's elements, or to each element and then averaged. Every distance
returns (B,). Sources: arXiv:2502.01441 (Cauchy, Geman-McClure), arXiv:2310.14189 (pseudo-Huber); the final runs use the
mean. The mean form with c is, up to a factor, the sum form with c sqrt(d).
"""

from collections.abc import Callable

from torch import Tensor

from lct.losses.robust import ROBUST_FUNCTIONS

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
