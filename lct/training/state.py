"""Resume state: weights, averages, optimiser moments, step and curve, in one safetensors file written atomically.

A state belongs to one set of settings, seed and inputs: the directory's name is their hash, so a changed setting never
resumes a foreign state. Losing a state costs time, never a result: the same steps give the same bytes.
"""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lct.files.tensors import METADATA_KEY, write_tensors
from lct.training.ema import Averages

log = logging.getLogger(__name__)

CURVE_COLUMNS = ("step", "loss", "consistency", "diffusion", "c", "intervals", "gradient_norm", "lr")


@dataclass
class Progress:
    """How far a training is: steps done, and the curve so far (column -> one value per logged step)."""

    step: int = 0
    curve: dict[str, list[float | int | None]] = field(default_factory=lambda: {name: [] for name in CURVE_COLUMNS})


class State:
    """Saves and restores everything a training needs to go on as if nothing had happened."""

    def __init__(
        self,
        path: Path,
        network: nn.Module,
        averages: Averages,
        optimiser: torch.optim.Optimizer,
        target: nn.Module | None = None,
    ):
        self.path, self._network, self._averages, self._optimiser = path, network, averages, optimiser
        self._target = None if target is network else target

    def save(self, progress: Progress) -> None:
        tensors = {f"network/{name}": t for name, t in self._network.state_dict().items()}
        tensors |= {f"average/{name}": t for name, t in self._averages.state().items()}
        if self._target is not None:
            tensors |= {f"target/{name}": t for name, t in self._target.state_dict().items()}
        for number, moments in self._optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{number}/{name}": t for name, t in moments.items()}
        write_tensors(self.path, tensors, {"step": progress.step, "curve": progress.curve})

    def load(self) -> Progress:
        """Restore from the file, or start anew (with a warning if the file is damaged)."""
        if not self.path.exists():
            return Progress()
        try:
            with safe_open(str(self.path), framework="pt") as handle:
                tensors = {name: handle.get_tensor(name) for name in handle.keys()}
                metadata = json.loads(handle.metadata()[METADATA_KEY])
        except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
            log.warning("%s: damaged (%s); starting again from step 0, which gives the same result", self.path, error)
            return Progress()
        self._restore(tensors)
        return Progress(step=metadata["step"], curve=metadata["curve"])

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "target": {}, "optimiser": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = tensor
        self._network.load_state_dict(parts["network"])
        self._averages.load(parts["average"])
        if self._target is not None:
            self._target.load_state_dict(parts["target"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimiser"].items():
            number, _, moment = name.partition("/")
            moments.setdefault(int(number), {})[moment] = tensor
        self._optimiser.load_state_dict(self._optimiser.state_dict() | {"state": moments})
