"""The processes (ranks) of one training: one per GPU, on one node or several; a single process needs none of this.

They find each other by the environment that torchrun defines (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT),
which `lct.jobs.launch` sets too. NCCL between GPUs, gloo between CPUs. Every draw is a function of (seed, step), so the
ranks exchange sums of gradients and losses, and nothing else that could change a result.
"""

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

TIMEOUT = datetime.timedelta(minutes=30)  # of an exchange: longer than the slowest pause of one rank


class Lost(RuntimeError):
    """Another rank is gone; that one, or what started it, says why."""


@dataclass(frozen=True)
class World:
    """This process among those of its training. The default is a training of one process."""

    rank: int = 0  # 0 is the one that writes states, progress and outputs
    size: int = 1
    control: Any = None  # group for flags, on CPUs: asking it never waits for a GPU

    @property
    def first(self) -> bool:
        return self.rank == 0

    def part(self, count: int) -> slice:
        """This rank's contiguous share of `count` samples; shares differ by at most one."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def sum(self, tensor: Tensor) -> None:
        """Replace `tensor` by its sum over the ranks, in the same order of additions, so in the same bits, on all."""
        if self.size > 1:
            with _contact(self.rank):
                distributed.all_reduce(tensor)

    def any(self, *flags: bool) -> list[bool]:
        """For each flag: is it true on any rank? All ranks get the same answer."""
        if self.size == 1:
            return list(flags)
        asked = torch.tensor(flags, dtype=torch.int32)
        with _contact(self.rank):
            distributed.all_reduce(asked, distributed.ReduceOp.MAX, group=self.control)
        return [bool(flag) for flag in asked]

    def gather(self, value: Any) -> list[Any]:
        """Every rank's `value`, in the order of ranks."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        with _contact(self.rank):
            distributed.all_gather_object(values, value, group=self.control)
        return values

    def share(self, value: Any) -> Any:
        """Rank 0's `value`, on every rank."""
        if self.size == 1:
            return value
        box = [value]
        with _contact(self.rank):
            distributed.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def share_tensors(self, tensors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
        """Rank 0's `tensors`, on every rank; the others get theirs on the CPU."""
        if self.size == 1:
            return tensors
        shapes = self.share({name: (tuple(t.shape), t.dtype) for name, t in tensors.items()})
        shared = {}
        for name, (shape, dtype) in shapes.items():
            moved = (
                tensors[name].to(device).contiguous() if self.first else torch.empty(shape, dtype=dtype, device=device)
            )
            with _contact(self.rank):
                distributed.broadcast(moved, src=0)
            shared[name] = tensors[name] if self.first else moved.cpu()
        return shared


ALONE = World()


@contextmanager
def ranks(device: torch.device) -> Iterator[World]:
    """This process's world; a group of processes when WORLD_SIZE says so."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    rank, gpu = int(os.environ["RANK"]), device.type == "cuda"
    with _contact(rank):
        distributed.init_process_group("nccl" if gpu else "gloo", timeout=TIMEOUT, device_id=device if gpu else None)
        control = distributed.new_group(backend="gloo", timeout=TIMEOUT)
    yield World(rank, size, control)
    distributed.destroy_process_group()  # after an error the others may be gone: leaving is enough


@contextmanager
def _contact(rank: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # distributed's own errors are among them
        raise Lost(f"rank {rank}: expected the other ranks to answer, found: {error}") from error
