"""Git, called as a program."""

import io
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Any

from lct.files.hashing import sha256_text

_PROJECT = Path(__file__).resolve().parents[2]
_RECORDED = ("dvc.yaml", "dvc.lock", "lineage", "config/recorded.yaml")  # written by `lct record`: no source


def run_git(root: Path, *arguments: str, text: bool = True) -> subprocess.CompletedProcess:
    """Call git in `root`; its return code and output, which may hold bytes of files that are no UTF-8. The code is 127
    on a machine without git."""
    coding = {"encoding": "utf-8", "errors": "surrogateescape"} if text else {}
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False, **coding)
    except FileNotFoundError:
        return subprocess.CompletedProcess(arguments, 127, *(("", "git: not found") if text else (b"", b"")))


def export(root: Path, revision: str, path: str, folder: Path) -> None:
    """Write what a revision holds of `path`, a file, a folder or a pattern, below `folder`, and check nothing out."""
    done = run_git(root, "archive", "--format=zip", revision, "--", path, text=False)
    if done.returncode == 0:  # else it holds none
        with zipfile.ZipFile(io.BytesIO(done.stdout)) as packed:
            packed.extractall(folder)


def checkout_fault(root: Path) -> str | None:
    """Why git cannot read `root` as a checkout, in one line with what to do; None when it can."""
    done = run_git(root, "rev-parse", "--git-dir")
    if done.returncode == 0:
        return None
    if done.returncode == 127:
        return "git: expected the program, found none; install it (apt-get install git), or load its module"
    if remedy := re.search(r"git config --global --add safe\.directory .*", done.stderr):
        return f"{root}: git refuses this folder, because another user is its owner; `{remedy[0].strip()}` allows it"
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return f"{root}: expected a git repository, found none; clone the project instead of copying it"
    return f"{root}: git cannot read this repository: {' '.join(done.stderr.split())}; `git status` says the same"


def git_state(root: Path = _PROJECT) -> dict[str, Any] | None:
    """Revision of the project, whether its sources differ from it and the hash of how, or None outside a git checkout.

    What `lct record` writes is no source.
    """
    head = run_git(root, "rev-parse", "HEAD")
    if head.returncode != 0:
        return None
    sources = ("--", ".", *(f":(exclude){path}" for path in _RECORDED))
    changes = run_git(root, "status", "--porcelain", "--untracked-files=no", *sources).stdout
    diff = run_git(root, "diff", "--no-color", "--no-ext-diff", "HEAD", *sources).stdout if changes else ""
    return {"revision": head.stdout.strip(), "dirty": bool(changes)} | (
        {"diff_sha256": sha256_text(diff)} if diff else {}
    )
