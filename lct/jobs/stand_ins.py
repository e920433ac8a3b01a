"""Networks with the layers of sd-vae-ft-ema and FID's Inception-v3, with drawn weights, to measure speed without
diffusers and torch-fidelity. The tests count their operations against those packages' own.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (128, 256, 512, 512)  # of the autoencoder's levels
LATENTS = 4  # channels


class Residual(nn.Module):
    """(B, before, H, W) -> (B, after, H, W)."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(32, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))
        self.second = nn.Sequential(nn.GroupNorm(32, after), nn.SiLU(), nn.Conv2d(after, after, 3, padding=1))
        self.skip = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.second(self.first(x))


class Attention(nn.Module):
    """Over all places of (B, C, H, W), by one head."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(32, width)
        self.inner, self.outer = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        places = self.norm(x).flatten(2).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(*self.inner(places).chunk(3, dim=2))
        return x + self.outer(mixed).transpose(1, 2).reshape(x.shape)


def _middle() -> list[nn.Module]:
    return [Residual(WIDTHS[-1], WIDTHS[-1]), Attention(WIDTHS[-1]), Residual(WIDTHS[-1], WIDTHS[-1])]


def _end(width: int, channels: int) -> list[nn.Module]:
    return [nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1)]


def encoder() -> nn.Module:
    """(B, 3, H, W) in [-1, 1] -> (B, 8, H / 8, W / 8): mean and log variance."""
    layers: list[nn.Module] = [nn.Conv2d(3, WIDTHS[0], 3, padding=1)]
    for level, (before, width) in enumerate(itertools.pairwise((WIDTHS[0], *WIDTHS))):
        layers += [Residual(before, width), Residual(width, width)]
        if level < len(WIDTHS) - 1:
            layers += [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(width, width, 3, stride=2)]
    end = [*_end(WIDTHS[-1], 2 * LATENTS), nn.Conv2d(2 * LATENTS, 2 * LATENTS, 1)]
    return nn.Sequential(*layers, *_middle(), *end)


def decoder() -> nn.Module:
    """(B, 4, h, w) -> (B, 3, 8 h, 8 w)."""
    layers: list[nn.Module] = [nn.Conv2d(LATENTS, LATENTS, 1), nn.Conv2d(LATENTS, WIDTHS[-1], 3, padding=1), *_middle()]
    for level, (before, width) in enumerate(itertools.pairwise((WIDTHS[-1], *reversed(WIDTHS)))):
        layers += [Residual(before, width), Residual(width, width), Residual(width, width)]
        if level < len(WIDTHS) - 1:
            layers += [nn.Upsample(scale_factor=2.0), nn.Conv2d(width, width, 3, padding=1)]
    return nn.Sequential(*layers, *_end(WIDTHS[0], 3))


class Branches(nn.Module):
    """What several branches make of the same input, joined by channels."""

    def __init__(self, *branches: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def _convolutions(channels: int, *layers: tuple) -> nn.Sequential:
    """Each layer: (width, (height, width of the kernel)[, stride]); with a stride, without padding."""
    modules: list[nn.Module] = []
    for width, kernel, *stride in layers:
        padding = (0, 0) if stride else (kernel[0] // 2, kernel[1] // 2)
        modules += [nn.Conv2d(channels, width, kernel, *stride, padding=padding, bias=False)]
        modules += [nn.BatchNorm2d(width, eps=1e-3), nn.ReLU()]
        channels = width
    return nn.Sequential(*modules)


def inception() -> nn.Module:
    """(B, 3, 299, 299) -> (B, 2048)."""
    point, three, five, row, column = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1)
    layers: list[nn.Module] = [
        _convolutions(3, (32, three, 2), (32, three, 1), (64, three)),
        nn.MaxPool2d(3, 2),
        _convolutions(64, (80, point), (192, three, 1)),
        nn.MaxPool2d(3, 2),
    ]

    def pooled(channels: int, width: int) -> nn.Module:
        return nn.Sequential(nn.AvgPool2d(3, 1, 1), _convolutions(channels, (width, point)))

    def split(channels: int, *before: tuple) -> nn.Module:
        across = (_convolutions(before[-1][0], (384, kernel)) for kernel in ((1, 3), (3, 1)))
        return nn.Sequential(_convolutions(channels, *before), Branches(*across))

    for channels, width in ((192, 32), (256, 64), (288, 64)):
        branches = [((64, point),), ((48, point), (64, five)), ((64, point), (96, three), (96, three))]
        layers.append(Branches(*(_convolutions(channels, *b) for b in branches), pooled(channels, width)))
    reduced = [((384, three, 2),), ((64, point), (96, three), (96, three, 2))]
    layers.append(Branches(*(_convolutions(288, *b) for b in reduced), nn.MaxPool2d(3, 2)))
    for width in (128, 160, 160, 192):
        long = ((width, column), (width, row), (width, column), (192, row))
        branches = [((192, point),), ((width, point), (width, row), (192, column)), ((width, point), *long)]
        layers.append(Branches(*(_convolutions(768, *b) for b in branches), pooled(768, 192)))
    reduced = [((192, point), (320, three, 2)), ((192, point), (192, row), (192, column), (192, three, 2))]
    layers.append(Branches(*(_convolutions(768, *b) for b in reduced), nn.MaxPool2d(3, 2)))
    for channels in (1280, 2048):
        mixed = [split(channels, (384, point)), split(channels, (448, point), (384, three))]
        layers.append(Branches(_convolutions(channels, (320, point)), *mixed, pooled(channels, 192)))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
