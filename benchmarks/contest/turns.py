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
    ours_ms: float | None = None  # median time of a step, or of an image: of a CPU its own time, of a GPU wall time
    other_ms: float | None = None  # the same of what it is compared with
    wall: tuple[float, ...] = ()  # other / ours, turn by turn, by wall time
    cpu: tuple[float, ...] = ()  # the same by CPU time
    peak_mb: float | None = None
    note: str = ""

    def cells(self) -> list[str]:
        def number(value: float | None, digits: int) -> str:
            return "" if value is None else f"{value:.{digits}f}"

        ratios: list[str] = []
        for found in (self.wall, self.cpu):
            middle = statistics.median(found) if found else None
            ratios += [number(middle, 2), f"{min(found):.2f}-{max(found):.2f}" if found else ""]
        values = (number(self.ours_ms, 2), number(self.other_ms, 2), *ratios)
        return [self.part, self.name, *values, number(self.peak_mb, 0), self.note]


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
        clock = self.wall if torch.cuda.is_available() else self.cpu
        times = (1e3 * statistics.median(clock[name]) / per for name in (ours, other))
        wall, cpu = (
            tuple(b / a for a, b in zip(kept[ours], kept[other], strict=True)) for kept in (self.wall, self.cpu)
        )
        return Row(part, title, *times, wall, cpu, **more)


def clock(device: torch.device) -> float:
    """Seconds that mean something also while the machine does other things: a CPU's own, or a GPU's by wall time, when
    it has finished."""
    synchronise(device)
    return time.perf_counter() if device.type == "cuda" else _cpu_seconds()


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
        started = clock(device)
        found = called(*arguments, **options)
        spent[label] += clock(device) - started
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
    titles = ["part", "what", "ours ms", "other ms", "wall", "range", "CPU", "range", "MB", ""]
    lines = [titles, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    left = (0, 1, len(titles) - 1)
    return "\n".join(
        "  ".join(
            c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
