"""Live events of a training for TensorBoard: `tensorboard --logdir work` shows them while it runs.

Events are notes for people: nothing reads them, and they never change a result. Each attempt writes a file of its own,
which begins with a mark that makes TensorBoard drop the points of steps that are taken again.
"""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

log = logging.getLogger(__name__)


class EventLog:
    """Writes scalars and images to one event file in `folder`.

    It writes in the calling thread: tensorboardX's own thread would block the training for ever on a full disk. When
    the file cannot be written, or tensorboardX is missing, a warning is logged and the training goes on without events.
    """

    def __init__(self, folder: Path, saved_step: int, attempt: str):
        """saved_step: the step from which this attempt goes on; attempt: makes the file's name unique."""
        self._writer: Any = None
        try:  # imported here: only rank 0 of a training needs it
            from tensorboardX.event_file_writer import EventsWriter

            folder.mkdir(parents=True, exist_ok=True)
            self._writer = EventsWriter(str(folder / "events"), f".{attempt}")
        except (OSError, ImportError) as error:
            log.warning("%s: no events are written (%s)", folder, error)
        if self._writer is not None:
            from tensorboardX.proto.event_pb2 import SessionLog

            self._write(saved_step + 1, session_log=SessionLog(status=SessionLog.START))

    def scalars(self, values: dict[str, float | int | None], step: int) -> None:
        """One point of each curve; None has no point."""
        if self._writer is not None:
            from tensorboardX import summary

            for name, value in values.items():
                if value is not None:
                    self._write(step, summary=summary.scalar(name, value))

    def images(self, name: str, images: np.ndarray, step: int) -> None:
        """images: (n, H, W, 3) uint8, shown side by side."""
        if self._writer is not None:
            from tensorboardX import summary

            self._write(step, summary=summary.image(name, np.concatenate(list(images), axis=1), dataformats="HWC"))

    def _write(self, step: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        try:
            if self._writer is not None:
                self._writer.write_event(Event(wall_time=time.time(), step=step, **content))
                self._writer.flush()
        except OSError as error:
            log.warning("no further events are written (%s)", error)
            self._writer = None
