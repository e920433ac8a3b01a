"""What `lct measure` tries beyond one GPU: sums over all GPUs of a node, the file system, locks between two nodes."""

import logging
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import torch
from torch import distributed, multiprocessing

from lct.files.lock import LockHeldError, acquire

log = logging.getLogger(__name__)

ROUNDS = 10  # sums that are timed
PATIENCE = 60.0  # seconds that one node waits for the other


def all_reduce_rate(count: int, gpu: bool, channels: int) -> float | None:
    """GB of gradients a second that are summed over `count` GPUs (or, to rehearse it, processes); None for only one.

    channels: width of the network, whose parameters grow with its square; 128: 0.7 GB."""
    if count < 2:
        return None
    store = Path("work") / f"measure-{uuid.uuid4().hex[:8]}"
    store.parent.mkdir(exist_ok=True)
    elements = 170_000_000 * channels**2 // 128**2
    answer = store.with_suffix(".seconds")
    try:
        multiprocessing.spawn(_sum, (count, gpu, elements, str(store.resolve())), nprocs=count)
        seconds = float(answer.read_text())
    except (RuntimeError, OSError, multiprocessing.ProcessException) as error:
        log.warning("sums over %d GPUs: not measured, %s", count, " ".join(str(error).split())[-200:])
        return None
    finally:
        store.unlink(missing_ok=True)
        answer.unlink(missing_ok=True)
    return float(f"{4e-9 * elements / seconds:.3g}")


def _sum(rank: int, count: int, gpu: bool, elements: int, store: str) -> None:
    device = torch.device("cuda", rank) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if gpu else "gloo", f"file://{store}", world_size=count, rank=rank)
    values = torch.ones(elements, device=device)
    started = time.perf_counter()
    for turn in range(ROUNDS + 2):
        if turn == 2:
            _wait(gpu)
            started = time.perf_counter()
        distributed.all_reduce(values.fill_(1.0))
    _wait(gpu)
    seconds = (time.perf_counter() - started) / ROUNDS
    if not (values == count).all():
        raise ArithmeticError(f"sum over {count} processes: expected {count}, found {values.unique().tolist()[:3]}")
    if rank == 0:
        Path(store).with_suffix(".seconds").write_text(repr(seconds))
    distributed.destroy_process_group()


def _wait(gpu: bool) -> None:
    if gpu:
        torch.cuda.synchronize()


def write_rate(folder: Path, gigabytes: float) -> float:
    """GB a second that reach the disk under `folder`, as a training's state does."""
    folder.mkdir(parents=True, exist_ok=True)
    path, block = folder / f"measure-{uuid.uuid4().hex[:8]}", os.urandom(2**20)
    started = time.perf_counter()
    try:
        with open(path, "wb") as stream:
            for _ in range(max(1, round(gigabytes * 1e9 / len(block)))):
                stream.write(block)
            stream.flush()
            os.fsync(stream.fileno())
            written = stream.tell()
        return float(f"{written / 1e9 / (time.perf_counter() - started):.3g}")
    finally:
        path.unlink(missing_ok=True)


def lock_between_nodes(folder: Path) -> bool | None:
    """Whether a lock that one node holds is seen on another; None outside an allocation of two nodes (salloc -N2)."""
    if int(os.environ.get("SLURM_JOB_NUM_NODES", "1")) < 2:
        return None
    path = folder.resolve() / f"measure-{uuid.uuid4().hex[:8]}.lock"
    command = ["srun", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--overlap"]
    command += [sys.executable, "-m", "lct.jobs.measure_nodes", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=3 * PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("locks between nodes: not tried, %s", error)
        return None
    finally:
        for left in path.parent.glob(f"{path.name}*"):
            left.unlink(missing_ok=True)
    if done.returncode:
        log.warning("locks between nodes: not tried, %s", " ".join(done.stderr.split())[-200:])
        return None
    return "seen" in done.stdout.split()


def hold_or_look(path: Path, rank: int) -> str:
    """Rank 0 holds the lock until rank 1 has answered; the answer of rank 1: seen, or unseen."""
    held, answered = Path(f"{path}.held"), Path(f"{path}.looked")
    if rank == 0:
        with acquire(path, "measurement"):
            held.touch()
            _appears(answered)
        return ""
    _appears(held)
    try:
        acquire(path, "measurement").close()
    except LockHeldError:
        return "seen"
    finally:
        answered.touch()
    return "unseen"


def _appears(path: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{path}: expected the other node within {PATIENCE:.0f} s; do both see this folder?")
        os.listdir(path.parent)  # a network file system asks its server anew
        time.sleep(0.1)


if __name__ == "__main__":
    print(hold_or_look(Path(sys.argv[1]), int(os.environ["SLURM_PROCID"])), flush=True)
