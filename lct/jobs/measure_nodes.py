"""What `lct measure` tries beyond one GPU: sums over all GPUs of a node, the file system, locks between two nodes."""

import logging
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import distributed, multiprocessing

from lct.cluster.slurm import UnansweredError, query
from lct.files.lock import LockHeldError, acquire

log = logging.getLogger(__name__)

ROUNDS = 10  # sums that are timed
PATIENCE = 60.0  # seconds that one node waits for the other


def all_reduce_rate(count: int, gpu: bool, channels: int) -> float | None:
    """GB of gradients a second that are summed over `count` GPUs (or, to rehearse it, processes); None for only one.

    channels: width of the network, whose parameters grow with its square; 128: 0.7 GB."""
    if count < 2:
        return None
    elements = 170_000_000 * channels**2 // 128**2
    Path("work").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="measure-", dir="work") as name:
        folder = Path(name).resolve()
        try:
            multiprocessing.spawn(_sum, (count, gpu, elements, folder), nprocs=count)
            seconds = float((folder / "seconds").read_text())
        except (RuntimeError, OSError, multiprocessing.ProcessException) as error:
            log.warning("sums over %d GPUs: not measured, %s", count, " ".join(str(error).split())[-200:])
            return None
    return float(f"{4e-9 * elements / seconds:.3g}")


def _sum(rank: int, count: int, gpu: bool, elements: int, folder: Path) -> None:
    device = torch.device("cuda", rank) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if gpu else "gloo", f"file://{folder}/store", world_size=count, rank=rank)
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
        (folder / "seconds").write_text(repr(seconds))
    distributed.destroy_process_group()


def _wait(gpu: bool) -> None:
    if gpu:
        torch.cuda.synchronize()


def write_rate(folder: Path, gigabytes: float) -> float:
    """GB a second that reach the disk under `folder`, as a training's state does."""
    folder.mkdir(parents=True, exist_ok=True)
    block = os.urandom(2**20)
    started = time.perf_counter()
    with tempfile.NamedTemporaryFile(prefix="measure-", dir=folder) as stream:
        for _ in range(max(1, round(gigabytes * 1e9 / len(block)))):
            stream.write(block)
        stream.flush()
        os.fsync(stream.fileno())
        return float(f"{stream.tell() / 1e9 / (time.perf_counter() - started):.3g}")


def lock_between_nodes(folder: Path) -> bool | None:
    """Whether a lock that one node holds is seen on another; None outside an allocation of two nodes (salloc -N2)."""
    if int(os.environ.get("SLURM_JOB_NUM_NODES", "1")) < 2:
        return None
    command = ["srun", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--overlap"]
    try:
        with tempfile.TemporaryDirectory(prefix="measure-", dir=folder.resolve()) as shared:
            command += [sys.executable, "-m", "lct.jobs.measure_nodes", f"{shared}/lock"]
            return "seen" in query(command, timeout=3 * PATIENCE).split()
    except (OSError, UnansweredError) as error:
        log.warning("locks between nodes: not tried, %s", error)
        return None


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
