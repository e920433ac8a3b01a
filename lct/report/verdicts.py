"""Is a published number reproduced? One verdict for each, stored in tables.json and read everywhere.

Ours is the mean over n trainings; the band is 2 sigma sqrt(1 + 1/n), where the published value is one more training.
sigma is the run-to-run standard deviation of this metric on this dataset, pooled over runs with two training seeds or
more, with its degrees of freedom; before there is one, 0.3 FID, from two logged runs of one configuration (pitfall
P16). Never the bootstrap, which biases a Frechet distance upward. Values by another protocol are never subtracted.
"""

import math
import statistics
from collections import defaultdict
from dataclasses import replace

from lct.report.tables import PAIRS, Cell, Noise, Row, Subtable, Table, Tables, Verdict, Verdicts, place

LABELS = {"fid": "FID", "recall": "Recall"}
PRIOR = {"fid": 0.3}  # run-to-run SD before one is measured; nothing is known of recall's
REPRODUCED, WITHIN, DIFFERS, NOT_RUN, NOT_COMPARABLE = (
    "reproduced",
    "within the band, protocol differs",
    "differs",
    "not run",
    "not comparable",
)
Spread = tuple[float, int]  # sigma, degrees of freedom; 0 stands for the prior


def judge(tables: Tables) -> Verdicts:
    """The verdict of every published value of a row that the authors trained, with the noise that they rest on."""
    noise = measured_noise(tables)
    rows = {
        place(table, subtable, row): {
            metric: verdict(metric, row, subtable, table, tables, noise)
            for metric in PAIRS
            if getattr(row.published, metric) is not None
        }
        for table, subtable, row in tables.rows
        if row.published is not None and row.status != "quoted"
    }
    entries = [
        Noise(dataset=dataset, metric=metric, sigma=sigma, df=df)
        for (dataset, metric), (sigma, df) in sorted(noise.items())
    ]
    return Verdicts(score=score(rows), noise=tuple(entries), rows=rows)


def verdict(
    metric: str, row: Row, subtable: Subtable, table: Table, tables: Tables, noise: dict[tuple[str, str], Spread]
) -> Verdict:
    """One published value and ours. metric: "fid" or "recall"; noise: by (dataset, metric)."""
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
    ours = statistics.fmean(means.values())
    judged = replace(judged, ours=ours)
    sigma, df = noise.get((subtable.dataset or "", metric), (PRIOR.get(metric), 0))
    inside = False
    if sigma is not None:
        band = 2 * sigma * math.sqrt(1 + 1 / len(means))
        judged, inside = replace(judged, sigma=sigma, df=df, band=band), abs(ours - published) <= band
    if (reason := _other_protocol(cell, subtable, table)) is not None:
        why, whole = reason
        return replace(judged, kind=WITHIN if inside and not whole else NOT_COMPARABLE, why=why)
    judged = replace(judged, difference=ours - published)
    if sigma is None:
        return replace(judged, why=f"run-to-run spread of {LABELS[metric]} is not measured yet")
    return replace(judged, kind=REPRODUCED if inside else DIFFERS)


def _other_protocol(cell: Cell, subtable: Subtable, table: Table) -> tuple[str, bool] | None:
    """(how the protocol of ours differs from the published one, whether it is another one altogether), or None."""
    described = [protocol.settings for protocol in subtable.protocols if protocol.hash == cell.protocol]
    if len(described) != 1:
        return "its protocol is not one that this table describes", True
    if table.protocol is None or described[0].get("id") != table.protocol:
        theirs = table.protocol or "none that we know"
        return f"measured by protocol {described[0].get('id')}, published by {theirs}", True
    generated = described[0].get("generated")
    count = generated.get("count") if isinstance(generated, dict) else None
    if table.generated is not None and count != table.generated:
        return f"{count} generated images, published with {table.generated}", False
    return None


def measured_noise(tables: Tables) -> dict[tuple[str, str], Spread]:
    """(dataset, published metric) -> (pooled run-to-run SD, degrees of freedom), over runs with two seeds or more.

    Samplers and (step, EMA) pairs of one run share its trainings: their variances are averaged and counted once."""
    variances: dict[tuple[str, str], dict[str, dict[tuple[str, ...], Spread]]] = defaultdict(lambda: defaultdict(dict))
    for _, subtable, row in tables.rows:
        for metric, ours in PAIRS.items():
            cell = row.cells.get(ours)
            values = cell.by_seed if cell and row.run else {}
            if len(values) >= 2 and all(map(math.isfinite, values.values())):
                files = tuple(value.metrics for value in cell.values)
                entry = (statistics.variance(values.values()), len(values) - 1)
                variances[subtable.dataset or "", metric][row.run][files] = entry
    noise = {}
    for key, runs in variances.items():
        pairs = [(statistics.fmean(v for v, _ in of.values()), max(n for _, n in of.values())) for of in runs.values()]
        df = sum(n for _, n in pairs)
        sigma = math.sqrt(sum(variance * n for variance, n in pairs) / df)
        if sigma > 0:
            noise[key] = (sigma, df)
    return noise


def score(rows: dict[str, dict[str, Verdict]]) -> dict[str, int]:
    """Number of published values by verdict, of those that were run, and of all."""
    kinds = [verdict.kind for of in rows.values() for verdict in of.values()]
    return {
        "reproduced": kinds.count(REPRODUCED),
        "within": kinds.count(WITHIN),
        "differs": kinds.count(DIFFERS),
        "not comparable": kinds.count(NOT_COMPARABLE),
        "run": len(kinds) - kinds.count(NOT_RUN),
        "published": len(kinds),
    }
