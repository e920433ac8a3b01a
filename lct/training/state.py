"""Resume states: everything a training needs to go on as if nothing had happened, in files that can be trusted.

A state is two files, `state-STEP.safetensors` and, written after it, `state-STEP.json` with its hash; the two newest
states are kept. A state belongs to one set of settings, seed and inputs: the folder's name is their hash, and the JSON
repeats them, so a changed setting never resumes a foreign state. Losing a state costs time, never a result: the same
steps give the same bytes.
"""

import json
import logging
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lct.checks import invalid
from lct.files import records
from lct.files.atomic import read_json, write_json
from lct.files.hashing import sha256_file
from lct.files.tensors import read_metadata, read_tensors, stream_tensors

log = logging.getLogger(__name__)

CURVE_COLUMNS = ("step", "loss", "consistency", "diffusion", "residual_rms", "c", "intervals", "gradient_norm", "lr")
KEPT = 2  # generations
SLOW_SECONDS = 1.0  # that training waits for a disk without a word


@dataclass
class TrainingProgress:
    """How far a training is: steps done, and the curve so far (column -> one value per logged step)."""

    step: int = 0
    curve: dict[str, list[float | int | None]] = field(default_factory=lambda: {name: [] for name in CURVE_COLUMNS})


class StateFolder:
    """The states of one training in one folder. Only one process may use it (rank 0, under the training's lock).

    until: the step that a job trains to; states of later steps are left to later jobs. None: the end."""

    def __init__(self, folder: Path, identity: dict[str, Any], until: int | None = None):
        self.folder, self.identity, self.until = folder, identity, until
        self.blocked_seconds = 0.0  # how long training has waited for states
        self.longest_seconds = 0.0  # that a state took to reach the disk
        self._writer: threading.Thread | None = None
        self._error: OSError | None = None
        self._copies: dict[str, Tensor] = {}  # in main memory, used again by each save

    def save(self, progress: TrainingProgress, tensors: dict[str, Tensor], wait: bool) -> None:
        """Save what is true now. Training waits for a copy in memory only, the file is written beside it; with `wait`,
        until it is there. A save that fails is a warning, as the older states stay; with `wait` it raises OSError."""
        started = time.monotonic()
        self._join()
        if not wait and (waited := time.monotonic() - started) > SLOW_SECONDS:
            log.warning(
                "%s: training waited %.0f s for the state before, which the disk was still taking; more minutes "
                "between states (--config save_minutes=30), or a faster file system for work/, spares that",
                self.folder,
                waited,
            )
        for name, tensor in tensors.items():
            if name not in self._copies:
                self._copies[name] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._copies[name].copy_(tensor.detach())
        curve = {name: list(values) for name, values in progress.curve.items()}
        self._writer = threading.Thread(
            target=self._write, args=(progress.step, curve, {name: self._copies[name] for name in tensors})
        )
        self._writer.start()
        if wait:
            self.finish()
        self.blocked_seconds += time.monotonic() - started

    def finish(self) -> None:
        """Wait until the last state is on disk; raises OSError when it could not be written."""
        self._join()
        if self._error is not None:
            raise self._error

    def load(self) -> tuple[TrainingProgress, dict[str, Tensor]] | None:
        """The newest whole state; None when there is none. What is damaged is removed, with a warning.

        Raises ValueError naming the key that differs when a state belongs to other settings.
        """
        self._remove_strays()
        steps = self._steps()
        for step in steps:
            path = self._tensors(step)
            try:
                described, digest = read_json(path.with_suffix(".json")), sha256_file(path)
                identity = described["identity"]
                if digest != described["sha256"]:
                    raise ValueError(f"expected sha256 {described['sha256'][:12]}, found {digest[:12]}")
                tensors, metadata = read_tensors(path), read_metadata(path)
            except (ValueError, KeyError, TypeError, OSError) as error:
                log.warning("%s: damaged (%s); trying the state before it", path, error)
                self._remove(step)
                continue
            if identity != self.identity:
                text = f"another one's: {'; '.join(differences(identity, self.identity))}"
                raise invalid(path, "a state of this training", text, f"remove {self.folder} to start anew")
            unknown = [None] * len(metadata["curve"]["step"])  # of a column that this state's version did not have
            curve = {name: metadata["curve"].get(name, unknown[:]) for name in CURVE_COLUMNS}
            return TrainingProgress(step=metadata["step"], curve=curve), tensors
        if steps:
            log.warning("%s: no whole state; starting again from step 0, which gives the same result", self.folder)
        return None

    def newest(self) -> Path | None:
        """The file of the newest state."""
        return next(map(self._tensors, self._steps()), None)

    def saved_step(self) -> int:
        """Steps done in the newest state, 0 without one; does not look into it."""
        return next(iter(self._steps()), 0)

    def _write(self, step: int, curve: dict[str, list], tensors: dict[str, Tensor]) -> None:
        path, started = self._tensors(step), time.monotonic()
        try:
            digest = stream_tensors(path, tensors, {"step": step, "curve": curve})
            content = {"bytes": path.stat().st_size, "sha256": digest, "identity": self.identity}
            write_json(path.with_suffix(".json"), content | {"step": step})
        except OSError as error:
            self._error = error
            log.warning("%s: not saved, the states before it stay (%s)", path, error)
            return
        self._error = None
        self.longest_seconds = max(self.longest_seconds, time.monotonic() - started)
        for old in self._steps()[KEPT:]:
            self._remove(old)

    def _join(self) -> None:
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def _steps(self) -> list[int]:
        """Steps with a state, the newest first. The JSON is written last, so a state without one was never whole."""
        names = [path.stem.removeprefix("state-") for path in self.folder.glob("state-*.json")]
        steps = sorted((int(name) for name in names if name.isdigit()), reverse=True)
        return [step for step in steps if self.until is None or step <= self.until]

    def _remove_strays(self) -> None:
        """Remove what a killed writer left: tensors without their JSON, and partial files."""
        strays = [p for p in self.folder.glob("state-*.safetensors") if not p.with_suffix(".json").exists()]
        for path in [*strays, *self.folder.glob(".state-*.partial")]:
            path.unlink(missing_ok=True)

    def _remove(self, step: int) -> None:
        for suffix in (".json", ".safetensors"):
            self._tensors(step).with_suffix(suffix).unlink(missing_ok=True)

    def _tensors(self, step: int) -> Path:
        return self.folder / f"state-{step:09}.safetensors"


def differences(other: dict[str, Any], own: dict[str, Any]) -> list[str]:
    """What differs between two nested settings, one "key: other's value there, ours here" for each leaf."""
    pairs = sorted(records.differences(other, own).items())
    return [f"{key}: {_text(theirs)} there, {_text(ours)} here" for key, (theirs, ours) in pairs]


def _text(value: Any) -> str:
    return "nothing" if value is records.MISSING else json.dumps(value, sort_keys=True)
