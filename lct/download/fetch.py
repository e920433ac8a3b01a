"""A download: the files of the first origin that gives all of them, each checked before it gets its name."""

import logging
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lct.download.part import Part, check_space
from lct.download.pins import Pins
from lct.download.record import FORMAT
from lct.download.settings import HubOrigin, Origin
from lct.download.transfer import Failed, Policy, looks_like_html, public, receive
from lct.download.wanted import Wanted, explained, is_set, wanted
from lct.files.atomic import copy, publish
from lct.files.hashing import sha256_file
from lct.files.lock import hold

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Access:
    """This machine's way to the files; nothing of it shows in the result."""

    mirror: str | None = None  # address laid out like resources/, asked before the declared ones
    cache: Path | None = None  # folder laid out like resources/, looked up first and filled afterwards
    offline: bool = False  # no connection at all
    hub_offline: bool = False  # none to hubs
    policy: Policy = field(default_factory=Policy)

    @classmethod
    def from_environment(cls) -> "Access":
        """LCT_MIRROR, LCT_CACHE, LCT_OFFLINE and HF_HUB_OFFLINE."""
        cache = os.environ.get("LCT_CACHE")
        return cls(
            mirror=os.environ.get("LCT_MIRROR") or None,
            cache=Path(cache) if cache else None,
            offline=is_set("LCT_OFFLINE"),
            hub_offline=is_set("HF_HUB_OFFLINE"),
        )


def download(name: str, origins: tuple[Origin, ...], folder: Path, pins: Pins, access: Access) -> dict[str, Any]:
    """Bring the files of `name` into `folder`/files; returns what its download.json says.

    Origins are tried in order, after one look for an origin whose files are all here already. Raises ValueError
    with one line that gives every origin's reason, and OSError when the disk is full or not writable."""
    with hold(folder / ".lock", f"download of {name}", wait_seconds=math.inf):
        return _Download(name, folder, pins, access).first(origins)


class _Download:
    def __init__(self, name: str, folder: Path, pins: Pins, access: Access):
        self.name, self.folder, self.pins, self.access = name, folder, pins, access
        self._hashes: dict[tuple[str, int, int], str] = {}  # (path, size, time of change): read once

    def first(self, origins: tuple[Origin, ...]) -> dict[str, Any]:
        for index, origin in enumerate(origins):
            try:
                return self._record(index, origin, self._present(origin))
            except Failed as failed:
                log.debug("%s: not here: %s", _title(origin), failed)
        reasons = []
        for index, origin in enumerate(origins):
            try:
                return self._record(index, origin, self._fetched(origin))
            except Failed as failed:
                log.warning("%s: %s", _title(origin), failed)
                reasons.append(f"({index + 1}) {_title(origin)}: {failed}")
        raise ValueError(
            f"{self.name}: expected its files from one of {len(origins)} origins, found none that gives them: "
            f"{'; '.join(reasons)}; what was received is kept, the same command goes on: snakemake "
            f"{self.folder}/download.json"
        )

    def _record(self, index: int, origin: Origin, files: list[dict[str, Any]]) -> dict[str, Any]:
        return {"format": FORMAT, "id": self.name, "origin": asdict(origin), "alternative": index, "files": files}

    # --- one origin -----------------------------------------------------------------------------------------------
    def _present(self, origin: Origin) -> list[dict[str, Any]]:
        """The files of an origin when all are in place and good; touches nothing."""
        made = []
        for file in self._wanted(origin, connected=False):
            if (reason := self._wrong(file, self._target(file))) is not None:
                raise Failed(f"{file.path}: {reason}")
            made.append(self._entry(file))
        return made

    def _fetched(self, origin: Origin) -> list[dict[str, Any]]:
        """The files of an origin, brought here where they are not."""
        connected = not self.access.offline and not (self.access.hub_offline and isinstance(origin, HubOrigin))
        files = self._wanted(origin, connected)
        missing = [file for file in files if self._wrong(file, self._target(file)) is not None]
        check_space(self.folder, sum(self._remaining(file) for file in missing), self.name)
        made = []
        for number, file in enumerate(files, start=1):
            if file in missing:
                log.info("file %d of %d: %s", number, len(files), file.path)
                self._obtain(file, origin, connected)
            made.append(self._entry(file))
        for listing in self.folder.glob("listing-*.json"):
            self._fill_cache(listing)
        return made

    def _wanted(self, origin: Origin, connected: bool) -> list[Wanted]:
        listings = [self.folder, *([self.access.cache / self.name] if self.access.cache else [])]
        return wanted(origin, listings, connected, self.access.policy)

    # --- one file -------------------------------------------------------------------------------------------------
    def _obtain(self, file: Wanted, origin: Origin, connected: bool) -> None:
        target, reasons = self._target(file), []
        if target.exists():
            reasons.append(self._put_away(file, target, origin))
        if self._from_cache(file, target):
            return
        addresses = self._addresses(file) if connected else []
        for what, address in addresses:
            try:
                self._receive(file, address)
                self._fill_cache(target)
                return
            except Failed as failed:
                told = explained(failed, origin) if isinstance(origin, HubOrigin) and not what else failed
                reasons.append(f"{what}{told}")
                log.warning("%s: %s", public(address), told)
        if not connected:
            held = f", and the cache {self.access.cache} has not got it" if self.access.cache else ""
            variable = "LCT_OFFLINE" if self.access.offline else "HF_HUB_OFFLINE"
            reasons.append(f"offline ({variable}){held}; put it at {target}, or go online")
        elif file.address is None:
            reasons.append(f"{origin.instructions}; put the file{self._description(file)} at {target}")
        raise Failed(f"{file.path}: {'; '.join(reasons)}")

    def _addresses(self, file: Wanted) -> list[tuple[str, str]]:
        """(what it is, address) of each place to ask, in order."""
        found = []
        if self.access.mirror:
            found.append(("mirror: ", f"{self.access.mirror.rstrip('/')}/{self.name}/files/{quote(file.path)}"))
        return found + ([("", file.address)] if file.address else [])

    def _receive(self, file: Wanted, address: str) -> None:
        part = Part(self._target(file))
        expected = self._expected(file)
        auth = file.auth if address == file.address else None
        while True:
            resumed = receive(part, address, expected=expected["bytes"], policy=self.access.policy, auth=auth)
            reason = self._differs(file, part.size, part.sha256)
            if reason is None:
                break
            part.discard()
            if not resumed:
                raise Failed(reason)
            log.warning("%s: %s; part of it is from an earlier run: starting from its first byte", file.path, reason)
        part.publish()

    def _from_cache(self, file: Wanted, target: Path) -> bool:
        if self.access.cache is None:
            return False
        cached = self._cached(target)
        if (reason := self._wrong(file, cached)) is not None:
            if cached.exists():
                log.warning("%s: %s; not used", cached, reason)
            return False
        log.info("%s: from the cache %s", file.path, self.access.cache)
        _link_or_copy(cached, target)
        return True

    def _fill_cache(self, path: Path) -> None:
        if self.access.cache is None:
            return
        cached = self._cached(path)
        try:
            if not (cached.exists() and cached.stat().st_ino == path.stat().st_ino):
                _link_or_copy(path, cached)
        except OSError as error:  # a full or read-only cache costs the next download, not this one
            log.warning("%s: not filled: %s", cached, error)

    def _put_away(self, file: Wanted, target: Path, origin: Origin) -> str:
        """Take a wrong file from its place: a person's own is kept under another name. Returns what happened."""
        reason = self._wrong(file, target)
        page = " (an HTML page)" if looks_like_html(target) else ""
        if origin.kind == "manual":
            aside = target.with_name(f"{target.name}.rejected")
            os.replace(target, aside)
            return f"what was there was not it{page}: {reason}; it is now {aside}"
        target.unlink()
        log.warning("%s: %s; removed", target, reason)
        return f"what was there was not it{page}: {reason}; removed"

    # --- what a file must be --------------------------------------------------------------------------------------
    def _expected(self, file: Wanted) -> dict[str, Any]:
        """Size and hash of a file, declared or recorded on first use; None where not known."""
        pin = None if file.sha256 else self.pins.get(f"{self.name}/{file.path}")
        return {
            "bytes": file.bytes if pin is None else pin["bytes"],
            "sha256": file.sha256 if pin is None else pin["sha256"],
            "pinned": pin is not None,
        }

    def _wrong(self, file: Wanted, path: Path) -> str | None:
        """Why the file at `path` is not the one wanted; None when it is."""
        if not path.is_file():
            return "not there"
        about = path.stat()
        expected = self._expected(file)
        if expected["bytes"] not in (None, about.st_size):
            return self._differs(file, about.st_size, "")
        key = (str(path), about.st_size, about.st_mtime_ns)
        if key not in self._hashes:
            self._hashes[key] = sha256_file(path)
        return self._differs(file, about.st_size, self._hashes[key])

    def _differs(self, file: Wanted, size: int, digest: str) -> str | None:
        expected = self._expected(file)
        advice = (
            f", as recorded on first use in {self.pins.path}; if the file was changed on purpose, remove its entry there"
            if expected["pinned"]
            else ""
        )
        if expected["bytes"] not in (None, size):
            return f"expected {expected['bytes']} bytes, found {size}{advice}"
        if expected["sha256"] not in (None, digest):
            return f"expected sha256 {expected['sha256']}, found {digest}{advice}"
        if file.sha256_prefix and not digest.startswith(file.sha256_prefix):
            return f"expected a sha256 that begins with {file.sha256_prefix}, found {digest}"
        return None

    def _entry(self, file: Wanted) -> dict[str, Any]:
        """A good file in place, as download.json lists it; its hash is recorded when nobody has published one."""
        path = self._target(file)
        about = path.stat()
        key = (str(path), about.st_size, about.st_mtime_ns)
        digest = self._hashes.get(key) or sha256_file(path)
        if file.sha256 is None and not self._expected(file)["pinned"]:
            self.pins.record(f"{self.name}/{file.path}", about.st_size, digest, file.url)
            log.info("%s: sha256 %s recorded on first use in %s, enforced from now on", path, digest, self.pins.path)
        return {
            "path": file.path,
            "url": file.url,
            "bytes": about.st_size,
            "sha256": digest,
            "verified": file.verified,
        }

    def _description(self, file: Wanted) -> str:
        expected = self._expected(file)
        known = [
            f"{expected['bytes']} bytes" if expected["bytes"] else "",
            f"sha256 {expected['sha256']}" if expected["sha256"] else "",
        ]
        known = [part for part in known if part]
        return f" ({', '.join(known)})" if known else ""

    def _remaining(self, file: Wanted) -> int:
        """Bytes that a file still needs on the disk, as far as they are known."""
        part = Part(self._target(file)).path
        return max(0, (self._expected(file)["bytes"] or 0) - (part.stat().st_size if part.exists() else 0))

    def _target(self, file: Wanted) -> Path:
        return self.folder / "files" / file.path

    def _cached(self, path: Path) -> Path:
        return self.access.cache / self.name / path.relative_to(self.folder)


def _link_or_copy(source: Path, target: Path) -> None:
    """Another name for a file's bytes, on the same file system; a copy of them elsewhere. Atomic."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.link")
    try:
        beside.unlink(missing_ok=True)
        os.link(source, beside)
    except OSError:
        copy(source, target)
        return
    publish(beside, target)


def _title(origin: Origin) -> str:
    """An origin in a few words."""
    if isinstance(origin, HubOrigin):
        return f"hub {origin.repo_type} {origin.repo}"
    if origin.kind == "manual":
        return "by hand"
    return f"web {public(origin.files[0].url)}"
