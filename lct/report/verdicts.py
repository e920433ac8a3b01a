"""Is a printed number reproduced? One verdict per published value, from a tables dict alone.

Ours is the mean over n trainings; the band is 2 sigma sqrt(1 + 1/n), where the published value is one more training.
sigma is the run-to-run standard deviation of this metric on this dataset, pooled over runs with two training seeds or
more, with its degrees of freedom; before there is one, 0.3 FID, from two logged runs of one configuration (pitfall
P16). Never the bootstrap, which biases a Frechet distance upward. Values by another protocol are never subtracted.
"""

import math
import statistics
from collections import defaultdict
from typing import Any

PAIRS = {"fid": "fd", "recall": "recall"}  # published metric -> ours
LABELS = {"fid": "FID", "recall": "Recall"}
PRIOR = {"fid": 0.3}  # run-to-run SD before one is measured; nothing is known of recall's
COMPARABLE = ("paper",)  # scales whose numbers may be set against published ones, where a dict does not say so itself
REPRODUCED, WITHIN, DIFFERS, NOT_RUN, NOT_COMPARABLE = (
    "reproduced",
    "within the band, protocol differs",
    "differs",
    "not run",
    "not comparable",
)
NOISE = tuple[float, int]  # sigma, degrees of freedom; 0 stands for the prior


def is_comparable(tables: dict[str, Any]) -> bool:
    return bool(tables.get("comparable", tables["scale"] in COMPARABLE))


def judge(tables: dict[str, Any]) -> dict[str, Any]:
    """{"score", "noise", "rows"}: rows maps "table.sub-table.row" to a verdict per published metric."""
    noise = measured_noise(tables)
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for table in tables["tables"]:
        for subtable in table["subtables"]:
            for row in subtable["rows"]:
                if row["status"] != "quoted":
                    place = f"{table['id']}.{subtable['id']}.{row['id']}"
                    rows[place] = {
                        metric: verdict(metric, row, subtable, table, tables, noise)
                        for metric in PAIRS
                        if (row.get("published") or {}).get(metric) is not None
                    }
    return {"score": score(rows), "noise": _listed(noise), "rows": rows}


def verdict(
    metric: str,
    row: dict[str, Any],
    subtable: dict[str, Any],
    table: dict[str, Any],
    tables: dict[str, Any],
    noise: dict[tuple[str, str], NOISE],
) -> dict[str, Any]:
    """One published value and ours: {"kind", "why", "published", "ours", "n", "difference", "band", "sigma", "df"}."""
    made: dict[str, Any] = {"kind": NOT_RUN, "why": row.get("why") or "", "published": row["published"][metric]}
    made |= dict.fromkeys(("ours", "difference", "band", "sigma", "df")) | {"n": 0}
    cell = row["cells"].get(PAIRS[metric])
    if cell is None or not cell["values"]:
        return made
    made |= {"n": len(by_seed(cell)), "why": "not all of its trainings are measured" * (row["status"] == "partial")}
    if not is_comparable(tables):
        return made | {"kind": NOT_COMPARABLE, "why": f"other images and metric at {tables['scale']} scale"}
    if not all(math.isfinite(float(value["value"])) for value in cell["values"]):
        return made | {"kind": NOT_COMPARABLE, "why": "a value of ours is not a finite number"}
    made["ours"] = statistics.fmean(by_seed(cell).values())
    known = noise.get((subtable.get("dataset") or "", metric), (PRIOR.get(metric), 0))
    if known[0] is not None:
        sigma, df = known
        made |= {"sigma": sigma, "df": df, "band": 2 * sigma * math.sqrt(1 + 1 / made["n"])}
    if (differs := _other_protocol(cell, subtable, table)) is not None:
        why, whole = differs
        inside = not whole and made["band"] is not None and abs(made["ours"] - made["published"]) <= made["band"]
        return made | {"kind": WITHIN if inside else NOT_COMPARABLE, "why": why}
    made["difference"] = made["ours"] - made["published"]
    if made["band"] is None:
        return made | {"kind": NOT_COMPARABLE, "why": f"run-to-run spread of {LABELS[metric]} is not measured yet"}
    return made | {"kind": REPRODUCED if abs(made["difference"]) <= made["band"] else DIFFERS}


def _other_protocol(cell: dict[str, Any], subtable: dict[str, Any], table: dict[str, Any]) -> tuple[str, bool] | None:
    """(how the protocol of ours differs from the published one, whether it is another one altogether), or None."""
    found = [p["settings"] for p in subtable["protocols"] if p["hash"] == cell["protocol"]]
    if len(found) != 1:
        return "its protocol is not one that this table describes", True
    if table.get("protocol") is None or found[0].get("id") != table["protocol"]:
        wanted = table.get("protocol") or "none that we know"
        return f"measured by protocol {found[0].get('id')}, published by {wanted}", True
    generated, wanted = found[0].get("generated"), table.get("generated")
    count = generated.get("count") if isinstance(generated, dict) else None
    if wanted is not None and count != wanted:
        return f"{count} generated images, published with {wanted}", False
    return None


def by_seed(cell: dict[str, Any]) -> dict[int, float]:
    """Training seed -> mean over its draws."""
    found: dict[int, list[float]] = defaultdict(list)
    for value in cell["values"]:
        found[value["seed"]].append(float(value["value"]))
    return {seed: statistics.fmean(values) for seed, values in found.items()}


def measured_noise(tables: dict[str, Any]) -> dict[tuple[str, str], NOISE]:
    """(dataset, published metric) -> (pooled run-to-run SD, degrees of freedom), over runs with two seeds or more.

    Samplers and (step, EMA) pairs of one run share its trainings: their variances are averaged and counted once."""
    variances: dict[tuple[str, str], dict[str, dict[tuple[str, ...], tuple[float, int]]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for table in tables["tables"]:
        for subtable in table["subtables"]:
            for row in subtable["rows"]:
                for metric, ours in PAIRS.items():
                    cell = row["cells"].get(ours)
                    values = by_seed(cell) if cell and row.get("run") else {}
                    if len(values) >= 2 and all(map(math.isfinite, values.values())):
                        files = tuple(value["metrics"] for value in cell["values"])
                        entry = (statistics.variance(values.values()), len(values) - 1)
                        variances[subtable.get("dataset") or "", metric][row["run"]][files] = entry
    found = {}
    for key, runs in variances.items():
        pairs = [(statistics.fmean(v for v, _ in of.values()), max(n for _, n in of.values())) for of in runs.values()]
        df = sum(n for _, n in pairs)
        sigma = math.sqrt(sum(variance * n for variance, n in pairs) / df)
        if sigma > 0:
            found[key] = (sigma, df)
    return found


def _listed(noise: dict[tuple[str, str], NOISE]) -> list[dict[str, Any]]:
    return [
        {"dataset": dataset, "metric": metric, "sigma": sigma, "df": df}
        for (dataset, metric), (sigma, df) in sorted(noise.items())
    ]


def score(rows: dict[str, dict[str, dict[str, Any]]]) -> dict[str, int]:
    """Cells reproduced, run and published: of rows that the authors trained and that have a published number."""
    found = [one for of in rows.values() for one in of.values()]
    return {
        "reproduced": sum(one["kind"] == REPRODUCED for one in found),
        "within": sum(one["kind"] == WITHIN for one in found),
        "differs": sum(one["kind"] == DIFFERS for one in found),
        "not comparable": sum(one["kind"] == NOT_COMPARABLE for one in found),
        "run": sum(one["kind"] != NOT_RUN for one in found),
        "published": len(found),
    }
