"""What SLURM adds to the smoke graph: `python benchmarks/slurm.py`, as root on Debian or Ubuntu.

Runs it by itself and then through a SLURM of its own (tests/slurm/slurm-up: virtual nodes, all of them this machine).
Prints the seconds from the first job's start to the last one's end of both, their ratio, and for each submitted job
what SLURM accounted for beyond the seconds of its rules: the executor's own cost (two nested Snakemakes, srun).
"""

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import pandas

from lct.cluster.slurm import job_starts

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.helpers import slurm as harness  # noqa: E402


def span(project: Path) -> float:
    """Seconds from the first job's start to the last one's end."""
    runs = [json.loads(path.read_text()) for path in project.glob("results/**/*.run.json")]
    at = [datetime.datetime.fromisoformat(run[key]).timestamp() for run in runs for key in ("started", "finished")]
    return max(at) - min(at)


def seconds_by_job(project: Path) -> dict[str, float]:
    """SLURM job -> seconds of the rules in it, from Snakemake's benchmark files beside the logs."""
    found: dict[str, dict[Path, float]] = defaultdict(dict)
    for path in project.glob("results/**/*.run.json"):
        run = json.loads(path.read_text())
        job = (run.get("slurm") or {}).get("SLURM_JOB_ID")
        timed = _benchmark(project, path) if job else None
        if timed is not None:
            found[job][timed] = float(pandas.read_csv(timed, sep="\t").iloc[0]["s"])
    return {job: sum(parts.values()) for job, parts in found.items()}


def _benchmark(project: Path, record: Path) -> Path | None:
    """The benchmark file of the rule that wrote an output: logs/SCALE/STAGE/PARTS.tsv, PARTS being the path's first."""
    scale, stage, *parts = record.relative_to(project / "results").parts
    stage = {"metrics": "score", "features": "score"}.get(stage, stage)
    if parts[0] == "reference":
        stage = "reference"
        parts = parts[1:]
    for depth in range(len(parts), 0, -1):
        path = project / "logs" / scale / stage / ("/".join(parts[:depth]) + ".tsv")
        if path.exists():
            return path
    return None


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load averages {os.getloadavg()}")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, harness.cluster():
        Path(folder).chmod(0o755)  # other users' daemons read it
        seconds = {}
        for name in ("local", "submitted"):
            project = harness.project(Path(folder) / name)
            controller = harness.Controller(project, slurm=name == "submitted")
            if controller.finish():
                raise SystemExit(controller.text()[-3000:])
            seconds[name] = span(project)
        local, submitted = seconds.values()
        print(f"local {local:.0f} s, through SLURM {submitted:.0f} s, ratio {submitted / local:.2f}")
        inside = seconds_by_job(project)
        for start in job_starts(list(inside)):
            if start.state == "COMPLETED":
                own = start.seconds - inside[start.job]
                print(f"{start.job:>6}  {start.seconds:6.0f} s, executor {own:5.1f} s  {start.comment}")


if __name__ == "__main__":
    main()
