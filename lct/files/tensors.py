"""safetensors files with one metadata key, so that equal content gives equal bytes."""

import hashlib
import json
import math
import os
import pickle
import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lct.checks import invalid, require
from lct.files.advice import make, make_again
from lct.files.atomic import atomic, write_fully
from lct.files.hashing import canonical_json, sha256_file

METADATA_KEY = "lct"  # one key holding sorted JSON: safetensors does not fix the order of several keys
_PICKLED = (".pt", ".pth", ".ckpt", ".bin")  # written by torch.save
_NESTED = ("state_dict", "model", "ema")  # keys under which training programs keep the weights
_PREFIXES = ("net.", "module.", "_orig_mod.")  # of wrappers: an exported pipeline, DDP, torch.compile
_TYPE_NAMES = {"uint": "U", "int": "I", "bfloat": "BF", "float": "F", "bool": "BOOL"}  # of torch and of safetensors


def write_tensors(path: Path | str, tensors: dict[str, torch.Tensor], metadata: dict[str, Any] | None = None) -> None:
    """Write `tensors` (any device) and a JSON-able `metadata` atomically to `path`."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic(path) as partial:
        try:
            save_file(contiguous, partial, metadata={METADATA_KEY: canonical_json(metadata or {})})
        except SafetensorError as error:  # tells of a full disk only in words
            if (number := re.search(r"os error (\d+)", str(error))) is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def stream_tensor(
    path: Path | str,
    name: str,
    parts: Iterable[torch.Tensor],
    shape: tuple[int, ...],
    dtype: torch.dtype = torch.float32,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Write one tensor of `shape`, given as consecutive parts (n, *shape[1:]), atomically and one part at a time.

    The file has the bytes that `write_tensors` would give it with all parts in memory."""
    rows = 0
    with atomic(path) as partial, open(partial, "wb") as file:
        file.write(_header({name: (dtype, shape)}, metadata or {}))
        for part in parts:
            if part.dtype != dtype or tuple(part.shape[1:]) != tuple(shape[1:]):
                raise ValueError(f"{path}: expected parts (n, {shape[1:]}) {dtype}, found {part.shape} {part.dtype}")
            rows += len(part)
            file.write(part.detach().cpu().contiguous().numpy().data)
        require(rows == shape[0], path, f"{shape[0]} rows in all parts together", rows)


def stream_tensors(path: Path | str, tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> str:
    """Write `tensors` (on the CPU) and `metadata` atomically to `path`; returns the sha256 of its bytes.

    For a thread beside a computation: safetensors' own writer copies everything once more, and holds Python's lock
    meanwhile; this one releases it while it hashes and writes."""
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # keeps each aligned to its size
    header = _header({name: (tensors[name].dtype, tuple(tensors[name].shape)) for name in names}, metadata)
    contents = (tensors[name].contiguous().view(-1).view(torch.uint8).numpy().data for name in names)
    digest = hashlib.sha256()
    with atomic(path) as partial, open(partial, "wb", buffering=0) as file:
        for part in (header, *contents):
            digest.update(part)
            write_fully(file, part)
    return digest.hexdigest()


def _header(tensors: dict[str, tuple[torch.dtype, tuple[int, ...]]], metadata: dict[str, Any]) -> bytes:
    """The first bytes of a safetensors file of tensors with these types and shapes, in this order: length and text of
    its header; the data after it align to 8 bytes."""
    content: dict[str, Any] = {"__metadata__": {METADATA_KEY: canonical_json(metadata)}}
    start = 0
    for name, (dtype, shape) in tensors.items():
        stop = start + math.prod(shape) * dtype.itemsize
        kind, bits = re.fullmatch(r"torch\.([a-z]+)(\d*)", str(dtype)).groups()
        content[name] = {"dtype": _TYPE_NAMES[kind] + bits, "shape": list(shape), "data_offsets": [start, stop]}
        start = stop
    header = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header


def read_rows(path: Path | str, name: str, size: int) -> Iterator[torch.Tensor]:
    """A stored tensor in parts of `size` rows, one in memory at a time: the file is mapped anew for each."""
    for start in range(0, shape_of(path, name)[0], size):
        yield map_tensor(path, name)[start : start + size]


def pick_rows(path: Path | str, name: str, rows: Iterable[int]) -> torch.Tensor:
    """Some rows of a stored tensor, in the order given; the others are not read."""
    return map_tensor(path, name)[[int(row) for row in rows]]


def map_tensor(path: Path | str, name: str) -> torch.Tensor:
    """A stored tensor as a map of its file: what is not looked at is not read. Writing to it does not change the
    file."""
    with _opened(path) as handle:  # safetensors maps a file, and copies nothing for the CPU
        return handle.get_tensor(name)


def shape_of(path: Path | str, name: str) -> tuple[int, ...]:
    """Shape of a stored tensor."""
    return tuple(map_tensor(path, name).shape)


def read_tensors(path: Path | str) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file; raises ValueError naming the file when it is missing or damaged."""
    with _opened(path) as handle:
        return {name: handle.get_tensor(name) for name in handle.keys()}


def read_state_dict(path: Path | str, sha256: str | None = None) -> dict[str, torch.Tensor]:
    """The tensors of a network, from a safetensors file or a state dict of torch, which is read without running code.

    A state dict may stand under a key such as `state_dict`, and all its names may share the prefix of a wrapper (`net.`
    in the folders that `lct export` writes). sha256: the expected hash of the file. Raises ValueError with one line."""
    digest = sha256_file(path) if sha256 is not None else None
    require(digest == sha256, path, f"sha256 {sha256}", digest, "correct the file or the run")
    tensors: Any = None
    if Path(path).suffix in _PICKLED:
        try:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
            text = " ".join(str(error).split())[:200]
            raise invalid(path, "a state dict of tensors alone", f"something else ({text})", "save one") from error
        nested = [key for key in _NESTED if isinstance(tensors, dict) and isinstance(tensors.get(key), dict)]
        tensors = tensors[nested[0]] if nested else tensors
        if not isinstance(tensors, dict) or not all(isinstance(t, torch.Tensor) for t in tensors.values()):
            raise invalid(path, "a state dict, name -> tensor", "something else", "save that of the network")
    else:
        tensors = read_tensors(path)
    prefix = next((p for p in _PREFIXES if tensors and all(name.startswith(p) for name in tensors)), "")
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def read_metadata(path: Path | str) -> dict[str, Any]:
    """The JSON metadata that `write_tensors` stored; {} in a file of another origin."""
    with _opened(path) as handle:
        return json.loads((handle.metadata() or {}).get(METADATA_KEY, "{}"))


@contextmanager
def _opened(path: Path | str) -> Iterator[Any]:
    try:
        with safe_open(str(path), framework="pt") as handle:
            yield handle
    except FileNotFoundError as error:
        raise ValueError(f"{path}: expected a safetensors file, found nothing; `{make(path)}` makes it") from error
    except (SafetensorError, OSError) as error:
        raise invalid(path, "a whole safetensors file", f"damage ({error})", make_again(path)) from error
