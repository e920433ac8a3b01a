"""config/pinned.json: size and hash of files whose hash nobody publishes, recorded when first fetched, then enforced.

It lies in config/, to be committed, so that it outlives resources/ and holds on other machines."""

from pathlib import Path
from typing import Any

from lct.files.atomic import read_json, write_json
from lct.files.lock import hold

_WAIT_SECONDS = 60.0


class Pins:
    """The recorded files: "{id}/{path}" -> bytes, sha256, url."""

    def __init__(self, path: Path, lock: Path):
        self.path, self._lock = path, lock
        self._seen: tuple[int, int] | None = None  # time of change and size of what was read last
        self._pins: dict[str, dict[str, Any]] = {}

    def get(self, key: str) -> dict[str, Any] | None:
        """What is recorded of a file; None: nothing yet."""
        return self._read().get(key)

    def record(self, new: dict[str, dict[str, Any]]) -> None:
        """Record files; other downloads may be recording theirs at the same time."""
        with hold(self._lock, "writer of the pinned hashes", _WAIT_SECONDS):
            write_json(self.path, self._read() | new)

    def _read(self) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        about = self.path.stat()
        if self._seen == (about.st_mtime_ns, about.st_size):
            return self._pins
        pins = read_json(self.path, hint="mend it, or bring it back from git")
        good = isinstance(pins, dict) and all(
            isinstance(pin, dict) and {"bytes", "sha256", "url"} <= pin.keys() for pin in pins.values()
        )
        if not good:
            raise ValueError(
                f"{self.path}: expected NAME: {{bytes, sha256, url}} for each file, found something else; mend it, or "
                "bring it back from git"
            )
        self._seen, self._pins = (about.st_mtime_ns, about.st_size), pins
        return pins
