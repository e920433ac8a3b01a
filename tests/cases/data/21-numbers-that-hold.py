"""Frechet distance, precision and recall of few images, constant features and huge offsets."""

import sys

import numpy as np
from situation import PROJECT, verdict

sys.path.insert(0, PROJECT)
import torch

from lct.metrics.distances import frechet, precision_recall, statistics

torch.set_num_threads(1)
draws = torch.Generator().manual_seed(0)
few = [frechet(statistics(torch.randn(10, 2048, generator=draws)), statistics(torch.randn(12, 2048, generator=draws)))]
ones = torch.ones(100, 64, dtype=torch.float64)
same = precision_recall(generated=ones, real=ones.clone())
a = torch.randn(500, 64, generator=draws, dtype=torch.float64)
near, far = frechet(statistics(a), statistics(a[:250])), frechet(statistics(a + 1e6), statistics(a[:250] + 1e6))
print(few, same, near, far, frechet(statistics(ones), statistics(ones)))
verdict(
    np.isfinite(few[0]) and few[0] > 0 and same.precision == same.recall == 1 and abs(near - far) < 1e-6,
    "as they should be",
)
