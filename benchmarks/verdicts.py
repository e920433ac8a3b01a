"""Error rates of the verdict rule, by simulation: `python benchmarks/verdicts.py`.

Trainings of one law: log FID is normal with one standard deviation. For 1 to 5 seeds, prints how often the rule calls
equal laws "reproduced" (95 % is meant), and how large a true difference must be to be seen with a probability of 80 %.
With one seed the noise is the prior's, estimated from as many repeated runs of the same law as the prior has; with more
it is pooled over the given number of rows of a similar level. A row of four times the level and noise stands by.
"""

import argparse
import math

import numpy as np

from lct.claims.noise import Noise, Spread, band, pooled, spread, visible_difference

SD = 0.022  # of log FID between trainings, as the authors' repeated runs have it
PRIOR_PAIRS = 4


def noise_of(rng: np.random.Generator, seeds: int, rows: int, sd: float) -> tuple[Noise, np.ndarray]:
    """The noise that the rule uses, and the values of the row that is judged."""
    ours = rng.normal(0.0, sd, (rows, seeds))
    if seeds == 1:
        pairs = rng.normal(0.0, sd, (PRIOR_PAIRS, 2))
        return pooled([spread(pair) for pair in pairs.tolist()]), ours[0]
    far = rng.normal(math.log(4), 4 * sd, seeds)
    spreads: list[Spread] = [spread(row) for row in [*ours.tolist(), far.tolist()]]
    return pooled(spreads, spreads[0].level), ours[0]


def rate(rng: np.random.Generator, seeds: int, rows: int, trials: int, difference: float = 0.0) -> float:
    """Share of trials in which the published value lies within the band."""
    inside = 0
    for _ in range(trials):
        noise, ours = noise_of(rng, seeds, rows, SD)
        inside += abs(ours.mean() - rng.normal(difference, SD)) <= band(noise, seeds)
    return inside / trials


def visible(seeds: int, rows: int) -> float:
    """The true difference of log FID that is seen with a probability of 80 %."""
    df = PRIOR_PAIRS if seeds == 1 else rows * (seeds - 1)
    return visible_difference(SD, seeds, df)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20_000, help="simulated comparisons for each number")
    parser.add_argument("--seed", type=int, default=0, help="of the simulation")
    arguments = parser.parse_args()
    print(f"noise {SD:.1%} of the FID, {arguments.trials} trials, seed {arguments.seed}")
    print("| seeds | rows pooled | equal laws called reproduced | seen with 80 % | seen then, simulated |")
    print("|---|---|---|---|---|")
    for seeds in range(1, 6):
        for rows in (1,) if seeds == 1 else (1, 4):
            rng, limit = np.random.default_rng([arguments.seed, seeds, rows]), visible(seeds, rows)
            equal, other = (rate(rng, seeds, rows, arguments.trials, difference) for difference in (0.0, limit))
            print(f"| {seeds} | {rows} | {equal:.1%} | {math.expm1(limit):.1%} of the FID | {1 - other:.1%} |")


if __name__ == "__main__":
    main()
