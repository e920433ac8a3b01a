"""Objects of a remote that is no local folder, brought here through `dvc fetch` to be hashed."""

import shutil
import subprocess
import sys
from pathlib import Path

_STATE = ("dvc.yaml", "dvc.lock", ".dvc/config", ".dvc/config.local")


def fetch(root: Path, name: str, folder: Path) -> str | None:
    """Fetch every recorded object of a remote into a cache under `folder`; why it could not be done, or None.

    A copy of DVC's own files, without git, does: the project and its cache are left as they are."""
    for part in _STATE:
        if (root / part).exists():
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / part, folder / part)
    (folder / "tmp").mkdir()
    words = [["config", "--local", "core.no_scm", "true"], ["config", "--local", "cache.dir", str(cache_of(folder))]]
    for command in [*words, ["fetch", "--quiet", "--remote", name]]:
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *command], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
            return f"`dvc {command[0]}` did not bring all of it: {' '.join(lines[0].split())[:200]}"
    return None


def cache_of(folder: Path) -> Path:
    return folder / "cache"
