"""From where `lct` is called."""

import json
from pathlib import Path

import pytest

from lct.cli.main import main
from tests.helpers import ROOT


@pytest.mark.parametrize("folder", [".", "config", "config/runs"])
def test_lct_works_from_any_folder_of_the_project(folder, monkeypatch, capsys):
    monkeypatch.chdir(ROOT / folder)
    assert main(["show", "digits-lct", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert Path.cwd() == ROOT


def test_outside_a_project_lct_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["restore"]) == 1
    assert capsys.readouterr().err == (
        f"lct restore: {tmp_path}: expected the project's folder, or one inside it, found neither; cd to the clone\n"
    )
