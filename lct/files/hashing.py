"""SHA-256 of files and of JSON values."""

import hashlib
import json
from pathlib import Path
from typing import Any


def sha256_file(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in one streaming pass."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """`value` as compact JSON with sorted keys: equal values give equal text. Refuses NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_json(value: Any) -> str:
    """Hexadecimal SHA-256 of `canonical_json(value)`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
