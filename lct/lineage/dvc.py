"""The one place that calls DVC: its command line for what it does, plain YAML for what it has written.

DVC is asked as a program (`python -m dvc`), never imported: nothing here needs it to read what is recorded.
"""

import importlib.metadata
import re
import subprocess
import sys
import time
from pathlib import Path

import yaml

from lct.files.atomic import write_text
from lct.files.git import is_checkout
from lct.lineage.dvc_lock import cache_folder, stored_object

VERSIONS = "3."  # the file formats read here are those of this major version
LOCK_SECONDS = 30.0  # how long another dvc in this project is waited for
_LINES = 6  # of what DVC says when it fails


def version() -> str | None:
    """DVC's version; None when it is not installed."""
    try:
        return importlib.metadata.version("dvc")
    except importlib.metadata.PackageNotFoundError:
        return None


def check(root: Path) -> None:
    """Raise ValueError with one line when DVC cannot record here."""
    found = version()
    if found is None:
        raise ValueError("dvc: expected version 3, found none; `make tables` installs the locked one")
    if not found.startswith(VERSIONS):
        raise ValueError(f"dvc: expected version 3, found {found}; `make tables` installs the locked one")
    if not (root / ".dvc" / "config").exists():
        raise ValueError(f"{root}: expected a DVC project, found no .dvc/config; git checkout -- .dvc")
    if not is_checkout(root):
        raise ValueError(f"{root}: expected a git repository, found none; clone the project instead of copying it")


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
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise ValueError(f"dvc {words[0]}: {explain(' '.join(said[-_LINES:]))}")
    return done.stdout


def explain(said: str) -> str:
    """DVC's message, with what to do about it."""
    hints = {
        r"Unable to acquire lock|locked": "another dvc is running in this project; wait for it, then try again",
        r"No space left|Disk quota": "the disk is full: free space, then try again; what was recorded is untouched",
        r"File too large": "a limit on file sizes was met; what was recorded is untouched",
        r"Checkout failed|missing cache|do not exist neither|not in cache": "the content is neither in the cache nor "
        "in a remote: snakemake makes it again",
        r"conflict|could not be read|corrupted": "mend that file (git checkout -- dvc.lock), then try again",
    }
    said = " ".join(said.split())
    for pattern, hint in hints.items():
        if re.search(pattern, said):
            return f"{said}; {hint}"
    return said


def commit(root: Path) -> None:
    """One `dvc commit` of every stage in config/recorded.yaml: content into the cache, hashes into dvc.lock.

    Naming stages instead would be one commit each: DVC reads and writes everything again for every name.
    """
    run(root, "--quiet", "commit", "--force")


def pull(root: Path, names: list[str]) -> None:
    """Fetch content from the default remote into the cache and link it; of every stage, or of the named ones."""
    if not run(root, "config", "core.remote").strip():  # `dvc pull` would end well, and leave links to nothing
        raise ValueError(f"{root}: expected a remote to pull from, found none; dvc remote add -d NAME WHERE")
    run(root, "--quiet", "pull", *names)


def blocks(text: str) -> dict[str, str]:
    """Stage name -> its lines in the text of a dvc.lock."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        if line.startswith("  ") and line[2] not in " -":
            lines = found.setdefault(line.strip().removesuffix(":").strip("'\""), [])
        elif not line.startswith(" "):
            lines = []
        lines.append(line)
    return {name: "".join(lines) for name, lines in found.items()}


def write_lock(root: Path, stages: dict[str, str]) -> None:
    """Replace dvc.lock by these blocks, sorted: the same recorded state has the same bytes, whatever came first."""
    write_text(root / "dvc.lock", "schema: '2.0'\nstages:\n" + "".join(stages[name] for name in sorted(stages)))


def lock(root: Path) -> dict[str, dict]:
    """Stages of dvc.lock, by name. Raises ValueError naming the place of a merge conflict or damage."""
    path = root / "dvc.lock"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith(("<<<<<<<", ">>>>>>>")):
            raise ValueError(
                f"{path}:{number}: expected YAML, found a merge conflict; take one side (git checkout --ours or "
                "--theirs dvc.lock config/recorded.yaml lineage), then run `lct record`"
            )
    try:
        content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 a SafeLoader
        stages = content["stages"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected DVC's lock, found damage; git checkout -- dvc.lock") from error
    return stages


def hashes(root: Path) -> dict[str, str]:
    """Path -> MD5 of every out in dvc.lock."""
    return {out["path"]: out["md5"] for stage in lock(root).values() for out in stage.get("outs", ())}


def cached(root: Path, md5: str) -> Path:
    """The file in the cache that holds the content with this MD5."""
    return stored_object(cache_folder(root), md5)
