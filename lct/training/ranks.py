"""The processes (ranks) of one training: one per GPU, on one node or several; a single process needs none of this.

They find each other by the environment that torchrun defines (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT),
which `lct.jobs.launch` sets too. NCCL between GPUs, gloo between CPUs. Every draw is a function of (seed, step), so the
ranks exchange sums of gradients and losses, and nothing else that could change a result.

Every method that communicates is a collective: all ranks call it, in the same order. Code that uses a World therefore
takes one path on all ranks, and `is_main` decides only who reads and writes files.
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


class LostRankError(RuntimeError):
    """Another rank has ended. That rank, or the program that started it, reports the reason."""


@dataclass(frozen=True)
class World:
    """This process among those of its training. The default is a training of one process."""

    rank: int = 0
    size: int = 1
    control: Any = None  # group for flags and small values, on CPUs: it never waits for a GPU

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes states, progress and outputs."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """This rank's contiguous share of `count` samples; shares differ by at most one."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def all_reduce(self, tensor: Tensor) -> None:
        """Replace `tensor` by its sum over the ranks; every rank gets the same bits."""
        if self.size > 1:
            with _other_ranks(self.rank):
                distributed.all_reduce(tensor)

    def any(self, *flags: bool) -> list[bool]:
        """For each flag: whether it is true on any rank. All ranks get the same answer."""
        if self.size == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.int32)
        with _other_ranks(self.rank):
            distributed.all_reduce(raised, distributed.ReduceOp.MAX, group=self.control)
        return [bool(flag) for flag in raised]

    def gather(self, value: Any) -> list[Any]:
        """Every rank's `value`, in the order of ranks."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        with _other_ranks(self.rank):
            distributed.all_gather_object(values, value, group=self.control)
        return values

    def broadcast(self, value: Any) -> Any:
        """Rank 0's `value`, on every rank."""
        if self.size == 1:
            return value
        box = [value]
        with _other_ranks(self.rank):
            distributed.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def broadcast_tensors(self, tensors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
        """Rank 0's `tensors`, on every rank; the others get theirs on the CPU."""
        if self.size == 1:
            return tensors
        shapes = self.broadcast({name: (tuple(t.shape), t.dtype) for name, t in tensors.items()})
        received = {}
        for name, (shape, dtype) in shapes.items():
            moved = (
                tensors[name].to(device).contiguous()
                if self.is_main
                else torch.empty(shape, dtype=dtype, device=device)
            )
            with _other_ranks(self.rank):
                distributed.broadcast(moved, src=0)
            received[name] = tensors[name] if self.is_main else moved.cpu()
        return received


ALONE = World()


@contextmanager
def process_group(device: torch.device, together: tuple[type[Exception], ...] = ()) -> Iterator[World]:
    """The World of this process; connects it with the other ranks when WORLD_SIZE is above 1. together: errors with
    which all ranks end in the same step; after another one, the others may be gone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    rank, gpu = int(os.environ["RANK"]), device.type == "cuda"
    with _other_ranks(rank):
        distributed.init_process_group("nccl" if gpu else "gloo", timeout=TIMEOUT, device_id=device if gpu else None)
        control = distributed.new_group(backend="gloo", timeout=TIMEOUT)
    try:
        yield World(rank, size, control)
    except together:
        distributed.destroy_process_group()  # else the end of the interpreter may abort, as its threads still run
        raise
    distributed.destroy_process_group()


@contextmanager
def _other_ranks(rank: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # distributed's own errors are among them
        raise LostRankError(f"rank {rank}: expected the other ranks to answer, found: {error}") from error
