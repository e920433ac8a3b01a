"""The check behind every message about a setting: where, what was expected, what is there, what to do."""


def require(condition: object, where: str, expected: str, value: object, advice: str = "correct it") -> None:
    """Raise ValueError with one line unless a condition holds."""
    if not condition:
        raise ValueError(f"{where}: expected {expected}, found {value}; {advice}")
