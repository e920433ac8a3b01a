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


def outliers(values: np.ndarray, most: int = 60, gap: float = 0.08) -> list[float]:
    """Standardised values beyond the inner fences that a plot can show apart, ascending: on each side the most extreme
    one, then inwards every one that lies `gap` or more from the last, `gap` being widened to keep about `most`."""
    x, _, _ = standardise(values)
    low, high = describe(values)["inner_fences"]
    kept = []
    for sign, fence in ((-1.0, -low), (1.0, high)):
        side = np.sort(sign * x[sign * x > fence])[::-1]
        step = max(gap, (side[0] - fence) / most) if len(side) else gap
        last = np.inf
        for value in side:
            if value <= last - step:
                kept.append(sign * float(value))
                last = value
    return sorted(kept)


def standardise(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """(values - mean) / sd as a flat float64 copy, with the mean and the population's standard deviation."""
    x = np.array(values, dtype=np.float64).ravel()
    mean, sd = (float(x.mean()), float(x.std())) if len(x) and np.isfinite(x).all() else (np.nan, np.nan)
    if not 0 < sd < np.inf:
        raise ValueError(f"distribution: expected finite values that vary, found {len(x)} with a spread of {sd}")
    x -= mean
    x /= sd
    return x, mean, sd
