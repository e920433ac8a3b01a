"""Jobs of the graph that a verb runs. Each is a process of its own, as in the graph."""

import subprocess
import sys
from pathlib import Path

from lct.plan.plan import Plan
from lct.plan.selection import option_words


def run_job(root: Path, plan: Plan, name: str, *words: str) -> str:
    """Standard output of `python -m lct.jobs.NAME`. ValueError with the line that the job ends with if it fails."""
    command = [sys.executable, "-m", f"lct.jobs.{name}", "--scale", plan.scale_name]
    done = subprocess.run(
        [*command, *option_words(plan), *words], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines()
        raise ValueError(lines[-1].removeprefix("error: ") if lines else f"the job {name} ended without a message")
    return done.stdout
