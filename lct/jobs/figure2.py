"""figure2: the robust losses and their derivatives at the constant c of a dataset's latents: numbers and pictures."""

import math
from functools import partial

import torch

from lct.files.records import JobRecord
from lct.files.tensors import shape_of
from lct.jobs import figure, job
from lct.losses.distances import ROBUST_FUNCTIONS
from lct.report import paper_figures, plotting
from lct.schedules import NoiseGrid, RobustScale

SHOWN = ("pseudo-huber", "cauchy", "geman-mcclure")
SPAN, POINTS = 10.0, 201  # residuals from 0 to SPAN c
UNIT = 3.0  # residual, in c, at which every loss is drawn as one


def main() -> int:
    arguments = figure.parser(__doc__).parse_args()
    return job.run(lambda: figure2(arguments))


def figure2(arguments) -> str:
    inputs = {"latents": arguments.latents, "statistics": arguments.statistics}
    record = JobRecord("figure", arguments.settings, inputs=inputs)
    dimension = math.prod(shape_of(arguments.latents, "latents")[1:])
    c = RobustScale().c(1, 1, dimension, NoiseGrid())
    residual = torch.linspace(0, SPAN, POINTS, dtype=torch.float64)
    numbers = {
        "format": 1,
        "c": c,
        "dimension": dimension,
        "residual": residual.tolist(),
        "curves": [curve(name, c, residual) for name in SHOWN],
    }
    record.write(figure.publish(arguments, numbers, partial(plotting.picture, paper_figures.losses(numbers))))
    return f"figure2 {arguments.out.stem}: {len(SHOWN)} losses at c = {c:.3g}"


def curve(name: str, c: float, residual: torch.Tensor) -> dict:
    """A loss rho(e^2, c) and its derivative by the residual e = `residual` c, by autograd; each in units of its own."""

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


if __name__ == "__main__":
    raise SystemExit(main())
