"""Verdicts on claims from made-up bodies of evidence."""

import math
from dataclasses import replace

import numpy as np
import pytest

from lct.claims.judge import CONTRADICTED, NOT_MEASURED, SUPPORTED, UNDECIDED, Body, judge
from lct.claims.noise import Noise, spread
from lct.config.claims import Claim, Comparison, Gap, Measurement, Trend

PRIOR = {"fid": Noise(0.022, 4)}


def body(values: dict[str, tuple[float, ...] | float], metric: str = "fid", **more) -> Body:
    cells = {(f"t.a.{row}", metric): value if isinstance(value, tuple) else (value,) for row, value in values.items()}
    return Body("b", "a body of evidence", cells, **{"prior": PRIOR, "command": "snakemake"} | more)


def beats(better: str, worse: str, **more) -> Comparison:
    return Comparison(better=f"t.a.{better}", worse=f"t.a.{worse}", **more)


def claim(*parts) -> Claim:
    return Claim(id="c", statement="s", place="p", parts=parts)


@pytest.mark.parametrize(
    ("better", "worse", "verdict"),
    [(7.27, 9.97, SUPPORTED), (9.97, 7.27, CONTRADICTED), (9.53, 9.41, UNDECIDED), (7.27, 7.53, UNDECIDED)],
)
def test_one_training_on_each_side_is_judged_by_the_prior(better, worse, verdict):
    found = judge(claim(beats("a", "b")), body({"a": better, "b": worse}))
    part = found.parts[0]
    assert found.verdict == part.verdict == verdict
    half = 2.7764451 * 0.022 * math.sqrt(2)
    assert part.estimate == pytest.approx(better / worse)
    assert (part.low, part.high) == pytest.approx((better / worse * math.exp(-half), better / worse * math.exp(half)))
    assert (part.seeds is None) == (verdict != UNDECIDED)


def test_the_smaller_an_undecided_difference_the_more_seeds_decide_it():
    seeds = [judge(claim(beats("a", "b")), body({"a": 10.0, "b": b})).seeds for b in (10.7, 10.3, 10.1)]
    assert seeds == sorted(seeds) and seeds[0] >= 2


def test_measured_seeds_take_the_place_of_the_prior_at_their_level():
    values = {"a": (7.0, 8.4), "b": (9.5, 11.0)}
    spreads = tuple(spread([math.log(v) for v in row]) for row in values.values())
    found = judge(claim(beats("a", "b")), body(values, spreads={("a", "fid"): spreads}))
    assert found.verdict == UNDECIDED and found.parts[0].n == (2, 2)
    far = tuple(spread([math.log(100 * v) for v in row]) for row in values.values())
    assert judge(claim(beats("a", "b")), body(values, spreads={("a", "fid"): far})).verdict == SUPPORTED


def test_recall_without_a_known_spread_is_undecided_and_larger_is_better():
    comparison = beats("a", "b", metric="recall")
    values = {"a": (0.52, 0.53, 0.52), "b": (0.40, 0.41, 0.40)}
    found = judge(claim(comparison), body(values, "recall"))
    assert found.verdict == UNDECIDED and "spread" in found.parts[0].why
    spreads = {("a", "recall"): tuple(spread(list(row)) for row in values.values())}
    assert judge(claim(comparison), body(values, "recall", spreads=spreads)).verdict == SUPPORTED


def test_every_part_must_hold():
    values = {"a": 7.0, "b": 9.0, "c": 7.1, "d": 5.0}
    b, c, d = (beats("a", row) for row in "bcd")
    assert judge(claim(b), body(values)).verdict == SUPPORTED
    assert judge(claim(b, c), body(values)).verdict == UNDECIDED
    assert judge(claim(b, c, d), body(values)).verdict == CONTRADICTED


def test_what_is_absent_is_named_with_the_command():
    found = judge(claim(beats("a", "x")), body({"a": 7.0}))
    assert (found.verdict, found.command) == (NOT_MEASURED, "snakemake") and "x" in found.why
    half = judge(claim(beats("a", "b"), beats("a", "x")), body({"a": 7.0, "b": 9.0}))
    assert half.verdict == UNDECIDED and "1 of 2" in half.why


@pytest.mark.parametrize(("row", "verdict"), [(9.97, SUPPORTED), (30.0, CONTRADICTED), (22.0, UNDECIDED)])
def test_a_share_of_a_gap_is_a_contrast_of_three_rows(row, verdict):
    gap = Gap(row="t.a.x", start="t.a.ilct", goal="t.a.lct", share=0.5)
    found = judge(claim(gap), body({"x": row, "ilct": 37.15, "lct": 7.27}))
    assert found.verdict == verdict
    assert found.parts[0].estimate == pytest.approx((37.15 - row) - 0.5 * (37.15 - 7.27))


def test_rows_of_a_gap_that_share_one_noise_keep_its_degrees_of_freedom():
    gap = Gap(row="t.a.x", start="t.a.ilct", goal="t.a.lct", share=0.5)
    part = judge(claim(gap), body({"x": 9.97, "ilct": 37.15, "lct": 7.27})).parts[0]
    half = 2.7764451 * 0.022 * math.sqrt(9.97**2 + (0.5 * 37.15) ** 2 + (0.5 * 7.27) ** 2)  # t(0.975, 4)
    assert (part.low, part.high) == pytest.approx((part.estimate - half, part.estimate + half))


def test_seeds_that_did_not_decide_a_part_are_never_the_number_that_would():
    spreads = {("a", "fid"): (spread([0.0, 0.06]), spread([0.0, 0.06]))}
    for ratio in (1.05, 1.1, 1.15, 1.19):
        values = {"a": (10.0, 10.0), "b": (10.0 * ratio, 10.0 * ratio)}
        near = {key: tuple(replace(s, level=math.log(10.0)) for s in of) for key, of in spreads.items()}
        part = judge(claim(beats("a", "b")), body(values, spreads=near)).parts[0]
        assert part.verdict == UNDECIDED and part.seeds > 2
    others = [beats(row, "worst") for row in "abcd"]  # of several parts, a contradiction takes more
    values = {"a": 10.0, "b": 10.1, "c": 10.2, "d": 10.3, "worst": 12.0, "good": 9.3}
    alone, among = (judge(claim(beats("a", "good"), *more), body(values)).parts[0] for more in ((), others))
    assert alone.verdict == among.verdict == UNDECIDED and 1 < alone.seeds < among.seeds


def test_an_unknown_spread_is_the_reason_and_not_a_large_number_of_seeds():
    cells = {
        ("t.a.a", "fid"): (9.0,),
        ("t.a.b", "fid"): (9.3,),
        ("t.a.a", "recall"): (0.5,),
        ("t.a.b", "recall"): (0.4,),
    }
    judged = judge(claim(beats("a", "b"), beats("a", "b", metric="recall")), Body("b", "a body", cells, prior=PRIOR))
    assert judged.verdict == UNDECIDED and judged.deciding == "the spread of recall between trainings is not known"


def test_there_is_no_share_of_a_gap_that_is_none():
    gap = Gap(row="t.a.x", start="t.a.ilct", goal="t.a.lct", share=0.5)
    measured = body({"x": 6.5, "ilct": 6.65, "lct": 10.55})
    for evidence in (measured, replace(measured, prior={})):  # also where the spread between trainings is not known
        judged = judge(claim(gap), evidence)
        assert (judged.verdict, judged.seeds) == (UNDECIDED, None) and "no gap to close" in judged.deciding


def test_a_trend_is_each_row_against_the_one_before():
    found = judge(claim(Trend(trend=("t.a.a", "t.a.b", "t.a.c"))), body({"a": 9.0, "b": 8.0, "c": 7.0}))
    assert found.verdict == SUPPORTED and len(found.parts) == 2
    back = judge(claim(Trend(trend=("t.a.a", "t.a.c", "t.a.b"))), body({"a": 9.0, "b": 8.0, "c": 7.0}))
    assert back.verdict == CONTRADICTED


def test_a_measurement_is_paired_over_datasets():
    part = Measurement(source="figure1", quantity="beyond_outer", larger="x", smaller="pixels")
    measures = {
        ("figure1", "beyond_outer", "x"): {"d1": 0.02, "d2": 0.03, "d3": 0.025},
        ("figure1", "beyond_outer", "pixels"): {"d1": 0.001, "d2": 0.008, "d3": 0.004},
    }
    found = judge(claim(part), body({}, measures=measures)).parts[0]
    differences = np.array([0.019, 0.022, 0.021])
    half = 4.30265273 * differences.std(ddof=1) / math.sqrt(3)
    assert found.verdict == SUPPORTED and found.low == pytest.approx(differences.mean() - half)
    one = {key: {"d1": value["d1"]} for key, value in measures.items()}
    assert judge(claim(part), body({}, measures=one)).verdict == UNDECIDED
    assert judge(claim(part), body({})).verdict == NOT_MEASURED


@pytest.mark.parametrize(("source", "quantity"), [("figure1", "beyond_outer"), ("curves", "relative_sd")])
def test_seeds_decide_a_measurement_of_trainings_and_not_one_of_datasets(source, quantity):
    part = Measurement(source=source, quantity=quantity, larger="x", smaller="pixels")
    measures = {
        (source, quantity, "x"): {"1": 0.30, "2": 0.31, "3": 0.36},
        (source, quantity, "pixels"): {"1": 0.28, "2": 0.30, "3": 0.29},
    }
    judged = judge(claim(part), body({}, measures=measures))
    assert judged.verdict == UNDECIDED
    expected = "3 datasets do not decide it" if source == "figure1" else f"{judged.seeds} seeds"
    assert judged.deciding.startswith(expected) and (judged.seeds is None) == (source == "figure1")


def test_rows_of_different_protocols_and_values_that_are_no_numbers_are_not_compared():
    comparison = claim(beats("a", "b"))
    protocols = {("t.a.a", "fid"): "1", ("t.a.b", "fid"): "2"}
    assert "protocol" in judge(comparison, body({"a": 7.0, "b": 9.0}, protocols=protocols)).parts[0].why
    nan = judge(comparison, body({"a": 7.0, "b": math.nan}))
    assert nan.verdict == UNDECIDED and "finite" in nan.parts[0].why
