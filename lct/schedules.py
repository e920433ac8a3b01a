"""Schedules: what a training step is told by its number, and a noise level by its index. Torch-free, float64.

Counting: s = intervals, N = s + 1 = points of the grid; index i = 0..N-1 descends from sigma_max to sigma_min.
Sources: arXiv:2206.00364 (EDM), arXiv:2303.01469 (CM), arXiv:2310.14189 (iCT), arXiv:2502.01441 (the paper) and, where
the paper is silent, its authors' scripts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from lct.checks import require

OPTIONAL = {"optional": True}  # of a field: settings that keep its default are written without it


@dataclass(frozen=True, kw_only=True)
class NoiseGrid:
    """Karras grid (EDM, Eq. 5): sigma_i = (sigma_max^(1/rho) + i/(N-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho."""

    sigma_min: float = 0.002  # smallest noise level, in units of the normalised latents; f(x, sigma_min) = x
    sigma_max: float = 80.0  # largest noise level, where sampling starts
    rho: float = 7.0  # curvature: larger puts more points at low noise (EDM)

    def __post_init__(self):
        ordered, ends = 0 < self.sigma_min < self.sigma_max < math.inf, f"{self.sigma_min} and {self.sigma_max}"
        require(ordered, "grid", "0 < sigma_min < sigma_max", ends)
        require(0 < self.rho < math.inf, "grid.rho", "a positive number", self.rho, "EDM uses 7")

    def sigmas(self, points: int) -> np.ndarray:
        """(points,) float64, descending; the two ends are exactly sigma_max and sigma_min."""
        require(points >= 2, "grid", "2 points or more", points, "raise the number of intervals")
        high, low = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        sigmas = (high + np.arange(points) / (points - 1) * (low - high)) ** self.rho
        sigmas[0], sigmas[-1] = self.sigma_max, self.sigma_min  # round-off would break f(x, sigma_min) = x
        return sigmas

    def sigma(self, index: int, points: int) -> float:
        """sigma_i of the grid with `points` points."""
        require(0 <= index < points, "grid", f"an index from 0 to {points - 1}", index, "fix it or the grid")
        return float(self.sigmas(points)[index])


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """Number of intervals s(k) at step k of K. The papers' N(k) counts points: s(k) + 1.

    ict:         s = min(s0 2^floor(k / K'), s1), K' = floor(K / (log2 floor(s1 / s0) + 1))    (iCT, Sec. 3.4)
    progressive: s = max(ceil(sqrt(k/K ((s1 + 1)^2 - s0^2) + s0^2) - 1), 1)                    (CM, App. C: 2..150)
    constant:    s = s1                                                                        (LDM: 999, 1000 points)
    """

    kind: Literal["ict", "progressive", "constant"] = "ict"  # doubling stages, the square-root rule of CM, or s1 always
    s0: int = 10  # intervals at the first step (progressive: points, as CM counts)
    s1: int = 640  # intervals at the end

    def __post_init__(self):
        require(1 <= self.s0 <= self.s1, "curriculum", "1 <= s0 <= s1", f"s0={self.s0} and s1={self.s1}")

    @property
    def stages(self) -> int:
        """Stages of the ict rule: log2 floor(s1 / s0) + 1, rounded up when s1 / s0 is no power of two; else 1."""
        return math.ceil(self._stages) if self.kind == "ict" else 1

    @property
    def _stages(self) -> float:
        return math.log2(self.s1 // self.s0) + 1

    def stage_steps(self, total_steps: int) -> int:
        """K', steps of one stage (K where there are no stages); refuses a training shorter than its stages."""
        require(total_steps >= 1, "curriculum", "1 training step or more", total_steps, "train longer")
        if self.kind != "ict":
            return total_steps
        steps = math.floor(total_steps / self._stages)
        expected = f"at least {self.stages} steps, one per stage from s0={self.s0} to s1={self.s1}"
        require(steps >= 1, "curriculum", expected, total_steps, "train longer or lower s1")
        return steps

    def intervals(self, step: int, total_steps: int) -> int:
        """s(k); steps beyond K (the authors' extra epoch) keep the last value."""
        require(step >= 0, "curriculum", "a step from 0 on", step, "count steps from 0")
        stage_steps = self.stage_steps(total_steps)
        if self.kind == "constant":
            return self.s1
        if self.kind == "progressive":
            done = min(step / total_steps, 1.0)
            points = math.sqrt(done * ((self.s1 + 1) ** 2 - self.s0**2) + self.s0**2)
            return min(max(math.ceil(points - 1), 1), self.s1)
        return min(self.s0 * 2 ** min(step // stage_steps, 63), self.s1)  # 63: no huge power far beyond K


@dataclass(frozen=True, kw_only=True)
class IndexDistribution:
    """P(i), from which the noise index of each sample is drawn.

    lognormal: P(i) ~ erf((ln sigma_i - mu) / (sqrt2 s)) - erf((ln sigma_{i+1} - mu) / (sqrt2 s)), i = 0..N-2  (iCT)
    uniform:   the same for every index  (CM, LDM-8)
    flow:      P(i) ~ tau_i - tau_{i+1} with tau = sigma / (1 + sigma), i = 0..N-2: uniform in the time tau of the
               straight path (1 - tau) x + tau n, which is x + sigma n divided by 1 + sigma  (flow matching)
    """

    kind: Literal["lognormal", "uniform", "flow"] = "lognormal"  # iCT's lognormal noise levels, every index alike, or
    # every time of a straight path alike
    p_mean: float = -1.1  # mean of ln sigma, lognormal only (iCT)
    p_std: float = 2.0  # standard deviation of ln sigma, lognormal only (iCT)

    def __post_init__(self):
        require(self.p_std > 0, "index.p_std", "a positive number", self.p_std, "iCT uses 2.0")

    def probabilities(self, sigmas: np.ndarray, include_last: bool = False) -> np.ndarray:
        """float64 probabilities, summing to 1, of the indices of a descending grid `sigmas` (N,).

        A consistency pair (i, i+1) starts at i = 0..N-2, hence (N-1,). include_last gives (N,), for the denoising
        objective, which has no pairs; the lognormal law leaves its last point out (no bin begins there).
        """
        if self.kind == "uniform":
            count = len(sigmas) - (not include_last)
            return np.full(count, 1.0 / count)
        if self.kind == "flow":
            mass = -np.diff(np.asarray(sigmas, dtype=np.float64) / (1 + np.asarray(sigmas, dtype=np.float64)))
            return np.append(mass / mass.sum(), [0.0] * include_last)
        z = (np.log(np.asarray(sigmas, dtype=np.float64)) - self.p_mean) / (math.sqrt(2.0) * self.p_std)
        mass = -np.diff([math.erf(value) for value in z])
        expected = f"noise levels that p_mean={self.p_mean}, p_std={self.p_std} can reach"
        require(mass.sum() > 0, "index", expected, f"none between {sigmas[-1]} and {sigmas[0]}")
        return np.append(mass / mass.sum(), [0.0] * include_last)


@dataclass(frozen=True, kw_only=True)
class RobustScale:
    """c of the robust losses, in units of the normalised latents. c0 = base sqrt(d), d = latent elements, or given.

    constant:  c = multiple c0                                                                 (iCT, Sec. 3.3)
    adaptive:  c = multiple exp(slope ln s + offset) for s > s0, and multiple c0 at s = s0     (the paper's law)
    nfe-sigma: c = multiple (sigma_max^(1/rho) - sigma_min^(1/rho)) / s                        (authors' run `newc2`)
    from_intervals = a: c = multiple c0 while s < a, then the law's value at s = a, held       (authors' resumed runs)
    """

    law: Literal["constant", "adaptive", "nfe-sigma"] = "constant"  # how c follows the number of intervals s
    base: float = 0.00054  # c0 / sqrt(d), unitless (iCT)
    c0: float | None = field(default=None, metadata=OPTIONAL)  # c0 by value, whatever d is; null: base sqrt(d)
    multiple: float = 1.0  # factor on every value of the law (ablation D)
    slope: float = -1.15  # of ln c against ln s, adaptive law only; fitted by the authors to the spread of their loss
    offset: float = -0.85  # of ln c, adaptive law only
    from_intervals: int | None = None  # stage s from which the law's value is held constant; null: follow the law

    def __post_init__(self):
        positive, given = self.base > 0 and self.multiple > 0, f"{self.base} and {self.multiple}"
        require(positive, "scale", "positive base and multiple", given)
        require(self.c0 is None or self.c0 > 0, "scale.c0", "a positive number", self.c0, "null is base sqrt(d)")
        where, stage = "scale.from_intervals", self.from_intervals
        require(stage is None or stage >= 1, where, "1 or more", stage, "name a stage s")
        varies = stage is None or self.law != "constant"
        require(varies, where, "only with the adaptive or nfe-sigma law", self.law, "remove it")

    def c(self, intervals: int, s0: int, dimension: int, grid: NoiseGrid) -> float:
        """c at `intervals` = s, for a curriculum that starts at s0 and latents of `dimension` = d elements."""
        c0 = self.base * math.sqrt(dimension) if self.c0 is None else self.c0
        if self.from_intervals is not None:
            if intervals < self.from_intervals:
                return self.multiple * c0
            intervals = self.from_intervals
        return self.multiple * self._law(intervals, s0, c0, grid)

    def _law(self, s: int, s0: int, c0: float, grid: NoiseGrid) -> float:
        if self.law == "nfe-sigma":
            return (grid.sigma_max ** (1 / grid.rho) - grid.sigma_min ** (1 / grid.rho)) / s
        if self.law == "adaptive" and s > s0:
            return math.exp(self.slope * math.log(s) + self.offset)
        return c0


def residual_by_stage(curve: Mapping[str, Sequence[float | None]]) -> dict[int, float]:
    """Intervals s -> measured RMS of an element of f(x_t, t) - f^-(x_r, r) in that stage, in units of the normalised
    latents: what the adaptive law of c was fitted to. In order of s.

    curve: columns `intervals` and `residual_rms` of a curves.json, a value per logged step. Empty for the denoising
    objective, and for curves without that column."""
    squares: dict[int, list[float]] = {}
    for s, rms in zip(curve["intervals"], curve.get("residual_rms", ()), strict=False):
        if s is not None and rms is not None:
            squares.setdefault(int(s), []).append(rms**2)
    return {s: math.sqrt(sum(values) / len(values)) for s, values in sorted(squares.items())}


@dataclass(frozen=True, kw_only=True)
class LearningRate:
    """Learning rate at step k of K: linear warm-up (k + 1) / warmup, then constant or half a cosine down to its end."""

    kind: Literal["constant", "cosine"] = "constant"  # after the warm-up
    lr: float = 1e-4  # highest learning rate
    warmup_steps: int = 0  # steps of linear warm-up; none in the paper's runs
    final_fraction: float = 0.05  # of lr, reached at the last step; cosine only

    def __post_init__(self):
        allowed, given = self.lr > 0 and self.warmup_steps >= 0, f"{self.lr} and {self.warmup_steps}"
        require(allowed, "learning_rate", "lr > 0, warmup_steps >= 0", given)
        require(0 <= self.final_fraction <= 1, "learning_rate.final_fraction", "0 to 1", self.final_fraction)

    def at(self, step: int, total_steps: int) -> float:
        """Rate of step k; steps beyond K keep the last value."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        if self.kind == "constant":
            return self.lr
        span = max(total_steps - 1 - self.warmup_steps, 1)
        done = min((step - self.warmup_steps) / span, 1.0)
        cosine = (1 + math.cos(math.pi * done)) / 2
        return self.lr * (self.final_fraction + (1 - self.final_fraction) * cosine)


def target_rate(law: Literal["constant", "adaptive"], mu0: float, s0: int, intervals: int) -> float:
    """EMA rate of the target network at s intervals: mu0, or exp(s0 ln mu0 / s) (CM, App. C). 0 copies the weights."""
    if law == "constant" or mu0 == 0:
        return mu0
    return math.exp(s0 * math.log(mu0) / intervals)
