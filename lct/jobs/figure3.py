"""figure3: how coupling changes pairs of latents and noise: their distances, and the variance of x near a noisy sample.

For each group size the same latents and noises are paired again (0: as they are drawn) and noised at one level. The
variance of x near a noisy sample comes from pairs of nearest neighbours x_t: half the mean squared difference of their
x. It estimates E Var(x | x_t); with few pairs it is a little too large, equally for every coupling.
"""

from typing import Any

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
from lct.report.paper_figures import couplings as draw_couplings
from lct.streams import generator

SIGMA_DATA = 0.5  # standard deviation of normalised latents
SIGMA = 1.0  # noise level, twice the standard deviation of the latents
BINS = 48


def figure3(
    settings: dict[str, Any],
    device: str,
    latents: figure.Latents,
    statistics: job.Statistics,
    out: figure.Numbers,
    pictures: figure.Pictures,
) -> str:
    """Write distances and variances of each coupling to `out` (JSON) and `pictures`; arguments are the job's options.

    It always runs on the CPU, because the exact couplings are solved there.
    """
    job.device("cpu", threads=1)
    inputs = {"latents": latents, "statistics": statistics}
    record = JobRecord("figure", settings, inputs=inputs, seeds={"pairs": settings["seed"]})
    total, stored = shape_of(latents, "latents")[0], LatentStatistics.from_tensors(read_tensors(statistics))
    x = stored.normalise(pick_rows(latents, "latents", spaced(total, settings["images"])))
    if len(x) == total:
        check_normalised(x, stored, str(latents))
    draws = generator(settings["seed"], "figure3")
    rows = torch.randint(len(x), (settings["pairs"],), generator=draws)
    clean, noise = x[rows], torch.randn((settings["pairs"], *x.shape[1:]), generator=draws)
    couplings: list[dict[str, float]] = []
    distances: dict[str, np.ndarray] = {}
    for group in (0, *settings["groups"]):
        count = len(rows) if group == 0 else len(rows) // group * group  # full groups only
        order = pair(clean, noise, Transport(kind="exact", group=group)) if group else torch.arange(len(rows))
        values, distances[str(group)] = measure(clean[:count], noise[order][:count], rows[:count])
        couplings.append({"group": group, "pairs": count, **values})
    random = {"random": random_coupling(settings["random"], draws)} if "random" in settings else {}
    mean = float(distances["0"].mean())
    relative = {group: values / mean for group, values in distances.items()}
    edges = np.linspace(min(map(np.min, relative.values())), max(map(np.max, relative.values())), BINS + 1)
    shares = {group: (np.histogram(values, edges)[0] / len(values)).tolist() for group, values in relative.items()}
    numbers = {
        "format": 1,
        "images": len(x),
        "pairs": len(rows),
        "sigma": SIGMA,
        "couplings": couplings,
        **random,
        "histograms": {"edges": edges.tolist(), "shares": shares},
    }
    figure.publish(record, out, pictures, numbers, draw_couplings)
    distance, variance = (couplings[-1][key] / couplings[0][key] for key in ("distance", "variance"))
    text = f"squared distance x {distance:.3f}, variance near a noisy sample x {variance:.3f}"
    return f"figure3 {out.stem}: in groups of {couplings[-1]['group']}, {text}"


def random_coupling(settings: dict[str, Any], draws: torch.Generator) -> dict[str, Any]:
    """How transport couples normal latents of a given shape. settings: {"shape": (C, H, W), "group", "pairs"}."""
    shape = (settings["pairs"], *settings["shape"])
    x, noise = (scale * torch.randn(shape, generator=draws) for scale in (SIGMA_DATA, 1.0))
    order = pair(x, noise, Transport(kind="exact", group=settings["group"]))
    return settings | pair_values(x.flatten(1).double(), noise[order].flatten(1).double())


def pair_values(a: torch.Tensor, b: torch.Tensor) -> dict[str, float]:
    """Mean and SD of the squared distance per element, and the mean cosine, of pairs a, b: (P, d)."""
    squared = (a - b).square().mean(1)
    cosine = torch.cosine_similarity(a, b, dim=1).mean()
    return {"distance": float(squared.mean()), "spread": float(squared.std()), "cosine": float(cosine)}


def measure(x: torch.Tensor, noise: torch.Tensor, image: torch.Tensor) -> tuple[dict[str, float], np.ndarray]:
    """Statistics of P pairs, and the distance of each pair.

    x, noise: (P, C, H, W). image: (P,) index of the image that x belongs to.
    returns:  mean and SD of the squared distance per element, mean cosine, variance of x near a noisy sample per
              element; and the distances (P,).
    """
    a, b = x.flatten(1).double(), noise.flatten(1).double()
    noisy = perturb(x, noise, torch.full((len(x),), SIGMA)).flatten(1).double()
    distance = torch.cdist(noisy, noisy, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    same = image[:, None] == image[None, :]  # another draw of the same image is no neighbour
    nearest = distance.masked_fill(same, torch.inf).argmin(1)
    values = pair_values(a, b) | {"variance": float((a - a[nearest]).square().mean() / 2)}
    return values, (a - b).norm(dim=1).numpy()


main = job.program(figure3)
