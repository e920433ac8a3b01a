"""Rows of one's own: what a table without a published file holds, and what is refused before anything runs."""

import shutil

import pytest

from lct.lineage import planned
from lct.losses.distances import DISTANCES, ROBUST_FUNCTIONS
from lct.losses.robust import ROBUST
from lct.plan import files as stage_files
from lct.plan.plan import Plan
from tests.helpers import ROOT

TABLE = """
id: mine
title: Mine
caption: Rows of my own.
rows:
  lct: {run: "{dataset}-lct", sampler: {smoke: one, mini: one}, model: "LCT, again", seeds: {smoke: [0, 1, 2]}}
  c3: {run: digits-c3, sampler: {smoke: one, mini: one}}
"""


@pytest.fixture
def root(tmp_path):
    """The configuration with a table of one's own at smoke and mini scale."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "config/tables/mine.yaml").write_text(TABLE)
    (tmp_path / "config/runs/mine.yaml").write_text(
        "digits-c3: {base: digits-lct, training: {objective: {scale: {multiple: 3.0}}}}\n"
    )
    for scale, tables in (("smoke", "[table1"), ("mini", "[table1, ablation-f")):
        path = tmp_path / f"config/scales/{scale}.yaml"
        text = path.read_text()
        assert f"tables: {tables}]" in text
        path.write_text(text.replace(f"tables: {tables}]", f"tables: {tables}, mine]"))
    return tmp_path


def rewrite(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_measured_row_needs_no_published_file(root):
    plan = Plan(root, {"scale": "smoke"})
    cells = {cell.row: cell for cell in plan.cells if cell.table == "mine"}
    assert cells.keys() == {"lct", "c3"}
    rows = plan.published["mine"].rows_of("a")
    assert (rows["lct"].model, rows["c3"].model, rows["c3"].group) == ("LCT, again", "c3", "Measured here")
    assert rows["c3"].nfe is None and rows["c3"].fid is None and not rows["c3"].quoted
    mini = {(cell.subtable, cell.row) for cell in Plan(root, {"scale": "mini"}).cells if cell.table == "mine"}
    assert mini == {("a", "lct"), ("b", "lct"), ("c", "lct"), ("a", "c3")}, "a run is shown with its own dataset alone"


def test_a_row_may_have_seeds_of_its_own(root):
    plan = Plan(root, {"scale": "smoke"})
    assert plan.seeds_of("digits-lct") == (0, 1, 2) and plan.seeds_of("digits-c3") == (0,)
    by_row = {f"{c.table}.{c.row}": [s.seed for s in c.sets] for c in plan.cells}
    assert by_row["mine.lct"] == [0, 1, 2] and by_row["table1.lct-1"] == [0]
    assert any("/digits-lct/s2/" in path for path in stage_files.report_metrics(plan))


def test_new_keys_of_rows_are_no_settings_of_tables_that_do_not_use_them():
    tables = planned.settings(Plan(ROOT, {"scale": "smoke"}))["tables", "tables"]["tables"]
    assert not {"seeds", "model", "group"} & tables["table1"]["rows"]["lct-1"].keys()


def test_a_row_that_is_quoted_in_print_cannot_have_a_run(root):
    rewrite(root / "config/published/own.yaml", 'model: "LCT", nfe: 1, retrained_by_authors: true', 
            'model: "LCT", nfe: 1, retrained_by_authors: false')  # fmt: skip
    with pytest.raises(ValueError, match=r"own.yaml: rows.lct-1: expected no run for a row that the paper quotes"):
        Plan(root, {"scale": "smoke", "dataset": "digits"})


def test_names_of_printed_rows_are_not_given_twice(root):
    rewrite(root / "config/tables/table1.yaml", "rows:\n", "rows:\n  # here\n")
    rewrite(root / "config/tables/own.yaml", 'run: "{dataset}-ldm"\n', 'run: "{dataset}-ldm"\n    model: other\n')
    with pytest.raises(ValueError, match="own.yaml: rows.ldm-8: expected model and group only in a table without"):
        Plan(root, {"scale": "smoke", "dataset": "digits"})


def test_a_run_of_ones_own_on_a_dataset_leaves_the_plain_runs_there(root):
    (root / "config/datasets/mine.yaml").write_text("title: mine\nsource: {kind: folder, path: mine}\nresolution: 16\n")
    (root / "config/runs/extra.yaml").write_text("mine-slow: {dataset: mine, method: lct, training: {steps: 80}}\n")
    runs = Plan(root, {"scale": "smoke", "dataset": "mine"}).runs
    assert runs.keys() == {"mine-ldm", "mine-ilct", "mine-lct"}


def test_a_loss_that_is_not_registered_is_refused_at_plan_time(root, monkeypatch):
    rewrite(root / "config/runs/mine.yaml", "{scale: {multiple: 3.0}}", "{loss: welsch}")
    with pytest.raises(ValueError, match=r"digits-c3.*objective.loss: expected one of .*found 'welsch'"):
        Plan(root, {"scale": "smoke"})
    monkeypatch.setitem(ROBUST, "welsch", lambda s, c: s)
    assert "welsch" in ROBUST_FUNCTIONS, "every registered loss is one, wherever it stands in its module"
    assert {loss for loss, _ in DISTANCES} <= ROBUST_FUNCTIONS.keys()
