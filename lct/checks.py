"""The phrase of every message about bad input: where, what was expected, what is there, what to do."""


def invalid(where: object, expected: object, value: object, advice: str = "correct it") -> ValueError:
    """The error of one line for a value that cannot be used; to raise."""
    return ValueError(f"{where}: expected {expected}, found {value}; {advice}")


def require(condition: object, where: object, expected: object, value: object, advice: str = "correct it") -> None:
    """Raise this error unless a condition holds."""
    if not condition:
        raise invalid(where, expected, value, advice)
