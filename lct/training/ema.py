"""Exponential moving averages of the weights, several rates at once, buffers included (pitfall P11)."""

import torch
from torch import Tensor

from lct.training.flat import Flat, pieces


class EMA:
    """theta_ema <- rate * theta_ema + (1 - rate) * theta after every step, for each rate; no warm-up.

    Buffers (running statistics of batch normalisation) are copied, so that an averaged network is complete; frozen
    weights are their own average.
    """

    def __init__(self, flat: Flat, rates: tuple[float, ...]):
        self._flat = flat
        self._averages = {rate: flat.values.detach().clone() for rate in rates}
        weights = [1.0 - rate for rate in rates]
        parts = zip(*map(pieces, (flat.values.detach(), *self._averages.values())), strict=True)
        self._parts = [(online, list(zip(averages, weights, strict=True))) for online, *averages in parts]

    @torch.no_grad()
    def update(self) -> None:
        for online, averages in self._parts:
            for average, weight in averages:
                average.lerp_(online, weight)

    def weights(self, rate: float) -> dict[str, Tensor]:
        """All tensors of the averaged network, ready to be stored."""
        return {name: t.clone() for name, t in (self._flat.views(self._averages[rate]) | self._flat.frozen()).items()}

    def state(self) -> dict[str, Tensor]:
        """EMA as named tensors, for the resume state."""
        views = {rate: self._flat.views(average) for rate, average in self._averages.items()}
        return {f"{rate}/{name}": t for rate, averages in views.items() for name, t in averages.items()}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        for key, value in self.state().items():
            value.copy_(state[key])
