"""Frechet distance, precision and recall of feature sets; torch-fidelity computes, clean-fid gives a second opinion.

Features are (N, D) float64 tensors on the CPU: torch-fidelity takes means in the precision it is given, and a float32
mean over 50 000 images costs digits that a small distance needs.
"""

import contextlib
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric


@dataclass(frozen=True)
class PrecisionRecall:
    precision: float  # share of generated images inside the real images' manifold
    recall: float  # share of real images inside the generated images' manifold


def _check(features: Tensor, least: int, name: str) -> Tensor:
    if features.dim() != 2 or features.dtype != torch.float64 or features.device.type != "cpu":
        raise TypeError(f"{name}: expected (N, D) float64 on the CPU, found {features.dtype} {tuple(features.shape)}")
    if len(features) < least:
        raise ValueError(f"{name}: expected {least} or more images, found {len(features)}; raise num_images")
    return features


def frechet(first: Tensor, second: Tensor) -> float:
    """||mu1 - mu2||^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), S with divisor N - 1. Rounding can make it a hair negative."""
    statistics = [fid_features_to_statistics(_check(features, 2, "frechet")) for features in (first, second)]
    return fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]


def frechet_cleanfid(first: Tensor, second: Tensor) -> float | None:
    """The same quantity by clean-fid's matrix square root; None where that root is not real, as happens for sets of
    fewer images than features."""
    from cleanfid.fid import frechet_distance  # slow to import, and a second opinion only

    statistics = [fid_features_to_statistics(_check(features, 2, "frechet_cleanfid")) for features in (first, second)]
    try:
        # clean-fid calls scipy's sqrtm in its older form, and prints where a covariance is singular.
        with warnings.catch_warnings(), contextlib.redirect_stdout(None):
            warnings.simplefilter("ignore")
            value = float(frechet_distance(*(s[key] for s in statistics for key in ("mu", "sigma"))))
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def precision_recall(*, generated: Tensor, real: Tensor, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al. 2019): a set's manifold is the union of the balls around its
    points that reach their k-th nearest neighbour. Keywords only: exchanging the sets exchanges the two numbers."""
    for name, features in (("generated", generated), ("real", real)):
        _check(features, k + 1, name)
    values = prc_features_to_metric(
        generated, real, prc_neighborhood=k, prc_batch_size=10_000, save_cpu_ram=True, verbose=False
    )
    return PrecisionRecall(values[KEY_METRIC_PRECISION], values[KEY_METRIC_RECALL])


def confidence(logits: Tensor) -> float:
    """Mean over images of the largest class probability, in [1 / K, 1]: how sure the classifier is of what it sees."""
    return _check(logits, 1, "confidence").softmax(1).amax(1).mean().item()
