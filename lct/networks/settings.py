"""Settings of the network and of its parametrisation. The defaults are the paper's U-Net with GroupNorm."""

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
