"""A small feature extractor trained inside the graph, and its registration with torch-fidelity.

Six 3x3 convolutions in three pairs, batch normalisation, ReLU, global average pooling: the pooled activations are the
features, a linear layer on them the class scores. It takes what torch-fidelity's extractors take, (B, 3, H, W) uint8,
and gives float64, because torch-fidelity averages features in the precision it is given (its own dtype option named
"float64" computes in float32).
"""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch_fidelity import register_feature_extractor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from lct.data.imageset import ImageSet
from lct.metrics.features import to_network
from lct.metrics.settings import TrainedExtractor
from lct.streams import generator

FEATURES, LOGITS = "features", "logits"


@dataclass(frozen=True)
class Progress:
    """One training step: cross-entropy in nats and accuracy on the step's own batch."""

    step: int  # steps done, counted from 1
    steps: int
    loss: float
    accuracy: float
    lr: float


class SmallCNN(nn.Module):
    """(B, 3, H, W) uint8 -> (B, features) and (B, classes), float64."""

    def __init__(self, channels: Sequence[int], features: int, classes: int):
        super().__init__()
        widths = [3, channels[0], channels[0], channels[1], channels[1], features, features]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
        self.head = nn.Linear(features, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        h = images.float() / 127.5 - 1
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            h = F.relu(norm(conv(h)))
            if i in (1, 3):
                h = F.max_pool2d(h, 2)
        features = h.mean((2, 3))
        return features.double(), self.head(features).double()


def create(settings: TrainedExtractor, classes: int) -> SmallCNN:
    """A fresh network; its weights are a function of settings.seed and leave torch's global generator alone."""
    if classes < 2:
        raise ValueError(f"extractor {settings.id}: expected 2 or more classes, found {classes}; label the images")
    with torch.device("meta"):  # no numbers are drawn here
        model = SmallCNN(settings.channels, settings.features, classes)
    model.to_empty(device="cpu")
    draws = generator(settings.seed, "extractor/init")
    for conv, norm in zip(model.convs, model.norms, strict=True):
        nn.init.kaiming_normal_(conv.weight, generator=draws)
        norm.reset_parameters()
    nn.init.normal_(model.head.weight, std=settings.features**-0.5, generator=draws)
    nn.init.zeros_(model.head.bias)
    return model


def train(
    model: SmallCNN, settings: TrainedExtractor, images: ImageSet, labels: Sequence[int | None], device: str = "cpu"
) -> Iterator[Progress]:
    """Train `model` in place to tell the labels apart, one step per item taken from the iterator; leaves it frozen, in
    eval mode, on the CPU. No augmentation: features should see what samplers get wrong, position included."""
    if len(labels) != len(images) or any(label is None for label in labels):
        missing = sum(label is None for label in labels) + abs(len(images) - len(labels))
        raise ValueError(
            f"{images.path}: expected a label for every image, found {missing} without; choose an extractor that "
            "needs no labels for this dataset"
        )
    pixels = to_network(images.array())
    targets = torch.tensor(labels)
    model.to(device).train().requires_grad_(True)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, foreach=False, fused=True
    )
    warm = max(1, settings.steps // 10)
    for step in range(settings.steps):
        lr = settings.lr * min(1, (step + 1) / warm) * (1 + math.cos(math.pi * step / settings.steps)) / 2
        for group in optimiser.param_groups:
            group["lr"] = lr
        draws = generator(settings.seed, "extractor/step", step)
        picks = torch.randint(len(pixels), (settings.batch,), generator=draws)
        target = targets[picks].to(device)
        _, logits = model(pixels[picks].to(device))
        loss = F.cross_entropy(logits, target)
        if not torch.isfinite(loss):
            raise ValueError(f"extractor {settings.id}: step {step + 1}: expected a finite loss; lower extractor.lr")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        hits = (logits.argmax(1) == target).double().mean()
        yield Progress(step + 1, settings.steps, loss.item(), hits.item(), lr)
    model.to("cpu").eval().requires_grad_(False)


def tensors(model: SmallCNN) -> dict[str, Tensor]:
    """The tensors to store, ready for a safetensors file."""
    return {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}


def load(path: Path | str, device: str = "cpu") -> SmallCNN:
    """The network stored at `path`, frozen, in eval mode; its widths are those of the tensors."""
    try:
        with safe_open(path, framework="pt") as handle:
            names = set(handle.keys())
        state = load_file(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: expected an extractor, found nothing; run snakemake to make it") from error
    except SafetensorError as error:
        raise ValueError(
            f"{path}: expected a whole safetensors file, found damage ({error}); "
            f"make it again: snakemake --force {path}"
        ) from error
    with torch.device("meta"):
        probe = SmallCNN((1, 1), 1, 1)
    if names != (expected := set(probe.state_dict())):
        raise ValueError(
            f"{path}: expected the tensors of an extractor, found missing {sorted(expected - names)[:3]} and extra "
            f"{sorted(names - expected)[:3]}; make it again: snakemake --force {path}"
        )
    channels = state["convs.0.weight"].shape[0], state["convs.2.weight"].shape[0]
    with torch.device("meta"):
        model = SmallCNN(channels, state["convs.4.weight"].shape[0], state["head.weight"].shape[0])
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected tensors that fit together, found: {reason}; make it again") from error
    return model.to(device).eval().requires_grad_(False)


@torch.no_grad()
def accuracy(model: SmallCNN, images: ImageSet, labels: Sequence[int], batch: int = 250) -> float:
    """Share of images whose best class is their label."""
    hits, device = 0, next(model.parameters()).device
    for start, pixels, valid in images.batches(batch):
        _, logits = model(to_network(pixels, device))
        hits += int((logits[:valid].argmax(1).cpu() == torch.tensor(labels[start : start + valid])).sum())
    return hits / len(images)


class FidelityExtractor(FeatureExtractorBase):
    """The same network in torch-fidelity's interface; its weights come from `feature_extractor_weights_path`."""

    def __init__(self, name, features_list, feature_extractor_weights_path=None, **kwargs):
        super().__init__(name, features_list)
        if feature_extractor_weights_path is None:
            raise ValueError(f"extractor {name}: expected feature_extractor_weights_path, found None; name its file")
        self.network = load(feature_extractor_weights_path)

    @staticmethod
    def get_provided_features_list():
        return FEATURES, LOGITS

    @staticmethod
    def get_default_feature_layer_for_metric(metric):
        return {"isc": LOGITS}.get(metric, FEATURES)

    @staticmethod
    def can_be_compiled():
        return False

    def forward(self, input):
        outputs = dict(zip((FEATURES, LOGITS), self.network(input), strict=True))
        return tuple(outputs[name] for name in self.features_list)


@functools.cache
def register(name: str) -> str:
    """Make `name` (settings.id) known to torch-fidelity's calculate_metrics; returns it. Safe to repeat."""
    if name not in FEATURE_EXTRACTORS_REGISTRY:
        register_feature_extractor(name, FidelityExtractor)
    elif FEATURE_EXTRACTORS_REGISTRY[name] is not FidelityExtractor:
        raise ValueError(f"extractor id {name}: expected a name of our own, found one of torch-fidelity's; rename it")
    return name
