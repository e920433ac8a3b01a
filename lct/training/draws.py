"""Everything random in a training step, as functions of (seed, step): never of rank, resume or earlier calls.

So a thread may draw the batch of the next step, transport plan included, while the present step computes. Transport
plans are solved on the CPU (exactly, by POT), which has time for them while a GPU computes.
"""

import functools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from lct.streams import generator

T = TypeVar("T")


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, num_images: int) -> Tensor:
    return torch.randperm(num_images, generator=generator(seed, "shuffle", epoch))


def rows(seed: int, step: int, num_images: int, batch: int) -> Tensor:
    """(batch,) rows of the data for a step: a fresh permutation per epoch, its incomplete last batch dropped."""
    epoch, position = divmod(step, num_images // batch)
    return _permutation(seed, epoch, num_images)[position * batch : (position + 1) * batch]


def noise(seed: int, step: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Unit Gaussian noise of `shape` for a step."""
    return torch.randn(shape, generator=generator(seed, "noise", step, device=device), device=device)


def indices(seed: int, step: int, probabilities: np.ndarray, batch: int) -> Tensor:
    """(batch,) grid indices i drawn with P(i) = probabilities[i], with replacement, by inverting the distribution."""
    uniform = torch.rand(batch, generator=generator(seed, "index", step), dtype=torch.float64).numpy()
    cumulative = np.cumsum(probabilities)
    drawn = np.searchsorted(cumulative / cumulative[-1], uniform, side="right")
    return torch.from_numpy(drawn.astype(np.int64))


class Prefetcher(Generic[T]):
    """Calls `work(step)` one step ahead, in a thread."""

    def __init__(self, work: Callable[[int], T], tensors: Callable[[T], list[Tensor]], stop: int, device: torch.device):
        """tensors: gives the tensors of a result. stop: the first step that is never needed."""
        self._work, self._tensors, self._stop = work, tensors, stop
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self._stream is not None:  # what is drawn from may still be on its way to the device
            self._stream.wait_stream(torch.cuda.current_stream(device))
        self._thread = ThreadPoolExecutor(1, "prefetcher")
        self._waiting: dict[int, Future[tuple[T, Any]]] = {}

    def get(self, step: int) -> T:
        """The result of `step`; starts the work for the next step. Raises the error that the work raised."""
        future = self._waiting.pop(step, None)
        for other in self._waiting.values():  # begun for another step
            other.cancel()
        self._waiting.clear()
        result, event = self._work_on_stream(step) if future is None else future.result()
        if step + 1 < self._stop:
            self._waiting[step + 1] = self._thread.submit(self._work_on_stream, step + 1)
        if event is not None:
            current = torch.cuda.current_stream(self._stream.device)
            current.wait_event(event)
            for tensor in self._tensors(result):
                tensor.record_stream(current)
        return result

    def _work_on_stream(self, step: int) -> tuple[T, Any]:
        if self._stream is None:
            return self._work(step), None
        with torch.cuda.stream(self._stream):  # else its copies would wait for the step that computes
            return self._work(step), self._stream.record_event()
