"""The state of a small training, as of an autoencoder or a feature extractor, in one file that replaces itself.

A training whose draws are functions of (seed, step) goes on from it to the bytes of an undisturbed one.
"""

import logging
import math
import os
import platform
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lct.files.atomic import write_json
from lct.files.tensors import read_metadata, read_tensors, write_tensors

log = logging.getLogger(__name__)
_STATE, _PROGRESS = "state.safetensors", "progress.json"
_HEARTBEAT_SECONDS = 5.0


class Checkpoint:
    """Called after every step; saves the state every few minutes, and says how far the training is.

    folder:   of this training alone; removed at the end
    identity: settings, seeds and inputs, JSON-able; a state of another identity is not taken
    """

    def __init__(self, folder: Path, identity: dict[str, Any], total: int, save_seconds: float):
        self.folder, self.identity, self.total, self.save_seconds = folder, identity, total, save_seconds
        self.step = 0  # steps done
        self._parts: tuple[nn.Module, torch.optim.Optimizer] | None = None
        self._saved, self._reported = time.monotonic(), -math.inf  # the first step reports

    def load(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> int:
        """Take the saved state, if there is one of this training; returns the steps that it has done."""
        path = self.folder / _STATE
        if not path.exists():
            return 0
        try:
            content, tensors = read_metadata(path), read_tensors(path)
            if content.get("identity") != self.identity:
                log.info("%s: a state of other settings or inputs, not taken", path)
                return 0
            groups: dict[int, dict[str, torch.Tensor]] = {}
            for name in [name for name in tensors if name.startswith("optimiser/")]:
                _, number, key = name.split("/")
                groups.setdefault(int(number), {})[key] = tensors.pop(name)
            model.load_state_dict({name.removeprefix("network/"): tensor for name, tensor in tensors.items()})
            optimiser.load_state_dict({"state": groups, "param_groups": optimiser.state_dict()["param_groups"]})
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{' '.join(str(error).split())}; remove {self.folder} to start anew") from error
        self.step = int(content["step"])
        log.info("goes on from step %d of %d", self.step, self.total)
        return self.step

    def __call__(self, model: nn.Module, optimiser: torch.optim.Optimizer, step: int) -> None:
        """step: steps done."""
        self._parts, self.step, now = (model, optimiser), step, time.monotonic()
        if now - self._saved > self.save_seconds and step < self.total:
            self.save()
        if now - self._reported > _HEARTBEAT_SECONDS:
            self._reported = now
            state = {"step": step, "total": self.total, "updated": round(time.time(), 3)}
            write_json(self.folder / _PROGRESS, state | {"host": platform.node(), "pid": os.getpid()})

    def save(self) -> None:
        """Write the state as it is now."""
        if self._parts is None:
            return
        model, optimiser = self._parts
        tensors = {f"network/{name}": tensor for name, tensor in model.state_dict().items()}
        for number, values in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{number}/{key}": torch.as_tensor(value) for key, value in values.items()}
        write_tensors(self.folder / _STATE, tensors, {"step": self.step, "identity": self.identity})
        self._saved = time.monotonic()

    def remove(self) -> None:
        """At the end, when the results are published."""
        shutil.rmtree(self.folder, ignore_errors=True)
