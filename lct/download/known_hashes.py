"""config/pinned.json: size and hash of files whose hash nobody publishes, recorded when first fetched, then enforced.

It lies in config/, to be committed, so that it outlives resources/ and holds on other machines."""

from pathlib import Path
from typing import Any

from lct.files.atomic import read_json, write_json
from lct.files.lock import hold

_WAIT_SECONDS = 60.0
_ADVICE = "correct it, or bring it back from git"


class KnownHashes:
    """The recorded files: "{id}/{path}" -> bytes, sha256, url. Read when first needed."""

    def __init__(self, path: Path, lock: Path):
        self.path, self._lock = path, lock
        self._entries: dict[str, dict[str, Any]] | None = None

    def get(self, key: str) -> dict[str, Any] | None:
        """What is recorded of a file; None: nothing yet."""
        if self._entries is None:
            self._entries = self._read()
        return self._entries.get(key)

    def record(self, new: dict[str, dict[str, Any]]) -> None:
        """Record files; other downloads may be recording theirs at the same time."""
        with hold(self._lock, "writer of the known hashes", _WAIT_SECONDS):
            self._entries = self._read() | new
            write_json(self.path, self._entries)

    def _read(self) -> dict[str, dict[str, Any]]:
        if not self.path.exists():
            return {}
        entries = read_json(self.path, hint=_ADVICE)
        complete = isinstance(entries, dict) and all(
            isinstance(entry, dict) and {"bytes", "sha256", "url"} <= entry.keys() for entry in entries.values()
        )
        if not complete:
            expected = "expected NAME: {bytes, sha256, url} for each file, found something else"
            raise ValueError(f"{self.path}: {expected}; {_ADVICE}")
        return entries
