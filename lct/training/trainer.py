"""One training on one rank: network, averages, optimiser, and what a step computes.

Every draw is a function of (seed, step), so a resumed training takes exactly the steps an undisturbed one would have
taken, and several processes take the same steps as one, up to the rounding of the summed gradient. Latents are
(n, C, H, W); a step sees B of them, about B / world size on each rank.
"""

import copy
import functools
import math
import os
import shutil
from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from lct.checks import invalid, require
from lct.data.latents import MappedLatents
from lct.losses.objective import Terms, consistency_terms, denoising_terms, load_perceptual, low_noise_mask, perturb
from lct.losses.transport import pair
from lct.networks.unet import UNet, consistency, load_weights
from lct.schedules import target_rate
from lct.streams import generator
from lct.training import draws
from lct.training.draws import Prefetcher
from lct.training.flat import EMA, Flat, RAdam
from lct.training.ranks import ALONE, World
from lct.training.settings import Training

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
OPTIMISERS = {
    "radam": RAdam,
    "adam": functools.partial(torch.optim.Adam, foreach=True),
    "adamw": functools.partial(torch.optim.AdamW, foreach=True),
}


@dataclass(frozen=True)
class TrainingStage:
    """The values of the schedules that stay the same for all steps with the same number of intervals."""

    intervals: int  # s
    sigmas: Tensor  # (s + 1,), descending, in the dtype of the latents
    probabilities: np.ndarray  # of the indices drawn, float64
    c: float  # scale of the robust loss


@dataclass(frozen=True)
class Batch:
    """This rank's share (b samples) of a step's batch."""

    rows: Tensor  # (b,) rows of the latents
    x: Tensor  # (b, C, H, W) latents
    noise: Tensor  # (b, C, H, W) unit noise, coupled
    index: Tensor  # (b,) grid indices
    selected: int | None  # samples of the whole batch in the diffusion term; None without one

    def split(self, size: int | None) -> "list[Batch]":
        """In parts of `size` samples, the last perhaps smaller."""
        if size is None or size >= len(self.x):
            return [self]
        columns = (self.rows, self.x, self.noise, self.index)
        return [Batch(*parts, self.selected) for parts in zip(*(c.split(size) for c in columns), strict=True)]

    def tensors(self) -> list[Tensor]:
        """Those that may be on a GPU."""
        return [self.x, self.noise]


class Trainer:
    """One training of one seed, on this rank: the network, its averages and the optimiser.

    Computes in the dtype of the latents, float32 in every run. Rank 0 alone keeps the averages.
    """

    def __init__(
        self,
        settings: Training,
        latents: Tensor | MappedLatents,
        seed: int,
        device: torch.device,
        world: World = ALONE,
        ahead: bool | None = None,
        initial: dict[str, Tensor] | None = None,
    ):
        """ahead: whether a thread draws the next batch while a step computes; the results are the same. Default: on a
        GPU; on a CPU the thread takes as much time from the step as it saves.
        initial: weights of network, averages and target at step 0; default: random ones. It takes these tensors."""
        self.settings, self.seed, self.device, self.world = settings, seed, device, world
        self.latents = latents.to(device)
        count, channels, height, _ = latents.shape
        self.total_steps = settings.total_steps(count)
        self.schedule_steps = settings.schedule_steps(count)
        settings.steps_per_epoch(count)  # refuses a batch larger than the data
        settings.curriculum.stage_steps(self.schedule_steps)  # refuses fewer steps than stages
        settings.check_processes(world.size)
        self.memory_format = MEMORY_FORMATS[settings.memory_format]
        self.network = UNet(settings.network, channels, height, generator(seed, "initial-weights"))
        if initial is not None:
            load_weights(self.network, initial, "init")
        self.network = self.network.to(device, latents.dtype, memory_format=self.memory_format).train()
        # a copy of the online network at every step (iCT) is that network itself, unless running statistics would then
        # be updated by both passes
        is_shared = settings.objective.target_ema == 0 and next(self.network.buffers(), None) is None
        self.target = self.network if is_shared else copy.deepcopy(self.network).requires_grad_(False)
        # what a step calls: the same weights, so that averages, optimiser and state know nothing of compilation
        check_device(settings, device)
        if settings.compile:  # the compiler has to know of it too
            torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled())
        compiled = functools.partial(torch.compile, mode="reduce-overhead" if settings.cuda_graphs else None)
        self.online_pass = compiled(self.network) if settings.compile else self.network
        self.target_pass = self.online_pass
        if self.target is not self.network:
            self.target_pass = compiled(self.target) if settings.compile else self.target
        self.flat = Flat(self.network, terms=3)
        self.ema = EMA(self.flat, settings.emas if world.is_main else ())
        o = settings.optimiser
        values = {"lr": o.learning_rate.lr, "betas": (o.beta1, o.beta2), "eps": o.epsilon}
        self.optimiser = OPTIMISERS[o.name]([self.flat.values], weight_decay=o.weight_decay, **values)
        self.distance = load_perceptual(device) if settings.objective.loss == "e-latent-lpips" else None
        self.nan_monitor = NaNMonitor(device)
        self._stage = functools.lru_cache(maxsize=2)(self._new_stage)  # a step's and the next one's
        ahead = device.type == "cuda" if ahead is None else ahead
        self._prefetcher = Prefetcher(self.draw, Batch.tensors, self.total_steps, device) if ahead else None

    def stage(self, step: int) -> TrainingStage:
        """Intervals, grid, index distribution and c at a step; cached until the curriculum moves on."""
        return self._stage(self.settings.curriculum.intervals(step, self.schedule_steps))

    def _new_stage(self, intervals: int) -> TrainingStage:
        s = self.settings
        sigmas = s.grid.sigmas(intervals + 1)
        probabilities = s.index.probabilities(sigmas, include_last=s.objective.kind == "denoising")
        dimension = math.prod(self.latents.shape[1:])
        c = s.objective.scale.c(intervals, s.curriculum.s0, dimension, s.grid)
        return TrainingStage(intervals, torch.from_numpy(sigmas).to(self.latents.dtype), probabilities, c)

    def draw(self, step: int) -> Batch:
        """This rank's share of the batch of a step. Transport couples whole groups, as it would in the whole batch."""
        s, stage = self.settings, self.stage(step)
        coupling = s.objective.transport
        share, group = self.world.part(s.batch), coupling.group if coupling.kind != "none" else 1
        start, stop = share.start // group * group, min(-(-share.stop // group) * group, s.batch)
        rows = draws.rows(self.seed, step, len(self.latents), s.batch)
        x = self.latents[rows[start:stop].to(self.device)]
        shape = (s.batch, *self.latents.shape[1:])
        noise = draws.noise(self.seed, step, shape, self.device)[start:stop].to(x.dtype)
        if coupling.kind != "none":
            noise = noise[pair(x, noise, coupling).to(self.device)]
        own = slice(share.start - start, share.stop - start)
        index = draws.indices(self.seed, step, stage.probabilities, s.batch)
        selected = None
        if s.objective.diffusion is not None:
            selected = int(low_noise_mask(index, stage.intervals + 1, s.objective.diffusion.threshold).sum())
        return Batch(rows[share], x[own], noise[own], index[share], selected)

    def step(self, step: int, measure_gradient: bool) -> tuple[Terms, Tensor | None]:
        """One optimiser step; returns the terms of the whole batch and, if asked for, the norm of its gradient. The
        terms' `samples` and `residual` are this rank's part."""
        s = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = s.optimiser.learning_rate.at(step, self.schedule_steps)
        if s.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()  # the results of the last step's passes may be overwritten
        self.flat.gradient.zero_()
        batch = self.draw(step) if self._prefetcher is None else self._prefetcher.get(step)
        parts = []
        for part in batch.split(s.micro_batch):
            terms = self.terms(step, part)
            terms.total.backward()
            parts.append(replace(terms, total=terms.total.detach()))
        sums = [sum(getattr(p, name) for p in parts) for name in ("total", "consistency", "diffusion")]
        residual = None if parts[0].residual is None else sum(p.residual for p in parts)
        terms = Terms(*self.flat.all_reduce(self.world, sums), torch.cat([p.samples for p in parts]), residual)
        self.nan_monitor.update(step, terms)
        norm = None
        if s.optimiser.clip_gradient_norm is not None:
            norm = nn.utils.clip_grad_norm_(self.network.parameters(), s.optimiser.clip_gradient_norm)
        elif measure_gradient:
            norm = nn.utils.get_total_norm([p.grad for p in self.network.parameters() if p.grad is not None])
        self.optimiser.step()
        self._move_target(step)
        self.ema.update()
        return terms, norm

    def terms(self, step: int, batch: Batch | None = None) -> Terms:
        """The objective of a step on `batch` (default: this rank's share), ready for its backward pass."""
        s, stage = self.settings, self.stage(step)
        batch = batch or self.draw(step)
        x, noise, index, sigma_data = batch.x, batch.noise, batch.index, s.scaling.sigma_data
        t = stage.sigmas[index].to(self.device)
        f = self.f(self.online_pass, perturb(x, noise, t), t, self._dropout(step, "dropout"))
        if s.objective.kind == "denoising":
            return denoising_terms(s.objective, f, x, t, stage.c, sigma_data, batch=s.batch)
        r = stage.sigmas[index + 1].to(self.device)
        f_target = self.f_target(step, x, noise, r)
        points, sizes = stage.intervals + 1, {"batch": s.batch, "selected": batch.selected}
        return consistency_terms(
            s.objective, f, f_target, x, t, r, index, points, stage.c, sigma_data, distance=self.distance, **sizes
        )

    def f(self, network: nn.Module, x: Tensor, sigma: Tensor, dropout: torch.Generator | None) -> Tensor:
        """f(x, sigma) in the dtype of x; with mixed precision, the products inside the network are bfloat16."""
        mixed = self.settings.mixed_precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed):
            return consistency(
                network, x.contiguous(memory_format=self.memory_format), sigma, self.settings.scaling, dropout
            )

    @torch.no_grad()
    def f_target(self, step: int, x: Tensor, noise: Tensor, r: Tensor) -> Tensor:
        """f^-(x_r, r), without gradient."""
        stream = "dropout" if self.settings.objective.shared_dropout else "target-dropout"
        return self.f(self.target_pass, perturb(x, noise, r), r, self._dropout(step, stream))

    def _dropout(self, step: int, stream: str) -> torch.Generator | None:
        """The generator that selects the dropped units of a pass; None when dropout is 0."""
        drops = self.settings.network.dropout > 0
        return generator(self.seed, stream, step, device=self.device) if drops else None

    @torch.no_grad()
    def temporal_difference(self, step: int) -> Tensor:
        """f(x_t, t) - f^-(x_r, r) (b, C, H, W) for the batch of a step and the present weights."""
        stage, batch = self.stage(step), self.draw(step)
        t, r = (stage.sigmas[i].to(self.device) for i in (batch.index, batch.index + 1))
        f = self.f(self.online_pass, perturb(batch.x, batch.noise, t), t, self._dropout(step, "dropout"))
        return f - self.f_target(step, batch.x, batch.noise, r)

    @torch.no_grad()
    def preview(self, rate: float, count: int = 8) -> np.ndarray:
        """One-step samples f(sigma_max n, sigma_max) of the averaged network as images (count, H, W, 3) uint8.

        Shown are the first three channels of the latents, from -3 to 3 sigma_data. Always the same noise.
        """
        s, weights = self.settings, self.ema.weights(rate)
        count = min(count, s.micro_batch or count)
        noise = torch.randn((count, *self.latents.shape[1:]), generator=generator(self.seed, "preview"))
        x = s.grid.sigma_max * noise.to(self.device, self.latents.dtype)
        sigma = torch.full((count,), s.grid.sigma_max, dtype=x.dtype, device=self.device)
        training = self.network.training
        self.network.eval()  # no dropout, and running statistics stay as they are
        latents = self.f(lambda *inputs: functional_call(self.network, weights, inputs), x, sigma, None)
        self.network.train(training)
        shown = latents[:, [min(channel, latents.shape[1] - 1) for channel in range(3)]].float()
        shown = (255 * (0.5 + shown / (6 * s.scaling.sigma_data))).nan_to_num().clamp(0, 255)
        return shown.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()

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

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, and the averages, as named tensors."""
        tensors = {f"network/{name}": t for name, t in self.network.state_dict().items()}
        tensors |= {f"average/{name}": t for name, t in self.ema.state().items()}
        if self.target is not self.network:
            tensors |= {f"target/{name}": t for name, t in self.target.state_dict().items()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{number}/{name}": t for name, t in moments.items()}
        return tensors

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor], where: str) -> None:
        """Restore what `tensors()` returned; raises ValueError naming the tensor that does not fit."""
        own = {name: t for name, t in self.tensors().items() if not name.startswith("optimiser/")}
        for name in sorted(own.keys() | {n for n in tensors if not n.startswith("optimiser/")}):
            a, b = (tuple(of[name].shape) if name in of else "no such tensor" for of in (own, tensors))
            require(a == b, f"{where}: {name}", a, b, "it is of another network: remove it")
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
        moments: defaultdict[int, dict[str, Tensor]] = defaultdict(dict)
        for name in (name for name in tensors if name not in own):
            _, number, moment = name.split("/")
            moments[int(number)][moment] = tensors[name]
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": moments})

    def checksum(self) -> int:
        """A checksum of the weights: equal bits give equal numbers, other bits almost always another number."""
        total = 0
        for number, tensor in enumerate(self.network.state_dict().values(), start=1):
            words = tensor.detach().contiguous().view(torch.uint8 if tensor.element_size() % 4 else torch.int32)
            total += number * int(words.sum(dtype=torch.int64))
        return total


class NaNMonitor:
    """Remembers the first step whose loss was not finite. It stays on the device, so that no step waits for it."""

    def __init__(self, device: torch.device):
        self._step = torch.tensor(-1, device=device)
        self._samples: Tensor | None = None

    def update(self, step: int, terms: Terms) -> None:
        bad = ~torch.isfinite(terms.total) & (self._step < 0)
        self._step = torch.where(bad, step, self._step)
        self._samples = terms.samples if self._samples is None else torch.where(bad, terms.samples, self._samples)

    def first_failure(self) -> tuple[int, Tensor] | None:
        """The step, and a mask (b,) of this rank's samples that were not finite; None when all losses were finite."""
        step = int(self._step)
        return None if step < 0 or self._samples is None else (step, ~torch.isfinite(self._samples).cpu())


def check_device(settings: Training, device: torch.device) -> None:
    """Refuse what a device or its tools cannot do, before any work. Nothing is replaced in silence: a compiled network
    and one in bfloat16 give other last bits than the settings would say."""
    if settings.compile and shutil.which(compiler := os.environ.get("CXX", "g++")) is None:
        raise ValueError(
            f"training.compile: expected a C++ compiler for torch.compile, found no {compiler}; install one (on Debian "
            "and Ubuntu: apt-get install g++), set CXX, or set compile: false"
        )
    if settings.mixed_precision == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        name = torch.cuda.get_device_name(device)
        raise invalid(
            "training.mixed_precision", "a GPU with bfloat16", name, "set it to off, or use one from Ampere (A100) on"
        )
