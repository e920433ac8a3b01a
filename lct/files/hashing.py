"""The hashes of the project: SHA-256 of files, texts and JSON values, and MD5, by which DVC names a content."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

_BLOCK = 1 << 20  # bytes read at a time


class FileHash(NamedTuple):
    """Size and hashes of a file's bytes."""

    size: int  # bytes
    sha256: str  # hexadecimal
    md5: str  # hexadecimal


def sha256_file(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in one streaming pass."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def hash_file(path: Path | str) -> FileHash:
    """Size, SHA-256 and MD5 of a file in one pass."""
    size, sha256, md5 = 0, hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as handle:
        while block := handle.read(_BLOCK):
            size += len(block)
            sha256.update(block)
            md5.update(block)
    return FileHash(size, sha256.hexdigest(), md5.hexdigest())


def sha256_text(text: str) -> str:
    """Hexadecimal SHA-256 of a text in UTF-8, and of bytes in it that are none and were read as surrogates."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def canonical_json(value: Any) -> str:
    """`value` as compact JSON with sorted keys: equal values give equal text. Refuses NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_json(value: Any) -> str:
    """Hexadecimal SHA-256 of `canonical_json(value)`."""
    return sha256_text(canonical_json(value))
