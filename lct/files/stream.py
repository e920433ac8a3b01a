"""safetensors files written beside a running computation, with the hash of what was written."""

import hashlib
import struct
from pathlib import Path
from typing import Any

import torch

from lct.files.atomic import atomic, write_fully
from lct.files.hashing import canonical_json
from lct.files.tensors import METADATA_KEY


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
            write_fully(file, part)
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
