"""The bytes of a file received so far: .NAME.part beside the file, and what they are in .NAME.part.json.

Both survive kill -9; the next run goes on from them."""

import errno
import hashlib
import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from lct.files.atomic import publish, read_json, write_json
from lct.files.formatting import format_size

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a server said of the file whose bytes are being received."""

    url: str  # its address, without password or signature
    validator: str | None  # strong ETag or Last-Modified: changes when the file does
    total: int | None  # its size, bytes


class Part:
    """The received bytes and their running sha256. `target` is the name that the whole file will get."""

    def __init__(self, target: Path):
        self.target = target
        self.path = target.with_name(f".{target.name}.part")
        self._about = target.with_name(f".{target.name}.part.json")
        self.source: Source | None = None
        self.size = 0
        self.inherited = False  # whether bytes of an earlier run are among them
        self._digest = hashlib.sha256()
        self._handle: io.FileIO | None = None

    def load(self, url: str) -> None:
        """Go on with what an earlier run received from `url`; anything else is removed."""
        self.size, self.inherited, self._digest = 0, False, hashlib.sha256()
        try:
            source = Source(**read_json(self._about))
        except (ValueError, TypeError):
            source = None
        if source is None or source.url != url or not self.path.is_file():
            self.discard()
            return
        self.source = source
        with open(self.path, "rb") as handle:
            while block := handle.read(_BLOCK):
                self._digest.update(block)
                self.size += len(block)
        self.inherited = self.size > 0

    def discard(self) -> None:
        """Forget and remove everything received."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)
        self.source, self.size, self.inherited, self._digest = None, 0, False, hashlib.sha256()

    def begin(self, source: Source) -> None:
        """Start at the first byte of the file that `source` describes."""
        self.discard()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._about, vars(source))
        self.path.touch()
        self.source = source

    def append(self, block: bytes) -> None:
        """Add bytes. OSError with a line that says what to do when there is no place for them; the others are kept."""
        rest = memoryview(block)
        try:
            if self._handle is None:
                self._handle = open(self.path, "ab", buffering=0)  # noqa: SIM115 closed by close()
            while rest:
                written = self._handle.write(rest)
                self._digest.update(rest[:written])
                self.size += written
                rest = rest[written:]
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise OSError(
                error.errno,
                f"{self.target}: expected space for the whole file, found: {os.strerror(error.errno)}; the "
                f"{self.size} bytes received are kept: free space, then run the same command again",
            ) from error

    def close(self) -> None:
        """Let go of the file."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    @property
    def complete(self) -> bool:
        """Whether as many bytes are here as the server said."""
        return self.source is not None and self.size == self.source.total

    @property
    def sha256(self) -> str:
        """Of the bytes received so far."""
        return self._digest.hexdigest()

    def publish(self) -> None:
        """Give the whole file its name."""
        publish(self.path, self.target)
        self._about.unlink(missing_ok=True)


def check_space(folder: Path, needed: int, what: str) -> None:
    """OSError with one line when the file system of `folder` has not `needed` bytes left."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"{what}: expected {format_size(needed)} of free space in {folder}, found {format_size(free)}; "
            "free space, then run the same command again",
        )
