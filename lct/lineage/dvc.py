"""The one place that calls DVC: as a program (`python -m dvc`), never imported; dvc_lock.py reads its files."""

import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from lct.files.git import checkout_fault, run_git
from lct.lineage.dvc_lock import settings

VERSIONS = "3."  # the file formats read here are those of this major version
LOCK_SECONDS = 30.0  # how long another dvc in this project is waited for
FOLDERS = ("results", "reports", "resources")  # whose files are recorded
WRITTEN = ("dvc.yaml", "dvc.lock", "lineage/smoke.jsonl")  # by a recording
_STATE = ("dvc.yaml", "dvc.lock", ".dvc/config", ".dvc/config.local")  # that another folder needs to fetch content
_LINES = 6  # of what DVC says when it fails


def version() -> str | None:
    """DVC's version; None when it is not installed."""
    try:
        return importlib.metadata.version("dvc")
    except importlib.metadata.PackageNotFoundError:
        return None


def check(root: Path) -> None:
    """Raise ValueError with one line when DVC cannot record here."""
    installed = version() or "none"
    if not installed.startswith(VERSIONS):
        raise ValueError(f"dvc: expected version 3, found {installed}; `make install` installs the locked one")
    if not (root / ".dvc" / "config").exists():
        raise ValueError(f"{root}: expected a DVC project, found no .dvc/config; `git checkout -- .dvc`")
    if fault := checkout_fault(root):
        raise ValueError(fault)


def check_place(root: Path) -> None:
    """Raise ValueError with one line when DVC and git would refuse what a run makes in this folder."""
    check(root)
    for name in FOLDERS:
        folder = root / name
        if folder.is_symlink():
            place = os.path.realpath(folder)
            target = shlex.quote(place)
            raise ValueError(
                f"{folder}: expected a folder, found a link to {place}, and DVC records nothing behind a link; to keep "
                f"the content alone there: `rm {name} && mv {target} {name} && dvc cache dir --local {target}-cache`"
            )
    for path in run_git(root, "check-ignore", *WRITTEN).stdout.split():
        rule = run_git(root, "check-ignore", "--verbose", path).stdout.partition("\t")[0]
        raise ValueError(
            f"{path}: expected a file that git keeps, found one that git ignores ({rule}); "
            f"`echo '!{path}' >> .gitignore` takes it out"
        )
    if not _links(root) and _link_types(root) == ["symlink"]:
        raise ValueError(
            f"{root}: expected a file system with symbolic links, found none; `dvc config --local cache.type copy` "
            "records with copies, which take the space twice"
        )


def place_fault(root: Path) -> str | None:
    """Why a run in this folder could not be recorded, in one line with what to do; None when it can be."""
    try:
        check_place(root)
    except ValueError as error:
        return " ".join(str(error).split())
    return None


def _links(root: Path) -> bool:
    """Whether the project's file system takes symbolic links."""
    trial = root / ".dvc" / f".lct-link-{os.getpid()}"
    try:
        os.symlink("nowhere", trial)
    except OSError:
        return False
    trial.unlink()
    return True


def _link_types(root: Path) -> list[str]:
    types = settings(root).get("cache", {}).get("type", [])
    return [kind.strip() for kind in types.split(",")] if isinstance(types, str) else list(types)


def run(root: Path, *words: str) -> str:
    """Call `dvc` in `root`; raises ValueError with DVC's own last lines when it fails."""
    started = time.monotonic()
    while True:
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *words], cwd=root, capture_output=True, text=True, check=False
        )
        busy = done.returncode != 0 and "Unable to acquire lock" in done.stderr
        if not busy or time.monotonic() - started > LOCK_SECONDS:
            break
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise ValueError(f"dvc {words[0]}: {explain(' '.join(lines[-_LINES:]))}")
    return done.stdout


def explain(message: str) -> str:
    """DVC's message, with what to do about it."""
    hints = {
        r"Unable to acquire lock|locked": "another dvc is running in this project; wait for it, then try again",
        r"No space left|Disk quota": "the disk is full: free space, then try again; what was recorded is untouched",
        r"File too large": "a limit on file sizes was met; what was recorded is untouched",
        r"Checkout failed|missing cache|do not exist neither|not in cache": "the content is neither in the cache nor "
        "in a remote: snakemake makes it again",
        r"cache link types": "this file system takes no such links: `dvc config --local cache.type copy` records with "
        "copies",
        r"git-ignored": "`git check-ignore -v dvc.lock dvc.yaml` names the rule; `!dvc.lock` in .gitignore undoes it",
        r"conflict|could not be read|corrupted": "repair that file (git checkout -- dvc.lock), then try again",
    }
    message = " ".join(message.split())
    for pattern, hint in hints.items():
        if re.search(pattern, message):
            return f"{message}; {hint}"
    return message


def commit(root: Path) -> None:
    """One `dvc commit` of every stage in dvc.yaml: content into the cache, hashes into dvc.lock.

    Naming stages instead would be one commit each: DVC reads and writes everything again for every name.
    """
    run(root, "--quiet", "commit", "--force")


def pull(root: Path, paths: list[str]) -> None:
    """Fetch content from the default remote into the cache and link it; of everything, or of these files."""
    if not run(root, "config", "core.remote").strip():  # `dvc pull` would end well, and leave links to nothing
        raise ValueError(f"{root}: expected a remote to pull from, found none; `dvc remote add -d NAME WHERE`")
    run(root, "--quiet", "pull", *paths)


def fetch(root: Path, remote: str, folder: Path) -> str | None:
    """Fetch every recorded object of a remote into `folder`/cache; why it could not be done, or None.

    A copy of DVC's own files, without git, does: the project and its cache are left as they are."""
    for part in _STATE:
        if (root / part).exists():
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / part, folder / part)
    (folder / "tmp").mkdir()
    try:
        run(folder, "config", "--local", "core.no_scm", "true")
        run(folder, "config", "--local", "cache.dir", str(folder / "cache"))
        run(folder, "fetch", "--quiet", "--remote", remote)
    except ValueError as error:
        return f"not all of it was brought: {error}"
    return None
