"""A small feature extractor trained inside the graph.

Six 3x3 convolutions in three pairs, batch normalisation, ReLU, global average pooling: the pooled activations are the
features, a linear layer on them the class scores. It takes what torch-fidelity's extractors take, (B, 3, H, W) uint8.

Images with labels train it to predict these. Images without labels train it on rotations (Gidaris et al. 2018): each
image is turned by 0, 90, 180 or 270 degrees, and the angle is the label, so that the network has to learn what is shown
and how it stands. A set without a preferred direction (textures, views from above) teaches it little; its accuracy
shows that.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lct.checks import invalid, require
from lct.data.imageset import ImageSet
from lct.files.advice import make_again
from lct.files.checkpoint import Checkpoint
from lct.files.tensors import read_tensors
from lct.metrics.settings import TrainedExtractor
from lct.streams import generator

TURNS = 4  # classes of the rotation task
MOST_CLASSES = 100_000  # of the labels that a source gives
RESIDENT = 1 << 30  # bytes of images that training keeps in memory; larger sets are read step by step


def to_network(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """(B, H, W, 3) -> (B, 3, H, W) uint8, contiguous: torch picks its convolution by the layout in memory, and
    torch-fidelity's own loader gives this one."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device)


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
    require(classes >= 2, f"extractor {settings.id}", "2 or more classes", classes, "label the images or use rotations")
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


def classes(settings: TrainedExtractor, labels: Sequence[int | None]) -> int:
    """Number of classes of the training task."""
    if settings.labels == "rotations":
        return TURNS
    return max((label for label in labels if label is not None), default=0) + 1


def turned(images: Tensor, turns: Tensor) -> Tensor:
    """Image i of (B, 3, S, S) turned by turns[i] times 90 degrees."""
    return torch.stack([image.rot90(int(turn), (1, 2)) for image, turn in zip(images, turns, strict=True)])


def train(
    model: SmallCNN,
    settings: TrainedExtractor,
    images: ImageSet,
    labels: Sequence[int | None],
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
) -> Iterator[float]:
    """Train `model` in place to tell the labels apart, one step per loss (cross-entropy, nats) taken from the iterator;
    leaves it frozen, in eval mode, on the CPU. No augmentation: features should see what samplers get wrong, position
    included.

    labels: one per image; not read by the rotation task. With a checkpoint, from where an earlier attempt has come."""
    rotations = settings.labels == "rotations"
    if rotations and images.height != images.width:
        raise ValueError(f"{images.path}: expected square images to turn, found {images.height}x{images.width}")
    if not rotations:
        _check_labels(images, labels)
    resident = len(images) * images.height * images.width * 3 <= RESIDENT
    every = to_network(images.array()) if resident else None
    targets = torch.zeros(len(images), dtype=torch.int64) if rotations else torch.tensor(labels)
    model.to(device).train().requires_grad_(True)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, foreach=False, fused=True
    )
    warm = max(1, settings.steps // 10)
    for step in range(checkpoint.load(model, optimiser) if checkpoint else 0, settings.steps):
        lr = settings.lr * min(1, (step + 1) / warm) * (1 + math.cos(math.pi * step / settings.steps)) / 2
        for group in optimiser.param_groups:
            group["lr"] = lr
        draws = generator(settings.seed, "extractor/step", step)
        picks = torch.randint(len(images), (settings.batch,), generator=draws)
        pixels = to_network(np.stack([images[i] for i in picks.tolist()])) if every is None else every[picks]
        target = targets[picks]
        if rotations:
            target = torch.randint(TURNS, (settings.batch,), generator=draws)
            pixels = turned(pixels, target)
        target = target.to(device)
        _, logits = model(pixels.to(device))
        loss = F.cross_entropy(logits, target)
        if not torch.isfinite(loss):
            raise ValueError(f"extractor {settings.id}: step {step + 1}: expected a finite loss; lower extractor.lr")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if checkpoint:
            checkpoint(model, optimiser, step + 1)
        yield loss.item()
    model.to("cpu").eval().requires_grad_(False)


def _check_labels(images: ImageSet, labels: Sequence[int | None]) -> None:
    missing = sum(label is None for label in labels) + abs(len(images) - len(labels))
    other_task = "give the dataset `extractor: {kind: trained, labels: rotations}`, which needs none"
    require(not missing, images.path, "a label for every image", f"{missing} without", other_task)
    low, high = min(labels, default=0), max(labels, default=0)
    inside, expected = 0 <= low <= high < MOST_CLASSES, f"labels from 0 to {MOST_CLASSES - 1}"
    require(inside, images.path, expected, f"{low} to {high}", f"number the classes from 0 on, or {other_task}")


def load(path: Path | str, device: str = "cpu") -> SmallCNN:
    """The network stored at `path`, frozen, in eval mode; its widths are those of the tensors."""
    state = read_tensors(path)
    with torch.device("meta"):
        probe = SmallCNN((1, 1), 1, 1)
    missing, extra = probe.state_dict().keys() - state.keys(), state.keys() - probe.state_dict().keys()
    names = f"missing {sorted(missing)[:3]} and extra {sorted(extra)[:3]}"
    require(not (missing or extra), path, "the tensors of an extractor", names, make_again(path))
    layers = ("convs.0", "convs.2", "convs.4", "head")
    first, second, features, classes = (state[f"{layer}.weight"].shape[0] for layer in layers)
    with torch.device("meta"):
        model = SmallCNN((first, second), features, classes)
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise invalid(path, "tensors that fit together", reason, make_again(path)) from error
    return model.to(device).eval().requires_grad_(False)


@torch.no_grad()
def accuracy(
    model: SmallCNN, settings: TrainedExtractor, images: ImageSet, labels: Sequence[int | None], batch: int = 250
) -> float:
    """Share of images whose best class is their label; of rotations, share of all turned images."""
    rotations, hits, device = settings.labels == "rotations", 0, next(model.parameters()).device
    if not rotations:
        _check_labels(images, labels)
    for start, stack, valid in images.batches(batch):
        pixels = to_network(stack)
        for turn in range(TURNS if rotations else 1):
            _, logits = model(turned(pixels, torch.full((batch,), turn)).to(device))
            target = torch.tensor([turn] * valid if rotations else labels[start : start + valid])
            hits += int((logits[:valid].argmax(1).cpu() == target).sum())
    return hits / len(images) / (TURNS if rotations else 1)
