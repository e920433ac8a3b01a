"""Git, called as a program."""

import subprocess
from pathlib import Path
from typing import Any

from lct.files.hashing import sha256_text

_PROJECT = Path(__file__).resolve().parents[2]
_RECORDED = ("dvc.yaml", "dvc.lock", "lineage", "config/recorded.yaml")  # written by `lct record`: no source


def run_git(root: Path, *arguments: str, text: bool = True) -> subprocess.CompletedProcess:
    """Call git in `root`; its return code and output. The code is 127 on a machine without git."""
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=text, check=False)
    except FileNotFoundError:
        return subprocess.CompletedProcess(arguments, 127, *(("", "git: not found") if text else (b"", b"")))


def is_checkout(root: Path) -> bool:
    """Whether `root` lies in a git checkout, and git is here to read it."""
    return run_git(root, "rev-parse", "--git-dir").returncode == 0


def git_state(root: Path = _PROJECT) -> dict[str, Any] | None:
    """Revision of the project, whether its sources differ from it and the hash of how, or None outside a git checkout.

    What `lct record` writes is no source.
    """
    head = run_git(root, "rev-parse", "HEAD")
    if head.returncode != 0:
        return None
    sources = ("--", ".", *(f":(exclude){path}" for path in _RECORDED))
    changes = run_git(root, "status", "--porcelain", "--untracked-files=no", *sources).stdout
    diff = run_git(root, "diff", "HEAD", *sources).stdout if changes else ""
    return {"revision": head.stdout.strip(), "dirty": bool(changes)} | (
        {"diff_sha256": sha256_text(diff)} if diff else {}
    )
