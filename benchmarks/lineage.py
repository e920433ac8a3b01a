"""Time of recording and restoring on a synthetic project: `make bench`.

300 cells by default: 75 rows of 4 metrics, each row with a training of its own. The jobs are not run and files are
tiny, so that what is left is what Snakemake, DVC and this project take. Hashing comes on top (last line).
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lct.files.hashing import hash_file  # noqa: E402
from lct.lineage import dvc, record, registry, restore  # noqa: E402
from tests.helpers import fake_lineage as fake  # noqa: E402

METRICS = 4  # numbers in a metrics file
SETTINGS = 40  # leaves of a job's settings, as a training has


def timed(what: str, call: Callable[[], Any]) -> Any:
    started, before = time.perf_counter(), sum(os.times()[:4])
    value = call()
    print(f"{what:<40} {time.perf_counter() - started:6.1f} s {sum(os.times()[:4]) - before:6.1f} s of CPU", flush=True)
    return value


def hash_speed(folder: Path, size: int = 1 << 28) -> None:
    path = folder / "large"
    path.write_bytes(bytes(size))
    started = time.perf_counter()
    hash_file(path)
    print(f"SHA-256 and MD5 of a file, one core: {size / 1e6 / (time.perf_counter() - started):.0f} MB/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=300)
    arguments = parser.parse_args()
    rows = arguments.cells // METRICS
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python "
          f"{platform.python_version()}, DVC {dvc.version()}")  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        folder = fake.make(Path(scratch) / "project", fake.graph(runs=rows, size=SETTINGS))
        fake.finish(folder)
        report = timed(f"record {arguments.cells} cells from nothing", lambda: record.record(folder, {}, "toy"))
        print(f"  {len(report.recorded)} stages, {len(registry.read(folder, 'toy'))} files")
        timed("record again, nothing new", lambda: record.record(folder, {}, "toy"))
        jobs = fake.jobs_in(folder)
        jobs["train_run-0"]["settings"]["training"]["lr"] = 0.5
        fake.write_jobs(folder, list(jobs.values()))
        fake.finish(folder, {"train_run-0", "sample_run-0_one-0", "score_run-0_one-0", "tables", "report"})
        timed("record after one training changed", lambda: record.record(folder, {}, "toy"))
        timed("restore, all in place", lambda: restore.restore(folder, "toy"))
        hash_speed(folder)


if __name__ == "__main__":
    main()
