"""What a run waits for besides its computations: part of `make bench`.

Prints wall and CPU seconds, start of Python included: of the imports of jobs and verbs that need no tensors, of
planning every table of the paper (`snakemake -n`), of a run that finds nothing to do where this folder holds a finished
one and of rendering its report, and of rendering reports of the paper whose every cell is computed (made-up numbers and
training curves in a temporary folder): of 300 cells, for which the limit is, and of all.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import pandas
import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from lct.lineage.cells import targets  # noqa: E402
from lct.plan.plan import Plan  # noqa: E402
from tests.helpers.fake_recorded import Project  # noqa: E402
from tests.helpers.fake_tables import fake_curves  # noqa: E402

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


def computed(root: Path, tables: list[str] | None) -> tuple[Path, int, int]:
    """A project where every cell of these tables of the paper, by default all, has numbers; how many, and how many
    trainings have curves. All of them are made up."""
    project = Project(root, "paper", big=False)
    if tables is not None:
        path = root / "config" / "scales" / "paper.yaml"
        scale = yaml.safe_load(path.read_text()) | {"tables": tables, "more_tables": []}
        path.write_text(yaml.safe_dump(scale, sort_keys=False))
    project.compute()
    plan, rng = Plan(root, {"scale": "paper"}), numpy.random.default_rng(0)
    trained = [(name, seed) for name, run in plan.runs.items() if run.weights is None for seed in plan.seeds_of(name)]
    for name, seed in trained:
        (root / plan.paths.train(name, seed) / "curves.json").write_text(json.dumps(fake_curves(name, rng)))
    return root, len(targets(plan)), len(trained)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="mini", help="scale of the finished run in this folder (default: mini)")
    parser.add_argument("--repeats", type=int, default=3, help="the median of so many is shown")
    arguments = parser.parse_args()
    python, rows = sys.executable, []

    def row(what: str, limit: float | None, command: list[str], root: Path = ROOT) -> None:
        wall, cpu = seconds(command, root, arguments.repeats)
        rows.append({"what": what, "seconds": round(wall, 2), "CPU seconds": round(cpu, 2), "limit": limit})

    for name in IMPORTS:
        row(f"import lct.cli.{name}", 1.5, [python, "-c", f"import lct.cli.{name}"])
    planning = [python, "-m", "snakemake", "-n", "--quiet", "--config"]
    row("snakemake -n, scale=paper", 5.0, [*planning, "scale=paper"])
    command = [python, "-m", "snakemake", "--config", f"scale={arguments.scale}", "record=false"]
    if "Nothing to be done" in subprocess.run([*command, "-n"], cwd=ROOT, capture_output=True, text=True).stdout:
        row(f"snakemake, nothing to do, scale={arguments.scale}", 3.0, command)
        with tempfile.TemporaryDirectory(prefix="lct-bench-") as folder:
            for name in ("config", "results"):
                shutil.copytree(ROOT / name, Path(folder) / name)  # what a report shows lies in the project
            command = [python, "-m", "lct.cli.main", "report", "--scale", arguments.scale]
            row(f"lct report, scale={arguments.scale}, its curves and samples drawn", 5.0, command, Path(folder))
    else:
        print(f"snakemake, nothing to do: not measured, no finished run here; make tables SCALE={arguments.scale}")
    for tables, limit in ((["table1", "ablation-d"], 5.0), (None, None)):
        with tempfile.TemporaryDirectory(prefix="lct-bench-") as folder:
            root, cells, curves = computed(Path(folder) / "project", tables)
            command = [python, "-m", "lct.cli.main", "report", "--all", "--scale", "paper"]
            row(f"lct report, {cells} cells, {curves} training curves", limit, command, root)
    print(pandas.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
