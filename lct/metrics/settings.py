"""Settings of the metrics: the feature extractor and the protocol. Torch-free."""

from dataclasses import dataclass
from typing import Literal


def _require(condition: bool, where: str, expected: str, found: object) -> None:
    if not condition:
        raise ValueError(f"{where}: expected {expected}, found {found}; correct it in config/")


@dataclass(frozen=True, kw_only=True)
class TrainedExtractor:
    """A small convolutional classifier trained inside the graph on an image set's labels; its last hidden layer is
    the feature space of FD(id), precision and recall."""

    kind: Literal["trained"] = "trained"  # trained in the graph
    id: str = "cnn64"  # name shown beside every number, FD(id), and registered with torch-fidelity
    task: str = "labels"  # what the labels are, in words: digit classes, cells of a photograph
    channels: tuple[int, int] = (24, 48)  # channels of the first and second pair of convolutions
    features: int = 64  # channels of the third pair = dimension of the features
    steps: int = 600  # optimiser steps
    batch: int = 64  # images per step
    lr: float = 3e-3  # AdamW's largest step size (linear warm-up over a tenth of the steps, then cosine to zero)
    weight_decay: float = 1e-2  # AdamW's decoupled decay
    seed: int = 0  # of the initial weights and the batches

    def __post_init__(self):
        for name in ("features", "steps", "batch"):
            _require(getattr(self, name) >= 1, f"extractor.{name}", "a positive whole number", getattr(self, name))
        _require(min(self.channels) >= 1, "extractor.channels", "two positive counts", self.channels)
        _require(self.lr > 0, "extractor.lr", "a positive number", self.lr)


@dataclass(frozen=True, kw_only=True)
class InceptionExtractor:
    """The Inception-v3 whose 2048 pooled features define FID. Its weights are a download, not made in the graph."""

    kind: Literal["inception"] = "inception"  # a fixed, downloaded network
    id: str = "inception"  # name shown beside every number
    task: str = "ImageNet classes"  # what it was trained on, in words
    features: int = 2048  # dimension of the features
    weights: str = "resources/inception/inception.safetensors"  # the file; it comes with the paper's data
    sha256: str | None = None  # of that file; null: recorded on first use

    def __post_init__(self):
        _require(bool(self.weights), "extractor.weights", "a file's name", repr(self.weights))
        _require(self.features >= 1, "extractor.features", "a positive whole number", self.features)


Extractor = TrainedExtractor | InceptionExtractor


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a set of generated images is measured. Together with the extractor and the reference set it gives the hash
    that is stored with every number."""

    id: str = "fidelity"  # name in paths and under tables
    num_images: int = 2000  # generated images, and images of every floor row
    reference: Literal["train"] = "train"  # side of the dataset that generated images are compared with
    k: int = 3  # neighbour whose distance is the radius of precision's and recall's balls
    batch: int = 250  # images per pass of the extractor; part of the result's last bit

    def __post_init__(self):
        _require(self.num_images >= 2, "protocol.num_images", "2 or more", self.num_images)
        _require(1 <= self.k < self.num_images, "protocol.k", f"1 to {self.num_images - 1}", self.k)
        _require(self.batch >= 1, "protocol.batch", "a positive whole number", self.batch)
