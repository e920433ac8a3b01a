"""Live events of a training for TensorBoard: `tensorboard --logdir work` shows them while it runs.

Events are notes for people: nothing reads them, and they never change a result. Each attempt writes a file of its own,
which begins with a mark that makes TensorBoard drop the points of steps that are taken again.
"""

import logging
import time
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

log = logging.getLogger(__name__)


class EventLog:
    """Writes scalars and images to one event file in `folder`.

    It writes in the calling thread: tensorboardX's own thread would block the training for ever on a full disk. When
    the file cannot be written, a warning is logged and the training goes on without events.
    """

    def __init__(self, folder: Path, saved_step: int, attempt: str):
        """saved_step: the step from which this attempt goes on; attempt: makes the file's name unique."""
        self._writer: EventsWriter | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = EventsWriter(str(folder / "events"), f".{attempt}")
        except OSError as error:
            log.warning("%s: no events are written (%s)", folder, error)
        start = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=time.time(), step=saved_step + 1, session_log=start))

    def scalars(self, values: dict[str, float | int | None], step: int) -> None:
        """One point of each curve; None has no point."""
        points = [summary.scalar(name, value) for name, value in values.items() if value is not None]
        self._write(*(Event(wall_time=time.time(), step=step, summary=point) for point in points))

    def images(self, name: str, images: np.ndarray, step: int) -> None:
        """images: (n, H, W, 3) uint8, shown side by side."""
        grid = np.concatenate(list(images), axis=1)
        self._write(Event(wall_time=time.time(), step=step, summary=summary.image(name, grid, dataformats="HWC")))

    def _write(self, *events: Event) -> None:
        if self._writer is None:
            return
        try:
            for event in events:
                self._writer.write_event(event)
            self._writer.flush()
        except OSError as error:
            log.warning("no further events are written (%s)", error)
            self._writer = None
