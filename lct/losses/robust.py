"""Robust functions rho(s, c) of a squared difference s [latent^2] and a scale c [latent], elementwise.

The one table of them: settings, training and figures read `ROBUST`, so a new loss is one function here. Torch is not
imported, since settings are read without it: the functions call methods of the tensors they are given.
Sources: arXiv:2502.01441 (Cauchy, Geman-McClure), arXiv:2310.14189 (pseudo-Huber).
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ROBUST: dict[str, Callable[[Tensor, float], Tensor]] = {}  # name in the settings -> function that reads c


def robust(rho: Callable[[Tensor, float], Tensor]) -> Callable[[Tensor, float], Tensor]:
    """Make a function available as `loss`, by its name with - for _."""
    ROBUST[rho.__name__.replace("_", "-")] = rho
    return rho


def l2(s: Tensor, c: float) -> Tensor:
    """s. Does not read c."""
    return s


@robust
def pseudo_huber(s: Tensor, c: float) -> Tensor:
    """sqrt(s + c^2) - c: s / (2c) for small s, sqrt(s) for large. No difference of near-equal numbers is taken."""
    return s / ((s + c**2).sqrt() + c)


@robust
def cauchy(s: Tensor, c: float) -> Tensor:
    """ln(1 + s / (2 c^2)) = ln(s/2 + c^2) - 2 ln c: grows like a logarithm, so that outliers stop dominating."""
    return (s / (2 * c**2)).log1p()


@robust
def geman_mcclure(s: Tensor, c: float) -> Tensor:
    """2 s / (s + 4 c^2): bounded by 2, so that the gradient of outliers vanishes."""
    return 2 * s / (s + 4 * c**2)


ROBUST_FUNCTIONS = ChainMap({"l2": l2}, ROBUST)  # a view, so that a function below is in it too
