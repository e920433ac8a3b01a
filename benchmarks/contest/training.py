"""Training steps: ours, the baseline, and ours with one switch the other way."""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from contest import authors
from contest.turns import AGAIN, Row, Turns, clock, timed
from lct.data.latents import LatentStatistics, MappedLatents
from lct.files.tensors import map_tensor, write_tensors
from lct.plan.plan import Plan
from lct.training import trainer as room
from lct.training.settings import Training
from lct.training.trainer import Trainer

UNDETERMINED = "algorithms not deterministic"
WARM = 3  # steps before the first turn
EMAS = (0.99993, 0.999, 0.9999, 0.99994, 0.9999432189950708, 0.99995, 0.99997)  # those the authors keep


@dataclass(frozen=True)
class Size:
    """What is trained: a run of a scale, with the averages that the authors keep."""

    name: str
    settings: Training
    shape: tuple[int, int, int]
    images: int

    @classmethod
    def of(cls, scale: str, run: str, images: int, **changes: Any) -> "Size":
        plan = Plan(Path(__file__).parents[2], {"scale": scale})
        found = replace(
            plan.runs[run].training,
            emas=EMAS,
            epochs=None,
            steps=300,
            keep_epochs=(),
            inclusive_epochs=False,
            **changes,
        )
        return cls(f"{scale} {run}", found, tuple(plan.datasets[plan.runs[run].dataset].latent_shape), images)

    def latents(self) -> tuple[torch.Tensor, LatentStatistics]:
        """Made-up latents in the decoder's units, and their statistics."""
        draws = torch.Generator().manual_seed(0)
        z = 3 * torch.randn(self.images, *self.shape, generator=draws)
        return z, LatentStatistics(z.double().mean(0), z.double().std(0), 0.5)


def sizes(device: torch.device) -> list[Size]:
    found = [Size.of("mini", "digits-lct", 4096)]
    if device.type == "cuda":
        found.append(Size.of("paper", "celebahq-lct", 27_000))
    return found


class Separate(Trainer):
    """Ours, but with parameters, moments and averages tensor by tensor: torch's foreach functions over lists."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        for parameter in self.network.parameters():
            parameter.data, parameter.grad = parameter.detach().clone(), None
        rule = self.settings.optimiser
        values = {"lr": rule.learning_rate.lr, "betas": (rule.beta1, rule.beta2), "eps": rule.epsilon}
        trained = [p for p in self.network.parameters() if p.requires_grad]
        self.optimiser = torch.optim.RAdam(trained, **values, weight_decay=rule.weight_decay, foreach=True)
        self.separate = {rate: [p.detach().clone() for p in self.network.parameters()] for rate in self.settings.emas}
        self.ema.update = self._average

    @torch.no_grad()
    def _average(self) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        online = [p.detach() for p in self.network.parameters()]
        for rate, average in self.separate.items():
            torch._foreach_lerp_(average, online, 1.0 - rate)


class Copied(Trainer):
    """Ours, but with a second network as target, overwritten after every step."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        self.target_pass = self.target


class Einsum(Trainer):
    """Ours, but with attention by einsum."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        authors.with_einsum(self.network)


@contextmanager
def undetermined(on: bool) -> Iterator[None]:
    """Whatever algorithms torch likes best, for as long as this lasts."""
    if on:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = True
    yield
    if on:
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


Factory = Callable[[], Callable[[int], Any]]  # makes a contestant: step(k) -> loss


def contestants(size: Size, device: torch.device, folder: Path) -> dict[str, Factory]:
    """Name -> contestant: ours, the baseline, and ours with one switch the other way."""
    z, stats = size.latents()
    x, path = stats.normalise(z), folder / "latents.safetensors"
    write_tensors(path, {"latents": z})
    s, gpu = size.settings, device.type == "cuda"

    def ours(kind: type[Trainer] = Trainer, data: Any = x, ahead: bool | None = None, **changes: Any) -> Factory:
        return lambda: partial(one_step, kind(replace(s, **changes), data, 0, device, ahead=ahead))

    made = {
        "ours": ours(),
        "baseline": lambda: authors.AuthorsTraining(s, z, stats, 0, device).step,
        "draws in the step" if gpu else "draws by a thread, a step ahead": ours(ahead=not gpu),
        "latents read from their file": ours(data=MappedLatents(map_tensor(path, "latents"), stats, device)),
        "optimiser and averages tensor by tensor": ours(Separate),
        "a copied network as target": ours(Copied),
        "attention by einsum": ours(Einsum),
        "channels-last": ours(memory_format="channels-last"),
        "bfloat16 autocast": ours(mixed_precision="bfloat16"),
        "compiled": ours(compile=True),
        UNDETERMINED: ours(),
    }
    return made | ({"compiled, as CUDA graphs": ours(compile=True, cuda_graphs=True)} if gpu else {})


def one_step(trainer: Trainer, step: int) -> torch.Tensor:
    return trainer.step(step, False)[0].total


def training(
    size: Size, device: torch.device, folder: Path, repeats: int, steps: int, skip: Iterable[str], together: bool
) -> list[Row]:
    """Every contestant takes the first steps of one training, in turns with the others.

    together: all at once; else each with ours alone, as a large network leaves no room for more than two."""
    made = {name: make for name, make in contestants(size, device, folder).items() if name not in skip}
    others = [name for name in made if name != "ours"]
    rows: list[Row] = []
    for names in [others] if together else [[name] for name in others]:
        turns, curves = race({name: made[name]() for name in ("ours", *names)}, device, repeats, steps)
        each = max(1, steps // repeats)
        for name in names:
            title = f"{size.name}: baseline / ours" if name == "baseline" else f"  ours, {name} / ours"
            rows.append(turns.row("training", title, "ours", name, each, note=effect(curves, name)))
    if device.type != "cuda":
        rows.append(Row("training", "  ours, compiled, as CUDA graphs / ours", note=f"not measured: no GPU; {AGAIN}"))
    return rows


def race(
    chosen: dict[str, Callable[[int], Any]], device: torch.device, repeats: int, steps: int
) -> tuple[Turns, dict[str, np.ndarray]]:
    """Turns of the contestants, and their losses step by step."""
    each, turns = max(1, steps // repeats), Turns()
    losses: dict[str, list] = {name: [] for name in chosen}
    for turn in range(-1, repeats):
        for name, step in chosen.items():
            first, count = (0, WARM) if turn < 0 else (WARM + turn * each, each)
            with undetermined(name == UNDETERMINED), turns.of(name, device):
                losses[name] += [step(first + k) for k in range(count)]
    turns.forget_first()  # compilation, memory, the first draws
    return turns, {name: np.array([float(loss) for loss in found]) for name, found in losses.items()}


def effect(curves: dict[str, np.ndarray], name: str) -> str:
    """What a switch does to the loss of the first steps from the same seed."""
    difference = np.abs(curves[name] / curves["ours"] - 1)
    same = "same bits" if not difference.any() else f"loss differs by at most {difference.max():.0e}"
    return f"{same}, {len(difference)} steps"


def stages(size: Size, device: torch.device, count: int) -> dict[str, float]:
    """Milliseconds of a step's parts, each waited for; draws in the step, so that they can be seen."""
    z, stats = size.latents()
    trainer = Trainer(size.settings, stats.normalise(z), 0, device, ahead=False)
    for step in range(3):
        trainer.step(step, False)
    spent: dict[str, float] = defaultdict(float)
    with (
        timed(trainer, "draw", "data and transport", spent, device),
        timed(room, "pair", "transport", spent, device),
        timed(trainer, "f_target", "target forward", spent, device),
        timed(trainer, "online_pass", "forward", spent, device),
        timed(torch.Tensor, "backward", "backward", spent, device),
        timed(trainer.optimiser, "step", "optimiser", spent, device),
        timed(trainer.ema, "update", "averages", spent, device),
    ):
        trainer.target_pass = trainer.network
        started = clock(device)
        for step in range(3, 3 + count):
            trainer.step(step, False)
        total = clock(device) - started
    spent["data"] = spent.pop("data and transport") - spent["transport"]
    spent["rest"] = total - sum(spent.values())
    made = {name: 1e3 * seconds / count for name, seconds in spent.items()}
    inside = made["forward"] + made["target forward"] + made["backward"]
    return made | {"step": 1e3 * total / count, "share outside the network": 1 - inside / (1e3 * total / count)}
