"""How a set of values is distributed: quartiles, Tukey's fences, what lies beyond them, kurtosis. NumPy, float64.

Sources: J. W. Tukey, Exploratory Data Analysis (1977), 2C-2D: inner fences 1.5, outer fences 3 interquartile ranges
outside the quartiles.
"""

from typing import Any

import numpy as np

INNER, OUTER = 1.5, 3.0  # distance of the fences from the quartiles, in interquartile ranges


def spaced(count: int, limit: int) -> np.ndarray:
    """At most `limit` of the indices 0..count-1, evenly spaced."""
    kept = min(count, limit)
    return np.arange(kept) * count // max(kept, 1)


def describe(values: np.ndarray) -> dict[str, Any]:
    """Numbers of a box plot with two pairs of fences, of all `values` (any shape) pooled.

    `mean` and `sd` (population) are in the values' own unit; quartiles, whiskers (most extreme values inside the inner
    fences), fences and max_abs are standardised: standard deviations from the mean. Shares are of all values; those
    beyond the outer fences count as beyond the inner ones too. Excess kurtosis is the population's, 0 for a Gaussian.
    """
    x, mean, sd = standardise(values)
    x.sort()
    quartiles = np.quantile(x, (0.25, 0.5, 0.75))
    iqr = quartiles[2] - quartiles[0]
    inner, outer = ((quartiles[0] - reach * iqr, quartiles[2] + reach * iqr) for reach in (INNER, OUTER))
    beyond = {
        name: len(x) - (np.searchsorted(x, high, "right") - np.searchsorted(x, low, "left"))
        for name, (low, high) in (("inner", inner), ("outer", outer))
    }
    first, last = np.searchsorted(x, inner[0], "left"), np.searchsorted(x, inner[1], "right") - 1
    return {
        "count": len(x),
        "mean": mean,
        "sd": sd,
        "quartiles": quartiles.tolist(),
        "whiskers": [float(x[first]), float(x[last])],
        "inner_fences": [float(v) for v in inner],
        "outer_fences": [float(v) for v in outer],
        "beyond_inner": int(beyond["inner"]) / len(x),
        "beyond_outer": int(beyond["outer"]) / len(x),
        "max_abs": float(max(-x[0], x[-1])),
        "excess_kurtosis": float(np.mean(np.square(np.square(x, out=x), out=x))) - 3,
    }


def outliers(values: np.ndarray, limit: int) -> list[float]:
    """Standardised values beyond the inner fences, ascending: on each side all of them, or `limit` evenly spaced in
    rank with the most extreme one among them. What a plot can draw."""
    x, _, _ = standardise(values)
    low, high = describe(values)["inner_fences"]
    below, above = np.sort(x[x < low]), np.sort(x[x > high])[::-1]
    kept = [side[spaced(len(side), limit)] for side in (below, above)]
    return sorted(float(v) for side in kept for v in side)


def standardise(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """(values - mean) / sd as a flat float64 copy, with the mean and the population's standard deviation."""
    x = np.array(values, dtype=np.float64).ravel()
    mean, sd = float(x.mean()) if len(x) else 0.0, float(x.std()) if len(x) else 0.0
    if not 0 < sd < np.inf:
        raise ValueError(f"distribution: expected finite values that vary, found {len(x)} with a spread of {sd}")
    x -= mean
    x /= sd
    return x, mean, sd
