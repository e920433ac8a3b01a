"""Shares of a job's work, one process each: what finished stays finished, the first failure stops them all."""

import logging
import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import TypeVar

from lct.cli import job

T = TypeVar("T")


def run(body: Callable[[T], None], shares: list[T]) -> None:
    """body(share) for every share: a single one in this process, several in one new process each.

    body: a module's function, importable by another process.
    Raises ValueError with the first failure's line; the other workers are stopped.
    """
    if len(shares) <= 1:
        for share in shares:
            body(share)
        return
    context = multiprocessing.get_context("spawn")  # a GPU cannot be used in a forked process
    running = {}
    try:
        for share in shares:
            told, tell = context.Pipe(duplex=False)
            process = context.Process(target=_worker, args=(body, share, tell), daemon=True)
            process.start()
            tell.close()  # the worker's end: with it, the pipe ends with the worker
            running[process.sentinel] = process, told
        while running:
            for sentinel in wait(running):
                process, told = running.pop(sentinel)
                process.join()
                if process.exitcode:
                    raise ValueError(_reason(told, process.exitcode))
    finally:
        for process, _ in running.values():
            process.terminate()
            process.join()


def stop_if_alone() -> None:
    """End a worker whose job was killed: without it, nobody waits for the result."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise OSError("worker: expected the job that started it, found it gone")


def _reason(told: Connection, code: int) -> str:
    try:
        return told.recv()
    except EOFError:
        return f"worker: expected it to finish, found it ended by code {code}; run the same command again to go on"


def _worker(body: Callable[[T], None], share: T, tell: Connection) -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        body(share)
    except (ValueError, OSError, ArithmeticError, MemoryError) as error:
        tell.send(str(error))
        raise SystemExit(job.FAILED) from error
