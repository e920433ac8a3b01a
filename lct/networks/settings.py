"""The network as data: its settings, what it consists of, and how many parameters that makes.

The defaults are the paper's U-Net with GroupNorm. Torch-free, so that plans can be costed; counts follow from the
layout alone, and a test compares them with the instantiated network.
"""

import functools
import math
from dataclasses import dataclass
from typing import Literal

from lct.checks import require

Norm = Literal[
    "group",
    "layer",
    "non-scaling-layer",
    "rms",
    "batch",
    "instance",
    "instance-affine",
    "non-scaling-group",
    "non-scaling-instance",
]
GROUPED = ("group", "non-scaling-group")  # the norms that read `groups`


@dataclass(frozen=True, kw_only=True)
class Network:
    """The ADM U-Net in EDM's form. Channels and side of the latents come from the data."""

    channels: int = 128  # width of the first level; also of the positional embedding of the noise level
    channel_mult: tuple[int, ...] = (1, 2, 3, 4)  # width of each level / channels; the side halves from level to level
    blocks: int = 4  # residual blocks per level on the way down; one more on the way up
    attention_resolutions: tuple[int, ...] = (16, 8)  # sides at which every block ends with self-attention
    attention_in_middle: Literal["none", "first", "both"] = "first"  # which of the two middle blocks attend
    head_channels: int = 64  # channels per attention head; one head where a block is narrower
    block_norm: Norm = "group"  # every normalisation inside the blocks; the paper's final run: non-scaling-layer
    output_norm: Norm = "group"  # the one before the output convolution; the paper's final run: non-scaling-layer
    groups: int | None = None  # groups of the group norms; null: 32, or a quarter of the channels if that is fewer
    dropout: float = 0.0  # probability, before the second convolution of a block; 0 in the paper's runs
    embedding_mult: int = 4  # width of the noise embedding, in units of channels

    def __post_init__(self):
        sizes = (self.channels, *self.channel_mult, self.blocks, self.head_channels, self.embedding_mult)
        expected = "positive channels, channel_mult, blocks, head_channels and embedding_mult"
        require(bool(self.channel_mult) and min(sizes) >= 1, "network", expected, sizes)
        even = self.channels % 2 == 0
        require(even, "network.channels", "an even number (cosines and sines)", self.channels, "take the next one")
        require(0 <= self.dropout < 1, "network.dropout", "0 <= p < 1", self.dropout)
        if self.groups is not None:
            grouped = {self.block_norm, self.output_norm} & set(GROUPED)
            norms = f"{self.groups} with {self.block_norm} and {self.output_norm}"
            require(bool(grouped), "network.groups", f"only with one of the norms {GROUPED}", norms, "remove it")
            require(self.groups >= 1, "network.groups", "1 or more", self.groups, "null chooses by width")


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Parametrisation f(x, sigma) = c_skip x + c_out F(c_in x, label) with f(x, sigma_min) = x (CM, App. C)."""

    sigma_min: float | None = None  # noise level at which f is the identity; null: the grid's smallest
    sigma_data: float = 0.5  # standard deviation of the normalised latents
    label_scale: float = 250.0  # noise label = label_scale ln sigma (authors' code: 1000/4)

    def __post_init__(self):
        for name in ("sigma_min", "sigma_data", "label_scale"):
            value = getattr(self, name)
            require(value is None or 0 < value < math.inf, f"scaling.{name}", "a positive number", value)


@dataclass(frozen=True)
class Block:
    """A residual block. `channels_in` includes the channels of a skip connection that is concatenated to its input."""

    name: str
    channels_in: int
    channels_out: int
    side_in: int
    resample: Literal["none", "down", "up"] = "none"
    heads: int = 0  # of the self-attention at the block's end; 0 = none
    takes_skip: bool = False

    @property
    def side_out(self) -> int:
        return {"none": self.side_in, "down": self.side_in // 2, "up": self.side_in * 2}[self.resample]


@dataclass(frozen=True)
class Layout:
    """Blocks in the order of the forward pass. The input convolution and each encoder block leave a skip connection."""

    encoder: tuple[Block, ...]
    decoder: tuple[Block, ...]
    width_in: int  # channels after the input convolution
    width_out: int  # channels before the output convolution
    embedding: int  # channels of the noise embedding


def layout(settings: Network, resolution: int) -> Layout:
    """The U-Net's blocks for latents of side `resolution`; raises ValueError for a side its levels cannot halve."""
    levels = len(settings.channel_mult)
    divides = resolution >= 1 and resolution % 2 ** (levels - 1) == 0
    expected = f"latents with a side divisible by {2 ** (levels - 1)} ({levels} levels)"
    require(divides, "network", expected, resolution, "shorten channel_mult or change the autoencoder")
    widths = [settings.channels * mult for mult in settings.channel_mult]
    encoder: list[Block] = []
    decoder: list[Block] = []
    width = widths[0]
    skips = [width]
    for level, level_width in enumerate(widths):
        side = resolution >> level
        if level > 0:
            encoder.append(Block(f"side{side}_down", width, width, side * 2, "down"))
            skips.append(width)
        for number in range(settings.blocks):
            heads = _heads(settings, level_width, side in settings.attention_resolutions)
            encoder.append(Block(f"side{side}_block{number}", width, level_width, side, heads=heads))
            width = level_width
            skips.append(width)
    for number, attends in enumerate(MIDDLE[settings.attention_in_middle]):
        decoder.append(Block(f"middle{number}", width, width, side, heads=_heads(settings, width, attends)))
    for level, level_width in reversed(list(enumerate(widths))):
        side = resolution >> level
        if level < levels - 1:
            decoder.append(Block(f"side{side}_up", width, width, side // 2, "up"))
        for number in range(settings.blocks + 1):
            heads = _heads(settings, level_width, side in settings.attention_resolutions)
            name = f"side{side}_block{number}"
            decoder.append(Block(name, width + skips.pop(), level_width, side, heads=heads, takes_skip=True))
            width = level_width
    return Layout(tuple(encoder), tuple(decoder), widths[0], width, settings.channels * settings.embedding_mult)


MIDDLE = {"none": (False, False), "first": (True, False), "both": (True, True)}


def _heads(settings: Network, width: int, attends: bool) -> int:
    if not attends:
        return 0
    heads = max(1, width // settings.head_channels)
    where, expected = "network.head_channels", f"a divisor of the attending width {width}"
    require(width % heads == 0, where, expected, settings.head_channels, "change it or channel_mult")
    return heads


@functools.cache
def parameters(settings: Network, latent_channels: int, resolution: int) -> tuple[int, int]:
    """(all, trainable) parameters of the network. The frozen ones of the non-scaling norms count in the first."""
    plan = layout(settings, resolution)
    total = _convolution(latent_channels, plan.width_in, 3) + _convolution(plan.width_out, latent_channels, 3)
    total += _convolution(settings.channels, plan.embedding) + _convolution(plan.embedding, plan.embedding)
    output_norm = _norm(settings.output_norm, plan.width_out, resolution)
    total, frozen = total + output_norm[0], output_norm[1]
    for block in (*plan.encoder, *plan.decoder):
        c_in, c_out, side = block.channels_in, block.channels_out, block.side_out
        total += _convolution(c_in, c_out, 3) + _convolution(c_out, c_out, 3) + _convolution(plan.embedding, 2 * c_out)
        total += _convolution(c_in, c_out) * (c_in != c_out)
        norms = [(c_in, block.side_in), (c_out, side)]
        if block.heads:
            total += _convolution(c_out, 3 * c_out) + _convolution(c_out, c_out)
            norms.append((c_out, side))
        for width, norm_side in norms:
            count, held = _norm(settings.block_norm, width, norm_side)
            total, frozen = total + count, frozen + held
    return total, total - frozen


@functools.cache
def macs_and_activations(settings: Network, latent_channels: int, resolution: int) -> tuple[int, int]:
    """(MACs, activations kept for the backward pass) of one forward pass over one sample.

    A MAC is one multiply-add: 2 FLOPs. Counted are convolutions, the linear layers on tokens, and attention; a test
    compares both numbers with torch's own count and with the tensors that autograd saves.
    """
    plan = layout(settings, resolution)
    pixels = resolution**2
    macs = (latent_channels * plan.width_in + plan.width_out * latent_channels) * 9 * pixels
    kept = latent_channels * pixels + 3 * plan.width_out * pixels
    for block in (*plan.encoder, *plan.decoder):
        c_in, c_out, tokens = block.channels_in, block.channels_out, block.side_out**2
        macs += 9 * (c_in + c_out) * c_out * tokens + c_in * c_out * tokens * (c_in != c_out)
        # inputs of: norm0, SiLU, conv0; norm1, modulation, SiLU, conv1
        kept += 2 * c_in * block.side_in**2 + c_in * tokens + 4 * c_out * tokens
        if block.heads:
            macs += 4 * c_out**2 * tokens + 2 * c_out * tokens**2
            kept += 7 * c_out * tokens  # norm2; its output; queries, keys, values; what is attended, in two orders
    return macs, kept


def _convolution(channels_in: int, channels_out: int, kernel: int = 1) -> int:
    """Parameters of a convolution; of a linear layer, which is one of kernel 1."""
    return channels_in * channels_out * kernel**2 + channels_out


def _norm(norm: Norm, channels: int, side: int) -> tuple[int, int]:
    """(all, frozen) parameters of one normalisation layer."""
    elements = channels * side**2 if norm in ("layer", "non-scaling-layer", "rms") else channels
    return {"rms": 1, "instance": 0}.get(norm, 2) * elements, elements * norm.startswith("non-scaling")
