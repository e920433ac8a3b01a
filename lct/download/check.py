"""Is a file the one that was asked for? By size and sha256: declared, or recorded on first use."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lct.download.pins import Pins
from lct.download.transfer import looks_like_html
from lct.download.wanted import Wanted
from lct.files.hashing import sha256_file

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Expected:
    """What is known of a file; None: nothing."""

    bytes: int | None
    sha256: str | None
    pinned: bool  # whether it is known from an earlier download of this project

    def __str__(self) -> str:
        known = ((f"{self.bytes} bytes", self.bytes), (f"sha256 {self.sha256}", self.sha256))
        return ", ".join(text for text, value in known if value is not None)


class Checker:
    """The files of one download against what is known of them; each file is hashed once."""

    def __init__(self, name: str, pins: Pins):
        self.name, self.pins = name, pins
        self._hashes: dict[tuple[int, ...], str] = {}  # (device, inode, size, time of change) -> sha256

    def expected(self, file: Wanted) -> Expected:
        pin = None if file.sha256 else self.pins.get(f"{self.name}/{file.path}")
        if pin is None:
            return Expected(file.bytes, file.sha256, False)
        return Expected(pin["bytes"], pin["sha256"], True)

    def wrong(self, file: Wanted, path: Path) -> str | None:
        """Why the file at `path` is not the one wanted; None when it is."""
        if not path.is_file():
            return "not there"
        if looks_like_html(path):
            return "an HTML page, perhaps a licence to accept or a login"
        size = path.stat().st_size
        if self.expected(file).bytes not in (None, size):
            return self.differs(file, size, "")
        return self.differs(file, size, self._sha256(path))

    def differs(self, file: Wanted, size: int, digest: str) -> str | None:
        """The same of bytes whose size and sha256 are known."""
        expected, advice = self.expected(file), ""
        if expected.pinned:
            advice = f" (recorded on first use in {self.pins.path}; if it changed on purpose, remove its entry there)"
        if expected.bytes not in (None, size):
            return f"expected {expected.bytes} bytes, found {size}{advice}"
        if expected.sha256 not in (None, digest):
            return f"expected sha256 {expected.sha256}, found {digest}{advice}"
        if file.sha256_prefix and not digest.startswith(file.sha256_prefix):
            return f"expected a sha256 that begins with {file.sha256_prefix}, found {digest}"
        return None

    def entries(self, files: list[tuple[Wanted, Path]]) -> list[dict[str, Any]]:
        """Good files, as download.json lists them. Hashes that nobody has published are recorded."""
        new, made = {}, []
        for file, path in files:
            size, digest = path.stat().st_size, self._sha256(path)
            if file.sha256 is None and not self.expected(file).pinned:
                new[f"{self.name}/{file.path}"] = {"bytes": size, "sha256": digest, "url": file.url}
                log.info(
                    "%s: sha256 %s: recorded on first use in %s, enforced from now on", path, digest, self.pins.path
                )
            entry = {"path": file.path, "url": file.url, "bytes": size, "sha256": digest, "verified": file.verified}
            made.append(entry)
        if new:
            self.pins.record(new)
        return made

    def remember(self, path: Path, digest: str) -> None:
        """The sha256 of a file that was hashed while it was received."""
        self._hashes[self._key(path)] = digest

    @staticmethod
    def _key(path: Path) -> tuple[int, ...]:
        about = path.stat()
        return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns

    def _sha256(self, path: Path) -> str:
        key = self._key(path)
        if key not in self._hashes:
            self._hashes[key] = sha256_file(path)
        return self._hashes[key]
