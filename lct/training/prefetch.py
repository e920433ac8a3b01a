"""What the next step needs, made by a thread while this step computes: its draws, and their transport plan.

Draws are functions of the step alone, so a result made ahead is the result. Transport plans are solved on the CPU
(exactly, by POT), where a GPU's step leaves time for them.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Ahead(Generic[T]):
    """`work(step)` for one step after the other."""

    def __init__(self, work: Callable[[int], T], tensors: Callable[[T], list[Tensor]], stop: int, device: torch.device):
        """tensors: those that a result holds. stop: the first step that is never asked for."""
        self._work, self._tensors, self._stop = work, tensors, stop
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self._stream is not None:  # what is drawn from may still be on its way to the device
            self._stream.wait_stream(torch.cuda.current_stream(device))
        self._thread = ThreadPoolExecutor(1, "ahead")
        self._waiting: dict[int, Future[tuple[T, Any]]] = {}

    def get(self, step: int) -> T:
        """The result of `step`, which an error in its making raises; the next step's is begun."""
        future = self._waiting.pop(step, None)
        for other in self._waiting.values():  # another step than expected was asked for
            other.cancel()
        self._waiting.clear()
        result, event = self._make(step) if future is None else future.result()
        if step + 1 < self._stop:
            self._waiting[step + 1] = self._thread.submit(self._make, step + 1)
        if event is not None:
            current = torch.cuda.current_stream(self._stream.device)
            current.wait_event(event)
            for tensor in self._tensors(result):
                tensor.record_stream(current)
        return result

    def _make(self, step: int) -> tuple[T, Any]:
        if self._stream is None:
            return self._work(step), None
        with torch.cuda.stream(self._stream):  # else its copies would wait for the step that computes
            return self._work(step), self._stream.record_event()
