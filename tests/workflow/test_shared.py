"""Situations of people who share recordings: each script of tests/cases/shared ends with exit code 0."""

import os
import subprocess
import sys

import pytest

from tests.helpers import ROOT
from tests.helpers.fake_lineage import CODE

SCRIPTS = sorted(path.name for path in (ROOT / "tests/cases/shared").glob("[0-9]*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.usefixtures("warm_programs")
def test_situation(tmp_path, script):
    command = [sys.executable, str(ROOT / "tests/cases/shared" / script), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": CODE}
    result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]
