"""A job of the graph as data."""

import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job of the graph."""

    rule: str  # its rule
    outputs: tuple[str, ...]  # declared outputs, the JSON records beside them left out
    inputs: tuple[str, ...]  # declared inputs
    settings: dict[str, Any] | None  # what it is given as --settings
    due: bool  # whether Snakemake would run it
    reasons: tuple[str, ...]  # why, in plain words

    @property
    def missing(self) -> bool:
        """Whether an output has never been made, or is gone."""
        return not all(os.path.exists(path) for path in self.outputs)


def is_record(path: str) -> bool:
    """Whether a declared output is one of the two JSON files beside another one."""
    return path.endswith((".settings.json", ".run.json"))
