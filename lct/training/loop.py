"""The training loop: consistency models and the denoising baseline, from resident normalised latents.

Every draw is a function of (seed, step), so a resumed training takes exactly the steps an undisturbed one would have
taken. Latents are (n, C, H, W); a step sees B of them.
"""

import copy
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lct.losses import perceptual
from lct.losses.objective import Terms, consistency_terms, denoising_terms, perturb
from lct.losses.transport import pair
from lct.networks.precondition import consistency
from lct.networks.unet import UNet
from lct.schedules import target_rate
from lct.streams import generator
from lct.training import draws
from lct.training.ema import Averages
from lct.training.settings import Optimiser, Training
from lct.training.state import Progress, State

log = logging.getLogger(__name__)

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
OPTIMISERS = {"radam": torch.optim.RAdam, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


@dataclass(frozen=True)
class Stage:
    """What the curriculum says of one step."""

    intervals: int  # s
    sigmas: Tensor  # (s + 1,) float32, descending
    probabilities: np.ndarray  # of the indices drawn, float64
    c: float  # scale of the robust loss


class Trainer:
    """One training of one seed. Holds the network, its averages, the optimiser and the resume state."""

    def __init__(self, settings: Training, latents: Tensor, seed: int, device: torch.device, state: Path):
        self.settings, self.seed, self.device = settings, seed, device
        self.latents = latents.to(device)
        count, channels, height, _ = latents.shape
        self.total_steps = settings.total_steps(count)
        self.schedule_steps = settings.schedule_steps(count)
        settings.steps_per_epoch(count)  # refuses a batch larger than the data
        settings.curriculum.stage_steps(self.schedule_steps)  # refuses fewer steps than stages
        self.memory_format = MEMORY_FORMATS[settings.memory_format]
        self.network = UNet(settings.network, channels, height, generator(seed, "initial-weights")).to(device).train()
        self.network = self.network.to(memory_format=self.memory_format)
        self.target = _target_network(settings, self.network)
        # what a step calls: the same weights, so that averages, optimiser and state know nothing of compilation
        self.online_pass = torch.compile(self.network) if settings.compile else self.network
        self.target_pass = self.online_pass
        if self.target is not self.network:
            self.target_pass = torch.compile(self.target) if settings.compile else self.target
        self.averages = Averages(self.network, settings.emas)
        self.optimiser = _optimiser(settings.optimiser, self.network)
        self.state = State(state, self.network, self.averages, self.optimiser, self.target)
        self.distance = perceptual.load(device) if settings.objective.loss == "e-latent-lpips" else None
        self._stage: Stage | None = None

    def stage(self, step: int) -> Stage:
        """Intervals, grid and c at a step; made anew only when the curriculum moves on."""
        s = self.settings
        intervals = s.curriculum.intervals(step, self.schedule_steps)
        if self._stage is None or self._stage.intervals != intervals:
            sigmas = s.grid.sigmas(intervals + 1)
            probabilities = s.index.probabilities(sigmas, include_last=s.objective.kind == "denoising")
            dimension = math.prod(self.latents.shape[1:])
            c = s.objective.scale.c(intervals, s.curriculum.s0, dimension, s.grid)
            self._stage = Stage(intervals, torch.from_numpy(sigmas).to(torch.float32), probabilities, c)
        return self._stage

    def draw(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (B, C, H, W), coupled unit noise (B, C, H, W) and grid indices (B,) of a step."""
        s, stage = self.settings, self.stage(step)
        x = self.latents[draws.rows(self.seed, step, len(self.latents), s.batch).to(self.device)]
        noise = draws.noise(self.seed, step, tuple(x.shape), self.device)
        if s.objective.transport.kind != "none":
            noise = noise[pair(x, noise, s.objective.transport).to(self.device)]
        return x, noise, draws.indices(self.seed, step, stage.probabilities, s.batch)

    def f(self, network: nn.Module, x: Tensor, sigma: Tensor, dropout: torch.Generator) -> Tensor:
        """f(x, sigma) in float32; with mixed precision, the products inside the network are bfloat16."""
        mixed = self.settings.mixed_precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed):
            return consistency(
                network, x.contiguous(memory_format=self.memory_format), sigma, self.settings.scaling, dropout
            )

    def terms(self, step: int) -> Terms:
        """The objective of a step, ready for its backward pass."""
        s, stage = self.settings, self.stage(step)
        x, noise, index = self.draw(step)
        t = stage.sigmas[index].to(self.device)
        sigma_data = s.scaling.sigma_data
        dropout = generator(self.seed, "dropout", step, device=self.device)
        f = self.f(self.online_pass, perturb(x, noise, t), t, dropout)
        if s.objective.kind == "denoising":
            return denoising_terms(s.objective, f, x, t, stage.c, sigma_data)
        r = stage.sigmas[index + 1].to(self.device)
        f_target = self.target_answer(step, x, noise, r)
        points = stage.intervals + 1
        return consistency_terms(
            s.objective, f, f_target, x, t, r, index, points, stage.c, sigma_data, distance=self.distance
        )

    @torch.no_grad()
    def target_answer(self, step: int, x: Tensor, noise: Tensor, r: Tensor) -> Tensor:
        """f^-(x_r, r), without gradient."""
        stream = "dropout" if self.settings.objective.shared_dropout else "target-dropout"
        dropout = generator(self.seed, stream, step, device=self.device)
        return self.f(self.target_pass, perturb(x, noise, r), r, dropout)

    @torch.no_grad()
    def temporal_difference(self, step: int) -> Tensor:
        """f(x_t, t) - f^-(x_r, r) (B, C, H, W) of a step's draw, by the present weights: what the loss is a size of."""
        stage = self.stage(step)
        x, noise, index = self.draw(step)
        t, r = (stage.sigmas[i].to(self.device) for i in (index, index + 1))
        dropout = generator(self.seed, "dropout", step, device=self.device)
        return self.f(self.online_pass, perturb(x, noise, t), t, dropout) - self.target_answer(step, x, noise, r)

    def step(self, step: int, measure_gradient: bool) -> tuple[Terms, Tensor | None]:
        """One optimiser step; returns the terms and, if asked for, the gradient's norm."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.optimiser.learning_rate.at(step, self.schedule_steps)
        terms = self.terms(step)
        terms.total.backward()
        norm = None
        if self.settings.optimiser.clip_gradient_norm is not None:
            norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.optimiser.clip_gradient_norm)
        elif measure_gradient:
            norm = nn.utils.get_total_norm([p.grad for p in self.network.parameters() if p.grad is not None])
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self._move_target(step)
        self.averages.update()
        return terms, norm

    @torch.no_grad()
    def _move_target(self, step: int) -> None:
        if self.target is self.network:
            return
        s = self.settings
        rate = target_rate(
            s.objective.target_ema_law, s.objective.target_ema, s.curriculum.s0, self.stage(step).intervals
        )
        online = [p.detach() for p in self.network.parameters()]
        torch._foreach_lerp_([p.detach() for p in self.target.parameters()], online, 1.0 - rate)


def train(
    trainer: Trainer,
    keep: dict[int, Callable[[Averages], None]],
    report: Callable[[Progress], None],
    stop: Callable[[], bool],
    save_seconds: float,
) -> Progress:
    """Train to the end, or to the step at which `stop()` turns true; the state is saved in both cases.

    keep:   step -> what to do with the averages when that many steps are done.
    report: called at every logged step.
    Raises FloatingPointError at a loss that is not finite, naming the step and its noise levels.
    """
    progress = trainer.state.load()
    every, saved = trainer.settings.log_every, time.monotonic()
    for step in range(progress.step, trainer.total_steps):
        logged = (step + 1) % every == 0 or step + 1 == trainer.total_steps
        terms, norm = trainer.step(step, measure_gradient=logged)
        progress.step = step + 1
        if logged:
            _log(trainer, progress, terms, norm)
            report(progress)
        if progress.step in keep:
            keep[progress.step](trainer.averages)
        if stop() or time.monotonic() - saved > save_seconds:
            _refuse_nan(trainer, step, terms)
            trainer.state.save(progress)
            saved = time.monotonic()
            if stop():
                break
    return progress


def _log(trainer: Trainer, progress: Progress, terms: Terms, norm: Tensor | None) -> None:
    step = progress.step - 1
    _refuse_nan(trainer, step, terms)
    stage = trainer.stage(step)
    denoising = trainer.settings.objective.kind == "denoising"
    point = {
        "step": progress.step,
        "loss": float(terms.total.detach()),
        "consistency": None if denoising else float(terms.consistency),
        "diffusion": float(terms.diffusion) if denoising or trainer.settings.objective.diffusion else None,
        "c": None if trainer.settings.objective.loss == "l2" else stage.c,
        "intervals": stage.intervals,
        "gradient_norm": None if norm is None else float(norm),
        "lr": trainer.optimiser.param_groups[0]["lr"],
    }
    for name, value in point.items():
        progress.curve[name].append(value)


def _refuse_nan(trainer: Trainer, step: int, terms: Terms) -> None:
    if math.isfinite(float(terms.total.detach())):
        return
    stage = trainer.stage(step)
    _, _, index = trainer.draw(step)
    t = stage.sigmas[index]
    raise FloatingPointError(
        f"step {step}: expected a finite loss, found {float(terms.total.detach())} (t from {float(t.min()):.3g} to "
        f"{float(t.max()):.3g}, intervals {stage.intervals}, c {stage.c:.3g}); {_last_good(trainer)}; "
        f"lower the learning rate or check the latents"
    )


def _last_good(trainer: Trainer) -> str:
    path = trainer.state.path
    return f"the last good state is {path}" if path.exists() else "no state was saved before"


def _optimiser(settings: Optimiser, network: nn.Module) -> torch.optim.Optimizer:
    trained = [p for p in network.parameters() if p.requires_grad]
    return OPTIMISERS[settings.name](
        trained,
        lr=settings.learning_rate.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        foreach=True,
    )


def _target_network(settings: Training, network: UNet) -> nn.Module:
    """The online network itself where the target is a copy at every step (iCT); else a second set of weights, also
    where running statistics would otherwise be updated by both passes."""
    if settings.objective.target_ema == 0 and next(network.buffers(), None) is None:
        return network  # a copy would compute the same
    return copy.deepcopy(network).requires_grad_(False)
