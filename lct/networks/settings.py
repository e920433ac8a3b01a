"""Settings of the network and of its parametrisation. The defaults are the paper's U-Net with GroupNorm."""

import math
from dataclasses import dataclass
from typing import Literal

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
        if not self.channel_mult or min(sizes) < 1:
            raise ValueError(
                "network: expected positive channels, channel_mult, blocks, head_channels and embedding_mult, found "
                f"{self.channels}, {self.channel_mult}, {self.blocks}, {self.head_channels}, {self.embedding_mult}; fix"
            )
        if self.channels % 2:
            raise ValueError(f"network.channels: expected an even number (cosines and sines), found {self.channels}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"network.dropout: expected 0 <= p < 1, found {self.dropout}; fix it")
        if self.groups is not None and not {self.block_norm, self.output_norm} & set(GROUPED):
            raise ValueError(
                f"network.groups: expected only with one of the norms {GROUPED}, found {self.groups} with "
                f"{self.block_norm} and {self.output_norm}; remove it"
            )
        if self.groups is not None and self.groups < 1:
            raise ValueError(f"network.groups: expected 1 or more, found {self.groups}; null chooses by width")


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Parametrisation f(x, sigma) = c_skip x + c_out F(c_in x, label) with f(x, sigma_min) = x (CM, App. C)."""

    sigma_min: float | None = None  # noise level at which f is the identity; null: the grid's smallest
    sigma_data: float = 0.5  # standard deviation of the normalised latents
    label_scale: float = 250.0  # noise label = label_scale ln sigma (authors' code: 1000/4)

    def __post_init__(self):
        for name in ("sigma_min", "sigma_data", "label_scale"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"scaling.{name}: expected a positive number, found {value}; fix it")
