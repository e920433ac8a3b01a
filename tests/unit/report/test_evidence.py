"""What we know and do not: facts agree with the configuration, conflicts with the rows that settle them, and the page
shows all of it, searchable."""

import csv
import re
import shutil
from pathlib import Path

import pytest

from lct.config.schema import plain
from lct.plan.plan import Plan
from lct.report import evidence
from lct.report.render import render
from tests.helpers.fake_tables import ROOT, fake_tables, loaded
from tests.helpers.pages import Page

EVIDENCE, LINES = evidence.read(ROOT)


@pytest.fixture(scope="module")
def paper():
    return Plan(ROOT, {"scale": "paper"})


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return render(loaded(fake_tables(curves=False)), tmp_path_factory.mktemp("empty"))["evidence.html"]


def setting(values, key):
    for word in key.split("."):
        values = values[word]
    return values


@pytest.mark.parametrize(
    "fact", [f for f in EVIDENCE.facts if f.value is not None], ids=lambda f: f.key or f.dataset_key
)
def test_a_fact_about_a_setting_is_what_the_final_run_is_trained_with(paper, fact):
    owner = paper.runs["celebahq-lct"].training if fact.key else paper.datasets["celebahq"]
    assert setting(plain(owner), fact.key or fact.dataset_key) == fact.value


def test_every_row_that_settles_something_is_computed_at_paper_scale(paper):
    computed = {f"{cell.table}.{cell.subtable}.{cell.row}" for cell in paper.cells}
    named = {place for one in (*EVIDENCE.facts, *EVIDENCE.conflicts) for place in one.settled_by}
    assert len(named) > 40 and named <= computed, sorted(named - computed)


def test_the_pitfalls_are_complete_and_each_is_settled_or_resolved():
    assert [one.id for one in EVIDENCE.conflicts] == [f"P{i}" for i in range(1, 19)]
    assert all(one.settles or one.resolved for one in EVIDENCE.conflicts)
    assert all(one.provenance for one in (*EVIDENCE.facts, *EVIDENCE.conflicts))


def test_numbers_of_the_log_and_of_the_published_ablations_are_the_same(paper):
    """Two files hold the authors' FID: every ablation number must stand in the log under the commit that it names."""
    logged = {}
    for line in LINES:
        logged.setdefault(round(float(line["fid"]), 2), set()).add(line["source_commit"])
    rows = [
        row
        for name in ("ablation-a", "ablation-b", "ablation-c", "ablation-d", "ablation-e", "ablation-f")
        for row in paper.published[name].rows_of("a").values()
        if row.origin.kind == "authors' log" and row.origin.status == "L"
    ]
    assert len(rows) > 60
    for row in rows:
        assert round(row.fid, 2) in logged, (row.id, row.fid)


def test_the_page_shows_every_fact_conflict_and_line(page):
    shown = Page(page)
    assert shown.open == [] and len(shown.ids) == len(set(shown.ids))
    words = shown.text
    for fact in EVIDENCE.facts:
        assert re.sub(r"\s+", " ", fact.text) in words and fact.provenance in words
    for one in EVIDENCE.conflicts:
        assert one.id in shown.ids and re.sub(r"\s+", " ", one.text) in words
        assert (one.settles or one.resolved) in words
    assert page.count('<td data-col="5" class="num" data-sort=') == len(LINES) == 1446
    for line in LINES[::97]:
        assert f"{float(line['fid']):.4f}" in words and line["source_commit"] in words
    assert page.count('<svg class="spark"') > 20
    inner = {link[1:] for link in shown.links if link.startswith("#")}
    assert inner <= set(shown.ids) and len(page) < 5_000_000
    assert "authors_runs.csv" in words and "table1.a.lct-1" in words and "snakemake --config scale=paper" in words


def test_runs_of_the_log_are_grouped_by_training_ema_and_sampler():
    runs = evidence.logged_runs(LINES)
    named = "large_dhariwal_unet_cauchy_no_grad_norm_diff_0.75_newdiff_fix_5_bs128_othard_newc_allnonscalinglayernorm"
    of = [r for r in runs if (r.name, r.ema, r.sampling) == (named, "0.99993", "1-step")]
    (final,) = [r for r in of if "celeb" in r.settings]
    assert final.last == "7.27" and final.epochs.endswith("1400") and final.path.startswith("M")
    assert "7.27 at 1400" in final.spoken and not final.assigned
    assert sum(run.lines for run in runs) == sum(
        bool(line["era"] == "paper" and (line["experiment"] or line["inferred_experiment"])) for line in LINES
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("certainty: script", "certainty: rumour", "certainty: expected one of"),
        ("id: P2", "id: P1", "expected every id once, found \\['P1'\\] twice"),
        ("value: 640", "", "expected a value with a key"),
        ("facts:", "fact:", "fact"),
    ],
)
def test_damaged_facts_are_one_line(tmp_path, old, new, message):
    folder = tmp_path / "config" / "evidence"
    folder.mkdir(parents=True)
    text = (ROOT / "config/evidence/facts.yaml").read_text()
    assert old in text
    (folder / "facts.yaml").write_text(text.replace(old, new, 1))
    (folder / "authors_runs.csv").write_bytes((ROOT / "config/evidence/authors_runs.csv").read_bytes())
    with pytest.raises(ValueError, match=message) as error:
        evidence.read(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n"])
def test_a_log_that_is_none_is_one_line(tmp_path, content):
    folder = tmp_path / "config" / "evidence"
    folder.mkdir(parents=True)
    (folder / "facts.yaml").write_bytes((ROOT / "config/evidence/facts.yaml").read_bytes())
    (folder / "authors_runs.csv").write_text(content)
    with pytest.raises(ValueError, match="expected the columns of the authors' log"):
        evidence.read(tmp_path)


def test_names_in_the_log_are_escaped(tmp_path):
    shown = loaded(fake_tables(curves=False))
    folder = shutil.copytree(ROOT / "config", tmp_path / "config") / "evidence"
    with open(ROOT / "config/evidence/authors_runs.csv", newline="") as handle:
        lines = list(csv.DictReader(handle))[:40]
    lines[0] |= {"experiment": "<script>alert(1)</script>&\"'", "notes": "</table><b>", "era": "paper"}
    with open(folder / "authors_runs.csv", "w", newline="") as handle:
        writer = csv.DictWriter(handle, lines[0].keys())
        writer.writeheader()
        writer.writerows(lines)
    html = render(shown, tmp_path, facts=Path(tmp_path))["evidence.html"]
    assert Page(html).open == [] and html.count("<script") == 1 and "&lt;script&gt;alert" in html
