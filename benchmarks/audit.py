"""Time of `lct audit` and `lct verify` on a made-up project with every cell of the paper scale recorded.

Prints a table: cells, files, lines and size of the archive and dvc.lock, and wall seconds of each command, start of
Python included. The folder is temporary; nothing of the project is touched.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
COMMANDS = {  # command -> seconds it may take
    "audit table1.a.lct-1.fd": 2.0,
    "audit table1.a.lct-1": 2.0,
    "audit --all": None,
    "verify": 5.0,
    "verify --deep": None,
    "diff HEAD": None,
}


def seconds(root: Path, words: str, scale: str, repeats: int) -> tuple[float, float]:
    """Median wall and CPU seconds of a verb; on a busy machine only the second means something."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "lct.cli.main", *words.split(), "--scale", scale]
    taken = []
    for _ in range(repeats):
        started, before = time.perf_counter(), os.times()
        subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        taken.append((time.perf_counter() - started, cpu))
    return sorted(taken)[len(taken) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="paper", help="scale whose cells are made up (default: paper)")
    parser.add_argument("--repeats", type=int, default=3, help="the median of so many is shown")
    arguments = parser.parse_args()
    from lct.lineage.cells import targets
    from lct.plan.plan import Plan
    from tests.helpers.fake_recorded import Project

    with tempfile.TemporaryDirectory(prefix="lct-bench-") as folder:
        project = Project(Path(folder) / "project", arguments.scale, big=False)
        project.compute()
        project.record()
        project.commit("recorded")
        cells = len(targets(Plan(project.root, {"scale": arguments.scale})))
        book = project.root / "lineage" / f"{arguments.scale}.jsonl"
        print(f"{cells} cells, {len(book.read_text().splitlines())} recorded files, archive {size(book)}, ", end="")
        print(f"dvc.lock {size(project.root / 'dvc.lock')}")
        rows = []
        for words, limit in COMMANDS.items():
            wall, cpu = seconds(project.root, words, arguments.scale, arguments.repeats)
            row = {"command": f"lct {words}", "seconds": round(wall, 2), "CPU seconds": round(cpu, 2)}
            rows.append(row | {"limit, 300 cells": limit or ""})
        print(pandas.DataFrame(rows).to_string(index=False))


def size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    main()
