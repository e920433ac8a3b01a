"""Memory, and how cost grows."""

import statistics
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from contest import authors
from contest.training import Size, one_step, sizes
from contest.turns import clock
from lct.metrics import distances
from lct.training.settings import Training
from lct.training.trainer import Trainer


def peak(what: str, device: str) -> float:
    """MB that a training of some steps takes at most, in a process of its own, beyond what its imports take."""
    command = [sys.executable, str(Path(__file__).parents[1] / "speed.py"), "--device", device, "--memory", what]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def memory(what: str, device: torch.device) -> float:
    """The measurement of `peak`, in this process."""
    size = sizes(device)[-1]
    z, stats = size.latents()
    before = resident()
    if what == "ours":
        step = partial(one_step, Trainer(size.settings, stats.normalise(z), 0, device))
    else:
        step = authors.AuthorsTraining(size.settings, z, stats, 0, device).step
    for k in range(4):
        float(step(k))
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else resident() - before


def resident() -> float:
    """Largest resident memory of this process so far, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3


def growth(device: torch.device, repeats: int) -> dict[str, list[list[float]]]:
    """How cost grows: seconds of a step over batch and width, of scoring's distances over images."""
    small, found = Size.of("mini", "digits-lct", 4096), {}

    def seconds(settings: Training) -> float:
        z, stats = small.latents()
        trainer = Trainer(settings, stats.normalise(z), 0, device)
        for step in range(2):
            trainer.step(step, False)
        taken = []
        for turn in range(repeats):
            started = clock(device)
            for step in range(2 + 3 * turn, 5 + 3 * turn):
                trainer.step(step, False)
            taken.append((clock(device) - started) / 3)
        return statistics.median(taken)

    def of_batch(batch: int) -> Training:
        coupling = replace(small.settings.objective.transport, group=min(batch, 128))
        return replace(small.settings, batch=batch, objective=replace(small.settings.objective, transport=coupling))

    found["batch, s/step"] = [[b, seconds(of_batch(b))] for b in (16, 32, 64, 128, 256)]
    found["channels, s/step"] = [
        [c, seconds(replace(small.settings, network=replace(small.settings.network, channels=c)))]
        for c in (16, 32, 64, 128)
    ]
    draws = torch.Generator().manual_seed(0)
    points = []
    for count in (1000, 2000, 4000, 8000, 16000):
        real, generated = (torch.randn(count, 64, generator=draws, dtype=torch.float64) for _ in range(2))
        started = clock(device)
        distances.precision_recall(generated=generated.to(device), real=real.to(device))
        recall = clock(device) - started
        started = clock(device)
        distances.frechet(distances.statistics(generated), distances.statistics(real))
        points.append([count, recall, clock(device) - started])
    found["images, s for recall, s for FD (64 features)"] = points
    return found
