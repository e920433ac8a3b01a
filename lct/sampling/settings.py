"""Samplers as values. NFE (number of function evaluations) is a property of a sampler, never typed beside it."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, PositiveInt

from lct.checks import require


def _different(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ValueError(f"expected different seeds from 0 on, found {list(seeds)}; fix them")
    return seeds


Seeds = Annotated[tuple[int, ...], AfterValidator(_different)]  # a seed given twice would count as two


@dataclass(frozen=True, kw_only=True)
class ConsistencySampler:
    """Multi-step consistency sampling: denoise from sigma_max, then re-noise to each middle level and denoise again.

    Middle levels are grid indices on a grid of `grid_points`, independent of the grid of training, or sigmas.
    """

    kind: Literal["consistency"] = "consistency"  # tag of the union
    grid_points: int = 641  # N of the grid that `middle_indices` refer to (s1 + 1)
    middle_indices: tuple[int, ...] = ()  # re-noising levels as grid indices, noisiest first; (440,) is sigma 0.36932
    middle_sigmas: tuple[float, ...] = ()  # the same as noise levels; give one of the two
    clamp: float | None = None  # clamp every denoised latent to [-clamp, clamp]; the authors' `ot` branch does not

    def __post_init__(self):
        if self.middle_indices and self.middle_sigmas:
            raise ValueError("expected middle_indices or middle_sigmas, found both; remove one")
        indices, sigmas, last = list(self.middle_indices), list(self.middle_sigmas), self.grid_points - 1
        inside = f"indices inside the grid, 1 to {last - 1}"
        require(all(0 < i < last for i in indices), "middle_indices", inside, indices, "fix them or grid_points")
        first = "(noisiest first)"
        require(indices == sorted(set(indices)), "middle_indices", f"increasing {first}", indices, "sort them")
        require(sigmas[::-1] == sorted(set(sigmas)), "middle_sigmas", f"decreasing {first}", sigmas, "sort them")
        require(all(sigma > 0 for sigma in sigmas), "middle_sigmas", "positive noise levels", sigmas, "fix them")
        _check_clamp(self.clamp)

    @property
    def nfe(self) -> int:
        return 1 + len(self.middle_indices) + len(self.middle_sigmas)


@dataclass(frozen=True, kw_only=True)
class OdeSampler:
    """Deterministic solver of the probability-flow ODE on `steps` Karras noise levels, then zero."""

    kind: Literal["ode"] = "ode"  # tag of the union
    solver: Literal["euler", "heun"] = "euler"  # first or second order
    steps: int = 250  # noise levels before zero; the published LDM-8 row has 250 (Euler)
    clamp: float | None = 1.0  # clamp every denoised latent to [-clamp, clamp]; 1.0 in the authors' 250-step script

    def __post_init__(self):
        require(self.steps >= 2, "steps", "2 or more", self.steps, "a one-step sampler is `kind: consistency`")
        _check_clamp(self.clamp)

    @property
    def nfe(self) -> int:
        return self.steps if self.solver == "euler" else 2 * self.steps - 1


Sampler = Annotated[ConsistencySampler | OdeSampler, Discriminator("kind")]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How many images a sampling job makes, shared by all runs of a scale."""

    num_images: Annotated[int, Field(ge=2)] = 50_000  # generated images per (run, seed, sampler, draw)
    batch: PositiveInt = 250  # images per fixed batch; part of the result's bytes, so not a matter of speed alone
    draws: Seeds = (0,)  # sampling seeds
    grid_images: int = 32  # images in the preview grid; the same image seeds for every method
    threads: int = 1  # torch threads; part of the result's bytes
    rounding: Literal["truncate", "nearest"] = "truncate"  # pixels to uint8; the authors truncate
    full_batches: bool = False  # num_images rounded up to full batches; the authors scored 50 176 for 50 000 (batch
    # 256)
    matmul: Literal["float32", "tf32"] = "float32"  # precision of float32 products on a GPU; the authors allow TF32

    @property
    def count(self) -> int:
        """Images made: num_images, or as many as fill the last batch."""
        return -(-self.num_images // self.batch) * self.batch if self.full_batches else self.num_images


def _check_clamp(clamp: float | None) -> None:
    require(clamp is None or clamp > 0, "clamp", "a positive number or null", clamp)
