"""Copies of the project, and Snakemake in them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lct.lineage.stages import dvc_yaml
from tests.helpers import ROOT

SOURCES = ("Snakefile", "workflow", "config", "lct", "profiles", "requirements.lock", ".dvcignore")
SMOKE = ("--config", "scale=smoke")


def project(folder: Path) -> Path:
    """A copy of the project's sources, without results, and nothing recorded."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    (folder / "dvc.yaml").write_text(dvc_yaml({}))
    shutil.copytree(ROOT / "reports" / "templates", folder / "reports" / "templates")
    return folder


def snakemake(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    """What `snakemake` did there; its messages are in `stdout`."""
    command = [sys.executable, "-m", "snakemake", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run(command, cwd=folder, env=os.environ | environment, check=False, **pipes)
