"""Nested settings, as records hold them, by dotted keys: flattened, and compared."""

from typing import Any

MISSING = type("Missing", (), {"__repr__": lambda self: "nothing"})()  # in the place of a value that a side lacks


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}; lists stay values, empty dictionaries give nothing."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        leaves |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


def differences(old: Any, new: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (old value, new value) of each leaf that differs; MISSING where a side has none."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return {} if old == new else {prefix: (old, new)}
    return {
        name: pair
        for key in dict.fromkeys([*old, *new])
        for name, pair in differences(
            old.get(key, MISSING), new.get(key, MISSING), f"{prefix}.{key}" if prefix else str(key)
        ).items()
    }
