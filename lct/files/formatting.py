"""Times, sizes and lists for people."""

from collections.abc import Sequence


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
