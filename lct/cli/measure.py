"""`lct measure`: how fast this machine does what the paper's jobs do; the file it writes is for plans and requests."""

import argparse
import subprocess
import sys

from lct.cli.options import Result
from lct.cluster import measure_options


def measure(arguments: argparse.Namespace) -> Result:
    """How fast this machine does what the paper's jobs do, and which switches to turn on; 8 minutes on a GPU.

    Runs lct.jobs.measure, which brings torch, as a process of its own."""
    words = measure_options.words(arguments)
    done = subprocess.run(
        [sys.executable, "-m", "lct.jobs.measure", *words], stdout=subprocess.PIPE, text=True, check=False
    )
    lines = done.stdout.splitlines()
    text = "\n".join([*lines, f"the command behind it: python -m lct.jobs.measure {' '.join(words)}"])
    return done.returncode, {"lines": lines}, text
