"""Exponential moving averages of the weights, several rates at once, buffers included (pitfall P11)."""

import torch
from torch import Tensor, nn


class Averages:
    """theta_ema <- rate * theta_ema + (1 - rate) * theta after every step, for each rate; no warm-up.

    Buffers (running statistics of batch normalisation) are copied, so that an averaged network is complete.
    """

    def __init__(self, network: nn.Module, rates: tuple[float, ...]):
        self._parameters = dict(network.named_parameters())
        self._buffers = dict(network.named_buffers())
        self._averages = {rate: {name: p.detach().clone() for name, p in self._parameters.items()} for rate in rates}

    @torch.no_grad()
    def update(self) -> None:
        online = [p.detach() for p in self._parameters.values()]
        for rate, averages in self._averages.items():
            torch._foreach_lerp_(list(averages.values()), online, 1.0 - rate)

    def weights(self, rate: float) -> dict[str, Tensor]:
        """All tensors of the averaged network, ready to be stored."""
        return {name: t.clone() for name, t in (self._averages[rate] | self._buffers).items()}

    def state(self) -> dict[str, Tensor]:
        """Averages as named tensors, for the resume state."""
        return {f"{rate}/{name}": t for rate, averages in self._averages.items() for name, t in averages.items()}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        for key, value in self.state().items():
            value.copy_(state[key])
