"""RAdam on one long tensor, in as few passes over memory as its formula allows.

Liu et al. 2020 (arXiv:1908.03265), Algorithm 2, with L2 weight decay: torch.optim.RAdam up to rounding (tested). That
one makes about thirteen passes over parameters, moments and temporary copies; this one makes eight, piece by piece
where a piece stays in a CPU's cache.
"""

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from lct.training.flat import pieces


class RAdam:
    """m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2, with g = gradient + weight_decay theta; then
    theta <- theta - lr (m / (1 - b1^t)) r sqrt(1 - b2^t) / (sqrt(v) + eps), or without the denominator's part where
    the rectification r is not defined (rho_t <= 5: the first five steps at b2 = 0.999).

    It has what the training uses of torch.optim.Optimizer, which loads torch's compiler: a second of every job."""

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
