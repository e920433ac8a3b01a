"""A job of the graph as data."""

import os
from collections.abc import Iterable
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


def upstream(jobs: Iterable[Job], paths: Iterable[str] | None = None) -> list[Job]:
    """The jobs that make the paths and whatever they need, producers first; without paths, every job."""
    makers = {path: job for job in jobs for path in job.outputs}
    ordered: dict[str, Job] = {}

    def visit(job: Job) -> None:
        if job.outputs[0] not in ordered:
            for path in job.inputs:
                if path in makers:
                    visit(makers[path])
            ordered[job.outputs[0]] = job

    for path in makers if paths is None else paths:
        if path in makers:
            visit(makers[path])
    return list(ordered.values())


def is_record(path: str) -> bool:
    """Whether a declared output is one of the two JSON files beside another one."""
    return path.endswith((".settings.json", ".run.json"))
