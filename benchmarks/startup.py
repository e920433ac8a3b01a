"""What a run waits for besides its computations: part of `make bench`.

Prints wall and CPU seconds, start of Python included: of the imports of jobs and verbs that need no tensors, of
planning every table of the paper (`snakemake -n`), of a run that finds nothing to do where this folder holds a finished
one and of rendering its report, and of rendering reports of the paper whose every cell is computed (made-up numbers and
training curves in a temporary folder): of 300 cells, for which the limit is, and of all.

`--beside FOLDER` measures another checkout too, such as a `git worktree` of an earlier commit: both take turns, each
with its own .venv where it has one, and the last columns compare them.
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

IMPORTS = ("lct.jobs.download", "lct.jobs.tables", "lct.jobs.report", "lct.jobs.launch", "lct.cli.main")


def seconds(words: list[str], folders: dict[Path, Path], repeats: int) -> list[tuple[float, float]]:
    """Medians of wall and CPU seconds of `python WORDS` for each checkout, which take turns; on a busy machine only the
    second means something. folders: checkout -> where the command runs."""
    taken: dict[Path, list[tuple[float, float]]] = {checkout: [] for checkout in folders}
    for _ in range(repeats):
        for checkout, folder in folders.items():
            own = checkout / ".venv" / "bin" / "python"
            command = [str(own) if own.exists() else sys.executable, *words]
            before = os.times()
            environment = os.environ | {"PYTHONPATH": str(checkout)}
            subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
            after = os.times()
            used = after.children_user + after.children_system - before.children_user - before.children_system
            taken[checkout].append((after.elapsed - before.elapsed, used))
    return [sorted(pairs, key=lambda pair: pair[1])[repeats // 2] for pairs in taken.values()]


def is_finished(folder: Path, words: list[str]) -> bool:
    """Whether a checkout holds a finished run, which the same command finds nothing to do in."""
    done = subprocess.run([sys.executable, *words, "-n"], cwd=folder, capture_output=True, text=True)
    return "Nothing to be done" in done.stdout


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
    parser.add_argument("--beside", type=Path, help="another checkout, measured in turn with this one")
    arguments = parser.parse_args()
    checkouts = [ROOT] if arguments.beside is None else [ROOT, arguments.beside.resolve()]
    rows = []

    def row(what: str, limit: float | None, words: list[str], folders: dict[Path, Path] | None = None) -> None:
        (wall, cpu), *there = seconds(words, folders or {root: root for root in checkouts}, arguments.repeats)
        compared = {"CPU there": round(there[0][1], 2), "here / there": round(cpu / there[0][1], 2)} if there else {}
        rows.append({"what": what, "seconds": round(wall, 2), "CPU": round(cpu, 2), "limit": limit} | compared)

    for name in IMPORTS:
        row(f"import {name}", 1.5, ["-c", f"import {name}"])
    row("import every verb of lct", 1.5, ["-c", "from lct.cli.main import parser; parser()"])
    row("snakemake -n, scale=paper", 5.0, ["-m", "snakemake", "-n", "--config", "scale=paper"])
    words = ["-m", "snakemake", "--config", f"scale={arguments.scale}", "record=false"]
    if all(is_finished(root, words) for root in checkouts):
        row(f"snakemake, nothing to do, scale={arguments.scale}", 2.0, words)
        with tempfile.TemporaryDirectory(prefix="lct-bench-") as folder:
            for name in ("config", "results"):
                shutil.copytree(ROOT / name, Path(folder) / name)  # what a report shows lies in the project
            report = ["-m", "lct.cli.main", "report", "--scale", arguments.scale]
            row(f"lct report, scale={arguments.scale}, curves and samples", 5.0, report, {ROOT: Path(folder)})
    else:
        print(f"snakemake, nothing to do: not measured, a finished run is missing; make tables SCALE={arguments.scale}")
    for tables, limit in ((["table1", "ablation-d"], 5.0), (None, None)):
        with tempfile.TemporaryDirectory(prefix="lct-bench-") as folder:
            root, cells, curves = computed(Path(folder) / "project", tables)
            report = ["-m", "lct.cli.main", "report", "--all", "--scale", "paper"]
            row(f"lct report, {cells} cells, {curves} training curves", limit, report, {ROOT: root})
    print(pandas.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
