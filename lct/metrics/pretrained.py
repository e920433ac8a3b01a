"""Published feature extractors, their weights loaded by us.

A file's SHA-256 is compared before anything in it is interpreted, and the bytes that were hashed are the bytes that are
loaded. State dicts are unpickled as tensors only (`weights_only`): torch-fidelity's own loading runs whatever code a
file holds.
"""

import hashlib
import io
import pickle
import warnings
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from lct.checks import invalid, require
from lct.metrics.settings import LAYERS, PretrainedExtractor

SIDE = 299  # pixels, of Inception's input


def load(settings: PretrainedExtractor, path: Path | str, sha256: str) -> nn.Module:
    """The network in `path`: (B, 3, H, W) uint8 -> (B, D) float32 features and (B, K) class scores, or None.

    sha256: what the file must hash to. Raises ValueError with one line on any other file, before loading it."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise invalid(path, f"weights of extractor {settings.id}", "nothing", "fetch them") from error
    digest, advice = hashlib.sha256(content).hexdigest(), "nothing of them was loaded: remove the file, fetch it again"
    require(digest == sha256, path, f"sha256 {sha256} of extractor {settings.id}", digest, advice)
    return ARCHITECTURES[settings.architecture](settings, content, str(path)).eval().requires_grad_(False)


def _state(content: bytes, where: str) -> dict[str, Tensor]:
    """The tensors of a PyTorch file; refuses one with anything else in it."""
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError) as error:
        expected = "a state dict of tensors and nothing else"
        raise invalid(where, expected, _first_line(error), "nothing of it was run") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{where}: expected a state dict of tensors, found a {type(state).__name__} of other things")
    return state


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _misfit(error: RuntimeError, where: str) -> ValueError:
    reason = " ".join(str(error).split())[:300]
    return invalid(where, "the tensors of the network", reason, "name another file")


def resize_torch_fidelity(images: Tensor) -> Tensor:
    """TensorFlow 1's bilinear resize, then (x - 128) / 128: the graph that first defined FID."""
    x = interpolate_bilinear_2d_like_tensorflow1x(images.float(), size=(SIDE, SIDE), align_corners=False)
    return (x - 128) / 128


def resize_pytorch_fid(images: Tensor) -> Tensor:
    """Torch's bilinear resize of values in [0, 1], then 2 x - 1: pytorch-fid's."""
    return 2 * F.interpolate(images.float() / 255, size=(SIDE, SIDE), mode="bilinear", align_corners=False) - 1


INCEPTION_RESIZES = {"torch-fidelity": resize_torch_fidelity, "pytorch-fid": resize_pytorch_fid}


class Inception(nn.Module):
    """The Inception-v3 of FID: torch-fidelity's layers, with either of the two resizes that are in use.

    Features: (B, 2048) after the last average pooling. Class scores: 1008, the network's own."""

    def __init__(self, settings: PretrainedExtractor, content: bytes, where: str):
        super().__init__()
        self.resize = INCEPTION_RESIZES[settings.resize]
        safe = io.BytesIO()  # torch-fidelity unpickles what it is given: it gets bytes that we wrote ourselves
        torch.save(_state(content, where), safe)
        safe.seek(0)
        with torch.random.fork_rng(devices=[]):  # its constructor draws weights before it loads ours
            try:
                network = FeatureExtractorInceptionV3(
                    settings.id, [LAYERS["inception"]], feature_extractor_weights_path=safe
                )
            except RuntimeError as error:
                raise _misfit(error, where) from error
        # its modules in the order of its forward pass, the last average pooling and the class scores at the end
        *layers, self.classes = network.children()
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.layers(self.resize(images)).flatten(1)
        return features, self.classes(features)


class _Vgg16(FeatureExtractorVGG16):
    """torch-fidelity's, around a network that is given: its own constructor holds half a gigabyte three times."""

    def __init__(self, name: str, model: nn.Module):
        FeatureExtractorBase.__init__(self, name, [LAYERS["vgg16"]])
        self.feature_extractor_internal_dtype = torch.float32
        self.model = model


class Vgg16(nn.Module):
    """torchvision's VGG16 as torch-fidelity uses it: TensorFlow 1's resize to 224, features (B, 4096) after the second
    fully connected layer and its ReLU; no class scores."""

    def __init__(self, settings: PretrainedExtractor, content: bytes, where: str):
        super().__init__()
        with torch.device("meta"):  # no numbers are drawn here
            model = torchvision.models.vgg16()
        try:
            model.load_state_dict(_state(content, where), strict=True, assign=True)
        except RuntimeError as error:
            raise _misfit(error, where) from error
        model.classifier = model.classifier[:4]  # up to the second fully connected layer
        self.network = _Vgg16(settings.id, model)

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        (features,) = self.network(images)
        return features, None


class TorchScript(nn.Module):
    """A network that brings its own program, resize included; called as model(images, return_features=True), as
    StyleGAN2-ADA's VGG16 and Inception are. No class scores."""

    def __init__(self, settings: PretrainedExtractor, content: bytes, where: str):
        super().__init__()
        try:
            with warnings.catch_warnings(action="ignore", category=FutureWarning):  # the published format is this one
                self.network = torch.jit.load(io.BytesIO(content), map_location="cpu")
        except RuntimeError as error:
            raise invalid(where, "a TorchScript file", _first_line(error), "name another file") from error

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        with torch.jit.optimized_execution(False):  # the profiler would give early batches another last bit
            return self.network(images, return_features=True).flatten(1).float(), None


ARCHITECTURES = {"inception": Inception, "vgg16": Vgg16, "torchscript": TorchScript}
