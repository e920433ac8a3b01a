"""A download: the files of the first origin that gives all of them, each checked before it gets its name."""

import logging
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lct.download.check import Checker
from lct.download.part import Part, check_space
from lct.download.pins import Pins
from lct.download.record import FORMAT
from lct.download.settings import HubOrigin, Origin
from lct.download.transfer import Failed, Policy, public, receive
from lct.download.wanted import Wanted, explained, is_set, wanted
from lct.files.atomic import copy, publish
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
            cache=Path(cache).expanduser() if cache else None,
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
    """One download while it is made. A path of a file is that of its final place, under `folder`/files."""

    def __init__(self, name: str, folder: Path, pins: Pins, access: Access):
        self.name, self.folder, self.access = name, folder, access
        self.check = Checker(name, pins)

    def first(self, origins: tuple[Origin, ...]) -> dict[str, Any]:
        """The first origin that is here already, or else that gives its files."""
        reasons: list[str] = []
        for way, level in ((self._present, logging.DEBUG), (self._fetched, logging.WARNING)):
            reasons.clear()
            for index, origin in enumerate(origins):
                try:
                    files = way(origin)
                except Failed as failed:
                    log.log(level, "%s: %s", _title(origin), failed)
                    reasons.append(f"({index + 1}) {_title(origin)}: {failed}")
                else:
                    return self._record(index, origin, files)
        raise ValueError(
            f"{self.name}: expected its files from one of {len(origins)} origins, found none that gives them: "
            f"{'; '.join(reasons)}; then the same command goes on from here: snakemake {self.folder}/download.json"
        )

    def _record(self, index: int, origin: Origin, files: list[Wanted]) -> dict[str, Any]:
        """What download.json says; good files go into the cache too."""
        entries = self.check.entries([(file, self._path(file)) for file in files])
        self._fill_cache(files)
        for file in files:
            Part(self._path(file)).discard()  # begun once, then brought here in another way
        return {"format": FORMAT, "id": self.name, "origin": asdict(origin), "alternative": index, "files": entries}

    # --- one origin -----------------------------------------------------------------------------------------------
    def _present(self, origin: Origin) -> list[Wanted]:
        """The files of an origin when all are in place and good; touches nothing."""
        files = wanted(origin, self._listings, self.access.policy, connected=False, names_suffice=False)
        for file in files:
            if (reason := self.check.wrong(file, self._path(file))) is not None:
                raise Failed(f"{file.path}: {reason}")
        return files

    def _fetched(self, origin: Origin) -> list[Wanted]:
        """The files of an origin, brought here where they are not."""
        files = wanted(origin, self._listings, self.access.policy, connected=self._may_ask(origin))
        missing = [file for file in files if self.check.wrong(file, self._path(file)) is not None]
        check_space(self.folder, sum(self._remaining(file) for file in missing), self.name)
        for number, file in enumerate(missing, start=1):
            log.info("file %d of %d: %s %s", number, len(missing), file.path, self.check.expected(file))
            self._obtain(file, origin)
        return files

    def _may_ask(self, origin: Origin) -> bool:
        return not self.access.offline and not (self.access.hub_offline and isinstance(origin, HubOrigin))

    @property
    def _listings(self) -> list[Path]:
        """Folders that may hold what the hub listed before."""
        return [self.folder, *([self.access.cache / self.name] if self.access.cache else [])]

    # --- one file -------------------------------------------------------------------------------------------------
    def _obtain(self, file: Wanted, origin: Origin) -> None:
        """Bring one file into its place, from the cache, the mirror or its own address."""
        path, reasons = self._path(file), []
        if path.exists():
            reasons.append(self._put_away(file, origin))
        if (reason := self._from_cache(file)) is None:
            return
        reasons += [reason] if reason else []
        for label, address in self._addresses(file, origin):
            try:
                self._receive(file, address)
                return
            except Failed as failed:
                told = explained(failed, origin) if isinstance(origin, HubOrigin) and not label else failed
                reasons.append(f"{label}{told}")
                if label:
                    log.warning("%s: %s", public(address), told)
        if origin.kind == "manual":
            known = f" ({self.check.expected(file)})" if str(self.check.expected(file)) else ""
            reasons.append(f"{origin.instructions.rstrip('. ')}; put the file{known} at {path}")
        elif not self._may_ask(origin):
            cache = f", nor good in the cache {self.access.cache}" if self.access.cache else ""
            variable = "LCT_OFFLINE" if self.access.offline else "HF_HUB_OFFLINE"
            reasons.append(f"not here{cache}, and {variable} forbids to ask for it: put it at {path}, or go online")
        raise Failed(f"{file.path}: {'; '.join(reasons)}")

    def _addresses(self, file: Wanted, origin: Origin) -> list[tuple[str, str]]:
        """(what it is, address) of each place to ask, in order."""
        found = []
        if self.access.mirror and not self.access.offline:
            found.append(("mirror: ", f"{self.access.mirror.rstrip('/')}/{self.name}/files/{quote(file.path)}"))
        if file.address and self._may_ask(origin):
            found.append(("", file.address))
        return found

    def _receive(self, file: Wanted, address: str) -> None:
        part, size = Part(self._path(file)), self.check.expected(file).bytes
        auth = file.auth if address == file.address else None
        while True:
            receive(part, address, expected=size, policy=self.access.policy, auth=auth)
            reason = self.check.differs(file, part.size, part.sha256)
            if reason is None:
                part.publish()
                self.check.remember(part.target, part.sha256)
                return
            inherited = part.inherited
            part.discard()
            if not inherited:
                raise Failed(reason)
            log.warning("%s: %s; a part was from an earlier run: starting from its first byte", file.path, reason)

    def _put_away(self, file: Wanted, origin: Origin) -> str:
        """Take a wrong file from its place; a person's own is kept under another name. Returns what happened."""
        path = self._path(file)
        reason = f"{path} was not it: {self.check.wrong(file, path)}"
        if origin.kind == "manual":
            aside = path.with_name(f"{path.name}.rejected")
            os.replace(path, aside)
            return f"{reason}; it is now {aside.name}"
        path.unlink()
        log.warning("%s; removed", reason)
        return f"{reason}; removed"

    # --- the cache ------------------------------------------------------------------------------------------------
    def _from_cache(self, file: Wanted) -> str | None:
        """Take a file from the cache; returns why not: "" when there is none."""
        if self.access.cache is None:
            return ""
        cached = self._cached(self._path(file))
        if not cached.exists():
            return ""
        if (reason := self.check.wrong(file, cached)) is not None:
            log.warning("%s: %s; not used", cached, reason)
            return f"{cached} is not it: {reason}"
        log.info("%s: from the cache %s", file.path, self.access.cache)
        _link_or_copy(cached, self._path(file))
        return None

    def _fill_cache(self, files: list[Wanted]) -> None:
        """Keep good files, and what the hub listed, in the cache too."""
        if self.access.cache is None:
            return
        listings = sorted(self.folder.glob("listing-*.json"))
        kept = [path for path in listings if not self._cached(path).exists()]
        kept += [self._path(file) for file in files if self.check.wrong(file, self._cached(self._path(file)))]
        for path in kept:
            try:
                _link_or_copy(path, self._cached(path))
            except OSError as error:  # a full or read-only cache costs the next download, not this one
                log.warning("%s: not filled: %s", self._cached(path), error)

    # --- places ---------------------------------------------------------------------------------------------------
    def _path(self, file: Wanted) -> Path:
        return self.folder / "files" / file.path

    def _cached(self, path: Path) -> Path:
        return self.access.cache / self.name / path.relative_to(self.folder)

    def _remaining(self, file: Wanted) -> int:
        """Bytes that a file still needs on the disk, as far as that is known."""
        path = self._path(file)
        if self.access.cache and self._cached(path).exists():
            return 0
        part = Part(path).path
        return max(0, (self.check.expected(file).bytes or 0) - (part.stat().st_size if part.exists() else 0))


def _link_or_copy(source: Path, target: Path) -> None:
    """Another name for a file's bytes on the same file system, a copy of them elsewhere. Atomic."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.link")
    try:
        beside.unlink(missing_ok=True)
        os.link(source, beside)
    except OSError:
        copy(source, target)
    else:
        publish(beside, target)


def _title(origin: Origin) -> str:
    """An origin in a few words."""
    if isinstance(origin, HubOrigin):
        return f"hub {origin.repo_type} {origin.repo}"
    return "by hand" if origin.kind == "manual" else f"web {public(origin.files[0].url)}"
