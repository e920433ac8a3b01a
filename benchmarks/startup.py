"""What a run waits for besides its computations: part of `make bench`.

Prints wall and CPU seconds, start of Python included: of the imports of jobs and verbs that need no tensors, of
planning every table of the paper (`snakemake -n`), of a run that finds nothing to do where this folder holds a finished
one and of rendering its report, and of rendering a report with every cell of the paper computed (made-up numbers in a
temporary folder, no training curves). The limits of reports are for 300 cells.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
IMPORTS = ("download", "tables", "report", "launch", "main")


def seconds(command: list[str], root: Path, repeats: int) -> tuple[float, float]:
    """Medians of wall and CPU seconds; on a busy machine only the second means something."""
    taken = []
    for _ in range(repeats):
        before = os.times()
        subprocess.run(command, cwd=root, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
        after = os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        taken.append((after.elapsed - before.elapsed, used))
    return sorted(taken, key=lambda pair: pair[1])[len(taken) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="mini", help="scale of the finished run in this folder (default: mini)")
    parser.add_argument("--repeats", type=int, default=3, help="the median of so many is shown")
    arguments = parser.parse_args()
    python, rows = sys.executable, []

    def row(what: str, limit: float, command: list[str], root: Path = ROOT) -> None:
        wall, cpu = seconds(command, root, arguments.repeats)
        rows.append({"what": what, "seconds": round(wall, 2), "CPU seconds": round(cpu, 2), "limit": limit})

    for name in IMPORTS:
        row(f"import lct.cli.{name}", 1.5, [python, "-c", f"import lct.cli.{name}"])
    planning = [python, "-m", "snakemake", "-n", "--quiet", "--config"]
    row("snakemake -n, scale=paper", 5.0, [*planning, "scale=paper"])
    if (ROOT / "reports" / arguments.scale / "index.html").exists():
        command = [python, "-m", "snakemake", "--config", f"scale={arguments.scale}", "record=false"]
        row(f"snakemake, nothing to do, scale={arguments.scale}", 3.0, command)
        with tempfile.TemporaryDirectory(prefix="lct-bench-") as folder:
            for name in ("config", "results"):
                shutil.copytree(ROOT / name, Path(folder) / name)  # what a report shows lies in the project
            command = [python, "-m", "lct.cli.main", "report", "--scale", arguments.scale]
            row(f"lct report, scale={arguments.scale}, its curves and samples drawn", 5.0, command, Path(folder))
    else:
        print(f"snakemake, nothing to do: not measured, no finished run here; make tables SCALE={arguments.scale}")
    with tempfile.TemporaryDirectory(prefix="lct-bench-") as folder:
        from fake_recorded import Project

        from lct.cli.audit_verbs import targets
        from lct.config.plan import Plan

        project = Project(Path(folder) / "project", "paper", big=False)
        project.compute()
        cells = len(targets(Plan(project.root, {"scale": "paper"})))
        command = [python, "-m", "lct.cli.main", "report", "--all", "--scale", "paper"]
        row(f"lct report, {cells} cells, without curves", 5.0, command, project.root)
    print(pandas.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
