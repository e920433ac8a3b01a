"""Options as command lines have them; `lct measure` needs them where few packages are."""

from typing import Any


def as_words(options: dict[str, Any]) -> list[str]:
    """Options as a command line has them, but for those that are None."""
    texts = {k: ",".join(v) if isinstance(v, list) else str(v) for k, v in options.items() if v is not None}
    return [word for key, text in texts.items() for word in (f"--{key.replace('_', '-')}", text)]
