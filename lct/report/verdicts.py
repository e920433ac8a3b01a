"""Is a published number reproduced? One verdict for each, stored in tables.json and read everywhere.

Ours is the mean over n trainings, the published value one more training of the same law: it lies in the band
t(0.975, df) sigma sqrt(1 + 1/n) around ours with a probability of 95 %. FID is compared on the log scale, where its
noise is stable, so that sigma is relative. sigma is pooled over runs of the dataset with two training seeds or more and
a level within a factor of 2; before there is one, it comes from the authors' own repeated runs. Recall has no prior.
Never the bootstrap, which biases a Frechet distance upward. Values by another protocol are never subtracted.
Error rates by simulation: benchmarks/verdicts.py.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import get_args

from lct.claims import noise as claims_noise
from lct.claims.noise import Spread, pooled, scaled, spread
from lct.report import tables as model
from lct.report.tables import PAIRS, CellValues, NoiseEstimate, Row, Subtable, Table, Tables, Verdict, Verdicts, place

LABELS = {"fid": "FID", "recall": "Recall"}
REPRODUCED, WITHIN, DIFFERS, NOT_RUN, NOT_COMPARABLE = get_args(model.VerdictKind)
SCORED = {REPRODUCED: "reproduced", WITHIN: "within", DIFFERS: "differs", NOT_COMPARABLE: "not comparable"}
Prior = Mapping[str, claims_noise.Noise]  # published metric -> noise that is known before any seed of ours


def judge(tables: Tables, prior: Prior) -> Verdicts:
    """The verdict of every published value of a row that the authors trained, with the noise that they rest on."""
    spreads = measured_spreads(tables)
    rows = {
        place(table, subtable, row): {
            metric: verdict(metric, row, subtable, table, tables, spreads.get((subtable.id, metric), ()), prior)
            for metric in PAIRS
            if getattr(row.published, metric) is not None
        }
        for table, subtable, row in tables.rows
        if row.published is not None and row.status != "quoted"
    }
    datasets = {subtable.id: subtable.dataset or "" for table in tables.tables for subtable in table.subtables}
    noise = {(datasets[letter], metric): pooled(of) for (letter, metric), of in spreads.items()}
    entries = [
        NoiseEstimate(dataset=dataset, metric=metric, sigma=measured.sd, df=measured.df)
        for (dataset, metric), measured in sorted(noise.items())
        if measured is not None
    ]
    return Verdicts(score=score(tables, rows), noise=tuple(entries), rows=rows)


def verdict(
    metric: str, row: Row, subtable: Subtable, table: Table, tables: Tables, spreads: Sequence[Spread], prior: Prior
) -> Verdict:
    """One published value and ours. metric: "fid" or "recall"; spreads: of the runs of this dataset."""
    published, cell = getattr(row.published, metric), row.cells.get(PAIRS[metric])
    if cell is None or not cell.values:
        return Verdict(kind=NOT_RUN, why=row.why or "", published=published)
    means = cell.by_seed
    partial = "not all of its trainings are measured" if row.status == "partial" else ""
    judged = Verdict(kind=NOT_COMPARABLE, why=partial, published=published, n=len(means))
    if not tables.comparable:
        return replace(judged, why=f"other images and metric at {tables.scale} scale")
    if not all(math.isfinite(value.value) for value in cell.values):
        return replace(judged, why="a value of ours is not a finite number")
    if metric == "fid" and min(published, *means.values()) <= 0:
        return replace(judged, why="a distance of zero has no logarithm")
    judged = replace(judged, ours=statistics.fmean(means.values()))
    center = statistics.fmean(scaled(metric, value) for value in means.values())
    noise = pooled(spreads, center if metric == "fid" else None) or prior.get(metric)
    inside = False
    if noise is not None:
        half = claims_noise.band(noise, len(means))
        low, high = _unscaled(metric, center - half), _unscaled(metric, center + half)
        judged = replace(judged, sigma=noise.sd, df=noise.df, prior=noise == prior.get(metric), band=(low, high))
        inside = low <= published <= high
    if (reason := _other_protocol(cell, subtable, table)) is not None:
        why, whole = reason
        return replace(judged, kind=WITHIN if inside and not whole else NOT_COMPARABLE, why=why)
    judged = replace(judged, difference=judged.ours - published)
    if noise is None:
        return replace(judged, why=f"run-to-run spread of {LABELS[metric]} is not measured yet")
    return replace(judged, kind=REPRODUCED if inside else DIFFERS)


def _unscaled(metric: str, value: float) -> float:
    return math.exp(value) if metric == "fid" else value


def _other_protocol(cell: CellValues, subtable: Subtable, table: Table) -> tuple[str, bool] | None:
    """(how the protocol of ours differs from the published one, whether it is another one altogether), or None."""
    described = [protocol.settings for protocol in subtable.protocols if protocol.hash == cell.protocol]
    if len(described) != 1:
        return "its protocol is not one that this table describes", True
    if table.protocol is None or described[0].get("id") != table.protocol:
        theirs = table.protocol or "none that we know"
        return f"measured by protocol {described[0].get('id')}, published by {theirs}", True
    generated = described[0].get("generated")
    count = generated.get("count") if isinstance(generated, dict) else None
    theirs = subtable.generated or table.generated
    if theirs is not None and count != theirs:
        return f"{count} generated images, published with {theirs}", False
    return None


def measured_spreads(tables: Tables) -> dict[tuple[str, str], tuple[Spread, ...]]:
    """(sub-table, published metric) -> spreads of the runs with two training seeds or more, FID on the log scale.

    Samplers and (step, EMA) pairs of one run share its trainings: their variances are averaged and counted once."""
    of_runs: dict[tuple[str, str], dict[str, dict[tuple[str, ...], Spread]]] = defaultdict(lambda: defaultdict(dict))
    for _, subtable, row in tables.rows:
        for metric, ours in PAIRS.items():
            cell = row.cells.get(ours)
            values = list(cell.by_seed.values()) if cell and row.run else []
            if len(values) > 1 and all(math.isfinite(v) and (metric != "fid" or v > 0) for v in values):
                files = tuple(value.metrics for value in cell.values)
                of_runs[subtable.id, metric][row.run][files] = spread([scaled(metric, value) for value in values])
    return {key: tuple(_of_run(list(of.values())) for of in runs.values()) for key, runs in of_runs.items()}


def _of_run(spreads: Sequence[Spread]) -> Spread:
    """One spread of a run whose rows share its trainings."""
    level, variance = (statistics.fmean(getattr(s, key) for s in spreads) for key in ("level", "variance"))
    return Spread(level, variance, max(s.df for s in spreads))


def score(tables: Tables, rows: Mapping[str, Mapping[str, Verdict]]) -> dict[str, int]:
    """Numbers printed in the paper by what became of them; those of the authors' log with "log " before.

    A measurement counts once, whatever the number of rows that show it, and for the paper where both have it. So does
    a printed number that another table repeats, as ablation A does with iLCT at another EMA: by its first row."""
    counts: Counter[str] = Counter()
    counted: set[tuple[object, ...]] = set()
    printed_first = sorted(
        (entry for entry in tables.rows if place(*entry) in rows),
        key=lambda entry: entry[2].published.origin.kind != "published table",
    )
    for entry in printed_first:
        _, subtable, row = entry
        start = "" if row.published.origin.kind == "published table" else "log "
        for metric, verdict in rows[place(*entry)].items():
            keys = {(subtable.id, row.run or place(*entry), row.weights or "", row.sampler or "", metric)}
            if not start:
                numbers = (row.published.nfe, row.published.fid, row.published.recall)
                keys.add((subtable.id, "printed", *numbers, metric))
            if counted.isdisjoint(keys):
                outcomes = () if verdict.kind == NOT_RUN else ("run", SCORED[verdict.kind])
                counts.update(start + name for name in ("published", *outcomes))
            counted |= keys
    names = ("reproduced", "within", "differs", "not comparable", "run", "published")
    return {start + name: counts[start + name] for start in ("", "log ") for name in names}
