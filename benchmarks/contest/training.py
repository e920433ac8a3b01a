"""Training steps: ours, the baseline, and ours with one switch the other way."""

import copy
import time
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
from contest.turns import AGAIN, Row, Turns, synchronise, timed
from lct.config.plan import Plan
from lct.data.latents import Statistics
from lct.data.resident import Stored
from lct.files.tensors import map_tensor, write_tensors
from lct.training import trainer as room
from lct.training.settings import Training
from lct.training.trainer import Trainer

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
        return cls(f"{scale} {run}", found, tuple(plan.latent_shape(plan.runs[run].dataset)), images)

    def latents(self) -> tuple[torch.Tensor, Statistics]:
        """Made-up latents in the decoder's units, and their statistics."""
        draws = torch.Generator().manual_seed(0)
        z = 3 * torch.randn(self.images, *self.shape, generator=draws)
        return z, Statistics(z.double().mean(0), z.double().std(0), 0.5)


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
        self.averages.update = self._average

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


def einsum(trainer: Trainer) -> Trainer:
    authors.with_einsum(trainer.network)
    return trainer


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


def contestants(size: Size, device: torch.device, folder: Path) -> dict[str, Callable[[int], Any]]:
    """Name -> step(k) -> loss: ours, the baseline, and ours with one switch the other way."""
    z, stats = size.latents()
    x, path = stats.normalise(z), folder / "latents.safetensors"
    write_tensors(path, {"latents": z})
    stored, s = Stored(map_tensor(path, "latents"), stats, device), size.settings
    plain = authors.AuthorsTraining(s, z, stats, 0, device)
    made: dict[str, Any] = {
        "the next step's draws by a thread": Trainer(s, x, 0, device, ahead=True),
        "latents read from their file": Trainer(s, stored, 0, device),
        "optimiser and averages tensor by tensor": Separate(s, x, 0, device),
        "a copied network as target": Copied(s, x, 0, device),
        "attention by einsum": einsum(Trainer(s, x, 0, device)),
        "channels-last": Trainer(replace(s, memory_format="channels-last"), x, 0, device),
        "bfloat16 autocast": Trainer(replace(s, mixed_precision="bfloat16"), x, 0, device),
        "compiled": Trainer(replace(s, compile=True), x, 0, device),
        "algorithms not deterministic": Trainer(s, x, 0, device),
    }
    if device.type == "cuda":
        made["draws in the step"] = Trainer(s, x, 0, device, ahead=False)
        del made["the next step's draws by a thread"]
    ours = Trainer(s, x, 0, device)
    steps = {name: partial(one_step, trainer) for name, trainer in ({"ours": ours} | made).items()}
    return {"ours": steps.pop("ours"), "baseline": plain.step} | steps


def one_step(trainer: Trainer, step: int) -> torch.Tensor:
    return trainer.step(step, False)[0].total


def training(
    size: Size, device: torch.device, folder: Path, repeats: int, steps: int, skip: Iterable[str]
) -> list[Row]:
    """Every contestant takes the first steps of one training, in turns; the first turn warms up."""
    chosen = {name: step for name, step in contestants(size, device, folder).items() if name not in skip}
    each, turns = max(1, steps // repeats), Turns()
    losses: dict[str, list] = {name: [] for name in chosen}
    for name, step in chosen.items():  # warm up: compilation, memory, the first draws
        with undetermined(name.startswith("algorithms")):
            losses[name] += [step(k) for k in range(3)]
    for turn in range(repeats):
        for name, step in chosen.items():
            with undetermined(name.startswith("algorithms")), turns.of(name, device):
                losses[name] += [step(3 + turn * each + k) for k in range(each)]
    curves = {name: np.array([float(loss) for loss in found]) for name, found in losses.items()}
    rows = [turns.row("training", f"{size.name}: baseline / ours", "ours", "baseline", each)]
    rows[0].note = effect(curves, "baseline")
    for name in chosen:
        if name not in ("ours", "baseline"):
            rows.append(turns.row("training", f"  ours, {name} / ours", "ours", name, each, note=effect(curves, name)))
    if device.type != "cuda":
        rows.append(Row("training", "  ours, CUDA graphs / ours", note=f"not measured: no GPU; {AGAIN}"))
        rows.append(
            Row("training", "  ours, transport solved on the GPU / ours", note=f"not measured: no GPU; {AGAIN}")
        )
    return rows


def effect(curves: dict[str, np.ndarray], name: str) -> str:
    """What a switch does to the loss of the first steps from the same seed."""
    difference = np.abs(curves[name] / curves["ours"] - 1)
    same = (
        "same bits"
        if not difference.any()
        else f"loss differs by {np.median(difference):.1e}, at most {difference.max():.1e}"
    )
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
        timed(trainer, "target_answer", "target forward", spent, device),
        timed(trainer, "online_pass", "forward", spent, device),
        timed(torch.Tensor, "backward", "backward", spent, device),
        timed(trainer.optimiser, "step", "optimiser", spent, device),
        timed(trainer.averages, "update", "averages", spent, device),
    ):
        trainer.target_pass = trainer.network
        started = time.perf_counter()
        for step in range(3, 3 + count):
            trainer.step(step, False)
        synchronise(device)
        total = time.perf_counter() - started
    spent["data"] = spent.pop("data and transport") - spent["transport"]
    spent["rest"] = total - sum(spent.values())
    made = {name: 1e3 * seconds / count for name, seconds in spent.items()}
    inside = made["forward"] + made["target forward"] + made["backward"]
    return made | {"step": 1e3 * total / count, "share outside the network": 1 - inside / (1e3 * total / count)}
