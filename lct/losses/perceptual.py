"""E-LatentLPIPS, a learned perceptual distance between latents (arXiv:2405.05967): optional, from its own package.

The authors' runs with it use the encoder "sd15" without augmentation or ensembling, on latents that are scaled by
0.18215 but not normalised; choose that encoding in the dataset's settings. Its weights are its
package's to fetch, into ./ckpt, when the distance is first loaded. Neither package nor weights are locked or pinned, so
no table that a bare `snakemake` makes needs them.
"""

import importlib

import torch
from torch import Tensor

from lct.losses.objective import Distance

PACKAGE = "elatentlpips"


def load(device: torch.device | str = "cpu") -> Distance:
    """The distance (f, g, c) -> (B,), with frozen weights on `device`; c is not read.

    Raises ValueError with one line when the package or its weights are not available.
    """
    try:
        metric = importlib.import_module(PACKAGE).ELatentLPIPS(encoder="sd15", augment=None, verbose=False)
    except Exception as error:  # the package downloads and unpickles: many ways to fail, all of them "not available"
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"loss e-latent-lpips: expected the package {PACKAGE} and its sd15 weights, found them missing ({reason});"
            f" run `pip install {PACKAGE}`, and once on a host with network access `python -c 'from lct.losses import"
            f" perceptual; perceptual.load()'`, which puts the weights into ./ckpt; or leave the row out of its table"
        ) from error
    metric = metric.to(device).eval().requires_grad_(False)

    def distance(f: Tensor, g: Tensor, c: float) -> Tensor:
        return metric(f, g, normalize=False, ensembling=False).flatten()

    return distance
