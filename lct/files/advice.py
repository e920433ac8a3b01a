"""Commands that messages prescribe for files of the graph. They work as they are printed, in the project's folder."""

import shlex
from pathlib import Path

FOLDERS = ("results", "resources", "reports")  # of files that jobs write


def make(path: Path | str, option: str = "") -> str:
    """The command that makes a file of the graph, where it is missing or outdated: Snakemake names files relative to
    the project's folder, which is the current folder of jobs and verbs, and takes scale and dataset from their path."""
    return f"snakemake {option}{shlex.quote(str(_in_project(path)))}"


def force(path: Path | str) -> str:
    """The command that makes a file of the graph again, whatever there is."""
    return make(path, "--force ")


def record(path: Path | str) -> str:
    """The command that records what is here of the scale that a file of the graph belongs to."""
    folder, *parts = _in_project(path).parts
    return f"lct record --scale {shlex.quote(parts[0])}" if folder in ("results", "reports") and parts else "lct record"


def _in_project(path: Path | str) -> Path:
    path, here = Path(path), Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def make_again(path: Path | str) -> str:
    """What to do about a damaged or missing file."""
    of_graph = any(part in FOLDERS for part in Path(path).parts)
    return f"make it again: {force(path)}" if of_graph else "correct it, or copy it here again"
