"""Which rows and runs a plan is of: names and their starts, `only`, further seeds, and runs that no table lists."""

import argparse

import pytest

from lct.plan import files, listing, settings
from lct.plan.names import cells_named, nearest
from lct.plan.plan import OWN_RUNS, Plan
from lct.plan.selection import add_selection, option_words, overrides, plan_of
from tests.helpers import ROOT


@pytest.fixture(scope="module")
def mini() -> Plan:
    return Plan(ROOT, {"scale": "mini"})


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("table1.a", ["table1.a.ldm-8", "table1.a.ilct-1", "table1.a.ilct-2", "table1.a.lct-1", "table1.a.lct-2"]),
        ("table1.a.lct", ["table1.a.lct-1", "table1.a.lct-2"]),
        ("table1.a.lct-1.fd", ["table1.a.lct-1"]),
        ("china-lct", ["table1.b.lct-1", "table1.b.lct-2"]),
    ],
)
def test_rows_go_by_name_by_its_start_and_by_run(mini, name, rows):
    cells = [cell for cell in mini.cells if cell.table == "table1"]
    assert [cell.name for cell in cells_named(cells, [name], "mini")] == rows


@pytest.mark.parametrize(
    ("name", "near"), [("table1.a.lct-9", "table1.a.lct-"), ("tabel1.a", "table1.a"), ("chna-lct", "china-lct")]
)
def test_an_unknown_name_gets_the_nearest(mini, name, near):
    with pytest.raises(ValueError, match=f"found '{name}'; did you mean '{near}") as caught:
        Plan(ROOT, {"scale": "mini", "only": name})
    assert "\n" not in str(caught.value)
    assert near in listing.unknown_target(mini, name) and nearest(name, []) == "there are none yet"


@pytest.mark.parametrize("ending", [".safetensors", "/one/d0.zip", "/one/d0/fd-train.json"])
def test_a_file_of_weights_that_a_run_does_not_keep_names_those_that_it_keeps(mini, ending):
    (kept,) = mini.milestones(run := "digits-lct")
    path, given = f"results/mini/train/{run}/s0/", mini.kept_weights(run)[0]
    line = listing.unknown_target(mini, f"{path}step7-ema0.9{ending}")
    assert f"expected weights that run {run} keeps, of {kept}, found step7-ema0.9; " in line and "`keep_steps`" in line
    files = (f"{path}{given}{ending}", f"results/mini/train/none/s0/step7{ending}", "results/mini/tables/tables.json")
    assert [listing.unknown_target(mini, file) for file in files] == [None] * 3


def test_a_restriction_plans_its_rows_alone_and_changes_no_settings(mini):
    plan = Plan(ROOT, {"scale": "mini", "only": "table1.b.lct,ablation-a"})
    cells = {cell.name for cell in plan.cells_of("tables")}
    assert {"table1.b.lct-1", "table1.b.lct-2"} < cells and {name.split(".")[0] for name in cells} == {
        "table1",
        "ablation-a",
    }
    assert plan.tables_of("tables") == ["table1", "ablation-a"] and plan.shown_datasets == ["digits", "china"]
    paths = files.report_metrics(plan, "tables")
    assert not any("/flower" in path or "/china-ilct/" in path for path in paths)
    assert plan.paths.report("index.html") == "reports/mini/only-table1.b.lct+ablation-a/index.html"
    assert settings.sample(plan, "china-lct") == settings.sample(mini, "china-lct")
    assert set(files.samples(plan, "china-lct", 0)) == set(files.samples(mini, "china-lct", 0))


def test_further_seeds_join_those_of_the_scale(mini):
    plan = Plan(ROOT, {"scale": "mini", "seeds": "1,4"})
    assert plan.seeds_of("digits-lct") == (0, 1, 4) and plan.seeds_of("china-lct") == (0, 1, 4)
    assert settings.train(plan, "digits-lct") == settings.train(mini, "digits-lct")
    assert Plan(ROOT, {"scale": "mini", "seeds": 2}).seeds_of("china-lct") == (0, 2)
    with pytest.raises(ValueError, match="seeds: expected numbers from 0 on, such as 1,2, found 'x'"):
        Plan(ROOT, {"scale": "mini", "seeds": "1,x"})


def test_a_run_that_no_table_lists_has_rows_of_its_own(mini):
    assert "digits-lct-huber" in mini.unlisted() and OWN_RUNS not in mini.tables_of("all")
    plan = Plan(ROOT, {"scale": "mini", "own_runs": ["digits-lct-huber"]})
    rows = [cell for cell in plan.cells_of("tables") if cell.table == OWN_RUNS]
    assert [(cell.name, cell.sampler) for cell in rows] == [
        ("own-runs.a.digits-lct-huber-one", "one"),
        ("own-runs.a.digits-lct-huber-two-440", "two-440"),
    ]
    assert plan.seeds_of("digits-lct-huber") == (0, 1)
    assert plan.tables_of("all").count(OWN_RUNS) == plan.tables_of("tables").count(OWN_RUNS) == 1
    assert {s.run for cell in mini.cells_of("tables") for s in cell.sets} < set(plan.runs)
    assert (
        settings.tables(plan, "tables")["published"][OWN_RUNS]["subtables"][0]["dataset"]
        == "handwritten digits of scikit-learn"
    )
    makeable = Plan(ROOT, {"scale": "mini"}, ["digits-lct-huber"])
    assert settings.tables(makeable) == settings.tables(mini)
    assert listing.target_files(makeable, "digits-lct-huber") == listing.target_files(plan, "digits-lct-huber")
    with pytest.raises(ValueError, match="own_runs: .*found 'digits-lct-hubr'; did you mean 'digits-lct-huber'"):
        Plan(ROOT, {"scale": "mini", "own_runs": ["digits-lct-hubr"]})


def test_another_process_gets_the_same_plan(mini):
    plan = Plan(ROOT, {"scale": "mini", "only": "table1.a,digits-lct-gn", "seeds": 3, "own_runs": ["digits-lct-gn"]})
    parser = argparse.ArgumentParser()
    add_selection(parser)
    for config in (overrides(parser.parse_args(["--scale", "mini", *option_words(plan)])), plan_of(plan)):
        again = Plan(ROOT, config)
        assert settings.tables(again) == settings.tables(plan) and again.paths == plan.paths
    assert option_words(mini) == [] and option_words(mini, ["digits-lct-gn"]) == ["--own-runs", "digits-lct-gn"]


def test_every_target_says_what_it_is(mini):
    texts = listing.descriptions(mini)
    assert texts["table1.a"] == "5 rows of table1 on digits" and texts["digits-lct"].startswith("run on digits")
    assert texts["digits-lct-huber"] == "run on digits that no table lists" and all(texts.values())
    assert listing.mentioned(["digits-lct-gn"], ["train_digits_lct_gn:seed=0"]) == ["digits-lct-gn"]
    assert listing.mentioned(["digits-lct-gn"], ["-n", "table1"]) == []


@pytest.mark.parametrize(
    ("word", "given", "key"),
    [
        ("results/smoke/images/digits/train.zip", {}, {"scale": "smoke"}),
        ("reports/paper/index.html", {}, {"scale": "paper"}),
        ("results/smoke/images/digits/train.zip", {"scale": "mini"}, {}),
        ("results/mini/images/digits/train.zip", {}, {}),
        ("results/mini/images/ffhq/train.zip", {}, {"dataset": "ffhq"}),
        ("results/mini/figures/figure2/ffhq.json", {}, {"dataset": "ffhq"}),
        ("results/mini/train/ffhq-lct/s0/curves.json", {}, {"dataset": "ffhq"}),
        ("reports/mini/dataset-ffhq/index.html", {}, {"dataset": "ffhq"}),
        ("results/mini/images/ffhq/train.zip", {"dataset": "church"}, {}),
        ("results/else/images/ffhq/train.zip", {}, {}),
        ("table1.a", {}, {}),
    ],
)
def test_files_of_a_command_say_which_scale_and_dataset_they_belong_to(mini, word, given, key):
    assert listing.implied(mini, ["--force", word], given) == key


def test_files_of_two_scales_are_for_the_user_to_say(mini):
    assert listing.implied(mini, ["results/smoke/a", "results/paper/a"], {}) == {}
