"""Our training, sampling and scoring against a baseline that does what the authors' scripts do: same network, batch,
draws and device, taking turns in one process. The baseline is benchmarks/contest/authors.py. Part of `make bench`.

Prints one table and writes it as JSON (default: work/bench/speed.json, which `lct plan` reads): medians of the repeats,
ratios baseline / ours with their range, the stages of a step, the share of a step outside the network, peak memory, and
for every switch its gain and what it does to the loss of the first steps from the same seed. Ratios are of wall time,
and of the CPU time of the process beside it: on a machine that does other things the latter is the one to look at.

On a CPU at the mini scale's width; with a GPU also there, at the width of the paper's CelebA-HQ run.
"""

import lct.cli  # noqa: F401 fixes the number of threads of NumPy and SciPy before they load

# isort: split

import argparse
import os
import platform
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from contest.growth import growth, memory, peak
from contest.rates import rates
from contest.sampling import sampling
from contest.scoring import scoring
from contest.training import sizes, stages, training
from contest.transport import transport
from contest.turns import AGAIN, Row, show

from lct.files.atomic import write_json
from lct.jobs import job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="torch device (default: a GPU when there is one)")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each contestant (default: 5)")
    parser.add_argument("--steps", type=int, default=200, help="training steps of each contestant (default: 200)")
    parser.add_argument("--images", type=int, default=1000, help="images that are sampled (default: 1000)")
    parser.add_argument("--scored", type=int, help="images that are scored (default: 50000 on a GPU, else 5000)")
    parser.add_argument(
        "--skip", nargs="*", default=[], help="switches, or `training`, `sampling`, `scoring`, `rates`, `growth`"
    )
    parser.add_argument("--out", type=Path, default=Path("work/bench/speed.json"))
    parser.add_argument("--memory", choices=("ours", "baseline"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        device = job.device(arguments.device, threads=1, tf32=True)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    count = arguments.scored or (50_000 if device.type == "cuda" else 5000)
    if arguments.memory:
        print(memory(arguments.memory, device))
        return
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else "none"
    machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "gpu": gpu}
    machine |= {"model": cpu_model(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    machine["load_averages_at_start"] = [round(value, 1) for value in os.getloadavg()]
    rows: list[Row] = []
    made: dict[str, Any] = {"machine": machine, "command": [Path(sys.argv[0]).name, *sys.argv[1:]], "rates": []}
    with tempfile.TemporaryDirectory(prefix="lct-bench-") as name:
        folder = Path(name)
        if "training" not in arguments.skip:
            for number, size in enumerate(sizes(device)):
                (folder / str(number)).mkdir()
                where = folder / str(number)
                rows += training(
                    size, device, where, arguments.repeats, arguments.steps, arguments.skip, together=number == 0
                )
                made.setdefault("stages_ms", {})[size.name] = stages(size, device, 30)
            rows += transport(device, arguments.repeats)
            for what in ("ours", "baseline"):
                title = f"{sizes(device)[-1].name}: peak of {what}, beyond the libraries"
                rows.append(Row("training", title, peak_mb=peak(what, str(device))))
        if device.type != "cuda":
            for part, title in (
                ("training", "paper celebahq-lct: baseline / ours"),
                ("training", "transport of 128 paper latents: auction on a GPU / exact plan on the host"),
                ("sampling", "256 pixels: baseline / ours"),
                ("scoring", "50000 images: torch-fidelity twice / ours"),
            ):
                rows.append(Row(part, title, note=f"not measured: no GPU; {AGAIN}"))
        if "sampling" not in arguments.skip:
            rows += sampling(sizes(device)[-1], device, folder, arguments.repeats, arguments.images)
        if "scoring" not in arguments.skip:
            found, scored = scoring(device, folder, arguments.repeats, count)
            rows += found
            made["rates"].append(scored)
        if "rates" not in arguments.skip:
            made["rates"] += rates(sizes(device), device, folder, 3)
        if "growth" not in arguments.skip:
            made["growth"] = growth(device, 3)
    made["machine"]["load_averages_at_end"] = [round(value, 1) for value in os.getloadavg()]
    made["rows"] = [asdict(row) for row in rows]
    print(
        f"{machine['model']}, {machine['cores']} cores, GPU {gpu}, torch {torch.__version__}, 1 thread; load averages",
        end="",
    )
    print(f" {machine['load_averages_at_start']} at the start, {machine['load_averages_at_end']} at the end")
    print(show(rows))
    for title, values in made.get("stages_ms", {}).items():
        print(
            f"\nstages of a step, {title}: " + ", ".join(f"{k} {v:.2f}" for k, v in values.items()) + " (ms; a share)"
        )
    for title, points in made.get("growth", {}).items():
        print(f"growth over {title}: " + "; ".join(", ".join(f"{value:.4g}" for value in point) for point in points))
    write_json(arguments.out, made)
    print(f"written: {arguments.out}")


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
