"""Noise between trainings, and what follows from it: bands, intervals, power. Pure functions of numbers.

A training of the same settings with another seed gives another FID. Its standard deviation grows with the level, so FID
is taken on the log scale, where it is a relative error (`scaled`); recall is taken as it is. Standard deviations come
with their degrees of freedom, and every quantile is Student's t: with two or three seeds a factor of 2 would call equal
laws different far too often (benchmarks/verdicts.py simulates this rule).
"""

import bisect
import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # loads `special`, which takes a third of a second, when it is first used

from lct.checks import require

CONFIDENCE = 0.95  # of every band and interval, two-sided
POWER = 0.80  # probability with which a difference counts as one that can be seen
SAME_LEVEL = math.log(2.0)  # spreads are pooled over rows whose level (FID) differs by less than this factor
OWN_NOISE = 0.01  # p-value below which a run's own spread is taken for larger than that of the others
_NODES = 4000  # of the average over the estimated noise
MOST_SEEDS = 100  # where the search for a number of seeds ends


@dataclass(frozen=True)
class Noise:
    """Standard deviation between trainings, on the scale of `scaled`, and its degrees of freedom."""

    sd: float
    df: int
    source: str = ""  # what it was estimated from


@dataclass(frozen=True)
class Spread:
    """What one run says about the noise: its level, its variance between seeds, and n - 1."""

    level: float  # mean over seeds, on the scale of `scaled`
    variance: float
    df: int


def scaled(metric: str, value: float) -> float:
    """A value on the scale where its noise is stable: log FID, recall as it is.

    metric: "fid" (any Frechet distance) or "recall". Raises ValueError for a distance that is not positive."""
    if metric != "fid":
        return value
    require(value > 0, metric, "a distance above 0", value, "measure it again")
    return math.log(value)


def spread(values: Sequence[float]) -> Spread:
    """Mean, unbiased variance and degrees of freedom of scaled values, one for each training seed."""
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)
    return Spread(mean, variance, len(values) - 1)


def pooled(spreads: Iterable[Spread], level: float | None = None, source: str = "") -> Noise | None:
    """The pooled noise of several runs, weighted by degrees of freedom; None where no run has two seeds.

    level: pool only runs within a factor of 2 of this level; elsewhere the relative noise may be another one."""
    chosen = [s for s in spreads if s.df > 0 and (level is None or abs(s.level - level) <= SAME_LEVEL)]
    df = sum(s.df for s in chosen)
    if df == 0:
        return None
    variance = math.fsum(s.variance * s.df for s in chosen) / df
    return Noise(math.sqrt(variance), df, source) if variance > 0 else None


def is_larger(own: Spread, others: Noise | None) -> bool:
    """Whether a run's seeds differ more than the noise of other runs allows: F test at OWN_NOISE, one-sided."""
    if others is None or own.df == 0:
        return False
    return bool(scipy.special.fdtr(own.df, others.df, own.variance / others.sd**2) > 1 - OWN_NOISE)


def quantile(df: float, confidence: float = CONFIDENCE) -> float:
    """The two-sided quantile of Student's t."""
    return float(scipy.special.stdtrit(df, (1 + confidence) / 2))


def band(noise: Noise, n: int) -> float:
    """Half width around one published training within which the mean of n trainings of the same law falls.

    t(0.975, df) sd sqrt(1 + 1/n), on the scale of `scaled`."""
    return quantile(noise.df) * noise.sd * math.sqrt(1 + 1 / n)


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of means, such as a difference, with its standard error and degrees of freedom."""

    estimate: float
    error: float
    df: float

    def interval(self) -> tuple[float, float]:
        half = quantile(self.df) * self.error
        return self.estimate - half, self.estimate + half


def contrast(terms: Sequence[tuple[float, float, Noise, int]]) -> Contrast:
    """sum of weight * mean over terms (weight, mean, noise, n), its error and degrees of freedom.

    Terms that share one noise estimate keep its df; different estimates are combined by Welch and Satterthwaite."""
    estimate = math.fsum(weight * mean for weight, mean, _, _ in terms)
    shares: dict[Noise, float] = {}
    for weight, _, noise, n in terms:
        shares[noise] = shares.get(noise, 0.0) + weight**2 / n
    variances = {noise: share * noise.sd**2 for noise, share in shares.items()}
    total = math.fsum(variances.values())
    df = total**2 / math.fsum(v**2 / noise.df for noise, v in variances.items()) if total > 0 else math.inf
    return Contrast(estimate, math.sqrt(total), df)


def power(
    difference: float, sd: float, n: int, df: float, others: float = 1.0, confidence: float = CONFIDENCE
) -> float:
    """Probability that a true difference is seen at `confidence` with n trainings on one side.

    difference, sd: on the scale of `scaled`; others: the other side's variance in trainings, 1/m for a mean of m."""
    limit, shift = quantile(df, confidence), difference / (sd * math.sqrt(1 / n + others))
    # Given the estimated noise, the statistic is normal: its tails are averaged over quantiles of that noise. (SciPy's
    # noncentral t gives NaN at 1 degree of freedom.)
    beyond, ndtr = limit * _noise_ratios(df), scipy.special.ndtr
    return float(np.mean(ndtr(shift - beyond) + ndtr(-shift - beyond)))


@functools.cache  # takes longer than all the rest
def _noise_ratios(df: float) -> np.ndarray:
    """Estimated over true noise (_NODES,), each equally probable."""
    return np.sqrt(scipy.special.chdtri(df, (np.arange(_NODES) + 0.5) / _NODES) / df)


def visible_difference(sd: float, n: int, df: float, others: float = 1.0) -> float:
    """The smallest true difference that is seen with probability POWER, by bisection."""
    low, high = 0.0, sd
    while power(high, sd, n, df, others) < POWER:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, sd, n, df, others) < POWER else (low, middle)
    return high


def seeds_needed(
    difference: float,
    sd: float,
    prior_df: int = 0,
    sides: int = 2,
    confidence: float = CONFIDENCE,
    present: int = 0,
) -> int | None:
    """The smallest number of seeds on each side that sees a difference with probability POWER; None above MOST_SEEDS.

    prior_df: degrees of freedom of the noise that are known before the next seed. sides: 1 where each seed gives one
    difference, whose standard deviation is sd. present: seeds on each side that did not decide it: more are needed."""

    def suffices(n: int) -> bool:  # more seeds do so all the more
        df = prior_df + sides * (n - max(present, 1))
        return df > 0 and power(difference, sd, n, df, (sides - 1) / n, confidence) >= POWER

    numbers = range(present + 1, MOST_SEEDS + 1)
    index = bisect.bisect_left(numbers, True, key=suffices)
    return numbers[index] if index < len(numbers) else None
