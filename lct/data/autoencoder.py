"""The autoencoder: a diffusers AutoencoderKL, trained here at small scales and loaded from a folder at all of them.

A trained one is stored in diffusers' own layout (config.json + diffusion_pytorch_model.safetensors), so the paper's
pretrained one takes its place without a second path. Images are (B, H, W, 3) uint8, latents (B, C, h, w) float32 in
the decoder's own units (see lct/data/latents.py for why there is no scale factor).
"""

import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from lct.checks import invalid, require
from lct.data.imageset import ImageSet
from lct.data.latents import check_finite
from lct.data.settings import Encoding, TrainedAutoencoder
from lct.data.threads import in_order, readers
from lct.files.checkpoint import Checkpoint
from lct.files.tensors import read_metadata
from lct.streams import generator

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"
LARGEST = 100.0  # of decoded values; those of images are in [-1, 1], and a decoder goes a little beyond


def create(settings: TrainedAutoencoder) -> AutoencoderKL:
    """A fresh model; its weights are a function of settings.seed and leave torch's global generator alone."""
    levels = len(settings.block_out_channels)
    with torch.device("meta"):  # no numbers are drawn here
        model = AutoencoderKL(
            block_out_channels=settings.block_out_channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=settings.layers_per_block,
            latent_channels=settings.latent_channels,
            norm_num_groups=settings.norm_groups,
            mid_block_add_attention=settings.middle_attention,
        )
    initialise(model.to_empty(device="cpu"), generator(settings.seed, "autoencoder/init"))
    return model


def initialise(model: nn.Module, draws: torch.Generator) -> None:
    """Torch's default initial values, drawn from `draws` in the order of the modules."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            nn.init.uniform_(module.weight, -(fan_in**-0.5), fan_in**-0.5, generator=draws)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -(fan_in**-0.5), fan_in**-0.5, generator=draws)
        elif isinstance(module, nn.GroupNorm | nn.BatchNorm2d | nn.LayerNorm):
            module.reset_parameters()
        elif next(module.parameters(recurse=False), None) is not None:
            raise TypeError(f"no initial values known for {type(module).__name__}")


def train(
    model: AutoencoderKL,
    settings: TrainedAutoencoder,
    images: ImageSet,
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
) -> Iterator[float]:
    """Train `model` in place, one step per loss taken from the iterator; leaves it frozen, in eval mode, on the CPU.
    With a checkpoint, from where an earlier attempt has come.

    Loss per image: mean |e| + mean e^2 + kl_weight * KL / pixels, e = decoded - image in [-1, 1]; the KL divergence
    is summed over the latent (in nats), from the posterior to a standard normal.
    """
    pixels = torch.from_numpy(images.array())  # the mini sets are megabytes
    model.to(device).train().requires_grad_(True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=0.0, fused=True)
    for step in range(checkpoint.load(model, optimiser) if checkpoint else 0, settings.steps):
        warm = min(1.0, (step + 1) / max(1, min(settings.warmup_steps, settings.steps // 2)))
        lr = settings.lr * warm * (1 - step / settings.steps)
        for group in optimiser.param_groups:
            group["lr"] = lr
        draws = generator(settings.seed, "autoencoder/step", step)
        batch = to_network(pixels[torch.randint(len(pixels), (settings.batch,), generator=draws)], device)
        posterior = model.encode(batch).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=draws).to(device)
        error = model.decode(posterior.mean + posterior.std * noise).sample - batch
        kl = posterior.kl().mean() / (batch.shape[2] * batch.shape[3])
        loss = error.abs().mean() + error.square().mean() + settings.kl_weight * kl
        if not math.isfinite(value := loss.item()):
            raise invalid(f"autoencoder: step {step + 1}", "a finite loss", value, "lower autoencoder.lr")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if checkpoint:
            checkpoint(model, optimiser, step + 1)
        yield value
    model.to("cpu").eval().requires_grad_(False)


def save(model: AutoencoderKL, folder: Path | str) -> None:
    """Write config.json and the weights into `folder`. Equal models give equal bytes."""
    model.save_pretrained(folder, safe_serialization=True)


def load(folder: Path | str, device: str = "cpu") -> AutoencoderKL:
    """The model stored in `folder`, frozen, in eval mode; refuses anything but exactly the tensors it needs."""
    folder, advice = Path(folder), "make or download it again"
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            what = "expected a file of an AutoencoderKL folder, found nothing"
            raise FileNotFoundError(f"{folder / name}: {what}; {advice}")
    try:
        config = json.loads((folder / CONFIG_NAME).read_text())
        if (name := config.get("_class_name")) != "AutoencoderKL":
            raise ValueError(f"class {name}")
    except (ValueError, AttributeError) as error:
        raise invalid(folder / CONFIG_NAME, "the configuration of an AutoencoderKL", error, advice) from error
    weights = folder / WEIGHTS_NAME
    read_metadata(weights)  # refuses a damaged file
    # from_pretrained also reads the older names of attention weights. It draws initial values, which it overwrites, and
    # only warns of a missing tensor.
    with torch.random.fork_rng(devices=[]):
        try:
            model, report = AutoencoderKL.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                low_cpu_mem_usage=False,
                output_loading_info=True,
            )
        except (RuntimeError, ValueError) as error:  # raised for tensors of another shape
            reason = " ".join(str(error).split())
            raise ValueError(f"{folder}: expected weights that fit {CONFIG_NAME}, found: {reason}") from error
    faults = [
        f"{len(report[key])} {word} ({', '.join(map(str, sorted(report[key])[:3]))})"
        for key, word in (("missing_keys", "missing"), ("unexpected_keys", "extra"), ("mismatched_keys", "misshaped"))
        if report.get(key)
    ]
    others = "; ".join(faults) or report.get("error_msgs")
    require(not others, weights, f"exactly the tensors of {CONFIG_NAME}", others, advice)
    wrong = [name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()]
    require(not wrong, weights, "finite weights", f"NaN or infinity in {''.join(wrong[:1])}", advice)
    return model.to(device).eval().requires_grad_(False)


def to_network(images: np.ndarray | Tensor, device: str | torch.device = "cpu") -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [-1, 1]."""
    return torch.as_tensor(images).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(decoded: Tensor, rounding: str = "truncate") -> np.ndarray:
    """(B, 3, H, W) in [-1, 1] -> (B, H, W, 3) uint8: clamped, then truncated as the authors do, or to the nearest."""
    scaled = 255 * ((decoded.float() + 1) / 2).clamp(0, 1)
    whole = scaled.round() if rounding == "nearest" else scaled
    return whole.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


@torch.no_grad()
def encode(model: AutoencoderKL, images: ImageSet, encoding: Encoding, split: str, span: range | None = None) -> Tensor:
    """Latents (n, C, h, w) float32 on the CPU of the images in `span`, which starts a batch; of all by default.

    Image i's posterior mean, plus, if encoding.sample is "posterior", its spread times noise drawn from
    (encoding.seed, "encode/{split}", i): training and held-out images never share noise. Batches are fixed: the last
    one is filled by repeating its last image. Raises ValueError for images that do not fit, and latents not finite."""
    device = next(model.parameters()).device
    factor = downsampling(model)
    fits, size = images.height % factor == images.width % factor == 0, f"{images.height}x{images.width}"
    expected = f"sides that are multiples of {factor}, the autoencoder's reduction"
    require(fits, images.path, expected, size, "change resolution")
    shape = (model.config.latent_channels, images.height // factor, images.width // factor)
    span = range(len(images)) if span is None else span
    latents = torch.empty(len(span), *shape)
    starts, threads = range(span.start, span.stop, encoding.batch), readers()
    tasks = (partial(images.batch, start, encoding.batch, span.stop) for start in starts)
    for start, (filled, valid) in zip(starts, in_order(tasks, threads, waiting=threads + 1), strict=True):
        posterior = model.encode(to_network(filled, device)).latent_dist
        z = posterior.mean[:valid].cpu()
        if encoding.sample == "posterior":
            draws = [generator(encoding.seed, f"encode/{split}", start + i) for i in range(valid)]
            z = z + posterior.std[:valid].cpu() * torch.stack([torch.randn(shape, generator=draw) for draw in draws])
        check_finite(z, str(images.path), start)
        latents[start - span.start :][:valid] = z
    return latents


def downsampling(model: AutoencoderKL) -> int:
    """Image side divided by latent side."""
    return 2 ** (len(model.config.block_out_channels) - 1)


@torch.no_grad()
def decode(
    model: AutoencoderKL,
    latents: Tensor,
    batch: int,
    rounding: str = "truncate",
    where: str = "decoding",
    first: int = 0,
) -> Iterator[np.ndarray]:
    """Images (H, W, 3) uint8 of (N, C, h, w) latents in the decoder's units, in fixed batches, the last one filled.

    where, first: what is decoded, and the index of its first image, in messages.
    Raises ValueError for latents and decoded values that are not finite, and for values far outside [-1, 1]."""
    device = next(model.parameters()).device
    for start in range(0, len(latents), batch):
        part = latents[start : start + batch]
        check_finite(part, where, first + start)
        filled = torch.cat([part, part[-1:].expand(batch - len(part), *part.shape[1:])]) if len(part) < batch else part
        decoded = model.decode(filled.to(device)).sample[: len(part)]
        largest = decoded.abs().flatten(1).amax(1)  # NaN where there is one
        if len(wrong := (~(largest <= LARGEST)).nonzero()):
            value, image = largest[wrong[0]].item(), first + start + int(wrong[0])
            given = "NaN" if math.isnan(value) else f"{value:.3g}"
            advice = "the autoencoder's weights are damaged or leave half precision's range: get them again, in float32"
            raise invalid(f"{where}: image {image}", "decoded values near [-1, 1]", given, advice)
        yield from to_uint8(decoded, rounding)


def squared_error(first: np.ndarray, second: np.ndarray) -> int:
    """Sum of squared differences of two uint8 arrays: exact, so that parts add up to the whole."""
    return int(np.square(first.astype(np.int32) - second).sum(dtype=np.int64))


def psnr(squares: int, values: int) -> float:
    """Peak signal-to-noise ratio in dB (peak 255), from a sum of squared differences over so many values."""
    return math.inf if squares == 0 else 10 * math.log10(255**2 * values / squares)
