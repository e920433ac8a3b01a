"""The trained parameters of a network in one buffer, their gradients in another; RAdam and averages of such buffers.

An update rule, an average or a sum over ranks is then a few operations on one long tensor, not a few on each of some
hundred short ones; the arithmetic of every element is the same. On a small network, torch's RAdam spends most of its
time in the lists that it makes of the parameters (benchmarks/speed.py). It makes about thirteen passes over parameters,
moments and temporary copies; the one here makes eight, piece by piece where a piece stays in a CPU's cache.
"""

import math
from collections import defaultdict
from typing import Any

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

    def all_reduce(self, world: World, terms: list[Tensor]) -> list[Tensor]:
        """Sum all gradients and the scalars `terms` over the ranks in one exchange; gives the summed scalars."""
        if world.size == 1:
            return terms
        self._terms.copy_(torch.stack(terms))
        world.all_reduce(self._sums)
        return list(self._terms.clone())


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


class RAdam:
    """m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2, with g = gradient + weight_decay theta; then
    theta <- theta - lr (m / (1 - b1^t)) r sqrt(1 - b2^t) / (sqrt(v) + eps), or without the denominator's part where
    the rectification r is not defined (rho_t <= 5: the first five steps at b2 = 0.999).

    Liu et al. 2020 (arXiv:1908.03265), Algorithm 2, with L2 weight decay: torch.optim.RAdam up to rounding (tested). It
    has what the training uses of torch.optim.Optimizer, which loads torch's compiler: a second of every job."""

    def __init__(
        self, parameters: list[Tensor], lr: float, betas: tuple[float, float], eps: float, weight_decay: float
    ):
        values = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        self.param_groups: list[dict[str, Any]] = [{"params": parameters, **values}]
        self.state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)
        self._spare: dict[tuple, Tensor] = {}

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(group, parameter)

    def state_dict(self) -> dict[str, Any]:
        """The moments of each parameter, by its number."""
        parameters = enumerate(self.param_groups[0]["params"])
        return {"state": {number: self.state[p] for number, p in parameters if p in self.state}}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Take up what `state_dict` gave, on the device of the parameters."""
        for number, moments in values["state"].items():
            parameter = self.param_groups[0]["params"][number]
            self.state[parameter] = {name: t if name == "step" else t.to(parameter) for name, t in moments.items()}

    def _step(self, group: dict, parameter: Tensor) -> None:
        state, (beta1, beta2), lr = self.state[parameter], group["betas"], group["lr"]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        t = int(state["step"])
        rectified = rectification(t, beta2)
        bias1, bias2 = 1 - beta1**t, 1 - beta2**t
        values = (parameter.detach(), parameter.grad, state["exp_avg"], state["exp_avg_sq"])
        for theta, gradient, m, v in zip(*map(pieces, values), strict=True):
            g = self._buffer(theta)
            torch.add(gradient, theta, alpha=group["weight_decay"], out=g)
            m.lerp_(g, 1 - beta1)
            v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
            if rectified is None:
                theta.add_(m, alpha=-lr / bias1)
            else:
                denominator = torch.sqrt(v, out=g).add_(group["eps"])
                theta.addcdiv_(m, denominator, value=-lr * rectified * math.sqrt(bias2) / bias1)

    def _buffer(self, like: Tensor) -> Tensor:
        """Room for one piece, used again and again; no part of the state."""
        key = (like.shape, like.dtype, like.device)
        if key not in self._spare:
            self._spare[key] = torch.empty_like(like)
        return self._spare[key]


def rectification(t: int, beta2: float) -> float | None:
    """r_t; None while the variance of the adaptive rate is not tractable."""
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * t * beta2**t / (1 - beta2**t)
    if length <= 5:
        return None
    return math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
