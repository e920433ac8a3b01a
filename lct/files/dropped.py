"""Files that were dropped since nothing needs them any more. Their records stay, and their jobs can make them again."""

import os
from pathlib import Path

from lct.files.atomic import write_text


def mark_path(output: Path | str) -> Path:
    """The file beside a dropped one that says so."""
    return Path(f"{output}.dropped")


def is_dropped(output: Path | str) -> bool:
    """Whether a file is not here because it was dropped."""
    return mark_path(output).exists() and not os.path.lexists(output)


def mark(output: Path) -> None:
    """Say of a file that is not here that it was dropped."""
    write_text(mark_path(output), "Dropped: everything that reads it is computed, and its job can make it again.\n")


def drop(output: Path) -> None:
    """Take a file away, or a link to it; its records stay."""
    mark(output)  # first: a file that is here counts as here
    output.unlink()
