"""The trained parameters of a network in one buffer, their gradients in another.

An update rule, an average or a sum over ranks is then a few operations on one long tensor, not a few on each of some
hundred short ones; the arithmetic of every element is the same. On a small network, torch's RAdam spends most of its
time in the lists that it makes of the parameters (benchmarks/speed.py).
"""

import torch
from torch import Tensor, nn

from lct.training.ranks import World

ALIGNED = 16  # elements: each parameter starts on a cache line, as a tensor of its own would
PIECE = 1 << 17  # elements of a CPU's piece: half a megabyte, so that a few of them stay in a core's cache


def pieces(buffer: Tensor) -> tuple[Tensor, ...]:
    """A long tensor in parts that several operations should pass over one after the other; on a GPU it is one part, as
    there every operation costs a launch."""
    return buffer.split(PIECE) if buffer.device.type == "cpu" else (buffer,)


class Flat:
    """Turns the trained parameters of `network`, all of one dtype on one device, into views of `values`, and their
    `grad` into views of `gradient`. Loading a state dict copies into them; moving the network would undo it."""

    def __init__(self, network: nn.Module, terms: int = 0):
        """terms: scalars that `all_reduce` adds up beside the gradients."""
        self.network = network
        trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._spans: dict[str, tuple[torch.Size, tuple[int, ...], int]] = {}
        size = 0
        for name, parameter in trained.items():
            self._spans[name] = (parameter.shape, parameter.stride(), size)
            size += -(-parameter.numel() // ALIGNED) * ALIGNED
        first = next(iter(trained.values()))
        self._sums = first.new_zeros(size + terms)
        self._terms, self.gradient = self._sums[size:], self._sums[:size]
        self.values = nn.Parameter(first.new_zeros(size))  # what the optimiser is given
        self.values.grad = self.gradient
        views, gradients = self.views(self.values.detach()), self.views(self.gradient)
        for name, parameter in trained.items():
            views[name].copy_(parameter.detach())
            parameter.data, parameter.grad = views[name], gradients[name]

    def views(self, buffer: Tensor) -> dict[str, Tensor]:
        """Name -> the part of a buffer like `values` that belongs to a parameter, in that parameter's shape."""
        return {
            name: buffer.as_strided(*span[:2], buffer.storage_offset() + span[2]) for name, span in self._spans.items()
        }

    def frozen(self) -> dict[str, Tensor]:
        """Everything else that the network consists of: parameters that are not trained, and buffers."""
        return {name: t for name, t in self.network.state_dict().items() if name not in self._spans}

    def zero_gradient(self) -> None:
        self.gradient.zero_()

    def all_reduce(self, world: World, terms: list[Tensor]) -> list[Tensor]:
        """Sum all gradients and the scalars `terms` over the ranks in one exchange; gives the summed scalars."""
        if world.size == 1:
            return terms
        self._terms.copy_(torch.stack(terms))
        world.all_reduce(self._sums)
        return list(self._terms.clone())
