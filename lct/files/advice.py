"""Commands that messages prescribe for files of the graph. They work as they are printed, in the project's folder."""

import shlex
from pathlib import Path

FOLDERS = ("results", "resources", "reports")  # of files that jobs write


def force(path: Path | str) -> str:
    """The command that makes a file of the graph again: Snakemake names files relative to the project's folder, which
    is the current folder of jobs and verbs."""
    path, here = Path(path), Path.cwd()
    return f"snakemake --force {shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))}"


def make_again(path: Path | str) -> str:
    """What to do about a damaged or missing file."""
    of_graph = any(part in FOLDERS for part in Path(path).parts)
    return f"make it again: {force(path)}" if of_graph else "correct it, or copy it here again"
