"""Frechet distance, precision and recall of feature sets, equal to torch-fidelity's; clean-fid gives a second opinion.

Statistics are float64: torch-fidelity takes means in the precision it is given, and a float32 mean over 50 000 images
costs digits that a small distance needs. Its trace of (S1 S2)^(1/2) is a sum of roots of eigenvalues of a product that
is not symmetric: where a covariance is singular, as with fewer images than features, rounding of 1e-16 becomes 1e-8
under the root. Here the trace is a sum of singular values, which has no root in it (tested against exact values); for
wide features, where that is slow, it is a sum of roots again, wherever a check of their rounding allows it.
"""

import contextlib
import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import linalg
from torch import Tensor

from lct.checks import require
from lct.metrics.settings import WIDE_FEATURES

BLOCK = 8192  # images whose features are summed, or compared with as many others, at once; part of the last bit of sets
# larger than this
TRACE_ROUNDING = 1e-9  # of tr S1 + tr S2: rounding that a Frechet distance by Cholesky factors may have
WIDER = "set the protocol's `dtype` to float32 or float64"
ROUNDING = 1e-5  # of a feature vector's norm: the features of equal images differ by less


@dataclass(frozen=True)
class FeatureStatistics:
    """Mean and covariance (divisor N - 1) of N feature vectors, float64."""

    mu: np.ndarray  # (D,)
    sigma: np.ndarray  # (D, D)
    count: int  # N

    def tensors(self, prefix: str = "") -> dict[str, Tensor]:
        """The tensors to store; the count is no tensor, and stored beside them."""
        return {f"{prefix}mu": torch.from_numpy(self.mu), f"{prefix}sigma": torch.from_numpy(self.sigma)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], count: int, prefix: str = "") -> "FeatureStatistics":
        return cls(tensors[f"{prefix}mu"].numpy(), tensors[f"{prefix}sigma"].numpy(), count)

    @cached_property
    def root(self) -> np.ndarray:
        """(D, rank) A with A A^T = sigma: eigenvectors times roots of eigenvalues, those that are zero up to rounding
        left out. Computed once, however many distances are taken to these statistics."""
        values, vectors = linalg.eigh(self.sigma)
        kept = values > len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
        return vectors[:, kept] * np.sqrt(values[kept])


class FeatureMoments:
    """Mean and covariance of features that come in pieces, with at most BLOCK of them in memory.

    Blocks are the same however the features are cut, so the result is the same too. Up to BLOCK vectors it is numpy's
    bit for bit; beyond that it differs in rounding."""

    def __init__(self):
        self._pending: list[np.ndarray] = []
        self._waiting = self._count = 0
        self._mean = self._scatter = None

    def add(self, features: Tensor) -> None:
        """features: (B, D), the next B of them."""
        if features.dim() != 2 or not features.is_floating_point():
            raise TypeError(f"expected (N, D) floating features, found {features.dtype} {tuple(features.shape)}")
        for start in range(0, len(features), BLOCK):
            self._pending.append(features[start : start + BLOCK].detach().cpu().double().numpy())
            self._waiting += len(self._pending[-1])
            if self._waiting >= BLOCK:
                joined = np.concatenate(self._pending)
                self._fold(joined[:BLOCK])
                self._pending, self._waiting = [joined[BLOCK:]], len(joined) - BLOCK

    def _fold(self, block: np.ndarray) -> None:
        """Join a block by the update of Chan, Golub and LeVeque (1983): scatter about the joint mean."""
        mean = block.mean(axis=0)
        centred = block - mean
        scatter = np.dot(centred.T, centred)
        if self._count:
            total, shift = self._count + len(block), mean - self._mean
            scatter += self._scatter + np.outer(shift, shift) * (self._count * len(block) / total)
            mean = self._mean + shift * (len(block) / total)
        self._count, self._mean, self._scatter = self._count + len(block), mean, scatter

    def statistics(self) -> FeatureStatistics:
        """Of all features added. Raises ValueError for fewer than two."""
        if self._waiting:
            self._fold(np.concatenate(self._pending))
            self._pending, self._waiting = [], 0
        require(self._count >= 2, "statistics", "2 or more images", self._count, "take more images")
        return FeatureStatistics(self._mean, self._scatter * (1 / (self._count - 1)), self._count)


def statistics(features: Tensor) -> FeatureStatistics:
    """Mean and covariance of (N, D) features of any floating dtype."""
    moments = FeatureMoments()
    moments.add(features)
    return moments.statistics()


def frechet(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """||mu1 - mu2||^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) [feature^2]. Rounding can make it slightly negative.

    The trace of the root is `overlap`; for WIDE_FEATURES or more that of `overlap_by_cholesky`, in a quarter of the
    time, where the covariances are well enough conditioned for it."""
    shift = first.mu - second.mu
    trace = overlap_by_cholesky(first.sigma, second.sigma) if len(shift) >= WIDE_FEATURES else None
    trace = overlap(first, second) if trace is None else trace
    return float(shift @ shift + np.trace(first.sigma) + np.trace(second.sigma) - 2 * trace)


def overlap(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """tr (S1 S2)^(1/2) of any covariances: with S1 = A A^T and S2 = B B^T, S1 S2 has the eigenvalues of
    (A^T B) (A^T B)^T, so that the trace of its root is the sum of the singular values of A^T B."""
    cross = first.root.T @ second.root
    return float(linalg.svdvals(cross).sum()) if cross.size else 0.0  # no spread at all on one side


def overlap_by_cholesky(first: np.ndarray, second: np.ndarray) -> float | None:
    """tr (S1 S2)^(1/2) of two (D, D) covariances: with S1 = L L^T, the sum of the roots of the eigenvalues of L^T S2 L.
    None where their rounding could move a Frechet distance by more than TRACE_ROUNDING (tr S1 + tr S2).

    Rounding moves an eigenvalue v by about r = eps |S1| |S2|, and its root by at most min(r^(1/2), r / v^(1/2)). These
    errors add up like independent ones; ten times the root of the sum of their squares is the limit that is compared
    (benchmarks/frechet.py: at most five times as much, over spectra of many shapes)."""
    try:
        lower = linalg.cholesky(first, lower=True)
    except linalg.LinAlgError:  # no full rank
        return None
    product = linalg.blas.dtrmm(1.0, lower, second.T, side=1, lower=1)  # a symmetric matrix in Fortran's order
    product = linalg.blas.dtrmm(1.0, lower, product, lower=1, trans_a=1, overwrite_b=1)
    values = linalg.eigvalsh(product, driver="ev", overwrite_a=True, check_finite=False).clip(0.0)
    roots, eps = np.sqrt(values), np.finfo(np.float64).eps
    rounding = eps * _largest_eigenvalue(first) * _largest_eigenvalue(second)
    limit = 10 * np.linalg.norm(rounding / np.maximum(roots, np.sqrt(rounding)))
    return float(roots.sum()) if 2 * limit <= TRACE_ROUNDING * (np.trace(first) + np.trace(second)) else None


def _largest_eigenvalue(sigma: np.ndarray) -> float:
    """Of a covariance, within some per cent, by power iteration."""
    vector = sigma[:, sigma.diagonal().argmax()]
    for _ in range(20):
        vector = sigma @ (vector / np.linalg.norm(vector))
    return float(np.linalg.norm(vector))


def frechet_cleanfid(first: FeatureStatistics, second: FeatureStatistics) -> float | None:
    """The same quantity by clean-fid's matrix square root; None where that root is not real, as happens for sets of
    fewer images than features."""
    from cleanfid.fid import frechet_distance  # slow to import, and not always needed

    try:
        # clean-fid calls scipy's sqrtm in its older form, and prints where a covariance is singular.
        with warnings.catch_warnings(), contextlib.redirect_stdout(None):
            warnings.simplefilter("ignore")
            value = float(frechet_distance(first.mu, first.sigma, second.mu, second.sigma))
    except ValueError:
        return None
    return value if np.isfinite(value) else None


@dataclass(frozen=True)
class PrecisionRecall:
    precision: float  # share of generated images inside the real images' manifold
    recall: float  # share of real images inside the generated images' manifold


def precision_recall(
    *, generated: Tensor, real: Tensor, k: int = 3, real_radii: Tensor | None = None
) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al. 2019): a set's manifold is the union of the balls around its
    points that reach their k-th nearest neighbour. Keywords only: exchanging the sets exchanges the two numbers.

    generated, real: (N, D) features, on the device and in the precision that computes distances; the authors' float16
                     is coarse, and gives other numbers.
    real_radii:      `radii(real, k)`, where the caller has them.

    The numbers are torch-fidelity's (tested). It is not called because it measures the real images anew for every set
    of generated ones, and sorts on the CPU: minutes per set at the paper's counts.
    """
    for name, features in (("generated", generated), ("real", real)):
        _check(features, k, name)
    real_radii = radii(real, k) if real_radii is None else real_radii
    return PrecisionRecall(covered(generated, real, real_radii), covered(real, generated, radii(generated, k)))


def _check(features: Tensor, k: int, name: str) -> None:
    if features.dim() != 2 or not features.is_floating_point():
        raise TypeError(f"{name}: expected (N, D) features, found {features.dtype} {tuple(features.shape)}")
    require(len(features) >= k + 1, name, f"more than k = {k} images", len(features), "take more images, or lower `k`")
    finite, expected = torch.isfinite(features).all(), f"features that {features.dtype} can hold"
    require(finite, name, expected, "NaN or infinity", WIDER)


def _between(a: Tensor, b: Tensor) -> Tensor:
    """(N, M) Euclidean distances. Torch has no others in half precision than by a matrix product, its way for sets of
    more than 25 points in any precision."""
    half = a.dtype == torch.float16
    return torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist" if half else "use_mm_for_euclid_dist_if_necessary")


def rounding(features: Tensor) -> Tensor:
    """(N,) distances below which two of (N, D) features are the same up to rounding: by the network, which computes in
    float32, and by distances, which come from a matrix product. Zero in half precision, which is coarser than that."""
    if features.dtype == torch.float16:
        return features.new_zeros(len(features))
    relative = max(ROUNDING, 4 * torch.finfo(features.dtype).eps ** 0.5)
    return relative * torch.linalg.vector_norm(features, dim=1)


def radii(features: Tensor, k: int) -> Tensor:
    """(N,) distance from each point to its k-th nearest other one, for (N, D) features; at least `rounding`, so that a
    point with k copies has a ball that holds these copies, and no other point. Raises ValueError where a distance is
    not finite."""
    _check(features, k, "radii")
    distances = []
    for points in features.split(BLOCK):
        nearest = points.new_empty(len(points), 0)
        for others in features.split(BLOCK):
            near = _between(points, others).topk(min(k + 1, len(others)), largest=False).values
            nearest = torch.cat([nearest, near], 1)
            nearest = nearest.topk(min(k + 1, nearest.shape[1]), largest=False).values
        distances.append(nearest.amax(1))  # the nearest of all is the point itself
    radius = torch.maximum(torch.cat(distances), rounding(features))
    require(torch.isfinite(radius).all(), "radii", "finite distances", f"some beyond {features.dtype}", WIDER)
    return radius


def covered(points: Tensor, centres: Tensor, radius: Tensor) -> float:
    """Share of points inside at least one of the balls."""
    balls = list(zip(centres.split(BLOCK), radius.split(BLOCK), strict=True))
    inside = [
        torch.stack([(_between(part, block) <= reach).any(1) for block, reach in balls]).any(0)
        for part in points.split(BLOCK)
    ]
    return torch.cat(inside).float().mean().item()


def confidence(logits: Tensor) -> Tensor:
    """(N,) float64: the largest class probability of each image, in [1 / K, 1], for (N, K) class scores."""
    return logits.double().softmax(1).amax(1)
