"""CPU time and memory of a paper-sized dataset's latent statistics, on synthetic latents: python benchmarks/latents.py.

Writes 126 000 latents of 4 x 32 x 32 (2 GB) as a stream and reads them again as the encode job does.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import torch

from lct.data.latents import PART, LatentMoments, check_normalised, from_moments
from lct.data.settings import Encoding
from lct.files.tensors import read_rows, stream_tensor
from lct.jobs.encode import tails


def peak() -> float:
    """Largest resident memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=126_000)
    parser.add_argument("--part", type=int, default=320, help="latents of one part, as at 256 pixels")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    draws, shape = torch.Generator().manual_seed(0), (4, 32, 32)
    batch = 4 * torch.randn(arguments.part, *shape, generator=draws)
    before, spent, moments = peak(), 0.0, LatentMoments()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "latents.safetensors"

        def measured():
            nonlocal spent
            for start in range(0, arguments.count, arguments.part):
                part = batch[: arguments.count - start]
                started = time.process_time()
                moments.update(part)
                spent += time.process_time() - started
                yield part

        started = time.process_time()
        stream_tensor(path, "latents", measured(), (arguments.count, *shape))
        print(f"written: {path.stat().st_size / 1e9:.2f} GB in {time.process_time() - started - spent:.1f} CPU s")
        print(f"statistics: {spent:.1f} CPU s")
        statistics = from_moments(moments, Encoding())
        started = time.process_time()
        check_normalised((statistics.normalise(z) for z in read_rows(path, "latents", PART)), statistics, str(path))
        print(f"second pass, normalised and checked: {time.process_time() - started:.1f} CPU s")
        started = time.process_time()
        tails(path, statistics, arguments.count)
        print(f"tails: {time.process_time() - started:.1f} CPU s")
    print(f"memory: {peak() - before:.0f} MB beyond the libraries' {before:.0f} MB")


if __name__ == "__main__":
    main()
