"""Situations that people have met with their own images: each script of tests/cases/data ends with exit code 0."""

import os
import subprocess
import sys

import pytest

from tests.helpers import ROOT
from tests.helpers.copies import project

SCRIPTS = sorted(path.name for path in (ROOT / "tests/cases/data").glob("[0-9]*.py"))
WRITING = ("01", "16", "20")  # scripts that write into the project
QUICK = ("20", "21")


@pytest.mark.parametrize(
    "script", [pytest.param(name, marks=() if name[:2] in QUICK else pytest.mark.slow) for name in SCRIPTS]
)
@pytest.mark.usefixtures("warm_programs")
def test_situation(tmp_path, script):
    folder = project(tmp_path / "project") if script.startswith(WRITING) else ROOT
    environment = os.environ | {"PROJECT": str(folder), "PYTHON": sys.executable, "SCRATCH": str(tmp_path)}
    command = [sys.executable, str(ROOT / "tests/cases/data" / script)]
    result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]
