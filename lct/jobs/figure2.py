"""figure2: the robust losses and their derivatives at the constant c of a dataset's latents: numbers and pictures."""

import math
from typing import Any

import torch

from lct.files.records import JobRecord
from lct.files.tensors import shape_of
from lct.jobs import figure, job
from lct.losses.robust import ROBUST_FUNCTIONS
from lct.report.paper_figures import losses
from lct.schedules import NoiseGrid, RobustScale

SHOWN = ("pseudo-huber", "cauchy", "geman-mcclure")
SPAN, POINTS = 10.0, 201  # residuals from 0 to SPAN c
UNIT = 3.0  # residual, in c, at which every drawn loss has the value 1


def figure2(
    settings: dict[str, Any],
    device: str,
    latents: figure.Latents,
    statistics: job.Statistics,
    out: figure.Numbers,
    pictures: figure.Pictures,
) -> str:
    """Write the curves of the losses `SHOWN` to `out` (JSON) and `pictures`; arguments are the job's options."""
    record = JobRecord("figure", settings, inputs={"latents": latents, "statistics": statistics})
    dimension = math.prod(shape_of(latents, "latents")[1:])
    c = RobustScale().c(1, 1, dimension, NoiseGrid())
    residual = torch.linspace(0, SPAN, POINTS, dtype=torch.float64)
    numbers: dict[str, Any] = {"format": 1, "c": c, "dimension": dimension, "residual": residual.tolist()}
    numbers["curves"] = [curve(name, c, residual) for name in SHOWN]
    figure.publish(record, out, pictures, numbers, losses)
    return f"figure2 {out.stem}: {len(SHOWN)} losses at c = {c:.3g}"


def curve(name: str, c: float, residual: torch.Tensor) -> dict:
    """A loss rho(e^2, c) and its derivative by e = `residual` c, by autograd.

    The loss is divided by its value at e = 3 c, the derivative by its largest value."""

    def at(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        e = (values * c).requires_grad_(True)
        loss = ROBUST_FUNCTIONS[name](e**2, c)
        (slope,) = torch.autograd.grad(loss.sum(), e)
        return loss.detach(), slope

    loss, slope = at(residual)
    unit, fine = at(torch.tensor([UNIT], dtype=torch.float64))[0], torch.linspace(0, 1000, 100_001, dtype=torch.float64)
    slopes = at(fine)[1]
    largest = int(slopes.argmax())
    return {
        "name": name,
        "c": c,
        "value": (loss / unit).tolist(),
        "slope": (slope / slopes.max()).tolist(),
        "peak": float(fine[largest]) if largest + 1 < len(fine) else None,  # None: it never falls
        "tail": float(slope[-1] / slopes.max()),
    }


main = job.program(figure2)
