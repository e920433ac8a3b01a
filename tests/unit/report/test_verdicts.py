"""Verdicts: the band from measured run-to-run spread, and when no difference may be taken."""

import copy
import io
import math
import re

import numpy as np
import pandas
import pytest

from lct.plan.plan import Plan
from lct.report.collect import collect
from lct.report.verdicts import measured_spreads
from tests.helpers import ROOT
from tests.helpers.fake_tables import fake_tables, loaded, rendered

HASH = "aaaaaaaaaaaa"


def paper_tables(seeds: int = 1, settings=None):
    """Fake tables as if they were at paper scale: FID by the authors' protocol."""
    tables = fake_tables(seeds, curves=False) | {"scale": "paper", "comparable": True}
    for table in tables["tables"]:
        table |= {"protocol": "authors", "generated": 50176, "place": "Table 1"}
        for subtable in table["subtables"]:
            described = {"id": "authors", "generated": {"count": 50176}} if settings is None else settings
            subtable["protocols"] = [{"hash": HASH, "settings": described}]
            for row in [*subtable["rows"], *subtable["floors"]]:
                for cell in row["cells"].values():
                    cell["protocol"] = HASH
    return tables


def row_of(tables, place):
    return next(
        row
        for table in tables["tables"]
        for subtable in table["subtables"]
        for row in subtable["rows"]
        if f"{table['id']}.{subtable['id']}.{row['id']}" == place
    )


def set_values(tables, place, metric, values):
    row = row_of(tables, place)
    cell = row["cells"][metric]
    cell["values"] = [
        {"seed": seed, "draw": 0, "value": value, "metrics": f"{place}/{seed}.json", "sha256": "0" * 64}
        for seed, value in enumerate(values)
    ]
    cell |= {"n": len(values), "mean": sum(values) / len(values), "sd": None}


def verdict(tables, place="table1.a.lct-1", metric="fid"):
    return loaded(tables).verdicts.rows[place][metric]


@pytest.mark.parametrize(
    ("ours", "kind"), [(7.27, "reproduced"), (7.9, "reproduced"), (6.7, "reproduced"), (8.0, "differs")]
)
def test_before_any_spread_is_measured_the_band_rests_on_the_authors_repeated_runs(ours, kind):
    tables = paper_tables()
    set_values(tables, "table1.a.lct-1", "fd", [ours])
    judged = verdict(tables)
    half = 2.7764451 * 0.022 * math.sqrt(2)  # Student's t with 4 degrees of freedom
    assert judged.kind == kind and judged.prior and (judged.df, judged.sigma, judged.n) == (4, 0.022, 1)
    assert judged.band == pytest.approx((ours * math.exp(-half), ours * math.exp(half)))
    assert judged.difference == pytest.approx(ours - 7.27)


def one_value_each(tables):
    for table in tables["tables"]:
        for subtable in table["subtables"]:
            for row in subtable["rows"]:
                for cell in row["cells"].values():
                    cell["values"], cell["n"] = cell["values"][:1], 1


def test_the_measured_spread_of_log_fid_is_pooled_over_runs_of_a_similar_level():
    """Samplers share the trainings of their run and count once; a run of another level has no say."""
    tables = paper_tables(seeds=2)
    one_value_each(tables)
    ours, two_steps = [7.0, 7.5, 8.0], [6.0, 7.0, 8.0]  # of the same three trainings
    set_values(tables, "table1.a.lct-1", "fd", ours)
    set_values(tables, "table1.a.lct-2", "fd", two_steps)
    set_values(tables, "table1.a.ldm-8", "fd", [9.0, 10.0])
    set_values(tables, "table1.a.ilct-1", "fd", [34.0, 52.0])
    judged = verdict(tables)
    logs = [np.log(values) for values in (ours, two_steps, [9.0, 10.0])]
    run = (logs[0].var(ddof=1) + logs[1].var(ddof=1)) / 2
    sigma = math.sqrt((2 * run + 1 * logs[2].var(ddof=1)) / 3)
    half = 3.1824463 * sigma * math.sqrt(1 + 1 / 3)  # 3 degrees of freedom
    assert (judged.n, judged.df, judged.prior) == (3, 3, False) and judged.sigma == pytest.approx(sigma)
    assert judged.band == pytest.approx((math.exp(logs[0].mean() - half), math.exp(logs[0].mean() + half)))
    assert judged.ours == 7.5 and ("b", "fid") not in measured_spreads(loaded(tables)), "one seed gives no spread"


def test_a_noisy_baseline_makes_no_other_row_reproduced():
    tables = paper_tables()
    set_values(tables, "table1.a.lct-1", "fd", [10.9, 11.1])
    for spread in ([36.0, 38.0], [34.0, 40.0]):
        set_values(tables, "table1.a.ilct-1", "fd", spread)
        assert verdict(tables).kind == "differs"


def test_draws_of_one_training_are_no_further_trainings():
    tables = paper_tables()
    cell = row_of(tables, "table1.a.lct-1")["cells"]["fd"]
    first = cell["values"][0]
    cell["values"] = [first | {"draw": draw, "value": 7.0 + draw} for draw in range(3)]
    cell["n"] = 3
    assert (
        next(row for _, _, row in loaded(tables).rows if row.id == "lct-1").cells["fd"].by_seed == {0: 8.0}
        and measured_spreads(loaded(tables)) == {}
    )
    assert verdict(tables).n == 1


def test_recall_has_no_band_until_its_spread_is_measured():
    judged = verdict(paper_tables(), metric="recall")
    assert judged.kind == "not comparable" and judged.band is None and "not measured yet" in judged.why
    assert verdict(paper_tables(seeds=2), metric="recall").kind in ("reproduced", "differs")


@pytest.mark.parametrize(
    ("settings", "kind", "why"),
    [
        ({"id": "standard", "generated": {"count": 50176}}, "not comparable", "measured by protocol standard"),
        ({"id": "authors", "generated": {"count": 2000}}, "within the band, protocol differs", "2000 generated images"),
        ({"id": "authors", "generated": "many"}, "within the band, protocol differs", "None generated images"),
        ({}, "not comparable", "measured by protocol None"),
    ],
)
def test_values_of_another_protocol_are_marked_and_never_subtracted(settings, kind, why):
    tables = paper_tables(settings=settings)
    set_values(tables, "table1.a.lct-1", "fd", [7.3])
    judged = verdict(tables)
    assert judged.kind == kind and why in judged.why and judged.difference is None
    set_values(tables, "table1.a.lct-1", "fd", [70.3])
    assert verdict(tables).kind == "not comparable" and verdict(tables).difference is None


def test_mixed_protocols_nan_other_scales_and_missing_cells_are_not_judged(tmp_path):
    tables = paper_tables()
    row_of(tables, "table1.a.lct-1")["cells"]["fd"]["protocol"] = f"{HASH} bbbbbbbbbbbb"
    assert verdict(tables).kind == "not comparable"
    for wrong in ("NaN", math.inf, "-Infinity"):
        tables = paper_tables()
        row_of(tables, "table1.a.lct-1")["cells"]["fd"]["values"][0]["value"] = wrong
        judged = verdict(tables)
        assert judged.kind == "not comparable" and "finite" in judged.why and judged.difference is None
    mini = fake_tables(curves=False)
    verdicts = loaded(mini).verdicts
    kinds = {judged.kind for row in verdicts.rows.values() for judged in row.values()}
    assert kinds == {"not comparable"} and verdicts.score["reproduced"] == 0
    tables = paper_tables()
    row_of(tables, "table1.a.lct-1").update(status="failed", cells={}, why="train of seed 0: error: no memory")
    assert verdict(tables).kind == "not run" and "no memory" in verdict(tables).why
    assert not any("wavediff" in place for place in loaded(tables).verdicts.rows), (
        "quoted rows are not ours to reproduce"
    )


def test_the_score_counts_published_numbers_of_retrained_rows():
    tables = paper_tables()
    for name, value in (("lct-1", 7.0), ("lct-2", 9.0), ("ilct-1", 37.0)):
        set_values(tables, f"table1.a.{name}", "fd", [value])
    row_of(tables, "table1.b.lct-1").update(status="not run", cells={})
    score = loaded(tables).verdicts.score
    printed = [
        row["published"][key]
        for table in tables["tables"]
        for subtable in table["subtables"]
        for row in subtable["rows"]
        for key in ("fid", "recall")
        if row["status"] != "quoted"
    ]
    assert score["published"] == sum(value is not None for value in printed) == 27
    assert score["run"] == 25 and score["reproduced"] + score["differs"] + score["not comparable"] == 25


def test_the_plan_of_the_paper_counts_the_27_values_that_table_1_prints(tmp_path):
    score = collect(Plan(ROOT, {"scale": "paper"}), tmp_path).verdicts.score
    assert score["published"] == 27 and score["log published"] > 50 and score["run"] == 0


def test_every_format_says_the_verdict_with_its_numbers(tmp_path):
    tables = paper_tables()
    set_values(tables, "table1.a.lct-1", "fd", [7.41])
    set_values(tables, "table1.a.lct-2", "fd", [9.0])
    before = copy.deepcopy(tables)
    out = rendered(tables, tmp_path)
    assert tables == before
    for name in ("index.html", "report.md", "tables.tex"):
        assert "reproduced" in out[name] and "differs" in out[name] and "+0.14" in out[name], name
    assert "of the <b>27</b> published numbers that were measured" in out["index.html"]
    assert 'class="chip reproduced"' in out["index.html"] and re.search(r"band 6\.8\d* to 8\.0[78]", out["index.html"])
    frame = pandas.read_csv(io.StringIO(out["tables.csv"]), keep_default_na=False)
    (line,) = frame[(frame.cell == "table1.a.lct-1.fd")].to_dict("records")
    assert line["verdict"] == "reproduced" and float(line["difference"]) == pytest.approx(0.14)
    assert float(line["sigma"]) == 0.022 and int(float(line["degrees_of_freedom"])) == 4
    macros = dict(
        entry.removeprefix("\\@namedef{lctval@").split("}{", 1)
        for entry in out["numbers.tex"].splitlines()
        if entry.startswith("\\@namedef")
    )
    assert macros["table1.a.lct-1.fd"] == "7.41}" and macros["table1.a.lct-1.fid.published"] == "7.27}"
    assert macros["table1.a.lct-1.fid.verdict"] == "reproduced}" and macros["score.published"] == "27}"


def test_a_measurement_counts_once_and_the_paper_is_apart_from_the_log():
    tables = paper_tables()
    again = copy.deepcopy(tables["tables"][0])
    again["id"] = "ablation"
    for subtable in again["subtables"]:
        subtable["curves"], subtable["floors"] = [], []
        for row in subtable["rows"]:
            row["page"] = None
            if row["status"] != "quoted":
                row["published"]["origin"] = {
                    "kind": "authors' log",
                    "status": "L",
                    "place": "c:fid.txt",
                    "line": "a line",
                }
                row["published"]["recall"] = None
            for cell in row["cells"].values():
                cell["id"] = cell["id"].replace("table1.", "ablation.")
    alone = loaded(tables).verdicts.score
    tables["tables"].append(again)
    assert loaded(tables).verdicts.score == alone, "the same measurements, so nothing is added"
    assert alone["log published"] == 0
    for row in again["subtables"][0]["rows"]:
        row["weights"] = "another"
    both = loaded(tables).verdicts.score
    assert both["log published"] > 0 and all(both[key] == alone[key] for key in alone if not key.startswith("log"))
