"""Colour for terminals, and for nothing else: pipes, files, NO_COLOR and dumb terminals get plain text."""

import os
import re
from typing import TextIO

GREEN, YELLOW, RED, PLAIN = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[0m"
WORDS = {
    GREEN: ("ok", "equal", "same", "reproduced", "whole"),
    YELLOW: ("stale", "dirty", "unchecked", "interrupted", "partial", "half-finished"),
    RED: ("broken", "missing", "differs", "failed", "error", "REFUSED"),
}
_COLOURS = {word: colour for colour, words in WORDS.items() for word in words}
_STATE = re.compile(rf"(?m)^(\s*)({'|'.join(map(re.escape, _COLOURS))})(?=[\s:,]|$)")


def shows_colour(stream: TextIO) -> bool:
    """Whether a stream is a terminal with colours, and the user did not switch them off (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, stream: TextIO) -> str:
    """Text for a stream: a state at the start of a line in its colour where that can be seen."""
    if not shows_colour(stream):
        return text
    return _STATE.sub(lambda m: f"{m[1]}{_COLOURS[m[2]]}{m[2]}{PLAIN}", text)


def fault(text: str, stream: TextIO) -> str:
    """An error line for a stream."""
    return f"{RED}{text}{PLAIN}" if shows_colour(stream) else text
