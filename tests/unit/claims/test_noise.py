"""Bands, pooling and power against independent statements, and the error rates of the rule by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from lct.claims.noise import (
    Noise,
    Spread,
    band,
    contrast,
    is_larger,
    pooled,
    power,
    scaled,
    seeds_needed,
    spread,
    visible_difference,
)


def test_a_band_is_student_t_of_a_new_observation_and_a_mean():
    assert band(Noise(0.5, 3), 2) == pytest.approx(3.182446305284263 * 0.5 * math.sqrt(1.5))


def test_a_spread_is_mean_and_unbiased_variance():
    values = [2.0, 2.5, 4.0]
    found = spread(values)
    assert (found.level, found.variance, found.df) == pytest.approx((np.mean(values), np.var(values, ddof=1), 2))


def test_pooling_weights_by_degrees_of_freedom_and_keeps_to_similar_levels():
    near = [spread([1.0, 1.1]), spread([1.2, 1.0, 1.4])]
    far = spread([3.0, 4.0])
    expected = math.sqrt((0.005 * 1 + 0.04 * 2) / 3)
    assert pooled([*near, far], level=1.1) == Noise(pytest.approx(expected), 3)
    assert pooled([*near, far]).df == 4
    assert pooled([spread([1.0])]) is None and pooled([far], level=1.0) is None


@pytest.mark.parametrize("ratio", [0.5, 2.0, 8.0, 30.0])
def test_a_run_whose_seeds_differ_more_than_the_others_is_seen_by_an_f_test(ratio):
    own, others = Spread(1.0, ratio * 0.3**2, 2), Noise(0.3, 10)
    assert is_larger(own, others) == bool(stats.f.sf(ratio, 2, 10) < 0.01)
    assert not is_larger(own, None) and not is_larger(Spread(1.0, 0.0, 0), others)


def test_a_difference_of_two_groups_is_welch():
    a, b = np.array([1.0, 1.3, 0.9, 1.2]), np.array([2.0, 2.9, 1.4])
    terms = [
        (sign, float(x.mean()), Noise(float(x.std(ddof=1)), len(x) - 1, name), len(x))
        for sign, x, name in ((1.0, a, "a"), (-1.0, b, "b"))
    ]
    ours, welch = contrast(terms), stats.ttest_ind(a, b, equal_var=False)
    assert ours.estimate / ours.error == pytest.approx(welch.statistic)
    assert ours.interval() == pytest.approx(tuple(welch.confidence_interval(0.95)))


def test_a_shared_noise_keeps_its_degrees_of_freedom():
    noise = Noise(0.1, 5)
    ours = contrast([(1.0, 3.0, noise, 2), (-1.0, 2.0, noise, 4)])
    assert (ours.estimate, ours.error, ours.df) == pytest.approx((1.0, 0.1 * math.sqrt(0.75), 5))


@pytest.mark.parametrize(("df", "n", "difference"), [(4, 1, 0.1), (2, 3, 0.05), (8, 5, 0.02)])
def test_power_is_that_of_the_noncentral_t(df, n, difference):
    sd = 0.022
    shift, limit = difference / (sd * math.sqrt(1 + 1 / n)), stats.t.ppf(0.975, df)
    expected = stats.nct.sf(limit, df, shift) + stats.nct.cdf(-limit, df, shift)
    assert power(difference, sd, n, df) == pytest.approx(expected, abs=1e-3)
    assert power(visible_difference(sd, n, df), sd, n, df) == pytest.approx(0.8, abs=1e-6)


def test_more_seeds_are_needed_for_smaller_differences():
    needed = [seeds_needed(difference, 0.022, 4) for difference in (0.2, 0.05, 0.02)]
    assert needed == sorted(needed) and needed[0] == 1 and seeds_needed(1e-6, 0.022, 4) is None


def test_seeds_of_paired_differences_have_the_power_of_one_sample():
    n = seeds_needed(0.03, 0.025, sides=1)
    shift, limit = 0.03 / 0.025, [stats.t.ppf(0.975, k - 1) for k in (n - 1, n)]
    powers = [stats.nct.sf(t, k - 1, shift * math.sqrt(k)) for t, k in zip(limit, (n - 1, n), strict=True)]
    assert powers[0] < 0.8 <= powers[1]


def test_a_distance_of_zero_has_no_logarithm():
    assert scaled("recall", 0.0) == 0.0 and scaled("fid", math.e) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="fid: expected a distance above 0"):
        scaled("fid", 0.0)


@pytest.mark.parametrize("seeds", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("sd", [0.01, 0.1])
def test_equal_laws_are_called_reproduced_in_95_of_100_trials(seeds, sd):
    from verdicts import noise_of  # benchmarks/

    rng, inside, trials = np.random.default_rng([seeds, int(1000 * sd)]), 0, 3000
    for _ in range(trials):
        noise, ours = noise_of(rng, seeds, 3, sd)
        inside += abs(ours.mean() - rng.normal(0.0, sd)) <= band(noise, seeds)
    assert abs(inside / trials - 0.95) < 0.02
