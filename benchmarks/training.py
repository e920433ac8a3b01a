"""What crash safety and several processes cost and give in training: `python benchmarks/training.py`.

Prints (1) for networks of several sizes: how long training waits while a state is saved, how long writing takes beside
it, by how much steps slow down meanwhile, and the share of the default interval that is lost; (2) steps per second of
one process and of two (gloo, one thread each) at equal global batch.
"""

import argparse
import multiprocessing
import os
import platform
import tempfile
import time
from pathlib import Path

import torch

from lct.cluster.launch import Allocation, rank_environments
from lct.losses.settings import Objective
from lct.networks.settings import Network
from lct.training.ranks import process_group
from lct.training.settings import Training
from lct.training.state import StateFolder, TrainingProgress
from lct.training.trainer import Trainer

INTERVAL = 300.0  # seconds between states, the default
SIDE, CHANNELS = 16, 4
SIZES = {  # name -> network; the paper's has 165 million parameters, 16 bytes of state each
    "mini": Network(channels=32, channel_mult=(1, 2), blocks=1, attention_resolutions=(4,)),
    "middle": Network(channels=64, channel_mult=(1, 2, 3), blocks=2, attention_resolutions=(8,)),
    "paper / 2": Network(channels=96, channel_mult=(1, 2, 3, 4), blocks=3, attention_resolutions=(8, 4)),
}


def trainer(network: Network, batch: int, world=None) -> Trainer:
    made = Training(network=network, objective=Objective(), batch=batch, steps=10_000, emas=(0.9999,), divergence=None)
    latents = 0.5 * torch.randn(256, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    chosen = {} if world is None else {"world": world}
    return Trainer(made, latents, 0, torch.device("cpu"), **chosen)


def seconds_per_step(made: Trainer, first: int, count: int) -> float:
    started = time.perf_counter()
    for step in range(first, first + count):
        made.step(step, False)
    return (time.perf_counter() - started) / count


def saving(name: str, folder: Path) -> None:
    """One line of the table of states."""
    made = trainer(SIZES[name], 4)
    made.step(0, False)
    alone = seconds_per_step(made, 1, 4)
    state = StateFolder(folder, {})
    state.save(TrainingProgress(step=4), made.tensors(), wait=True)  # the first save allocates its copies
    state.blocked_seconds = 0.0
    state.save(TrainingProgress(step=5), made.tensors(), wait=False)
    blocked, started, step = state.blocked_seconds, time.perf_counter(), 5
    longest = 0.0
    while state._writer.is_alive():
        longest = max(longest, seconds_per_step(made, step, 1))
        step += 1
    writing, steps = time.perf_counter() - started, step - 5
    state.finish()
    slower = max(0.0, writing - steps * alone)
    size = state.newest().stat().st_size
    parameters = sum(p.numel() for p in made.network.parameters())
    print(
        f"{name:<10} {parameters / 1e6:>7.1f} M {size / 1e6:>8.0f} MB {blocked:>8.3f} s {writing:>8.2f} s"
        f" {slower:>8.2f} s {(blocked + slower) / INTERVAL:>8.2%}",
        flush=True,
    )


def _measure(rank: int, size: int, port: str, batch: int, count: int, results) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    torch.set_num_threads(1)
    with process_group(torch.device("cpu")) as world:
        made = trainer(SIZES["middle"], batch, world)
        seconds_per_step(made, 0, 2)
        world.any(False)
        taken, exchanged = seconds_per_step(made, 2, count), 0.0
        if size > 1:
            started = time.perf_counter()
            for _ in range(count):
                made.flat.all_reduce(world, [torch.zeros(()) for _ in range(3)])
            exchanged = (time.perf_counter() - started) / count
    if rank == 0:
        results.put((taken, exchanged))


def throughput(size: int, batch: int, count: int) -> tuple[float, float]:
    """Seconds of a step, and of the exchange of gradients in it, in `size` processes."""
    context = multiprocessing.get_context("spawn")
    port = rank_environments(Allocation(processes=2), "train", {})[0]["MASTER_PORT"]
    results = context.SimpleQueue()
    processes = [context.Process(target=_measure, args=(r, size, port, batch, count, results)) for r in range(size)]
    for process in processes:
        process.start()
    found = results.get()
    for process in processes:
        process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8, help="steps measured (default: 8)")
    parser.add_argument("--batch", type=int, default=32, help="global batch (default: 32)")
    parser.add_argument("--repeats", type=int, default=3, help="times one and two processes are compared (default: 3)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, load averages {load}")
    print(f"\nsaving a state, every {INTERVAL:.0f} s; share of the time that is lost")
    print(f"{'network':<10} {'size':>9} {'state':>11} {'blocked':>10} {'written':>10} {'slower':>10} {'lost':>8}")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        for number, name in enumerate(SIZES):
            saving(name, Path(folder) / str(number))
    print(f"\nprocesses at global batch {arguments.batch}, middle network, one thread each")
    print(f"{'processes':<10} {'s/step':>8} {'exchange':>9} {'images/s':>9} {'speedup':>8}")
    for _ in range(arguments.repeats):
        alone = None
        for size in (1, 2):
            taken, exchanged = throughput(size, arguments.batch, arguments.steps)
            alone = alone or taken
            print(
                f"{size:<10} {taken:>8.3f} {exchanged:>9.3f} {arguments.batch / taken:>9.1f} {alone / taken:>7.2f}x",
                flush=True,
            )


if __name__ == "__main__":
    main()
