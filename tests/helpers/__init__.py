"""What several test modules share."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def do_without_fsync() -> None:
    """Let files of this process wait for the disk no longer: milliseconds each, and only a loss of power, which no test
    has, shows the difference."""
    os.fsync = lambda _: None
