"""From where `lct` is called."""

import functools
import json
import math
import shutil
from pathlib import Path

import pytest

from lct.cli import show
from lct.cli.main import main
from lct.files.lock import hold
from lct.lineage import registry
from lct.lineage.record import RUN_LOCK
from lct.lineage.registry import Entry
from tests.helpers import ROOT


@pytest.mark.parametrize("folder", [".", "config", "config/runs"])
def test_lct_works_from_any_folder_of_the_project(folder, monkeypatch, capsys):
    monkeypatch.chdir(ROOT / folder)
    assert main(["show", "digits-lct", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert Path.cwd() == ROOT


def test_json_is_what_every_reader_takes(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    odd = functools.wraps(show.show)(lambda arguments: (0, {"fd": [math.nan, math.inf], "ü": 1.5}, ""))
    monkeypatch.setattr(show, "show", odd)
    assert main(["show", "--json"]) == 0
    text = capsys.readouterr().out
    assert json.loads(text, parse_constant=pytest.fail) == {"fd": ["NaN", "Infinity"], "ü": 1.5} and "ü" in text


def test_outside_a_project_lct_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["restore"]) == 1
    assert capsys.readouterr().err == (
        f"lct restore: {tmp_path}: expected the project's folder, or one inside it, found neither; cd to the clone\n"
    )


def test_the_version_and_the_nearest_verb(capsys):
    with pytest.raises(SystemExit, match="^0$"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("lct 0.")
    with pytest.raises(SystemExit, match="^2$"):
        main(["tabel"])
    assert "did you mean 'table'?" in capsys.readouterr().err
    for words in (["--help"], ["--help", "report"]):
        with pytest.raises(SystemExit, match="^0$"):
            main(words)
        assert "    status  " in capsys.readouterr().out, "all verbs"


@pytest.fixture
def lct(tmp_path, monkeypatch, capsys):
    """`lct` in a project with weights and metrics of one run: (exit code, what it printed)."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    shutil.copy(ROOT / "Snakefile", tmp_path)
    for run in ("digits-lct", "digits-lct-huber"):
        weights = tmp_path / f"results/smoke/train/{run}/s0/step40-ema0.9.safetensors"
        weights.parent.mkdir(parents=True)
        weights.write_text("weights")
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str]:
        code = main([*words, "--scale", "smoke"])
        return code, "".join(capsys.readouterr())

    return call


def test_rm_shows_then_removes_a_run_and_refuses_what_is_recorded_or_runs(lct, tmp_path):
    weights = tmp_path / "results/smoke/train/digits-lct/s0/step40-ema0.9.safetensors"
    for name, near in (("digits-lcd", "digits-lct"), ("../train", ""), ("reference", "")):
        code, text = lct("rm", name)
        assert code == 1 and text.count("\n") == 1 and f"{name}: expected a run with results" in text and near in text
    assert lct("rm", "digits-lct") == (
        0,
        "results/smoke/train/digits-lct\nnothing was removed: lct rm digits-lct --scale smoke --yes does it\n",
    )
    path = str(weights.relative_to(tmp_path))
    registry.write(tmp_path, "smoke", {path: Entry(path, 1, "0", "0", {"settings": {}}, {})})
    code, text = lct("rm", "digits-lct", "--yes")
    assert code == 1 and text.count("\n") == 1 and "found 1 recorded files" in text and weights.exists()
    registry.write(tmp_path, "smoke", {})
    with hold(tmp_path / RUN_LOCK, "snakemake"):
        code, text = lct("rm", "digits-lct", "--yes")
    assert code == 1 and "expected no running snakemake, found one" in text and weights.exists()
    assert lct("rm", "digits-lct", "--yes") == (0, "removed results/smoke/train/digits-lct\n") and not weights.exists()


def test_status_shows_runs_and_seeds_that_no_table_lists_and_results_that_no_run_has(lct, tmp_path):
    train = tmp_path / "results/smoke/train"
    shutil.copytree(train / "digits-lct/s0", train / "digits-lct/s7")
    _, text = lct("status")
    assert "digits-lct-huber s0: step 40 of 40, trained, in no table" in text
    assert "digits-lct s7: step 40 of 40, trained, a seed that no table lists" in text
    gone = train / "digits-old/s0/step40-ema0.9.safetensors.run.json"
    gone.parent.mkdir(parents=True)
    gone.write_text("{}")
    line = "config/runs/ has no digits-old, whose results are here: lct rm digits-old --scale smoke removes them"
    assert line in lct("status")[1]


def test_table_and_show_take_rows_runs_and_starts_of_names(lct):
    assert lct("table") == (0, "nothing is measured yet: snakemake --config scale=smoke\n")
    code, text = lct("table", "table1.a.lct")
    assert code == 0 and "table1.a.lct-1" in text and "table1.a.lct-2" in text and "ilct" not in text and "7.27" in text
    assert lct("show", "table1.a.lct")[1].splitlines()[0].split()[:2] == ["table1.a.lct-1", "digits-lct"]
    assert "runs that no table lists: " in lct("show")[1]
    assert "objective.loss" in lct("show", "table1.a.lct-1", "table1.a.ilct-1")[1]
    for verb in ("table", "show", "why", "restore"):
        code, text = lct(verb, "tabel1.a")
        assert code == 1 and text.count("\n") == 1 and "did you mean 'table1.a'?" in text, verb
    code, text = lct("report", "--tables", "table1")
    assert code == 1 and "expected a tables.json" in text and "lct report --only table1" in text
    code, text = lct("report", "--seeds=-1,2")
    assert code == 1 and text.count("\n") == 1 and "seeds: expected numbers from 0 on" in text and "'-1'" in text


def test_completion_knows_rows_runs_and_scales(lct, capsys):
    main(["completion", "bash"])
    script = capsys.readouterr().out
    assert all(word in script for word in ("table1.a.lct-1", "digits-lct-huber", "paper"))
