"""What a verb of `lct` is."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Result = tuple[int, Any, str]  # exit code, value for --json, text for people


@dataclass(frozen=True)
class Verb:
    """A verb: the function that runs it and returns what is printed, its options, and an example."""

    run: Callable[[argparse.Namespace], Result]
    arguments: Callable[[argparse.ArgumentParser], None]
    example: str
    selects: bool = True  # whether it takes the options that select a plan

    @property
    def help(self) -> str:
        """One line: the first of the function's docstring."""
        line = str(self.run.__doc__).partition("\n")[0].removesuffix(".")
        return line[0].lower() + line[1:]
