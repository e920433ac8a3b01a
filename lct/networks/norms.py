"""Normalisation layers of the U-Net, by name. eps 1e-5, except RMSNorm (PyTorch's default, the dtype's own epsilon).

"Non-scaling" layers hold a weight of ones that is never trained, and train the bias: the paper argues that a trained
scale lets single large activations through. Shapes: group, batch and instance norms have one weight and bias per
channel; layer and RMS norms go over the whole (C, H, W) of a sample, with one weight (and bias) per element.
"""

from collections.abc import Callable

from torch import nn

from lct.networks.settings import Norm

EPS = 1e-5


def group_count(channels: int, groups: int | None) -> int:
    """Groups of a group norm: as asked, or 32, but at least 4 channels in each."""
    count = max(1, min(32, channels // 4)) if groups is None else groups
    if channels % count:
        raise ValueError(
            f"network: expected channels divisible by the {count} groups of a group norm, found {channels}; "
            "change channels, channel_mult or groups"
        )
    return count


Make = Callable[[int, int, int | None], nn.Module]  # channels, side, groups -> layer
SCALING: dict[Norm, Make] = {
    "group": lambda channels, side, groups: nn.GroupNorm(group_count(channels, groups), channels, eps=EPS),
    "layer": lambda channels, side, groups: nn.LayerNorm((channels, side, side), eps=EPS),
    "rms": lambda channels, side, groups: nn.RMSNorm((channels, side, side)),
    "batch": lambda channels, side, groups: nn.BatchNorm2d(channels, eps=EPS),
    # one group per channel is instance norm
    "instance": lambda channels, side, groups: nn.GroupNorm(channels, channels, eps=EPS, affine=False),
    "instance-affine": lambda channels, side, groups: nn.GroupNorm(channels, channels, eps=EPS),
}


def non_scaling(make: Make) -> Make:
    """The same layer with its weight, which is one from the start, frozen."""

    def frozen(channels: int, side: int, groups: int | None) -> nn.Module:
        norm = make(channels, side, groups)
        norm.weight.requires_grad_(False)
        return norm

    return frozen


NORMS: dict[Norm, Make] = SCALING | {
    "non-scaling-layer": non_scaling(SCALING["layer"]),
    "non-scaling-group": non_scaling(SCALING["group"]),
    "non-scaling-instance": non_scaling(SCALING["instance-affine"]),
}
