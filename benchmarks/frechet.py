"""The Frechet distance at the width of Inception's features, and precision and recall at the paper's counts.

python benchmarks/frechet.py                                      # ratios to torch-fidelity, rounding over many spectra
python benchmarks/frechet.py --recall 50000 200000 [--device cuda]   # seconds and peak memory of precision and recall

Ratios are paired: both take turns in one process, by wall time and by CPU time.
"""

import lct.cli  # noqa: F401 fixes the number of threads of NumPy and SciPy before they load

# isort: split

import argparse
import time

import numpy as np
import torch
from contest.growth import resident
from contest.scoring import frechet_rows
from contest.turns import clock, show

from lct.metrics import distances

SPECTRA = {  # eigenvalues of covariances, by their number k = 1, 2, ... of D
    "from 10 down to 10 / 1e4, even in their logarithms": lambda k: 10.0 ** (1 - 4 * k / k[-1]),
    "from 10 down to 10 / 1e6": lambda k: 10.0 ** (1 - 6 * k / k[-1]),
    "from 10 down to 10 / 1e9": lambda k: 10.0 ** (1 - 9 * k / k[-1]),
    "13 / k": lambda k: 13.0 / k,
    "13 / k^1.5": lambda k: 13.0 / k**1.5,
    "13 / k^2": lambda k: 13.0 / k**2,
    "1, and five of 1e-11": lambda k: np.where(k > k[-1] - 5, 1e-11, 1.0),
    "1, and fifty of 1e-9": lambda k: np.where(k > k[-1] - 50, 1e-9, 1.0),
}


def covariance(values: np.ndarray, seed: int) -> distances.FeatureStatistics:
    """With these eigenvalues, in axes that the seed turns."""
    axes, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))
    sigma = axes * values @ axes.T
    return distances.FeatureStatistics(np.zeros(len(values)), (sigma + sigma.T) / 2, 2 * len(values))


def rounding(dimension: int) -> None:
    """The fast trace against the exact one, or that it is refused."""
    k = np.arange(1, dimension + 1)
    for name, spectrum in SPECTRA.items():
        for axes, seed in (("the same axes", 1), ("other axes", 2)):
            first, second = covariance(spectrum(k), 1), covariance(1.1 * spectrum(k), seed)
            fast = distances.overlap_by_cholesky(first.sigma, second.sigma)
            size = np.trace(first.sigma) + np.trace(second.sigma)
            error = "refused" if fast is None else f"{2 * abs(fast - distances.overlap(first, second)) / size:.0e}"
            print(f"{name}, {axes}, {dimension} features: {error} of tr S1 + tr S2", flush=True)


def recall(generated: int, real: int, width: int, device: torch.device) -> None:
    """Seconds and peak memory of precision and recall of random features."""
    draws = torch.Generator().manual_seed(0)
    sets = {
        name: torch.randn(count, width, generator=draws).to(device)
        for name, count in (("generated", generated), ("real", real))
    }
    before, begun, cpu = resident(), time.perf_counter(), clock(device)
    distances.precision_recall(**sets)
    used = clock(device) - cpu
    seconds = time.perf_counter() - begun
    peak = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else resident() - before
    print(
        f"{generated} against {real} images, {width} float32 features, {device}, {torch.get_num_threads()} threads: "
        f"{seconds:.1f} s ({used:.1f} s of the device), {peak:.0f} MB beyond the features"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="turns of each contestant (default: 5)")
    parser.add_argument("--width", type=int, default=2048, help="features (default: 2048; 4096 with --recall)")
    parser.add_argument("--recall", type=int, nargs=2, metavar=("GENERATED", "REAL"), help="numbers of images")
    parser.add_argument("--device", default="cpu", help="of precision and recall (default: cpu)")
    arguments = parser.parse_args()
    if arguments.recall:
        width = 4096 if arguments.width == 2048 else arguments.width
        recall(*arguments.recall, width, torch.device(arguments.device))
        return
    print(show(frechet_rows(arguments.width, arguments.repeats)))
    rounding(arguments.width // 4)


if __name__ == "__main__":
    main()
