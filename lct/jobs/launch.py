"""launch: start a job of the graph on the devices its rule asked for, so that signals reach it.

    python -m lct.jobs.launch [--nodes N] [--gpus G] [--cpus C] [--minutes M] [--processes P] JOB ARGUMENTS...

JOB is a module of lct.jobs, such as train; ARGUMENTS are its own. `train` runs as one process per GPU (G / N on each of
N nodes), every other job as one process that sees all G. Without --gpus, a job is one process and takes the GPU it
finds, or the CPU. Inside a SLURM job it becomes a step of its own, and may use M minutes of wall time from now: near
their end `train` saves its state and asks to be queued again. Signals SIGTERM, SIGINT and SIGUSR1 reach every process.

The job is told LCT_GPUS, the number asked for on a node, which it compares with what it sees, and LCT_DEADLINE, seconds
since the epoch. LCT_DEVICE=cpu in the environment keeps it off the GPUs (where something else stands in for the card).
Exit code: the job's; 75 means interrupted with its state saved.
"""

import argparse
import importlib.util
import logging
import os
import re
import sys
import time

from lct.checks import require
from lct.cluster.launch import Allocation, job_id, lease, rank_environments, run, step_command


def main(words: list[str] | None = None) -> int:
    words = sys.argv[1:] if words is None else words
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1, help="nodes (default: 1)")
    parser.add_argument(
        "--gpus", type=int, default=0, help="GPUs asked for on all nodes together (default: 0, take what is there)"
    )
    parser.add_argument("--cpus", type=int, default=1, help="CPU cores of each node (default: 1)")
    parser.add_argument("--minutes", type=float, default=0.0, help="wall time of the SLURM job (default: 0, no limit)")
    parser.add_argument("--processes", type=int, default=0, help="processes of each node (default: one per GPU)")
    parser.add_argument("job", help="module of lct.jobs, such as train")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    arguments = parser.parse_args(words)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        return _launch(arguments, words)
    except (ValueError, OSError) as error:
        print(f"error: launch: {' '.join(str(error).split())}", flush=True)
        return 1


def _launch(arguments: argparse.Namespace, words: list[str]) -> int:
    job = arguments.job
    if not re.fullmatch("[a-z][a-z0-9_]*", job) or importlib.util.find_spec(f"lct.jobs.{job}") is None:
        raise ValueError(f"job: expected a module of lct.jobs, such as train, found {job!r}; fix the name")
    nodes, gpus = max(1, arguments.nodes), arguments.gpus
    require(gpus % nodes == 0, "--gpus", f"as many on each of {nodes} nodes", gpus, "ask for a multiple")
    shape = {name: getattr(arguments, name) for name in ("nodes", "processes", "cpus", "minutes")}
    allocation = Allocation(gpus=gpus // nodes, **shape)
    if job_id(os.environ) is not None and allocation.minutes and "LCT_DEADLINE" not in os.environ:
        os.environ["LCT_DEADLINE"] = str(time.time() + 60 * allocation.minutes)
    os.environ["LCT_GPUS"] = str(allocation.gpus)
    step = step_command(allocation, os.environ, [sys.executable, "-m", "lct.jobs.launch", *words])
    if step is not None:
        os.environ["LCT_STEP"] = "1"
        return run(step, [{}])
    if allocation.nodes > 1 and "SLURM_NODEID" not in os.environ:
        raise ValueError(f"--nodes {allocation.nodes}: expected a SLURM job, found none; several nodes need SLURM")
    if allocation.gpus and job_id(os.environ) is None and os.environ.get("LCT_DEVICE") != "cpu":
        lease(allocation.gpus)  # no scheduler keeps two jobs off one GPU
    command = [sys.executable, "-m", f"lct.jobs.{job}", *arguments.arguments]
    return run(command, rank_environments(allocation, job, os.environ))


if __name__ == "__main__":
    raise SystemExit(main())
