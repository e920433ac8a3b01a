"""Is a file the one that was asked for? By size and sha256: declared, or recorded on first use."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from lct.download.known_hashes import KnownHashes
from lct.download.settings import HubOrigin, Origin, RemoteFile
from lct.download.transfer import is_unexpected_html
from lct.files.file_type import HEAD_BYTES
from lct.files.hashing import sha256_file

log = logging.getLogger(__name__)


class Checker:
    """The files of one download against what is declared and known of them; each file is hashed once."""

    def __init__(self, name: str, known_hashes: KnownHashes):
        self.name, self.known_hashes = name, known_hashes
        self._hashes: dict[tuple[int, ...], str] = {}  # (device, inode, size, time of change) -> sha256

    def expected(self, file: RemoteFile) -> RemoteFile:
        """A file with size and sha256 of its first download, where no sha256 is declared."""
        entry = None if file.sha256 else self.known_hashes.get(f"{self.name}/{file.path}")
        return file if entry is None else replace(file, bytes=entry["bytes"], sha256=entry["sha256"])

    def describe(self, file: RemoteFile) -> str:
        """What is expected of a file, for messages; "": nothing."""
        expected = self.expected(file)
        facts = {f"{expected.bytes} bytes": expected.bytes, f"sha256 {expected.sha256}": expected.sha256}
        return ", ".join(text for text, value in facts.items() if value is not None)

    def fault(self, file: RemoteFile, path: Path) -> str | None:
        """Why the file at `path` is not the expected one; None when it is."""
        if not path.is_file():
            return "not there"
        with open(path, "rb") as handle:
            if is_unexpected_html(file.path, handle.read(HEAD_BYTES)):
                return "an HTML page, perhaps a licence to accept or a login"
        expected, size, advice = self.expected(file), path.stat().st_size, ""
        if expected is not file:
            known_hashes = self.known_hashes.path
            advice = f" (recorded on first use in {known_hashes}; if it changed on purpose, remove its entry there)"
        if expected.bytes not in (None, size):
            return f"expected {expected.bytes} bytes, found {size}{advice}"
        sha256 = self._sha256(path)
        if expected.sha256 not in (None, sha256):
            return f"expected sha256 {expected.sha256}, found {sha256}{advice}"
        if not sha256.startswith(file.sha256_prefix or ""):
            return f"expected a sha256 that begins with {file.sha256_prefix}, found {sha256}"
        return None

    def entries(self, files: tuple[RemoteFile, ...], folder: Path, origin: Origin) -> list[dict[str, Any]]:
        """Good files, as download.json lists them. Hashes that nobody has published are recorded."""
        entries, new = [], {}
        for file in files:
            path = folder / file.path
            content = {"bytes": path.stat().st_size, "sha256": self._sha256(path), "url": file.url}
            verified = "declared"  # where the hash is from
            if file.sha256 is None:
                verified = "first use"
                if self.expected(file) is file:
                    new[f"{self.name}/{file.path}"] = content
                    message = "%s: sha256 %s: recorded on first use in %s, enforced from now on"
                    log.info(message, path, content["sha256"], self.known_hashes.path)
            elif isinstance(origin, HubOrigin) and file.path not in origin.sha256:
                verified = "hub"
            entries.append({"path": file.path, "verified": verified} | content)
        if new:
            self.known_hashes.record(new)
        return entries

    def _sha256(self, path: Path) -> str:
        status = path.stat()
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if identity not in self._hashes:
            self._hashes[identity] = sha256_file(path)
        return self._hashes[identity]
