"""Work done by threads beside the one that needs it, in order: reading, decoding and encoding images.

Pillow lets go of Python's lock while it decodes and encodes, and torch while it computes.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
AHEAD = 4  # tasks per thread that may wait for their turn
READERS = 4  # threads that decode images for a network: four of them serve some 2500 images of 256 x 256 a second


def in_order(tasks: Iterable[Callable[[], T]], workers: int, waiting: int | None = None) -> Iterator[T]:
    """What `tasks` return, in their order; at most `workers` run at once, and few wait.

    waiting: how many may run or wait; then even a single worker runs beside the caller. By default one worker is the
             caller itself."""
    if workers <= 1 and waiting is None:
        for task in tasks:
            yield task()
        return
    most = workers * AHEAD if waiting is None else waiting
    pool = ThreadPoolExecutor(workers)
    try:
        yield from results(map(pool.submit, tasks), most)
    finally:
        pool.shutdown(cancel_futures=True)


def results(futures: Iterable[Future[T]], waiting: int) -> Iterator[T]:
    """Results in the order of `futures`, which are taken, and so begun, as long as fewer than `waiting` are pending."""
    pending: deque[Future[T]] = deque()
    for future in futures:
        pending.append(future)
        if len(pending) >= waiting:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def readers() -> int:
    """Threads for reading images on this machine: as many as this process may use, up to READERS."""
    return min(READERS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
