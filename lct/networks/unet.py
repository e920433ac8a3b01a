"""The U-Net F(x, label): ADM's architecture in EDM's form (arXiv:2105.05233, App. A; arXiv:2206.00364, App. F.2).

Shapes: x (B, C, H, W), noise label (B,). Draws nothing by itself: initial weights and dropout come from generators that
the caller hands over.

Normalisation layers, by name: eps 1e-5, except RMSNorm (PyTorch's default, the dtype's own epsilon). "Non-scaling" ones
hold a weight of ones that is never trained, and train the bias: the paper argues that a trained scale lets single large
activations through. Group, batch and instance norms have one weight and bias per channel; layer and RMS norms go over
the whole (C, H, W) of a sample, with one weight (and bias) per element.

From F to f, the consistency function, exactly the identity at sigma_min (CM, App. C; EDM's scalings otherwise): with
sd = sigma_data and sm = sigma_min, f(x, sigma) = c_skip x + c_out F(c_in x, label), where
c_skip = sd^2 / ((sigma - sm)^2 + sd^2), c_out = (sigma - sm) sd / sqrt(sigma^2 + sd^2),
c_in = 1 / sqrt(sigma^2 + sd^2), label = label_scale ln sigma.
"""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from lct.checks import require
from lct.networks.settings import Block, Network, Norm, Scaling, layout

EPS = 1e-5
ZERO_AT_START = ("conv1", "attention_out", "output_conv")  # each residual branch, and F, start as zero


def group_count(channels: int, groups: int | None) -> int:
    """Groups of a group norm: as asked, or 32, but at least 4 channels in each."""
    count = max(1, min(32, channels // 4)) if groups is None else groups
    expected = f"channels divisible by the {count} groups of a group norm"
    require(channels % count == 0, "network", expected, channels, "change channels, channel_mult or groups")
    return count


Make = Callable[[int, int, int | None], nn.Module]  # channels, side, groups -> layer
NORMS: dict[Norm, Make] = {
    "group": lambda channels, side, groups: nn.GroupNorm(group_count(channels, groups), channels, eps=EPS),
    "layer": lambda channels, side, groups: nn.LayerNorm((channels, side, side), eps=EPS),
    "rms": lambda channels, side, groups: nn.RMSNorm((channels, side, side)),
    "batch": lambda channels, side, groups: nn.BatchNorm2d(channels, eps=EPS),
    # one group per channel is instance norm
    "instance": lambda channels, side, groups: nn.GroupNorm(channels, channels, eps=EPS, affine=False),
    "instance-affine": lambda channels, side, groups: nn.GroupNorm(channels, channels, eps=EPS),
    "non-scaling-layer": lambda *shape: non_scaling(NORMS["layer"](*shape)),
    "non-scaling-group": lambda *shape: non_scaling(NORMS["group"](*shape)),
    "non-scaling-instance": lambda *shape: non_scaling(NORMS["instance-affine"](*shape)),
}


def non_scaling(norm: nn.Module) -> nn.Module:
    """The layer with its weight, which is one from the start, frozen."""
    norm.weight.requires_grad_(False)
    return norm


class ResidualBlock(nn.Module):
    """norm - SiLU - resample - conv, norm (1 + scale) + shift - SiLU - dropout - conv, skip; then self-attention.

    scale and shift come from the noise embedding; they stay, whatever the normalisation layers scale."""

    def __init__(self, block: Block, embedding: int, settings: Network):
        super().__init__()
        norm, groups = NORMS[settings.block_norm], settings.groups
        before, after = block.channels_in, block.channels_out
        self.resample, self.heads, self.dropout = block.resample, block.heads, settings.dropout
        self.norm0 = norm(before, block.side_in, groups)
        self.conv0 = nn.Conv2d(before, after, 3, padding=1)
        self.affine = nn.Linear(embedding, 2 * after)
        self.norm1 = norm(after, block.side_out, groups)
        self.conv1 = nn.Conv2d(after, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1) if before != after else None
        if block.heads:
            self.norm2 = norm(after, block.side_out, groups)
            self.attention_in = nn.Linear(after, 3 * after)  # a 1x1 convolution on tokens: queries, keys, values
            self.attention_out = nn.Linear(after, after)

    def forward(self, x: Tensor, embedding: Tensor, dropout: Generator | None) -> Tensor:
        h = self.conv0(_resample(functional.silu(self.norm0(x)), self.resample))
        scale, shift = self.affine(embedding).view(x.shape[0], 2, -1, 1, 1).unbind(1)
        h = functional.silu(torch.addcmul(shift, self.norm1(h), scale + 1))
        if self.training and self.dropout > 0:
            h = _drop(h, self.dropout, dropout)
        x = _resample(x, self.resample)
        x = self.conv1(h) + (x if self.skip is None else self.skip(x))
        return x + self._attend(self.norm2(x)) if self.heads else x

    def _attend(self, x: Tensor) -> Tensor:
        """softmax(q k^T / sqrt(channels per head)) v over the H W tokens of a sample."""
        batch, channels, height, width = x.shape
        tokens = self.attention_in(x.flatten(2).transpose(1, 2))
        q, k, v = tokens.view(batch, height * width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, -1, channels)
        return self.attention_out(attended).transpose(1, 2).view(batch, channels, height, width)


class UNet(nn.Module):
    """Latents and noise label in, F of the latents' shape out.

    generator: draws the initial weights, on its device. Without one the network has shapes but no values (meta
    device), for counting or until weights are loaded. torch's global generator is never touched.
    """

    def __init__(self, settings: Network, latent_channels: int, resolution: int, generator: Generator | None = None):
        super().__init__()
        plan = layout(settings, resolution)
        self.channels, self.dropout = settings.channels, settings.dropout
        with torch.device("meta"):
            self.embed0 = nn.Linear(settings.channels, plan.embedding)
            self.embed1 = nn.Linear(plan.embedding, plan.embedding)
            self.input_conv = nn.Conv2d(latent_channels, plan.width_in, 3, padding=1)
            self.encoder = nn.ModuleDict({b.name: ResidualBlock(b, plan.embedding, settings) for b in plan.encoder})
            self.decoder = nn.ModuleDict({b.name: ResidualBlock(b, plan.embedding, settings) for b in plan.decoder})
            self.output_norm = NORMS[settings.output_norm](plan.width_out, resolution, settings.groups)
            self.output_conv = nn.Conv2d(plan.width_out, latent_channels, 3, padding=1)
        self._steps = [(self.decoder[block.name], block.takes_skip) for block in plan.decoder]
        if generator is not None:
            self.to_empty(device=generator.device)
            self.reset(generator)

    @torch.no_grad()
    def reset(self, generator: Generator) -> None:
        """Draw initial weights: uniform in +-1/sqrt(fan-in) for weights and biases (Kaiming times sqrt(1/3)), zero for
        `ZERO_AT_START`; norms start with weight one and bias zero."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                bound = 0.0 if name.rpartition(".")[2] in ZERO_AT_START else 1 / math.sqrt(module.weight[0].numel())
                for parameter in (module.weight, module.bias):
                    parameter.uniform_(-bound, bound, generator=generator) if bound else parameter.zero_()
            elif hasattr(module, "reset_parameters"):
                module.reset_parameters()

    def forward(self, x: Tensor, noise_label: Tensor, dropout: Generator | None = None) -> Tensor:
        """x (B, C, H, W), noise_label (B,). dropout: generator of the dropped units, needed when training with p > 0;
        two passes with equally seeded generators drop the same units."""
        if self.training and self.dropout > 0 and dropout is None:
            raise ValueError("network: expected a generator for dropout while training, found none; pass `dropout`")
        embedding = functional.silu(self.embed0(positional_embedding(noise_label, self.channels).to(x.dtype)))
        embedding = functional.silu(self.embed1(embedding))
        x = self.input_conv(x)
        skips = [x]
        for block in self.encoder.values():
            x = block(x, embedding, dropout)
            skips.append(x)
        for block, takes_skip in self._steps:
            x = block(torch.cat((x, skips.pop()), dim=1) if takes_skip else x, embedding, dropout)
        return self.output_conv(functional.silu(self.output_norm(x)))


def positional_embedding(label: Tensor, channels: int) -> Tensor:
    """(B,) -> (B, channels): cos(w_j label), then sin(w_j label); w_j = 10000^(-2j / channels), j < channels / 2."""
    half = channels // 2
    frequencies = torch.exp(torch.arange(half, dtype=label.dtype, device=label.device) * (-math.log(10000) / half))
    phase = label[:, None] * frequencies
    return torch.cat((phase.cos(), phase.sin()), dim=1)


def _resample(x: Tensor, direction: str) -> Tensor:
    """Halve by 2x2 means or double by repetition: the filter [1, 1] of ADM and EDM."""
    if direction == "down":
        return functional.avg_pool2d(x, 2)
    return functional.interpolate(x, scale_factor=2.0, mode="nearest") if direction == "up" else x


def _drop(x: Tensor, p: float, generator: Generator | None) -> Tensor:
    """Zero each element with probability p and divide the others by 1 - p."""
    return x * torch.empty_like(x).bernoulli_(1 - p, generator=generator).div_(1 - p)


def load_weights(network: nn.Module, tensors: dict[str, Tensor], where: str) -> nn.Module:
    """Give `network` (which may be without values yet, on the meta device) the weights `tensors`, and return it.

    where: the file they come from, for the message. Raises ValueError with one line when names, shapes or values do
    not fit. The network takes the tensors themselves, with their device and dtype; the caller must not reuse them.
    """
    expected = network.state_dict()
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    text = f"{len(missing)} missing{_first(missing)} and {len(extra)} unknown{_first(extra)}"
    tensors_of = f"the {len(expected)} tensors of the network"
    require(not (missing or extra), where, tensors_of, text, "use the settings it was trained with")
    for name, tensor in tensors.items():
        own, shape = tuple(expected[name].shape), tuple(tensor.shape)
        require(shape == own, f"{where}: {name}", f"shape {own}", shape, "use the settings it was trained with")
        finite = not tensor.is_floating_point() or torch.isfinite(tensor).all()
        require(finite, f"{where}: {name}", "finite weights", "NaN or infinity", "train again")
    network.load_state_dict(tensors, strict=True, assign=True)
    return network


def _first(names: list[str]) -> str:
    return f" (first: {names[0]})" if names else ""


def c_skip(sigma: Tensor, s: Scaling) -> Tensor:
    return s.sigma_data**2 / ((sigma - s.sigma_min) ** 2 + s.sigma_data**2)


def c_out(sigma: Tensor, s: Scaling) -> Tensor:
    return (sigma - s.sigma_min) * s.sigma_data / (sigma**2 + s.sigma_data**2).sqrt()


def c_in(sigma: Tensor, s: Scaling) -> Tensor:
    return (sigma**2 + s.sigma_data**2).rsqrt()


def noise_label(sigma: Tensor, s: Scaling) -> Tensor:
    return s.label_scale * sigma.log()


def consistency(
    network: nn.Module, x: Tensor, sigma: Tensor, scaling: Scaling, dropout: Generator | None = None
) -> Tensor:
    """f(x, sigma) for x (B, C, H, W) and sigma (B,) in the dtype of x; the answer keeps that dtype under autocast."""
    at = sigma.to(x.dtype)[:, None, None, None]
    answer = network(c_in(at, scaling) * x, noise_label(sigma, scaling), dropout)
    return c_skip(at, scaling) * x + c_out(at, scaling) * answer.to(x.dtype)
