"""A training of a minute network on random latents, and the command of its job."""

import json
import sys
from pathlib import Path

import torch

from lct.config.schema import plain
from lct.losses.settings import DiffusionTerm, Objective, Transport
from lct.networks.settings import Network
from lct.schedules import Curriculum, LearningRate, RobustScale
from lct.training.settings import Optimiser, Training

CPU = torch.device("cpu")
TINY = Network(channels=8, channel_mult=(1,), blocks=1, attention_resolutions=(), head_channels=8)
LCT = Objective(
    loss="cauchy",
    scale=RobustScale(law="adaptive"),
    diffusion=DiffusionTerm(),
    transport=Transport(kind="exact", group=8),
)
LDM = Objective(kind="denoising", loss="l2", weighting="edm")


def settings(**changes) -> Training:
    values = {
        "network": TINY,
        "curriculum": Curriculum(s0=10, s1=40),
        "objective": LCT,
        "optimiser": Optimiser(learning_rate=LearningRate(kind="cosine", lr=1e-3)),
        "batch": 8,
        "steps": 12,
        "emas": (0.9, 0.5),
        "log_every": 3,
    }
    return Training(**values | changes)


def latents(count: int = 40) -> torch.Tensor:
    return 0.5 * torch.randn(count, 2, 4, 4, generator=torch.Generator().manual_seed(1))


def command(folder: Path, out: str, made: Training) -> list[str]:
    values = {"recipe": 1, "training": plain(made)}
    words = [sys.executable, "-m", "lct.jobs.train", "--settings", json.dumps(values), "--seed", "0"]
    words += ["--latents", str(folder / "latents.safetensors"), "--statistics", str(folder / "statistics.safetensors")]
    return [*words, "--work", str(folder / f"work-{out}"), "--out", str(folder / out), "--device", "cpu"]
