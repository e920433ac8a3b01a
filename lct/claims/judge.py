"""What one body of evidence says about a claim: each part's difference with its interval, and one verdict.

A part is supported where the whole interval lies on the claimed side, contradicted where it lies on the other one, and
undecided in between. A claim is supported where all of its parts are, and contradicted where one part is at a
confidence that allows for their number (Bonferroni). Numbers come in as `Body`; nothing is read here.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from lct.claims.noise import (
    CONFIDENCE,
    Contrast,
    Noise,
    Spread,
    contrast,
    is_larger,
    pooled,
    quantile,
    scaled,
    seeds_needed,
    spread,
)
from lct.config.claims import Claim, Comparison, Gap, Measurement, Trend

SUPPORTED, CONTRADICTED, UNDECIDED, NOT_MEASURED = "supported", "contradicted", "undecided", "not measured"


@dataclass(frozen=True)
class Body:
    """A body of evidence: what is known of table rows, and of the noise between trainings.

    cells:     (TABLE.SUBTABLE.ROW, metric) -> one value for each training seed.
    protocols: (row, metric) -> how it was trained and measured; rows of different ones are never compared.
    spreads:   (sub-table, metric) -> spreads of runs with two seeds or more, on the scale of lct.claims.noise.scaled.
    prior:     metric -> noise that is known before any seed of one's own.
    measures:  (source, quantity, box or row) -> dataset -> value.
    command:   what makes the numbers that are missing.
    """

    id: str
    title: str
    cells: dict[tuple[str, str], tuple[float, ...]]
    protocols: dict[tuple[str, str], str] = field(default_factory=dict)
    spreads: dict[tuple[str, str], tuple[Spread, ...]] = field(default_factory=dict)
    prior: dict[str, Noise] = field(default_factory=dict)
    measures: dict[tuple[str, str, str], dict[str, float]] = field(default_factory=dict)
    command: str = ""

    def noise(self, row: str, own: Spread, metric: str) -> Noise | None:
        """The noise of a row whose trainings have the spread `own`: pooled over the runs of its sub-table at a similar
        level, unless `own` is larger than theirs by an F test; else what was known before."""
        subtable = row.split(".")[1]
        spreads = self.spreads.get((subtable, metric), ())
        near = own.level if metric == "fid" else None
        if is_larger(own, pooled([s for s in spreads if s != own], near)):
            return Noise(math.sqrt(own.variance), own.df, row)
        return pooled(spreads, near, f"{subtable}, {metric}") or self.prior.get(metric)


@dataclass(frozen=True)
class PartVerdict:
    """One part of a claim, judged."""

    text: str  # what is compared, in words
    verdict: str
    why: str = ""  # where there is no interval
    estimate: float | None = None  # ratio of FIDs, difference of recalls or quantities, or of FIDs beyond the share
    low: float | None = None  # ends of its interval
    high: float | None = None
    kind: str = ""  # "ratio", "difference", "beyond the share"
    n: tuple[int, ...] = ()  # trainings on each side
    seeds: int | None = None  # on each side, that would decide it, where it is undecided

    @property
    def interval(self) -> str:
        """The estimate with its interval, in words; empty where there is no interval."""
        if self.low is None or self.high is None:
            return ""
        trainings = " and ".join(map(str, self.n))
        return f"{self.kind} {self.estimate:.3g} ({self.low:.3g} to {self.high:.3g}), n = {trainings}"


@dataclass(frozen=True)
class ClaimVerdict:
    """A claim, judged on one body of evidence."""

    claim: str
    body: str
    verdict: str
    why: str
    parts: tuple[PartVerdict, ...]
    seeds: int | None  # the most that an undecided part needs; None where 100 would not do
    command: str

    @property
    def summary(self) -> str:
        """The comparison of a claim with one part in numbers; of one with more, how many parts went which way. Empty
        where nothing is measured."""
        if len(self.parts) == 1:
            return self.parts[0].interval
        verdicts = [part.verdict for part in self.parts]
        kinds = [kind for kind in (SUPPORTED, CONTRADICTED, UNDECIDED, NOT_MEASURED) if kind in verdicts]
        counts = ", ".join(f"{verdicts.count(kind)} {kind}" for kind in kinds)
        return "" if kinds == [NOT_MEASURED] else f"{counts} of {len(verdicts)} parts"

    @property
    def deciding(self) -> str:
        """What would decide an undecided claim; empty for the others."""
        if self.verdict != UNDECIDED:
            return ""
        if self.why:
            return self.why
        seeds = f"{self.seeds} seeds on each side" if self.seeds else "more than 100 seeds on each side, if any number,"
        return f"{seeds} would decide it"


def judge(claim: Claim, body: Body) -> ClaimVerdict:
    """The verdict of one body of evidence on one claim."""
    steps = [step for part in claim.parts for step in (part.steps if isinstance(part, Trend) else (part,))]
    parts = tuple(judge_part(step, body, len(steps)) for step in steps)
    verdicts = [part.verdict for part in parts]
    missing = verdicts.count(NOT_MEASURED)
    why = "; ".join(dict.fromkeys(part.why for part in parts if part.why))
    if CONTRADICTED in verdicts:
        verdict, why = CONTRADICTED, ""
    elif set(verdicts) in ({SUPPORTED}, {NOT_MEASURED}):
        verdict = verdicts[0]
    else:
        verdict, why = UNDECIDED, f"{missing} of {len(parts)} parts are not measured" if missing else why
    seeds = [part.seeds for part in parts if part.verdict == UNDECIDED]
    most = None if None in seeds else max(seeds, default=None)
    return ClaimVerdict(claim.id, body.id, verdict, why, parts, most, body.command if missing else "")


def judge_part(part: Comparison | Gap | Measurement, body: Body, count: int = 1) -> PartVerdict:
    """The verdict of one body of evidence on one of `count` parts."""
    if isinstance(part, Measurement):
        return _measurement(part, body, count)
    return _comparison(part, body, count) if isinstance(part, Comparison) else _gap(part, body, count)


def _comparison(part: Comparison, body: Body, count: int) -> PartVerdict:
    """log FID(worse) + log factor - log FID(better) > 0, or recall(better) - recall(worse) > 0."""
    of_fid, times = part.metric == "fid", f" times {part.factor:g}" if part.factor != 1 else ""
    text = f"{part.better} beats {part.worse}{times} in {'FID' if of_fid else part.metric}"
    judged, terms = _terms(text, part, (-1.0, 1.0) if of_fid else (1.0, -1.0), body)
    if not terms:
        return judged
    difference, shift = contrast(terms), math.log(part.factor)  # 0 for recall
    difference = replace(difference, estimate=difference.estimate + shift)
    seeds = _seeds(difference, terms)
    if not of_fid:
        return _decided(judged, difference, count, "difference", seeds)
    return _decided(judged, difference, count, "ratio", seeds, lambda value: math.exp(shift - value))


def _gap(part: Gap, body: Body, count: int) -> PartVerdict:
    """(start - row) - share (start - goal) > 0, in FID; undecided where goal is not ahead of start."""
    text = f"{part.row} closes at least {part.share:.0%} of the gap from {part.start} to {part.goal}"
    judged, logs = _terms(text, part, (-1.0, 1.0 - part.share, part.share), body)
    if not judged.n:  # no values that compare
        return judged
    levels = [statistics.fmean(body.cells[row, "fid"]) for row in part.rows]
    if levels[1] <= levels[2]:
        why = f"there is no gap to close: {part.start} has {levels[1]:.4g}, {part.goal} {levels[2]:.4g}"
        return replace(judged, why=why)
    if not logs:
        return judged
    # the noise is relative: rows that share it keep its df
    terms = [(weight * level, 1.0, *of) for (weight, _, *of), level in zip(logs, levels, strict=True)]
    difference = contrast(terms)
    return _decided(judged, difference, count, "beyond the share", _seeds(difference, terms))


def _measurement(part: Measurement, body: Body, count: int) -> PartVerdict:
    """larger - smaller > 0 over datasets, each dataset one observation: t with (datasets - 1) degrees of freedom."""
    text = f"{part.quantity} of {part.larger} is larger than that of {part.smaller} ({part.source})"
    larger, smaller = (body.measures.get((part.source, part.quantity, x), {}) for x in (part.larger, part.smaller))
    differences = [larger[name] - smaller[name] for name in sorted(larger.keys() & smaller.keys())]
    if not differences:
        return PartVerdict(text, NOT_MEASURED, f"no value of {part.quantity}")
    if any(not math.isfinite(value) for value in differences):
        return PartVerdict(text, UNDECIDED, "a value is not a finite number")
    observed = spread(differences)
    n = (len(differences), len(differences))
    if observed.df < 1 or observed.variance == 0:
        return PartVerdict(text, UNDECIDED, "one observation gives no interval", observed.level, kind="difference", n=n)
    difference = Contrast(observed.level, math.sqrt(observed.variance / len(differences)), observed.df)
    sd = math.sqrt(observed.variance)  # of one observation for each training seed
    seeds = partial(seeds_needed, abs(observed.level), sd, observed.df, sides=1, present=len(differences))
    judged = _decided(PartVerdict(text, UNDECIDED, n=n), difference, count, "difference", seeds)
    if judged.verdict == UNDECIDED and part.source == "figure1":  # of datasets, which seeds do not add to
        return replace(judged, why=f"{len(differences)} datasets do not decide it", seeds=None)
    return judged


Terms = list[tuple[float, float, Noise, int]]  # weight, mean of the scaled values, noise, trainings


def _terms(text: str, part: Comparison | Gap, weights: Sequence[float], body: Body) -> tuple[PartVerdict, Terms]:
    """A part without an interval, and the terms of its rows' values; no terms, and why, where these do not compare."""
    metric, sides = part.metric, [body.cells.get((row, part.metric), ()) for row in part.rows]
    if absent := [row for row, side in zip(part.rows, sides, strict=True) if not side]:
        return PartVerdict(text, NOT_MEASURED, f"no value of {metric} for {', '.join(absent)}"), []
    if any(not math.isfinite(value) for side in sides for value in side):
        return PartVerdict(text, UNDECIDED, f"a value of {metric} is not a finite number"), []
    if len({body.protocols.get((row, metric)) for row in part.rows}) > 1:
        return PartVerdict(text, UNDECIDED, "measured by different protocols, or trained with different budgets"), []
    own = [spread([scaled(metric, value) for value in side]) for side in sides]
    noises = [body.noise(row, of, metric) for row, of in zip(part.rows, own, strict=True)]
    n = tuple(map(len, sides))
    if None in noises:
        return PartVerdict(text, UNDECIDED, f"the spread of {metric} between trainings is not known", n=n), []
    return PartVerdict(text, UNDECIDED, n=n), list(zip(weights, [of.level for of in own], noises, n, strict=True))


def _seeds(difference: Contrast, terms: Terms) -> Callable[..., int | None]:
    """Confidence -> seeds on each side, more than there are, that would see a difference as large as this."""
    weights = math.fsum(weight**2 for weight, *_ in terms)
    sd = math.sqrt(math.fsum((weight * noise.sd) ** 2 for weight, _, noise, _ in terms) / weights)
    df, present = min(noise.df for *_, noise, _ in terms), min(n for *_, n in terms)
    return partial(seeds_needed, abs(difference.estimate) * math.sqrt(2 / weights), sd, df, present=present)


def _decided(
    judged: PartVerdict,
    difference: Contrast,
    count: int,
    kind: str,
    seeds: Callable[..., int | None],
    show: Callable[[float], float] = float,
) -> PartVerdict:
    """A part with its interval and verdict, where a difference above 0 is claimed.

    count: parts of the claim: one of several is contradicted by chance more often. seeds: confidence -> number that
    would decide it. show: from the scale of `difference` to that of the estimate."""
    claimed, needed = difference.estimate > 0, None
    confidence = CONFIDENCE if claimed else 1 - (1 - CONFIDENCE) / count
    if abs(difference.estimate) > quantile(difference.df, confidence) * difference.error:
        verdict = SUPPORTED if claimed else CONTRADICTED
    else:
        verdict, needed = UNDECIDED, seeds(confidence=confidence)
    estimate, *ends = map(show, (difference.estimate, *difference.interval()))
    low, high = sorted(ends)
    return replace(judged, verdict=verdict, estimate=estimate, low=low, high=high, kind=kind, seeds=needed)
