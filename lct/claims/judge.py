"""What one body of evidence says about a claim: each part's difference with its interval, and one verdict.

A part is supported where the whole interval lies on the claimed side, contradicted where it lies on the other one, and
undecided in between. A claim is supported where all of its parts are, and contradicted where one part is at a
confidence that allows for their number (Bonferroni). Numbers come in as `Body`; nothing is read here.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

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

    def noise(self, row: str, metric: str, own: Spread) -> Noise | None:
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
            part = self.parts[0]
            if part.low is None or part.high is None:
                return ""
            trainings = " and ".join(map(str, part.n))
            return f"{part.kind} {part.estimate:.3g} ({part.low:.3g} to {part.high:.3g}), n = {trainings}"
        verdicts = [part.verdict for part in self.parts]
        if set(verdicts) == {NOT_MEASURED}:
            return ""
        counts = {kind: verdicts.count(kind) for kind in (SUPPORTED, CONTRADICTED, UNDECIDED, NOT_MEASURED)}
        return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) + f" of {len(verdicts)} parts"

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
    count = sum(len(part.trend) - 1 if isinstance(part, Trend) else 1 for part in claim.parts)
    parts = tuple(verdict for part in claim.parts for verdict in _judge_part(part, body, count))
    verdicts = [part.verdict for part in parts]
    missing = verdicts.count(NOT_MEASURED)
    if CONTRADICTED in verdicts:
        verdict, why = CONTRADICTED, ""
    elif missing == len(parts):
        verdict, why = NOT_MEASURED, "; ".join(dict.fromkeys(part.why for part in parts))
    elif missing:
        verdict, why = UNDECIDED, f"{missing} of {len(parts)} parts are not measured"
    else:
        verdict, why = (SUPPORTED, "") if set(verdicts) == {SUPPORTED} else (UNDECIDED, "")
    undecided = [part for part in parts if part.verdict == UNDECIDED]
    if verdict == UNDECIDED and not why and any(part.why for part in undecided):  # no number of seeds is known to help
        why = "; ".join(dict.fromkeys(part.why for part in undecided if part.why))
    seeds = max((part.seeds or 0 for part in undecided), default=None)
    if undecided and any(part.seeds is None for part in undecided):
        seeds = None
    return ClaimVerdict(claim.id, body.id, verdict, why, parts, seeds, body.command if missing else "")


def _judge_part(part: Comparison | Gap | Trend | Measurement, body: Body, count: int) -> list[PartVerdict]:
    if isinstance(part, Trend):
        pairs = zip(part.trend[1:], part.trend[:-1], strict=True)
        return [_comparison(Comparison(better=b, worse=w, metric=part.metric), body, count) for b, w in pairs]
    if isinstance(part, Measurement):
        return [_measurement(part, body, count)]
    return [_comparison(part, body, count) if isinstance(part, Comparison) else _gap(part, body, count)]


def _comparison(part: Comparison, body: Body, count: int) -> PartVerdict:
    """log FID(better) - log FID(worse) - log factor < 0, or recall(better) - recall(worse) > 0."""
    times = f" times {part.factor:g}" if part.factor != 1 else ""
    text = f"{part.better} beats {part.worse}{times} in {'FID' if part.metric == 'fid' else part.metric}"
    sides = _values(part.rows, part.metric, body)
    if isinstance(sides, str):
        return PartVerdict(text, NOT_MEASURED if sides.startswith("no value") else UNDECIDED, sides)
    n = tuple(map(len, sides))
    terms = _terms(part.rows, (1.0, -1.0), sides, part.metric, body)
    if terms is None:
        return PartVerdict(text, UNDECIDED, f"the spread of {part.metric} between trainings is not known", n=n)
    difference, shift = contrast(terms), math.log(part.factor)  # 0 for recall
    difference = Contrast(difference.estimate - shift, difference.error, difference.df)
    if part.metric != "fid":
        return _decided(text, difference, terms, 1.0, count, "difference", n)
    return _decided(text, difference, terms, -1.0, count, "ratio", n, lambda value: math.exp(value + shift))


def _gap(part: Gap, body: Body, count: int) -> PartVerdict:
    """(start - row) - share (start - goal) > 0, in FID; undecided where goal is not ahead of start."""
    text = f"{part.row} closes at least {part.share:.0%} of the gap from {part.start} to {part.goal}"
    sides = _values(part.rows, "fid", body)
    if isinstance(sides, str):
        return PartVerdict(text, NOT_MEASURED if sides.startswith("no value") else UNDECIDED, sides)
    levels, n = [math.fsum(side) / len(side) for side in sides], tuple(map(len, sides))
    if levels[1] <= levels[2]:
        why = f"there is no gap to close: {part.start} has {levels[1]:.4g}, {part.goal} {levels[2]:.4g}"
        return PartVerdict(text, UNDECIDED, why, n=n)
    logs = _terms(part.rows, (-1.0, 1.0 - part.share, part.share), sides, "fid", body)
    if logs is None:
        return PartVerdict(text, UNDECIDED, "the spread of fid between trainings is not known")
    # the noise is relative: rows that share it keep its df
    terms = [(weight * level, 1.0, *of) for (weight, _, *of), level in zip(logs, levels, strict=True)]
    return _decided(text, contrast(terms), terms, 1.0, count, "beyond the share", n)


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
    verdict, seeds, why = _side(difference, 1.0, count), None, ""
    if verdict == UNDECIDED and part.source == "curves":  # one observation for each training seed
        confidence = _confidence(difference, 1.0, count)
        sd = math.sqrt(observed.variance)
        seeds = seeds_needed(
            abs(observed.level), sd, observed.df, sides=1, confidence=confidence, present=len(differences)
        )
    elif verdict == UNDECIDED:
        why = f"{len(differences)} datasets do not decide it"
    return PartVerdict(text, verdict, why, observed.level, *difference.interval(), "difference", n, seeds)


def _values(rows: Sequence[str], metric: str, body: Body) -> list[tuple[float, ...]] | str:
    """Values of each row, or why they cannot be compared."""
    sides = [body.cells.get((row, metric), ()) for row in rows]
    if absent := [row for row, side in zip(rows, sides, strict=True) if not side]:
        return f"no value of {metric} for {', '.join(absent)}"
    if any(not math.isfinite(value) for side in sides for value in side):
        return f"a value of {metric} is not a finite number"
    if len({body.protocols.get((row, metric)) for row in rows}) > 1:
        return "measured by different protocols, or trained with different budgets"
    return sides


Terms = list[tuple[float, float, Noise, int]]  # weight, mean of the scaled values, noise, trainings


def _terms(
    rows: Sequence[str], weights: Sequence[float], sides: Sequence[Sequence[float]], metric: str, body: Body
) -> Terms | None:
    """Terms of the values of some rows; None where the noise of one is not known."""
    own = [spread([scaled(metric, value) for value in side]) for side in sides]
    noises = [body.noise(row, metric, of) for row, of in zip(rows, own, strict=True)]
    parts = zip(weights, own, noises, sides, strict=True)
    return None if None in noises else [(weight, of.level, noise, len(side)) for weight, of, noise, side in parts]


def _decided(
    text: str,
    difference: Contrast,
    terms: Terms,
    sign: float,
    count: int,
    kind: str,
    n: tuple[int, ...],
    show: Callable[[float], float] = float,
) -> PartVerdict:
    """The verdict of a part with an interval; show: from the scale of `difference` to that of the estimate."""
    interval = map(show, (difference.estimate, *difference.interval()))
    verdict, seeds = _side(difference, sign, count), _seeds(difference, terms, sign, count)
    return PartVerdict(text, verdict, "", *interval, kind, n, seeds)


def _side(difference: Contrast, sign: float, count: int) -> str:
    """supported, contradicted or undecided; sign: +1 where larger is claimed, -1 where smaller is."""
    limit = quantile(difference.df, _confidence(difference, sign, count)) * difference.error
    if abs(difference.estimate) <= limit:
        return UNDECIDED
    return SUPPORTED if sign * difference.estimate > 0 else CONTRADICTED


def _confidence(difference: Contrast, sign: float, count: int) -> float:
    """Of the decision on the estimate's side: one of several parts is contradicted by chance more often."""
    return CONFIDENCE if sign * difference.estimate > 0 else 1 - (1 - CONFIDENCE) / count


def _seeds(difference: Contrast, terms: Terms, sign: float, count: int) -> int | None:
    """Seeds on each side, more than there are, that would see a difference as large as this; None where it is decided,
    or 100 are too few."""
    if _side(difference, sign, count) != UNDECIDED or difference.estimate == 0:
        return None
    weights = math.fsum(weight**2 for weight, *_ in terms)
    sd = math.sqrt(math.fsum((weight * noise.sd) ** 2 for weight, _, noise, _ in terms) / weights)
    return seeds_needed(
        abs(difference.estimate) * math.sqrt(2 / weights),
        sd,
        min(noise.df for *_, noise, _ in terms),
        confidence=_confidence(difference, sign, count),
        present=min(n for *_, n in terms),
    )
