"""Items of a job dealt out to one process per GPU, results in the order of the items, for any number of processes."""

import functools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from multiprocessing.connection import wait
from typing import Any, Generic, TypeVar

import torch

from lct.checks import require
from lct.data.threads import results
from lct.jobs import job

AHEAD = 2  # results for each process that may wait to be taken

S = TypeVar("S")  # what a process opens its tools from
T = TypeVar("T")  # an item
R = TypeVar("R")  # its result


def devices(device: torch.device, workers: int | None) -> list[str]:
    """The device of each process: every GPU of the job once, or `workers` of them in turn."""
    require(workers is None or workers >= 1, "--workers", "1 or more", workers, "leave it out for one per GPU")
    several = device.type == "cuda" and device.index is None
    gpus = (job.requested_gpus() or torch.cuda.device_count()) if several else 1
    names = [f"cuda:{number}" for number in range(gpus)] if gpus > 1 else [str(device)]
    return [names[number % gpus] for number in range(workers or gpus)]


class Pool(AbstractContextManager, Generic[S, T, R]):
    """Results of open_(source, device)(item): made in this process for one device, for several in a process each.

    open_, a module's function, and the source must be picklable, items and results too; what has been opened is used
    again. The first error of a process is raised here and drops what has not begun; a process whose job was killed
    ends itself."""

    def __init__(self, open_: Callable[[S, str], Callable[[T], R]], source: S, devices: list[str]):
        self._open, self._source, self._devices = open_, source, devices

    def map(self, items: Iterable[T]) -> Iterator[R]:
        if len(self._devices) == 1:
            for item in items:
                yield self._here(item)
            return
        futures = (self._processes.submit(_make, item) for item in items)
        try:
            yield from results(futures, AHEAD * len(self._devices) + 1)
        except BrokenProcessPool as error:
            raise ValueError("worker: expected it to finish, found it killed; run the same command again") from error

    @functools.cached_property
    def _here(self) -> Callable[[T], R]:
        return self._open(self._source, self._devices[0])

    @functools.cached_property
    def _processes(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # a GPU cannot be used in a forked process
        names = context.SimpleQueue()
        for name in self._devices:
            names.put(name)
        given = (self._open, self._source, names)
        return ProcessPoolExecutor(len(self._devices), context, initializer=_begin, initargs=given)

    def __exit__(self, *_: object) -> None:
        if "_processes" in vars(self):
            self._processes.shutdown(wait=True, cancel_futures=True)


_OPEN: list[Callable[[], Callable[[Any], Any]]] = []  # of a process: one


def _begin(open_: Callable[[S, str], Callable[[T], R]], source: S, names) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    name = names.get()
    _OPEN.append(functools.cache(lambda: open_(source, name)))  # by the first item, whose result an error becomes


def _make(item: Any) -> Any:
    return _OPEN[0]()(item)


def _end_with_parent() -> None:
    """A worker whose job was killed would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
