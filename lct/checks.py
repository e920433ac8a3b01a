"""The phrase of every message about bad input: where, what was expected, what is there, what to do."""

import difflib
from collections.abc import Sequence


def invalid(where: object, expected: object, value: object, advice: str = "correct it") -> ValueError:
    """The error of one line for a value that cannot be used; to raise."""
    return ValueError(f"{where}: expected {expected}, found {value}; {advice}")


def require(condition: object, where: object, expected: object, value: object, advice: str = "correct it") -> None:
    """Raise this error unless a condition holds."""
    if not condition:
        raise invalid(where, expected, value, advice)


def require_once(names: Sequence[str], where: object, what: str, advice: str = "rename one of them") -> None:
    """Raise this error if a name, which is `what` of something, is there twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, where, f"every {what} once", f"{twice} twice", advice)


def did_you_mean(name: object, names: list[str]) -> str:
    """A hint with the nearest of `names`, for the end of a message; empty if none is near."""
    return f"did you mean {near[0]!r}?" if (near := difflib.get_close_matches(str(name), names, n=1)) else ""
