"""The baseline: training, sampling and scoring done the way the authors' scripts do them, written anew from their
description (what is known of them, not their code), on the networks and draws of this project.

Training: latents in host memory, stored times 0.18215, collected and normalised batch by batch; attention by einsum in
float32; transport solved on the host inside the step; a second network as target, overwritten after every step; the
optimiser's default implementation; averages parameter by parameter; a look at the loss in every step. Sampling: one
image decoded at a time, each written as a JPEG file. Scoring: torch-fidelity, once for FID and once for precision and
recall, each time from the images of both sides.
"""

import copy
import types
from pathlib import Path

import numpy as np
import torch
import torch_fidelity
from PIL import Image
from torch import Tensor, nn

from lct.data.imageset import ImageSet
from lct.data.latents import LatentStatistics
from lct.losses.objective import consistency_terms, perturb
from lct.losses.transport import pair
from lct.networks.unet import ResidualBlock, UNet, consistency
from lct.streams import generator
from lct.training import draws
from lct.training.settings import Training
from lct.training.trainer import Trainer

SCALE = 0.18215  # of stored latents


def einsum_attention(block: ResidualBlock, x: Tensor) -> Tensor:
    """The block's self-attention with its matrix of weights spelled out, softmax and products in float32."""
    batch, channels, height, width = x.shape
    tokens = block.attention_in(x.flatten(2).transpose(1, 2))
    q, k, v = tokens.view(batch, height * width, 3, block.heads, -1).permute(2, 0, 3, 4, 1).float()
    weights = torch.einsum("bhcq,bhck->bhqk", q, k / np.sqrt(k.shape[2])).softmax(dim=3)
    attended = torch.einsum("bhqk,bhck->bhcq", weights, v).reshape(batch, channels, -1).transpose(1, 2).to(x.dtype)
    return block.attention_out(attended).transpose(1, 2).view(batch, channels, height, width)


def with_einsum(network: nn.Module) -> nn.Module:
    for block in network.modules():
        if isinstance(block, ResidualBlock):
            block._attend = types.MethodType(einsum_attention, block)
    return network


class AuthorsTraining:
    """The training of `settings` on decoder latents z (n, C, H, W); `step(k)` gives the step's loss. Draws are those of
    this project, so that the loss can be compared step by step."""

    def __init__(self, settings: Training, z: Tensor, statistics: LatentStatistics, seed: int, device: torch.device):
        self.settings, self.seed, self.device = settings, seed, device
        self.stored = [latent.numpy() for latent in (z * SCALE).unbind()]  # one array per image, as a data set has them
        self.mean, self.std = (part.float().to(device) for part in (statistics.mean, statistics.std))
        self.schedule = Trainer(settings, z, seed, torch.device("cpu"), ahead=False).stage  # grid, c, probabilities
        self.network = UNet(settings.network, z.shape[1], z.shape[2], generator(seed, "initial-weights"))
        self.network = with_einsum(self.network.to(device).train())
        self.target = with_einsum(copy.deepcopy(self.network).requires_grad_(False))
        self.averages = {rate: [p.detach().clone() for p in self.network.parameters()] for rate in settings.emas}
        rule = settings.optimiser
        self.optimiser = torch.optim.RAdam(
            [p for p in self.network.parameters() if p.requires_grad],
            betas=(rule.beta1, rule.beta2),
            eps=rule.epsilon,
            weight_decay=rule.weight_decay,
        )

    def step(self, step: int) -> float:
        s, stage = self.settings, self.schedule(step)
        for group in self.optimiser.param_groups:
            group["lr"] = s.optimiser.learning_rate.at(step, s.steps)
        z = torch.stack(
            [torch.from_numpy(self.stored[row]) for row in draws.rows(self.seed, step, len(self.stored), s.batch)]
        )
        x = 0.5 * (z.to(self.device) / SCALE - self.mean) / self.std
        noise = draws.noise(self.seed, step, tuple(x.shape), self.device)
        if s.objective.transport.kind != "none":
            noise = noise[pair(x, noise, s.objective.transport).to(self.device)]
        index = draws.indices(self.seed, step, stage.probabilities, s.batch)
        t, r = (stage.sigmas[i].to(self.device) for i in (index, index + 1))
        f = consistency(self.network, perturb(x, noise, t), t, s.scaling)
        with torch.no_grad():
            f_target = consistency(self.target, perturb(x, noise, r), r, s.scaling)
        points = stage.intervals + 1
        terms = consistency_terms(s.objective, f, f_target, x, t, r, index, points, stage.c, s.scaling.sigma_data)
        self.optimiser.zero_grad()
        loss = terms.total.item()
        if np.isfinite(loss):
            terms.total.backward()
            self.optimiser.step()
        with torch.no_grad():
            for rate, average in self.averages.items():
                for mean, parameter in zip(average, self.network.parameters(), strict=True):
                    mean.mul_(rate).add_(parameter, alpha=1 - rate)
            for copied, parameter in zip(self.target.parameters(), self.network.parameters(), strict=True):
                copied.copy_(parameter)
        return loss


@torch.no_grad()
def write_jpegs(model, latents: Tensor, folder: Path, first: int = 0) -> None:
    """Decode normalised-back latents one at a time, each into a JPEG file of Pillow's default quality."""
    for number, latent in enumerate(latents, start=first):
        image = 255 * ((model.decode(latent[None]).sample[0] + 1) / 2).clamp(0, 1)
        pixels = image.permute(1, 2, 0).to(torch.uint8).cpu().numpy()
        Image.fromarray(pixels).save(folder / f"{number}.jpg")


class Files(torch.utils.data.Dataset):
    """Images of a set, decoded when asked for, as torch-fidelity takes them."""

    def __init__(self, images: ImageSet):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.images[index]).permute(2, 0, 1)


def torch_fidelity_twice(
    generated: ImageSet, real: ImageSet, extractor: str, batch: int, cuda: bool
) -> dict[str, float]:
    """FID, then precision and recall: torch-fidelity's, each from the images."""
    found: dict[str, float] = {}
    for metric in ("fid", "prc"):
        found |= torch_fidelity.calculate_metrics(
            input1=Files(generated),
            input2=Files(real),
            feature_extractor=extractor,
            batch_size=batch,
            cuda=cuda,
            cache=False,
            verbose=False,
            **{metric: True},
        )
    return found
