"""A download: the files of the first origin that gives all of them, each checked before it gets its name.

A file is checked by size and sha256, declared or recorded on first use. The record (config/pinned.json) is to be
committed, so that it outlives resources/ and holds on other machines.
"""

import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import huggingface_hub

from lct.download import hub
from lct.download.record import FORMAT
from lct.download.settings import HubOrigin, Origin, RemoteFile, web_address
from lct.download.transfer import FetchError, Part, Policy, Transfer, is_unexpected_html, public
from lct.files.atomic import link_or_copy, read_json, require_space, write_json
from lct.files.file_type import HEAD_BYTES
from lct.files.hashing import sha256_file
from lct.files.lock import hold

log = logging.getLogger(__name__)
_WAIT_SECONDS = 60.0  # for another download that records hashes


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
        """LCT_MIRROR, LCT_CACHE, LCT_OFFLINE and HF_HUB_OFFLINE. Raises ValueError where the mirror is no address."""
        mirror, cache = os.environ.get("LCT_MIRROR") or None, os.environ.get("LCT_CACHE")
        offline = os.environ.get("LCT_OFFLINE", "")
        if mirror is not None:
            web_address(mirror, "LCT_MIRROR", "correct or unset it")
        return cls(
            mirror=mirror,
            cache=Path(os.path.expanduser(cache)) if cache else None,
            offline=offline.lower() in ("1", "on", "yes", "true"),
            hub_offline=huggingface_hub.is_offline_mode(),
        )

    def reaches(self, origin: Origin) -> bool:
        """Whether an origin may be asked."""
        return not (self.offline or (self.hub_offline and isinstance(origin, HubOrigin)))


def download(
    name: str, origins: tuple[Origin, ...], folder: Path, known_hashes: Path, access: Access
) -> dict[str, Any]:
    """Bring the files of `name` into `folder`/files; returns the content of its download.json.

    known_hashes: file of the hashes that are recorded on first use. Origins are tried in order, after one look for
    an origin whose files are all here already. Raises ValueError with one line that gives every origin's reason, and
    OSError when the disk is full or not writable."""
    with hold(folder / ".lock", f"download of {name}", wait_seconds=math.inf):
        check = Checker(name, known_hashes, folder.parent / ".pinned.lock")
        return _Download(name, folder, check, access).from_first(origins)


class _Download:
    """One download while it runs. A path of a file is that of its final place, under `folder`/files."""

    def __init__(self, name: str, folder: Path, check: "Checker", access: Access):
        self.name, self.folder, self.check, self.access = name, folder, check, access
        self.cache = access.cache / name if access.cache else None

    def from_first(self, origins: tuple[Origin, ...]) -> dict[str, Any]:
        """The first origin that is here already, or else that gives its files."""
        reasons: list[str] = []
        for fetch in (False, True):
            reasons.clear()
            for index, origin in enumerate(origins):
                try:
                    files = self._bring(origin, fetch)
                except FetchError as error:
                    log.log(logging.WARNING if fetch else logging.DEBUG, "%s: %s", _title(origin), error)
                    reasons.append(f"({index + 1}) {_title(origin)}: {error}")
                    continue
                entries = self.check.entries(files, self.folder / "files", origin)
                self._fill_cache(files)
                for file in files:
                    Part(self._path(file)).discard()  # begun once, then brought here in another way
                return {
                    "format": FORMAT,
                    "id": self.name,
                    "origin": asdict(origin),
                    "alternative": index,
                    "files": entries,
                }
        raise ValueError(
            f"{self.name}: expected its files from one of {len(origins)} origins, found none that gives them: "
            f"{'; '.join(reasons)}; then the same command goes on from here: snakemake {self.folder}/download.json"
        )

    # --- one origin -----------------------------------------------------------------------------------------------
    def _bring(self, origin: Origin, fetch: bool) -> tuple[RemoteFile, ...]:
        """The files of an origin, all in place and good. fetch: bring those that are not; false: touch nothing."""
        files = self._files(origin, fetch)
        missing = {file: fault for file in files if (fault := self.check.fault(file, self._path(file))) is not None}
        if missing and not fetch:
            raise FetchError("; ".join(f"{file.path}: {fault}" for file, fault in missing.items()))
        require_space(self.folder, sum(map(self._remaining, missing)), self.name)
        for number, file in enumerate(missing, start=1):
            log.info("file %d of %d: %s %s", number, len(missing), file.path, self.check.describe(file))
            self._obtain(file, origin)
        return files

    def _files(self, origin: Origin, fetch: bool) -> tuple[RemoteFile, ...]:
        if not isinstance(origin, HubOrigin):
            return origin.files
        folders, connected = [self.folder, *([self.cache] if self.cache else [])], fetch and self.access.reaches(origin)
        return hub.files(origin, folders, self.access.policy, connected=connected, names_suffice=fetch)

    # --- one file -------------------------------------------------------------------------------------------------
    def _obtain(self, file: RemoteFile, origin: Origin) -> None:
        """Bring one file into its place, from the cache, the mirror or its own address."""
        path, expected = self._path(file), self.check.describe(file)
        reasons = [self._put_away(file, origin)] if path.exists() else []
        for label, bring in self._ways(file, origin):
            try:
                return bring()
            except FetchError as error:
                reason = hub.explained(error, origin) if isinstance(origin, HubOrigin) and not label else error
                reasons.append(f"{label}{reason}")
                if label:
                    log.warning("%s: %s%s", file.path, label, reason)
        if origin.kind == "manual":
            reasons.append(
                f"{origin.instructions.rstrip('. ')}; put the file{f' ({expected})' if expected else ''} at {path}"
            )
        elif not self.access.reaches(origin):
            cache = f", nor good in the cache {self.access.cache}" if self.cache else ""
            variable = "LCT_OFFLINE" if self.access.offline else "HF_HUB_OFFLINE"
            reasons.append(f"not here{cache}, and {variable} forbids to ask for it: put it at {path}, or go online")
        raise FetchError(f"{file.path}: {'; '.join(reasons)}")

    def _ways(self, file: RemoteFile, origin: Origin) -> Iterator[tuple[str, Callable[[], None]]]:
        """(label, function that brings the file) of each place that may have it, in order; the origin has no label."""
        if (cached := self._cached(self._path(file))) is not None and cached.exists():
            yield f"cache {cached}: ", partial(self._copy, file, cached)
        if self.access.mirror and not self.access.offline:
            address = f"{self.access.mirror.rstrip('/')}/{self.name}/files/{quote(file.path)}"
            yield f"mirror {public(address)}: ", partial(self._receive, file, address)
        if origin.kind == "hub" and self.access.reaches(origin):
            yield "", partial(self._receive, file, file.url.replace(hub.HUB, hub.endpoint(), 1), hub.authorise)
        if origin.kind == "web" and self.access.reaches(origin):
            yield "", partial(self._receive, file, file.url)

    def _copy(self, file: RemoteFile, cached: Path) -> None:
        if (fault := self.check.fault(file, cached)) is not None:
            raise FetchError(fault)
        log.info("%s: from the cache %s", file.path, self.access.cache)
        link_or_copy(cached, self._path(file))

    def _receive(self, file: RemoteFile, address: str, auth: Callable | None = None) -> None:
        part, size = Part(self._path(file)), self.check.expected(file).bytes
        while True:
            resumed = Transfer(part=part, url=address, policy=self.access.policy, size=size, auth=auth).run()
            if (fault := self.check.fault(file, part.path)) is None:
                return part.publish()
            part.discard()
            if not resumed:
                raise FetchError(fault)
            log.warning("%s: %s; a part was from an earlier run: starting from its first byte", file.path, fault)

    def _put_away(self, file: RemoteFile, origin: Origin) -> str:
        """Remove a wrong file from its place; a person's own is kept under another name. Returns what happened."""
        path = self._path(file)
        reason = f"{path} was not it: {self.check.fault(file, path)}"
        if origin.kind == "manual":
            aside = path.with_name(f"{path.name}.rejected")
            os.replace(path, aside)
            return f"{reason}; it is now {aside.name}"
        path.unlink()
        log.warning("%s; removed", reason)
        return f"{reason}; removed"

    def _fill_cache(self, files: tuple[RemoteFile, ...]) -> None:
        """Keep good files, and what the hub listed, in the cache too."""
        if self.cache is None:
            return
        paths = [path for path in sorted(self.folder.glob("listing-*.json")) if not self._cached(path).exists()]
        paths += [path for file in files if self.check.fault(file, self._cached(path := self._path(file)))]
        for path in paths:
            try:
                link_or_copy(path, self._cached(path))
            except OSError as error:  # a full or read-only cache costs the next download, not this one
                log.warning("%s: not filled: %s", self._cached(path), error)

    # --- places ---------------------------------------------------------------------------------------------------
    def _path(self, file: RemoteFile) -> Path:
        return self.folder / "files" / file.path

    def _cached(self, path: Path) -> Path | None:
        return self.cache / path.relative_to(self.folder) if self.cache else None

    def _remaining(self, file: RemoteFile) -> int:
        """Bytes that a file still needs on the disk, as far as that is known."""
        path = self._path(file)
        if (cached := self._cached(path)) is not None and cached.exists():
            return 0
        return max(0, (self.check.expected(file).bytes or 0) - Part(path).size)


class Checker:
    """The files of one download against what is declared and recorded of them; each file is hashed once.

    path: file of the records, "{id}/{path of a file}" -> bytes, sha256, url. lock: of its writers."""

    def __init__(self, name: str, path: Path, lock: Path):
        self.name, self.path, self._lock = name, path, lock
        self._hashes: dict[tuple[int, ...], str] = {}  # (device, inode, size, time of change) -> sha256

    def expected(self, file: RemoteFile) -> RemoteFile:
        """A file with size and sha256 of its first download, where no sha256 is declared."""
        entry = None if file.sha256 else self._recorded.get(f"{self.name}/{file.path}")
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
                return "an HTML page, perhaps a licence to accept or a login: open the address in a browser"
        expected, size, advice = self.expected(file), path.stat().st_size, ""
        if expected is not file:
            advice = f" (recorded on first use in {self.path}; if it changed on purpose, remove its entry there)"
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
                    log.info(message, path, content["sha256"], self.path)
            elif isinstance(origin, HubOrigin) and file.path not in origin.sha256:
                verified = "hub"
            entries.append({"path": file.path, "verified": verified} | content)
        if new:
            self.record(new)
        return entries

    def record(self, new: dict[str, dict[str, Any]]) -> None:
        """Record files; other downloads may be recording theirs at the same time."""
        with hold(self._lock, "writer of the known hashes", _WAIT_SECONDS):
            self._recorded = self._read() | new
            write_json(self.path, self._recorded)

    @cached_property
    def _recorded(self) -> dict[str, dict[str, Any]]:
        return self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        advice = "correct it, or bring it back from git"
        entries = read_json(self.path, hint=advice) if self.path.exists() else {}
        if not isinstance(entries, dict) or not all(
            isinstance(entry, dict) and {"bytes", "sha256", "url"} <= entry.keys() for entry in entries.values()
        ):
            expected = "expected NAME: {bytes, sha256, url} for each file, found something else"
            raise ValueError(f"{self.path}: {expected}; {advice}")
        return entries

    def _sha256(self, path: Path) -> str:
        status = path.stat()
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if identity not in self._hashes:
            self._hashes[identity] = sha256_file(path)
        return self._hashes[identity]


def _title(origin: Origin) -> str:
    if isinstance(origin, HubOrigin):
        return f"hub {origin.repo_type} {origin.repo}"
    return "by hand" if origin.kind == "manual" else f"web {public(origin.files[0].url)}"
