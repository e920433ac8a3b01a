"""Rows of one's own: what a table without a published file holds, and what is refused before anything runs."""

import json
import shutil
import tarfile
import zipfile

import pytest

from lct.losses.objective import DISTANCES, ROBUST_FUNCTIONS
from lct.losses.robust import ROBUST
from lct.plan import files as stage_files
from lct.plan import settings as stage_settings
from lct.plan.listing import dry_run_lines, left_out
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
    tables = stage_settings.planned(Plan(ROOT, {"scale": "smoke"}))("tables", "tables")["tables"]
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


# --- weights to start from -------------------------------------------------------------------------------------------
def test_a_training_may_start_from_another_run(root):
    plan = Plan(root, {"scale": "mini"})
    tuned, ldm = plan.runs["digits-tuned-short"], plan.runs["digits-ldm-short"]
    assert tuned.init.run == ldm.id and tuned.training.network == ldm.training.network
    settings = stage_settings.train(plan, tuned.id)
    assert settings["init"] == {"run": ldm.id, "weights": "step1000-ema0.99"}
    assert stage_files.initial(plan, tuned.id, 0) == [
        "results/mini/train/digits-ldm-short/s0/step1000-ema0.99.safetensors"
    ]
    assert "init" not in stage_settings.train(plan, "digits-lct") and stage_files.initial(plan, "digits-lct", 0) == []


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("{run: digits-nowhere}", "expected a run that a row of scale 'smoke' shows, found 'digits-nowhere'"),
        ("{run: digits-lct}", "expected the network of digits-lct"),
        ("{run: digits-ldm, ema: 0.5}", r"init.ema: expected one that run digits-ldm keeps, \[0.9\], found 0.5"),
        ("{run: digits-ldm, path: w.pt}", "expected either run .* or path and sha256"),
        ("{run: digits-c3}", "expected no circle"),
    ],
)
def test_weights_that_no_training_can_start_from_are_refused_at_plan_time(root, init, message):
    norms = "training: {network: {block_norm: group, output_norm: group}}"
    (root / "config/runs/mine.yaml").write_text(f"digits-c3: {{base: digits-lct, init: {init}, {norms}}}\n")
    with pytest.raises(ValueError, match=message):
        Plan(root, {"scale": "smoke"})


@pytest.mark.parametrize(
    ("more", "seeds", "message"),
    [
        ("", ", seeds: {smoke: [0, 1]}", r"rows.given: seeds: expected a single seed, as run digits-w is not trained"),
        (", init: {run: digits-ldm}", "", "digits-w: weights: expected no init beside them"),
    ],
)
def test_weights_that_exist_have_no_seeds_and_no_start(root, more, seeds, message):
    given = f"weights: {{path: w.pt, sha256: {'ab' * 32}}}"
    (root / "config/runs/given.yaml").write_text(f"digits-w: {{base: digits-lct, {given}{more}}}\n")
    row = f"  given: {{run: digits-w, sampler: {{smoke: one, mini: one}}{seeds}}}\n"
    (root / "config/tables/mine.yaml").write_text(TABLE + row)
    with pytest.raises(ValueError, match=message):
        Plan(root, {"scale": "smoke"})


def test_settings_that_never_applied_are_not_shown_of_given_weights(root):
    given = f"weights: {{path: w.pt, sha256: {'ab' * 32}}}"
    (root / "config/runs/mine.yaml").write_text(f"digits-c3: {{base: digits-lct, {given}}}\n")
    run = Plan(root, {"scale": "smoke"}).runs["digits-c3"]
    assert run.applied.keys() == {"network", "scaling", "grid"} and run.weights.file == "w.pt"


# --- datasets of one's own -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("labels", "extractor", "learned"),
    [
        ("", "", "rotations"),
        (", labels: folders", "", "source"),
        ("", "extractor: {kind: trained, steps: 9}", "rotations"),
    ],
)
def test_the_extractor_of_a_dataset_learns_labels_where_the_source_gives_them(root, labels, extractor, learned):
    text = f"title: mine\nsource: {{kind: folder, path: mine{labels}}}\nresolution: 16\n{extractor}\n"
    (root / "config/datasets/mine.yaml").write_text(text)
    plan = Plan(root, {"scale": "smoke", "dataset": "mine"})
    assert plan.datasets["mine"].extractor.labels == learned
    assert stage_settings.extractor(plan, "mine")["extractor"]["labels"] == learned


def test_labels_that_the_source_does_not_give_are_refused_at_plan_time(root):
    text = (
        "title: mine\nsource: {kind: folder, path: mine}\nresolution: 16\nextractor: {kind: trained, labels: source}\n"
    )
    (root / "config/datasets/mine.yaml").write_text(text)
    with pytest.raises(
        ValueError, match="mine.yaml: extractor.labels: expected rotations, as the source of dataset mine"
    ):
        Plan(root, {"scale": "smoke", "dataset": "mine"})


def own_folder(root, *names, extractor=""):
    """A dataset of the folder `mine`, with files of these names."""
    for name in names:
        path = root / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / "config/datasets/mine.yaml").write_text(
        f"title: mine\nsource: {{kind: folder, path: mine}}\nresolution: 16\n{extractor}\n"
    )
    return Plan(root, {"scale": "smoke", "dataset": "mine"})


@pytest.mark.parametrize("path", ["''", "' '", ".", "..", "/", "{root}", "link"])
def test_the_folder_of_the_project_is_no_folder_of_images(root, path):
    (root / "link").symlink_to(root.parent)
    (root / "config/datasets/mine.yaml").write_text(
        f"title: mine\nsource: {{kind: folder, path: {path.format(root=root)}}}\nresolution: 16\n"
    )
    with pytest.raises(ValueError, match="path: expected a folder") as error:
        Plan(root, {"scale": "smoke", "dataset": "mine"})
    assert "mine.yaml" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("folders", "extractor", "labels"),
    [
        (("cat", "dog/young"), "", "folders"),
        (("cat", "dog"), "extractor: {kind: trained, labels: source, steps: 9}", "folders"),
        (("cat", "dog"), "extractor: {kind: trained, labels: rotations}", "none"),
        (("cat",), "", "none"),
        (("cat", "dog", "."), "", "none"),
        (("00000", "01000"), "", "none"),
        (("0", "1"), "", "folders"),
        (("train", "test"), "", "none"),
    ],
)
def test_class_folders_are_labels_unless_a_file_says_otherwise(root, folders, extractor, labels):
    plan = own_folder(root, *(f"{folder}/{i}.jpg" for folder in folders for i in range(200)), extractor=extractor)
    assert stage_settings.images(plan, "mine")["dataset"]["source"]["labels"] == labels
    learned = stage_settings.extractor(plan, "mine")["extractor"]
    assert learned["labels"] == ("source" if labels == "folders" else "rotations")
    if labels == "folders":
        assert learned["task"] == "class folders"
        assert any(line.startswith("Labels of mine: its class folders") for line in dry_run_lines(plan))
    rewrite(root / "config/datasets/mine.yaml", "path: mine", "path: mine, labels: none")
    if "source" not in extractor:
        assert Plan(root, {"scale": "smoke", "dataset": "mine"}).datasets["mine"].source.labels == "none"


@pytest.mark.parametrize(
    ("ending", "prefix", "inside", "labels"),
    [
        ("zip", "", "", "folders"),
        ("tar", "", "", "folders"),
        ("tar.gz", "", "", "none"),
        ("zip", "top/", "", "none"),
        ("zip", "top/", ", inside: top", "folders"),
    ],
)
def test_class_folders_of_archives_are_labels_where_a_look_at_the_listing_tells(root, ending, prefix, inside, labels):
    names = [f"{prefix}{'ab'[i % 2]}/{i:03d}.png" for i in range(300)]
    (root / "empty").touch()
    if ending == "zip":
        with zipfile.ZipFile(root / "mine.zip", "w") as archive:
            for name in names:
                archive.writestr(name, b"")
    else:
        with tarfile.open(root / f"mine.{ending}", f"w:{ending.partition('.')[2]}") as archive:
            for name in names:
                archive.add(root / "empty", name)
    (root / "config/datasets/mine.yaml").write_text(
        f"title: mine\nsource: {{kind: archive, path: mine.{ending}{inside}}}\nresolution: 16\n"
    )
    plan = Plan(root, {"scale": "smoke", "dataset": "mine"})
    dataset = plan.datasets["mine"]
    assert dataset.source.labels == labels
    assert stage_settings.extractor(plan, "mine")["extractor"]["labels"] == (
        "source" if labels == "folders" else "rotations"
    )
    assert (dataset.train, dataset.heldout) == ((256, 128) if ending == "tar.gz" else (200, 100))
    (root / f"mine.{ending}").write_bytes(b"PK no archive")
    assert Plan(root, {"scale": "smoke", "dataset": "mine"}).datasets["mine"].train == 256, "the job names the damage"


def test_a_scale_takes_no_more_images_than_a_folder_holds_also_where_the_folder_is_not(root):
    names = [f"{'ab'[i % 2]}/{i:03d}.png" for i in range(300)]
    plan = own_folder(root, *names, "a/notes.txt")
    dataset = plan.datasets["mine"]
    assert (dataset.train, dataset.heldout) == (200, 100), "256 and 128 are asked for"
    assert plan.dataset_sources["mine"]["heldout"] == "config/scales/smoke.yaml, fitted to the 300 images of mine"
    assert any(line.startswith("Images of mine: 200 for training, 100 held out") for line in dry_run_lines(plan))
    planned = stage_settings.images(plan, "mine")
    shutil.rmtree(root / "mine")
    absent = Plan(root, {"scale": "smoke", "dataset": "mine"}).datasets["mine"]
    assert (absent.train, absent.heldout, absent.source.labels) == (256, 128, "none")
    output = "results/smoke/images/mine/train.zip"
    record = {"settings": planned, "stage": "images"}
    (root / "lineage").mkdir()
    line, damaged = json.dumps({"path": output, "settings": record}), f'{{"path": "{output}", "sett'
    (root / "lineage/smoke.jsonl").write_text(f"{damaged}\n{line}\n")
    assert stage_settings.images(Plan(root, {"scale": "smoke", "dataset": "mine"}), "mine") == planned, "a clone"
    (root / "lineage/smoke.jsonl").unlink()
    (root / output).parent.mkdir(parents=True)
    (root / f"{output}.settings.json").write_text(json.dumps(record))
    assert stage_settings.images(Plan(root, {"scale": "smoke", "dataset": "mine"}), "mine") == planned, "restored"


def test_a_damaged_scale_behind_the_one_that_lists_a_table_stops_no_other(root):
    (root / "config/scales/zz.yaml").write_text("tables: [")
    plan = Plan(root, {"scale": "smoke"})
    left = {table["id"]: table["command"] for table in left_out(plan, "tables")}
    assert left["ablation-a"] == "snakemake all_tables --config scale=mini"


def test_a_floor_that_is_not_measured_as_generated_images_are_is_a_line_of_the_plan(root):
    names = [f"{i:03d}.png" for i in range(600)]
    plan = own_folder(root, *names)
    assert not [line for line in dry_run_lines(plan) if line.startswith("Floors of")], "128 held out, 64 generated"
    rewrite(root / "config/scales/smoke.yaml", "  heldout: 128\n", "  heldout: 32\n")
    floors = [line for line in dry_run_lines(Plan(root, {"scale": "smoke", "dataset": "mine"})) if "Floors" in line]
    assert len(floors) == 1 and "32 held-out images beside 64 generated ones" in floors[0]
    rewrite(root / "config/scales/smoke.yaml", "  heldout: 32\n", "")
    floors = [line for line in dry_run_lines(Plan(root, {"scale": "smoke", "dataset": "mine"})) if "Floors" in line]
    assert floors == [
        "Floors of mine: no image is held out, so there is no row of real images; `heldout: 64` or more in "
        "config/datasets/mine.yaml measures it as they are"
    ]
