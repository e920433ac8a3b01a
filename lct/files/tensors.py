"""safetensors files with one metadata key, so that equal content gives equal bytes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lct.files.atomic import atomic
from lct.files.hashing import canonical_json

METADATA_KEY = "lct"  # one key holding sorted JSON: safetensors does not fix the order of several keys


def write_tensors(path: Path | str, tensors: dict[str, torch.Tensor], metadata: dict[str, Any] | None = None) -> None:
    """Write `tensors` (any device) and a JSON-able `metadata` atomically to `path`."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic(path) as partial:
        save_file(contiguous, partial, metadata={METADATA_KEY: canonical_json(metadata or {})})


def read_tensors(path: Path | str, device: str = "cpu") -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file; raises ValueError naming the file when it is missing or damaged."""
    with _opened(path, device) as handle:
        return {name: handle.get_tensor(name) for name in handle.keys()}


def read_metadata(path: Path | str) -> dict[str, Any]:
    """The JSON metadata that `write_tensors` stored; {} in a file of another origin."""
    with _opened(path, "cpu") as handle:
        return json.loads((handle.metadata() or {}).get(METADATA_KEY, "{}"))


@contextmanager
def _opened(path: Path | str, device: str) -> Iterator[Any]:
    try:
        with safe_open(str(path), framework="pt", device=device) as handle:
            yield handle
    except FileNotFoundError as error:
        raise ValueError(f"{path}: expected a safetensors file, found nothing; run snakemake to make it") from error
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path}: expected a whole safetensors file, found damage ({error}); "
            f"make it again: snakemake --force {path}"
        ) from error
