"""Shared by tests of trainings."""

import pytest

from lct.data.settings import Encoding
from lct.files.tensors import write_tensors
from tests.helpers.latents import statistics
from tests.helpers.tiny_training import latents


@pytest.fixture
def encoded(tmp_path):
    z = 3.0 * latents(64) + 1.0
    write_tensors(tmp_path / "latents.safetensors", {"latents": z})
    write_tensors(tmp_path / "statistics.safetensors", statistics(z, Encoding()).tensors())
    return tmp_path
