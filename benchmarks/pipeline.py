"""Time and memory of a finished run of the graph, from what its jobs recorded: `make bench`.

Prints per stage: jobs, wall and CPU seconds, peak memory; the share of each sub-table in the training time; the wall
time from the first job's start to the last one's end; and how long planning a finished tree takes.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pandas

from lct.plan.plan import Plan


def stages(logs: Path) -> pandas.DataFrame:
    """One row per stage from Snakemake's benchmark files."""
    rows = []
    for path in sorted(logs.rglob("*.tsv")):
        stage = path.relative_to(logs).parts[0].removesuffix(".tsv")
        rows.append({"stage": stage, "job": str(path), **pandas.read_csv(path, sep="\t").iloc[0].to_dict()})
    frame = pandas.DataFrame(rows)
    grouped = frame.groupby("stage", sort=False)
    table = grouped.agg(
        jobs=("job", "count"), wall_s=("s", "sum"), cpu_s=("cpu_time", "sum"), peak_mb=("max_rss", "max")
    )
    return table.sort_values("wall_s", ascending=False)


def training_share(plan: Plan, logs: Path) -> dict[str, float]:
    """Training seconds per sub-table."""
    letters = {dataset: letter for letter, dataset in plan.scale.subtables.items()}
    seconds: dict[str, float] = defaultdict(float)
    for path in sorted((logs / "train").rglob("*.tsv")):
        run = path.parent.name
        if run in plan.runs:
            seconds[letters[plan.runs[run].dataset]] += float(pandas.read_csv(path, sep="\t").iloc[0]["s"])
    return dict(seconds)


def span(results: Path) -> float:
    """Seconds from the first job's start to the last one's end."""
    runs = [json.loads(path.read_text()) for path in results.rglob("*.run.json")]
    at = [datetime.datetime.fromisoformat(run[key]).timestamp() for run in runs for key in ("started", "finished")]
    return max(at) - min(at)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="mini")
    arguments = parser.parse_args()
    plan = Plan(Path.cwd(), {"scale": arguments.scale})
    logs = Path("logs") / arguments.scale
    if not any(logs.rglob("*.tsv")):
        print(f"stages of a run: not measured, no finished run here; make tables SCALE={arguments.scale}")
        return
    table = stages(logs)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(table.round(1).to_string())
    share = training_share(plan, logs)
    total = sum(share.values())
    for letter, seconds in sorted(share.items()):
        print(f"training of sub-table ({letter}): {seconds:.0f} s, {seconds / total:.0%}")
    print(f"first start to last end: {span(Path('results') / arguments.scale) / 60:.1f} minutes")
    print(f"largest job: {table['peak_mb'].max():.0f} MB; as many at once as cores")
    started = time.perf_counter()
    command = [sys.executable, "-m", "snakemake", "-n", "--config", f"scale={arguments.scale}"]
    subprocess.run(command, check=True, capture_output=True)
    print(f"snakemake -n: {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
