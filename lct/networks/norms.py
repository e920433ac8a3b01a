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


def group(channels: int, side: int, groups: int | None) -> nn.Module:
    return nn.GroupNorm(group_count(channels, groups), channels, eps=EPS)


def layer(channels: int, side: int, groups: int | None) -> nn.Module:
    return nn.LayerNorm((channels, side, side), eps=EPS)


def rms(channels: int, side: int, groups: int | None) -> nn.Module:
    return nn.RMSNorm((channels, side, side))


def batch(channels: int, side: int, groups: int | None) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=EPS)


def instance(channels: int, side: int, groups: int | None) -> nn.Module:
    return nn.GroupNorm(channels, channels, eps=EPS, affine=False)  # one group per channel is instance norm


def instance_affine(channels: int, side: int, groups: int | None) -> nn.Module:
    return nn.GroupNorm(channels, channels, eps=EPS)


def non_scaling(make: Callable[[int, int, int | None], nn.Module]) -> Callable[[int, int, int | None], nn.Module]:
    """The same layer with its weight, which is one from the start, frozen."""

    def frozen(channels: int, side: int, groups: int | None) -> nn.Module:
        norm = make(channels, side, groups)
        norm.weight.requires_grad_(False)
        return norm

    return frozen


NORMS: dict[Norm, Callable[[int, int, int | None], nn.Module]] = {
    "group": group,
    "layer": layer,
    "non-scaling-layer": non_scaling(layer),
    "rms": rms,
    "batch": batch,
    "instance": instance,
    "instance-affine": instance_affine,
    "non-scaling-group": non_scaling(group),
    "non-scaling-instance": non_scaling(instance_affine),
}
