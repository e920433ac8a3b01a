"""figure3: what coupling does to pairs of latents and noise, measured: distances, and how well a noisy sample is known.

For each group size the same latents and noises are paired anew (0: as they are drawn) and noised at one level. The
variance of x near a noisy sample is that of pairs of nearest neighbours x_t, half the mean squared difference of their
x: an estimate of E Var(x | x_t) that is a little too large for few pairs, alike for every coupling.
"""

from functools import partial

import numpy as np
import torch

from lct.data.distribution import spaced
from lct.data.latents import LatentStatistics, check_normalised
from lct.files.records import JobRecord
from lct.files.tensors import pick_rows, read_tensors, shape_of
from lct.jobs import figure, job
from lct.losses.objective import perturb
from lct.losses.settings import Transport
from lct.losses.transport import pair
from lct.report import paper_figures, plotting
from lct.streams import generator

SIGMA = 1.0  # noise level, twice the standard deviation of the latents
BINS = 48


def main() -> int:
    arguments = figure.parser(__doc__).parse_args()
    return job.run(lambda: figure3(arguments))


def figure3(arguments) -> str:
    settings = arguments.settings
    job.device("cpu", threads=1)
    inputs = {"latents": arguments.latents, "statistics": arguments.statistics}
    record = JobRecord("figure", settings, inputs=inputs, seeds={"pairs": settings["seed"]})
    statistics = LatentStatistics.from_tensors(read_tensors(arguments.statistics))
    chosen = spaced(shape_of(arguments.latents, "latents")[0], settings["images"])
    x = statistics.normalise(pick_rows(arguments.latents, "latents", chosen))
    if len(x) == shape_of(arguments.latents, "latents")[0]:
        check_normalised(x, statistics, str(arguments.latents))
    draws = generator(settings["seed"], "figure3")
    rows = torch.randint(len(x), (settings["pairs"],), generator=draws)
    latents, noise = x[rows], torch.randn((settings["pairs"], *x.shape[1:]), generator=draws)
    found, histograms = [], {}
    mean = None
    for group in (0, *settings["groups"]):
        count = len(rows) if group == 0 else len(rows) // group * group  # full groups only
        order = pair(latents, noise, Transport(kind="exact", group=group)) if group else torch.arange(len(rows))
        measured, distances = measure(latents[:count], noise[order][:count], rows[:count])
        mean = mean or float(distances.mean())
        histograms[str(group)] = distances / mean
        found.append({"group": group, "pairs": count, **measured})
    edges = np.linspace(min(map(np.min, histograms.values())), max(map(np.max, histograms.values())), BINS + 1)
    shares = {name: (np.histogram(values, edges)[0] / len(values)).tolist() for name, values in histograms.items()}
    numbers = {
        "format": 1,
        "images": len(x),
        "pairs": len(rows),
        "sigma": SIGMA,
        "couplings": found,
        "histograms": {"edges": edges.tolist(), "shares": shares},
    }
    record.write(figure.publish(arguments, numbers, partial(plotting.picture, paper_figures.couplings(numbers))))
    last = found[-1]
    return (
        f"figure3 {arguments.out.stem}: in groups of {last['group']}, squared distance x "
        f"{last['distance'] / found[0]['distance']:.3f}, variance near a noisy sample x "
        f"{last['variance'] / found[0]['variance']:.3f}"
    )


def measure(x: torch.Tensor, noise: torch.Tensor, image: torch.Tensor) -> tuple[dict[str, float], np.ndarray]:
    """Of pairs (P, C, H, W), x being the latents of `image` (P,): mean and SD of the squared distance per element, mean
    cosine, and the variance of x near a noisy sample per element; and the distance of each pair."""
    a, b = x.flatten(1).double(), noise.flatten(1).double()
    squared = (a - b).square().mean(1)
    noisy = perturb(x, noise, torch.full((len(x),), SIGMA)).flatten(1).double()
    apart = torch.cdist(noisy, noisy, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    same = image[:, None] == image[None, :]  # the same image drawn twice says nothing about its neighbours
    nearest = apart.masked_fill(same, torch.inf).argmin(1)
    measured = {
        "distance": float(squared.mean()),
        "spread": float(squared.std()),
        "cosine": float(torch.cosine_similarity(a, b, dim=1).mean()),
        "variance": float((a - a[nearest]).square().mean() / 2),
    }
    return measured, (a - b).norm(dim=1).numpy()


if __name__ == "__main__":
    raise SystemExit(main())
