"""Nearest training images: by blocks, to the last bit of one matrix of distances."""

import pytest
import torch

from lct.jobs import neighbours


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_neighbours_by_blocks_are_those_of_one_matrix(dtype, block, monkeypatch):
    draws = torch.Generator().manual_seed(0)
    real = torch.randn(200, 33, generator=draws).to(dtype)
    real[150:170] = real[20:40]  # equal training images: ties
    generated = torch.cat([torch.randn(5, 33, generator=draws).to(dtype), real[20:23]])
    whole = torch.cdist(generated.double(), real.double(), compute_mode="donot_use_mm_for_euclid_dist")
    expected = whole.topk(6, dim=1, largest=False, sorted=True)
    monkeypatch.setattr(neighbours, "BLOCK", block)
    distances, indices = neighbours.nearest(generated, real, 6)
    assert torch.equal(distances, expected.values) and torch.equal(indices, expected.indices)
    assert (distances[5:, :2] == 0).all()
