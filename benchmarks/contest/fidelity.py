"""Our feature extractors under a name in torch-fidelity, whose own run then gives numbers to compare with."""

import torch
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from lct.metrics.features import FeatureNetwork

FEATURES, LOGITS = "features", "logits"


def register(network: FeatureNetwork, dtype: torch.dtype = torch.float64) -> str:
    """Give torch-fidelity's calculate_metrics a network under its id, which is returned.

    dtype: of its features. torch-fidelity averages in the precision that it is given, and its own dtype option named
           "float64" computes in float32."""

    class Registered(FeatureExtractorBase):
        def __init__(self, name, features_list, **kwargs):
            super().__init__(name, features_list)

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
            outputs = dict(zip((FEATURES, LOGITS), network(input), strict=True))
            return tuple(outputs[name].to(dtype) for name in self.features_list)

    FEATURE_EXTRACTORS_REGISTRY[network.settings.id] = Registered
    return network.settings.id
