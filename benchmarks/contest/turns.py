"""Turns of several contestants in one process, their times, and the rows of the table."""

import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

AGAIN = "python benchmarks/speed.py --device cuda"  # measures what a machine without a GPU cannot


@dataclass
class Row:
    """One line of the table."""

    part: str  # training, sampling, scoring
    name: str  # what is compared
    ours_ms: float | None = None  # median wall time of a step, or of an image
    other_ms: float | None = None  # the same of what it is compared with
    ratio: float | None = None  # median of other / ours, turn by turn
    low: float | None = None  # smallest and largest of these
    high: float | None = None
    cpu_ratio: float | None = None  # the same by CPU time
    peak_mb: float | None = None
    note: str = ""

    def cells(self) -> list[str]:
        def number(value: float | None, digits: int) -> str:
            return "" if value is None else f"{value:.{digits}f}"

        spread = "" if self.low is None else f"{self.low:.2f} to {self.high:.2f}"
        values = (number(self.ours_ms, 2), number(self.other_ms, 2), number(self.ratio, 2), spread)
        return [self.part, self.name, *values, number(self.cpu_ratio, 2), number(self.peak_mb, 0), self.note]


@dataclass
class Turns:
    """Wall and CPU seconds of each turn of each contestant."""

    wall: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @contextmanager
    def of(self, name: str, device: torch.device) -> Iterator[None]:
        synchronise(device)
        started, spent = time.perf_counter(), _cpu_seconds()
        yield
        synchronise(device)
        self.wall[name].append(time.perf_counter() - started)
        self.cpu[name].append(_cpu_seconds() - spent)

    def forget_first(self) -> None:
        """Leave out the first turns, which warmed up."""
        for values in (*self.wall.values(), *self.cpu.values()):
            del values[0]

    def row(self, part: str, title: str, ours: str, other: str, per: int, **more: Any) -> Row:
        """`other` against `ours`, in milliseconds of one of `per` steps or images."""
        ratios = [b / a for a, b in zip(self.wall[ours], self.wall[other], strict=True)]
        cpu = [b / a for a, b in zip(self.cpu[ours], self.cpu[other], strict=True)]
        times = (1e3 * statistics.median(self.wall[name]) / per for name in (ours, other))
        return Row(
            part, title, *times, statistics.median(ratios), min(ratios), max(ratios), statistics.median(cpu), **more
        )


def _cpu_seconds() -> float:
    """Of all threads of this process, and of the processes that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def timed(owner: Any, name: str, label: str, spent: dict[str, float], device: torch.device) -> Iterator[None]:
    """Every call of `owner.name` adds to spent[label]."""
    called, own = getattr(owner, name), name in vars(owner)

    def timing(*arguments: Any, **options: Any) -> Any:
        synchronise(device)
        started = time.perf_counter()
        found = called(*arguments, **options)
        synchronise(device)
        spent[label] += time.perf_counter() - started
        return found

    object.__setattr__(owner, name, timing) if not isinstance(owner, type) else setattr(owner, name, timing)
    try:
        yield
    finally:
        if own or isinstance(owner, type):
            setattr(owner, name, called)
        else:
            delattr(owner, name)


def show(rows: list[Row]) -> str:
    titles = ["part", "what", "ours ms", "other ms", "ratio", "range", "by CPU", "MB", ""]
    lines = [titles, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    left = (0, 1, len(titles) - 1)
    return "\n".join(
        "  ".join(
            c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
