"""What a verb of `lct` is."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Result = tuple[int, Any, str]  # exit code, value for --json, text for people


@dataclass(frozen=True)
class Verb:
    """A verb: its options, and the function that runs it and returns what is printed."""

    help: str  # one line
    run: Callable[[argparse.Namespace], Result]
    arguments: Callable[[argparse.ArgumentParser], None]
    example: str
