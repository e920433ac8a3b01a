"""Any extractor behind one interface."""

from pathlib import Path

import torch
from torch import Tensor, nn

from lct.metrics import extractor
from lct.metrics.settings import Extractor, TrainedExtractor


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
    from lct.metrics import pretrained  # with torchvision, whose import takes as long as torch's

    return FeatureNetwork(settings, pretrained.load(settings, path, sha256), device).eval()
