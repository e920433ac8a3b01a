"""Random streams: every draw is a function of (seed, stream name, index), never of rank, worker or earlier calls.

A generator made here is used for one step or one image and thrown away, so a resumed, sharded or reordered
computation draws the same numbers as an undisturbed one.
"""

import hashlib

import torch


def generator(seed: int, stream: str, *index: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator for one (seed, stream, index...) on `device`.

    The values drawn are fixed for one device kind; CPU and GPU generators differ, as torch documents.
    """
    name = "/".join([str(int(seed)), stream, *(str(int(i)) for i in index)])
    state = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1  # torch takes a signed seed
    return torch.Generator(device=device).manual_seed(state)
