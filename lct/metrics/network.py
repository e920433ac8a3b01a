"""Any extractor behind one interface, and under its name in torch-fidelity."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch_fidelity import register_feature_extractor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from lct.metrics import extractor, pretrained
from lct.metrics.settings import Extractor, TrainedExtractor

FEATURES, LOGITS = "features", "logits"


class FeatureNetwork(nn.Module):
    """(B, 3, H, W) uint8 -> (B, D) features in the dtype of the settings, and (B, K) class scores or None."""

    def __init__(self, settings: Extractor, module: nn.Module, device: torch.device | str):
        super().__init__()
        self.settings, self.module, self.device = settings, module.to(device), device

    def forward(self, images: Tensor, products: str = "float32") -> tuple[Tensor, Tensor | None]:
        """products: dtype of the products inside the layers."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=products == "bfloat16"):
            features, logits = self.module(images)
        if features.shape[1] != self.settings.features:
            raise ValueError(
                f"extractor {self.settings.id}: expected {self.settings.features} features, found {features.shape[1]}; "
                "correct `features` or name another file"
            )
        return features.to(getattr(torch, self.settings.dtype)), logits


def load(settings: Extractor, path: Path | str, sha256: str, device: torch.device | str = "cpu") -> FeatureNetwork:
    """The network of `settings`, frozen, in eval mode.

    path:   its weights: made in the graph, or downloaded.
    sha256: of that file; a downloaded one is loaded only if it hashes to this."""
    if isinstance(settings, TrainedExtractor):
        return FeatureNetwork(settings, extractor.load(path), device).eval()
    return FeatureNetwork(settings, pretrained.load(settings, path, sha256), device).eval()


def register(settings: Extractor, path: Path | str, sha256: str, dtype: torch.dtype = torch.float64) -> str:
    """Make an extractor known to torch-fidelity's calculate_metrics under its id, which is returned. Safe to repeat.

    dtype: of its features; torch-fidelity averages in the precision that it is given, and its own dtype option named
           "float64" computes in float32."""
    name, known = settings.id, FEATURE_EXTRACTORS_REGISTRY.get(settings.id)
    if known is None:
        register_feature_extractor(name, type("Registered", (_Registered,), {}))
        known = FEATURE_EXTRACTORS_REGISTRY[name]
    if not issubclass(known, _Registered):
        raise ValueError(f"extractor id {name}: expected a name of our own, found one of torch-fidelity's; rename it")
    known.make, known.dtype = staticmethod(lambda: load(settings, path, sha256)), dtype
    return name


class _Registered(FeatureExtractorBase):
    """A FeatureNetwork in torch-fidelity's interface."""

    make: Callable[[], FeatureNetwork]
    dtype: torch.dtype

    def __init__(self, name, features_list, **kwargs):
        super().__init__(name, features_list)
        self.network = self.make()

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
        return tuple(outputs[name].to(self.dtype) for name in self.features_list)
