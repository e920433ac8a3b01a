"""The tasks of docs/howto.md as a table: what a researcher wants, how many commands that takes, how long, and whether
it works. Runs every command in this folder, in the order of the page, at the scale that config/config.yaml names.

    python benchmarks/tasks.py [FOLDER]          # a project that has a finished run, if only the tasks are to be timed
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
TASK = re.compile(r"^(?P<command>\S.*?) +# (?P<number>\d+)\. (?P<words>.+)$", re.MULTILINE)


def tasks(page: str) -> list[tuple[int, str, str]]:
    """(number, words, command) of each task of the page, in its order; a task of two commands has two entries."""
    return [(int(task["number"]), task["words"], task["command"]) for task in TASK.finditer(page)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path.cwd(), help="project (default: this folder)")
    arguments = parser.parse_args()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    listed, failed = tasks((ROOT / "docs/howto.md").read_text(encoding="utf-8")), 0
    print("| | task | steps | seconds | works |\n|---|---|---|---|---|")
    for number, words, command in listed:
        started = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=arguments.folder,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
        )
        seconds, steps = time.monotonic() - started, sum(other == number for other, _, _ in listed)
        works = "yes" if done.returncode == 0 else f"no: exit {done.returncode}: {done.stderr.strip()[-200:]!r}"
        failed += done.returncode != 0
        print(f"| {number} | {words}: `{command}` | {steps} | {seconds:.1f} | {works} |", flush=True)
    print(f"\n{len(listed) - failed} of {len(listed)} commands work")
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
