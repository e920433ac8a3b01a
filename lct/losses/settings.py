"""Settings of the objective. The defaults are plain consistency training (iCT); each part of the paper is a key."""

from dataclasses import dataclass, field, replace
from typing import Literal

from lct.checks import invalid, require
from lct.losses.robust import ROBUST
from lct.schedules import RobustScale

Loss = Literal["l2", *ROBUST, "e-latent-lpips"]  # type: ignore[valid-type]


@dataclass(frozen=True, kw_only=True)
class DiffusionTerm:
    """L_diff = mean over the samples with i >= floor(r N) of w(sigma_i) mean_d (f(x_t, sigma_i) - x)^2.

    The total is L_CM + weight L_diff. The grid descends, so r selects its low-noise end; no further forward pass."""

    threshold: float = 0.75  # r, share of the grid's N points, from the noisy end, that is left out
    weight: float = 5.0  # factor on the term (the paper's final runs)
    weighting: Literal["edm", "uniform"] = "edm"  # w: 1/sigma^2 + 1/sigma_data^2, or 1

    def __post_init__(self):
        inside = 0 <= self.threshold <= 1
        require(inside, "diffusion.threshold", "r from 0 to 1", self.threshold, "the paper has 0.75")
        require(self.weight > 0, "diffusion.weight", "a positive number", self.weight, "null is off")


@dataclass(frozen=True, kw_only=True)
class Transport:
    """Coupling of latents and noise within a batch, before the noise is scaled by sigma."""

    kind: Literal["none", "exact", "sinkhorn"] = "none"  # independent; optimal assignment; assignment by entropic plan
    group: int = 128  # samples coupled together, whatever the number of devices; the authors' per-GPU batch
    regularisation: float = 0.05  # of the entropic plan, in units of the largest cost; sinkhorn only

    def __post_init__(self):
        pairs = self.kind == "none" or self.group >= 2
        require(pairs, "transport.group", "2 or more", self.group, "one sample has nothing to pair")
        require(self.regularisation > 0, "transport.regularisation", "above 0", self.regularisation)

    def check_batch(self, batch: int) -> None:
        """Refuse a batch that cannot be coupled in full groups."""
        if self.kind == "none":
            return
        require(batch >= 2, "transport", "a batch of 2 or more", batch, "use `kind: none`")
        whole, expected = batch <= self.group or batch % self.group == 0, f"a divisor of the batch {batch}"
        require(whole, "transport.group", expected, self.group, "change one of them")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a training minimises: a consistency loss between neighbouring noise levels, or a denoising loss (LDM)."""

    kind: Literal["consistency", "denoising"] = "consistency"  # compare f with its target, or with the clean latents
    loss: Loss = "pseudo-huber"  # distance
    form: Literal["mean", "sum", "elementwise"] = "mean"  # rho(mean) (final runs), rho(sum) or mean(rho) over C, H, W
    scale: RobustScale = field(default_factory=RobustScale)  # c, for pseudo-huber, cauchy and geman-mcclure
    weighting: Literal["inverse-gap", "uniform", "edm", "flow"] = "inverse-gap"  # 1/(t-r); 1; 1/t^2 + 1/sigma_data^2;
    # (1 + 1/t)^2
    diffusion: DiffusionTerm | None = None  # diffusion loss at low noise, added to the consistency loss; null: off
    transport: Transport = field(default_factory=Transport)  # coupling of latents and noise
    shared_dropout: bool = True  # online and target pass drop the same units (CM); no effect at dropout 0
    target_ema: float = 0.0  # EMA rate of the target network; 0 = a copy of the online weights at every step (iCT)
    target_ema_law: Literal["constant", "adaptive"] = "constant"  # rate as given, or CM's exp(s0 ln(rate) / s)

    def __post_init__(self):
        require(0 <= self.target_ema < 1, "target_ema", "0 <= rate < 1", self.target_ema, "0 copies the weights")
        if self.target_ema_law == "adaptive" and self.target_ema == 0:
            raise ValueError("target_ema_law: expected a positive target_ema with `adaptive`, found 0; CM uses 0.95")
        if self.loss not in ROBUST and replace(self.scale, c0=None) != RobustScale():  # a scale sets c0 for every loss
            raise invalid("scale", f"only with one of {list(ROBUST)}, which read c", self.loss, "remove it")
        if self.loss == "e-latent-lpips" and self.form != "mean":
            raise ValueError(f"form: expected mean with e-latent-lpips, which has its own reduction, found {self.form}")
        if self.kind == "denoising":
            self._check_denoising()

    def _check_denoising(self) -> None:
        here = "with `kind: denoising`"
        require(self.weighting != "inverse-gap", "weighting", f"edm, flow or uniform {here}", self.weighting)
        require(self.loss != "e-latent-lpips", "loss", f"l2 or a robust one {here}", self.loss)
        require(self.diffusion is None, "diffusion", f"null {here}", "a term", "it is the whole loss")
        require(self.target_ema == 0, "target_ema", f"0 {here}", self.target_ema, "remove it")
