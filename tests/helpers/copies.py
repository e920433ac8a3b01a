"""Copies of the project, and Snakemake in them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil

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


def checkout(folder: Path) -> Path:
    """The same in a git repository, where runs are recorded; all is committed."""
    project(folder)
    for name in (".gitignore", ".gitattributes", ".dvc/config", ".dvc/.gitignore"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    who = (["config", "user.name", "t"], ["config", "user.email", "t@t"])
    for words in (["init", "-q", "-b", "main"], *who, ["add", "-A"], ["commit", "-q", "-m", "start"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def processes(sessions: set[int]) -> list[psutil.Process]:
    """Every process of these sessions, those that outlived their Snakemake included."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return sorted(members, key=lambda process: process.pid)


def start(folder: Path, *words: str) -> subprocess.Popen:
    """Snakemake at smoke scale in a session of its own; what it prints is added to terminal.txt there."""
    command = [sys.executable, "-m", "snakemake", *SMOKE, *words]
    with open(folder / "terminal.txt", "a") as terminal:
        return subprocess.Popen(command, cwd=folder, start_new_session=True, stdout=terminal, stderr=terminal)


def snakemake(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    """What `snakemake` did there; its messages are in `stdout`."""
    command = [sys.executable, "-m", "snakemake", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run(command, cwd=folder, env=os.environ | environment, check=False, **pipes)
