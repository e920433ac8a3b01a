"""safetensors files with one metadata key, so that equal content gives equal bytes."""

import hashlib
import json
import struct
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


def stream_tensors(path: Path | str, tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> str:
    """Write `tensors` (on the CPU) and `metadata` atomically to `path`; gives the sha256 of its bytes.

    For a thread beside a computation: unlike safetensors' own writer, which copies everything once more, this one
    holds Python's lock hardly at all."""
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # keeps each aligned to its size
    header: dict[str, Any] = {"__metadata__": {METADATA_KEY: canonical_json(metadata)}}
    start = 0
    for name in order:
        tensor = tensors[name]
        stop = start + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, stop]}
        start = stop
    text = canonical_json(header).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with atomic(path) as partial, open(partial, "wb", buffering=0) as file:
        for part in (struct.pack("<Q", len(text)) + text, *(_bytes(tensors[name]) for name in order)):
            digest.update(part)
            view = memoryview(part)
            while view:  # an unbuffered file may take less than all
                view = view[file.write(view) :]
    return digest.hexdigest()


_NAMES = {  # safetensors' names of the types that a training has
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def _bytes(tensor: torch.Tensor) -> memoryview:
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().data
