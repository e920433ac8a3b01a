"""Settings of the metrics: feature extractors and protocols. Torch-free."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

from pydantic import Discriminator, PositiveFloat, PositiveInt

from lct.checks import require

WIDE_FEATURES = 1024  # dimensions from which a Frechet distance may be taken by Cholesky factors: other last digits
OWN = "dataset"  # in a protocol: the extractor that each dataset names itself


_require = partial(require, advice="correct it in config/")


@dataclass(frozen=True, kw_only=True)
class TrainedExtractor:
    """A small convolutional classifier trained inside the graph on an image set; its last hidden layer is the feature
    space of FD(id), precision and recall."""

    kind: Literal["trained"] = "trained"  # trained in the graph
    id: str = "cnn64"  # name shown beside every number, FD(id), and registered with torch-fidelity
    labels: Literal["source", "rotations"] = "source"  # what it learns to tell apart: the labels that the source gives,
    # or, for images without labels, each image turned by 0, 90, 180 and 270 degrees
    task: str = "labels"  # what the source's labels are, in words: digit classes, cells of a photograph
    channels: tuple[PositiveInt, PositiveInt] = (24, 48)  # channels of the first and second pair of convolutions
    features: PositiveInt = 64  # channels of the third pair = dimension of the features
    steps: PositiveInt = 600  # optimiser steps
    batch: PositiveInt = 64  # images per step
    lr: PositiveFloat = 3e-3  # AdamW's largest step size (linear warm-up over a tenth of steps, then cosine to zero)
    weight_decay: float = 1e-2  # AdamW's decoupled decay
    seed: int = 0  # of the initial weights, the batches and the rotations
    layer, dtype = "features", "float32"  # of every one: which activations are the features, and their type

    @property
    def learned(self) -> str:
        """What it was trained to tell apart, in words."""
        return "rotations by 0, 90, 180 and 270 degrees" if self.labels == "rotations" else self.task


LAYERS = {"inception": "2048", "vgg16": "fc2_relu", "torchscript": "return_features"}  # architecture -> its features
RESIZES = {"inception": ("torch-fidelity", "pytorch-fid"), "vgg16": ("torch-fidelity",), "torchscript": ("own",)}


@dataclass(frozen=True, kw_only=True)
class PretrainedExtractor:
    """config/extractors/*.yaml: a published network, used as it is. Its weights are a download."""

    kind: Literal["pretrained"] = "pretrained"  # a fixed, downloaded network
    id: str  # name shown beside every number; in config/extractors/ the file's own
    task: str = "ImageNet classes"  # what it was trained on, in words
    architecture: Literal["inception", "vgg16", "torchscript"]  # the Inception-v3 of FID, torchvision's VGG16, or a
    # TorchScript file that is called as model(images, return_features=True)
    weights: str  # a file in config/weights/: whose download holds the network
    file: str  # name of the network's file in that download
    features: PositiveInt  # dimension of the features
    resize: Literal["torch-fidelity", "pytorch-fid", "own"]  # how images get the network's size and range: TensorFlow
    # 1's bilinear, torch's bilinear (align_corners false), or inside the TorchScript file
    dtype: Literal["float32", "float16"] = "float32"  # features are cast to this; the network computes in float32

    def __post_init__(self):
        _require(bool(re.fullmatch("[a-z0-9_-]+", self.weights)), "extractor.weights", "a name", repr(self.weights))
        _require(bool(self.file), "extractor.file", "a file's name", repr(self.file))
        resizes = RESIZES[self.architecture]
        _require(self.resize in resizes, f"extractor.resize of {self.architecture}", f"one of {resizes}", self.resize)

    @property
    def learned(self) -> str:
        return self.task

    @property
    def layer(self) -> str:
        return LAYERS[self.architecture]


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """Damage that real images are given, to show what the metrics see of it."""

    kind: Literal["blur", "noise"]
    strength: float  # of blur: standard deviation of the Gaussian, share of the image's side; of noise: of each value

    def pixels(self, side: int) -> float:
        """Standard deviation of the Gaussian [pixels of an image of this side]; of noise, in grey levels of 256."""
        return self.strength * side if self.kind == "blur" else self.strength

    def text(self, side: int) -> str:
        """What it is, in words."""
        unit = "pixels" if self.kind == "blur" else "of 256 grey levels"
        name = "Gaussian blur" if self.kind == "blur" else "Gaussian noise"
        return f"{name}, {self.pixels(side):g} {unit}"


DEGRADATIONS = {
    "blur-weak": Degradation(kind="blur", strength=1 / 32),
    "blur-strong": Degradation(kind="blur", strength=1 / 8),
    "noise-weak": Degradation(kind="noise", strength=16.0),
    "noise-strong": Degradation(kind="noise", strength=64.0),
}

Extractor = Annotated[TrainedExtractor | PretrainedExtractor, Discriminator("kind")]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a set of generated images is measured. Together with the extractors' weights and the reference images it
    gives the hash that is stored with every number."""

    id: str = "fidelity"  # name in paths and under tables
    distance: str = OWN  # extractor of the Frechet distance: a file in config/extractors/; dataset: each dataset's own
    recall: str = OWN  # extractor of precision and recall, likewise
    num_images: int = 2000  # the first so many generated images; floor rows take as many, or all there are
    jpeg_quality: int | None = None  # generated images pass through JPEG of this quality first; null: as they are
    reference: Literal["train", "all"] = "train"  # generated images are compared with the training images, without
    # appended mirror images, or with these and the held-out ones
    reference_jpeg_quality: int | None = None  # the same for the images compared with
    recall_generated: int = 50_000  # precision and recall look at the first so many generated images
    recall_reference: int = 200_000  # and at the first so many reference images
    k: int = 3  # neighbour whose distance is the radius of precision's and recall's balls
    dtype: Literal["float64", "float32", "float16"] = "float64"  # precision of these distances; statistics are float64
    batch: int = 250  # images per pass of the extractor; part of the result's last bit
    products: Literal["float32", "bfloat16"] = "float32"  # of the networks' layers; bfloat16 moves every number a
    # little
    second_opinion: bool = True  # clean-fid's distance beside ours: the root of a D x D matrix for every image set

    def __post_init__(self):
        _require(self.num_images >= 2, "protocol.num_images", "2 or more", self.num_images)
        for name in ("recall_generated", "recall_reference"):
            _require(getattr(self, name) > self.k, f"protocol.{name}", f"more than k = {self.k}", getattr(self, name))
        _require(1 <= self.k < self.num_images, "protocol.k", f"1 to {self.num_images - 1}", self.k)
        _require(self.batch >= 1, "protocol.batch", "a positive whole number", self.batch)
        for name in ("jpeg_quality", "reference_jpeg_quality"):
            quality = getattr(self, name)
            _require(quality is None or 1 <= quality <= 95, f"protocol.{name}", "1 to 95 or null", quality)

    def resolved(self, own: str) -> "Protocol":
        """This protocol with the id of every extractor. own: id of the dataset's extractor."""
        distance, recall = (own if name == OWN else name for name in (self.distance, self.recall))
        return replace(self, distance=distance, recall=recall)

    def spec(self, role: Literal["distance", "recall"], of_reference: bool = False) -> "FeatureSpec":
        """Which features a resolved protocol compares, of generated or of reference images."""
        quality = self.reference_jpeg_quality if of_reference else self.jpeg_quality
        return FeatureSpec(extractor=getattr(self, role), jpeg_quality=quality, products=self.products)


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """Which features are taken of an image set: the network, and what happens to the images before and in it."""

    extractor: str  # its id
    jpeg_quality: int | None  # of the JPEG that images pass through before; None: as they are
    products: Literal["float32", "bfloat16"] = "float32"  # of the network's layers

    @property
    def name(self) -> str:
        """Of its feature files."""
        quality = "" if self.jpeg_quality is None else f"-jpeg{self.jpeg_quality}"
        return f"{self.extractor}{quality}{'' if self.products == 'float32' else f'-{self.products}'}"


def feature_specs(protocols: Iterable[Protocol]) -> list[FeatureSpec]:
    """What scoring extracts from generated images, each once, in order of first use."""
    return list(dict.fromkeys(protocol.spec(role) for protocol in protocols for role in ("distance", "recall")))
