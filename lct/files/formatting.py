"""Times, sizes and lists for people, and numbers for JSON."""

import math
from collections.abc import Sequence
from typing import Any

_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}  # Python's spelling -> the word in JSON
NOT_FINITE = frozenset((*_NOT_FINITE, *_NOT_FINITE.values()))


def plain_number(value: float) -> float | str:
    """A number as JSON can hold it: one that is not finite becomes a word, which `float` reads."""
    return value if math.isfinite(value) else _NOT_FINITE[repr(float(value))]


def plain_numbers(value: Any) -> Any:
    """The same for all numbers in nested dicts and lists."""
    if isinstance(value, dict):
        return {key: plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_numbers(item) for item in value]
    return plain_number(value) if isinstance(value, float) else value


def format_duration(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03; none are negative."""
    hours, rest = divmod(max(0, round(seconds)), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def format_size(size: float) -> str:
    """Bytes as 2.45 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def format_some(names: Sequence[str], most: int = 3) -> str:
    """The first names, as a, b, c and 4 more."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
