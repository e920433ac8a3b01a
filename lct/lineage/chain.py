"""The chain behind a file: its records, those of its inputs, and so on to the source of the images; and what files hold
now, against what was written: sizes, hashes, links into DVC's cache.

Records are read beside the files; where a file is not in the workspace, from the archive.
"""

import contextlib
import functools
import os
import shlex
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lct.checks import require
from lct.files.advice import force, make_again
from lct.files.atomic import read_json, read_json_or_empty, write_json
from lct.files.hashing import hash_file
from lct.files.records import RUN, SETTINGS, is_dropped, job_costs, run_path, settings_path
from lct.lineage import dvc
from lct.lineage.registry import Entry

MANIFEST = ".manifest.json"
PACKAGED = {"digits": "scikit-learn", "patches": "scikit-learn"}  # kinds of source that ship inside a package
# the order in which a chain is told: the way of a number back to its source first, the rest by name
_ROLES = ("samples", "weights", "latents", "statistics", "autoencoder", "images", "train")
SMALL = 1_000_000  # bytes; files up to this size are hashed even without `deep`
_GIVEN = ".dvc/tmp/lct-given.json"  # path -> [bytes, mtime, ctime [ns], sha256] of big files from outside the graph
STATES = ("broken", "missing", "dirty", "stale", "unchecked", "ok")  # worst first
FAULTS = STATES[:4]
Finding = tuple[str, str]  # one of STATES; what there is, in one line, for a fault also what to do
DROPPED = "dropped after it was measured"
KEEP = "--config keep_images=true"  # else it would be dropped once more


@dataclass(frozen=True, eq=False)  # one object for each file, so that what follows from it can be cached
class Record:
    """What is known of a file without looking at its bytes."""

    path: str
    where: str  # "workspace", "archive", or "" where nothing is recorded
    bytes: int | None = None
    sha256: str | None = None
    settings: dict[str, Any] | None = None  # content of X.settings.json
    run: dict[str, Any] | None = None  # content of X.run.json
    holder: str = ""  # the file whose records these are: the zip for its manifest
    damage: tuple[str, ...] = ()  # why a record could not be read

    @property
    def stage(self) -> str | None:
        return (self.settings or self.run or {}).get("stage")

    @property
    def inputs(self) -> list[tuple[str, str, str | None]]:
        """(role, path, sha256) of what was read, the chain's main line first."""
        inputs = (self.settings or {}).get("inputs") or {}
        listed = [
            (role, str(item.get("path")), item.get("sha256")) for role, item in inputs.items() if isinstance(item, dict)
        ]
        return sorted(listed, key=lambda item: (_ROLES.index(item[0]) if item[0] in _ROLES else len(_ROLES), item[0]))


@dataclass
class Records:
    """Records of a project."""

    root: Path
    archive: dict[str, Entry]  # empty: nothing is recorded yet

    def __post_init__(self):
        self.of = functools.cache(self._read)  # path -> its record

    def _read(self, path: str) -> Record:
        entry = self.archive.get(path)
        holder = self.holder(path)
        size, sha256 = (entry.bytes, entry.sha256) if entry else (None, None)
        if not settings_path(self.root / holder).exists() and not run_path(self.root / holder).exists():
            held = self.archive.get(holder)
            if entry is None and held is None:
                return Record(path, "", holder=holder)
            settings, run = (held.settings, held.run) if held else (None, None)
            return Record(path, "archive", size, sha256, settings, run, holder)
        contents, damage = {}, []
        for of in (settings_path, run_path):
            try:
                contents[of] = self._json(of(self.root / holder))
            except ValueError as error:
                damage.append(str(error))
        settings, run = contents.get(settings_path), contents.get(run_path)
        if holder == path:  # of a manifest, its own hash is in the archive, and in what read it
            output = (run or {}).get("output")
            output = output if isinstance(output, dict) else {}
            size, sha256 = output.get("bytes"), output.get("sha256")
        return Record(path, "workspace", size, sha256, settings, run, holder, tuple(damage))

    def _json(self, path: Path) -> dict[str, Any]:
        name = path.relative_to(self.root)
        output = str(name).removesuffix(SETTINGS).removesuffix(RUN)
        hint = "`lct restore` brings it back" if output in self.archive else make_again(output)
        try:
            content = read_json(path, hint)
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), str(name))) from error
        require(isinstance(content, dict), name, "a record", type(content).__name__, hint)
        return content

    def holder(self, path: str) -> str:
        """The file whose records stand for `path`: the image set for its manifest."""
        if not path.endswith(MANIFEST) or path in self.archive and self.archive[path].settings is not None:
            return path
        return path.removesuffix(MANIFEST) + ".zip"


def walk(records: Records, start: str) -> list[str]:
    """Every file behind `start`, itself first, each once, in the order of a telling."""
    paths: dict[str, None] = {}
    waiting = [start]
    while waiting:
        if (path := waiting.pop()) not in paths:
            paths[path] = None
            waiting += [other for _, other, _ in reversed(records.of(path).inputs)]
    return list(paths)


def origins(record: Record, content: Any = None) -> list[dict[str, str]]:
    """Where data come from: downloads with their hashes, packages with their version, local folders.

    content: what stands in the file itself, where it lists its downloads."""
    settings, packages = record.settings or {}, (record.run or {}).get("packages") or {}
    sources = [
        {key: str(item[key]) for key in ("url", "hub", "revision", "sha256") if item.get(key)}
        for _, item in _mappings([settings, content])
        if isinstance(item.get("url") or item.get("hub"), str)
    ]
    for key, source in _mappings(settings.get("settings")):
        kind = str(source.get("kind", "")) if key == "source" else ""
        if kind in PACKAGED:
            version = packages.get(PACKAGED[kind]) or "not recorded"
            sources.append({"kind": kind, "package": PACKAGED[kind], "version": version})
        elif kind and "path" in source:
            sources.append({"kind": kind, "folder": str(source["path"])})
    return sources


def _mappings(value: Any, key: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping in nested values, itself first, with the key that it stands under."""
    if isinstance(value, dict):
        yield key, value
    for name, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _mappings(item, str(name))


def cost(records: list[Record]) -> dict[str, Any]:
    """Wall, CPU and GPU seconds of the jobs behind some files, and their starts."""
    jobs = job_costs(record.run for record in records if record.run)
    return {
        "jobs": len(jobs),
        "starts": sum(job.attempts for job in jobs),
        "seconds": round(sum(job.seconds for job in jobs), 3),
        "cpu_seconds": round(sum(job.cpu_seconds for job in jobs), 3),
        "gpu_seconds": round(sum(job.gpu_seconds for job in jobs), 1),
    }


def worst(states: list[str]) -> str:
    return min(states, key=STATES.index, default="ok")


class Contents:
    """Files under a root; each is hashed at most once, whatever names lead to it."""

    def __init__(self, root: Path, deep: bool, recorded: Container[str] = ()):
        self.root = root
        self.deep = deep  # hash every file, not only the small ones
        self.recorded = recorded  # paths that `lct restore` can bring back
        self._hashes: dict[tuple[int, int], tuple[str, str]] = {}

    @functools.cached_property
    def cache(self) -> Path:
        """The folder of DVC's cache, whose settings take long to read."""
        return dvc.cache_folder(self.root)

    def hashes(self, path: Path) -> tuple[str, str]:
        """(sha256, md5) of the file that `path` leads to."""
        status = path.stat()
        key = (status.st_dev, status.st_ino)
        if key not in self._hashes:
            self._hashes[key] = hash_file(path)[1:]
        return self._hashes[key]

    def sha256(self, path: str, given: bool = False) -> str | None:
        """Hash of a small file, or of any when `deep`; None where it is missing or too big.

        given: a file from outside the graph, whose hash nothing else says: a big one is read too, and read again when
        its size or times change."""
        full = self.root / path
        if not full.is_file():
            return None
        if full.stat().st_size <= SMALL or self.deep:
            return self.hashes(full)[0]
        return self._given_sha256(path, full) if given else None

    def _given_sha256(self, path: str, full: Path) -> str:
        status = full.stat()
        stamp, memory = [status.st_size, status.st_mtime_ns, status.st_ctime_ns], read_json_or_empty(self.root / _GIVEN)
        if memory.get(path, [])[:3] != stamp:
            memory[path] = [*stamp, self.hashes(full)[0]]
            with contextlib.suppress(OSError):  # without it the file is only read again
                write_json(self.root / _GIVEN, memory)
        return memory[path][3]

    def check(self, path: str, size: int | None, sha256: str | None, md5: str | None = None) -> Finding:
        """A file against its recorded size and hash. Missing here is no fault by itself: the state is "unchecked"."""
        full = self.root / path
        if not full.exists():
            return self._absent(path, full)
        if not full.is_file():
            return "broken", f"{path}: expected a file, found a directory; {self.remedy(path)}"
        actual_size = full.stat().st_size
        if size is not None and actual_size != size:
            return "broken", f"{path}: expected {size} bytes, found {actual_size}; {self._why(path, full)}"
        if full.is_symlink() and md5 is not None and (named := self._object_name(full)) not in (None, md5):
            what = f"expected a link to the DVC object {md5[:12]}, found one to {named[:12]}"
            return "broken", f"{path}: {what}; {self.remedy(path)}"
        if actual_size > SMALL and not self.deep:
            return "ok", f"{actual_size} bytes; not hashed: --deep does"
        hashed = self.hashes(full)[0]
        if sha256 is not None and hashed != sha256:
            what = f"expected sha256 {sha256[:12]}, found {hashed[:12]}" + " (same size)" * (size == actual_size)
            return "broken", f"{path}: {what}; {self._why(path, full)}"
        return "ok", f"{actual_size} bytes, sha256 {hashed[:12]}"

    def foreign_cache(self, path: str) -> Path | None:
        """The DVC cache that a link leads to, where it is not this project's."""
        full = self.root / path
        if not full.is_symlink() or not full.exists() or self._object_name(full) is None:
            return None
        folder = Path(os.readlink(full)).parents[3]
        return None if folder.resolve() == self.cache else folder

    def remedy(self, path: str) -> str:
        """How to get the right bytes."""
        again = f"`{force(path)}` makes it again"
        back = "delete it, and `lct restore` brings back what was recorded; or "
        return f"{back if path in self.recorded else ''}{again}"

    def _object_name(self, link: Path) -> str | None:
        """The md5 in the target of a link into a DVC cache."""
        parts = Path(os.readlink(link)).parts[-4:]
        return parts[2] + parts[3] if parts[:2] == ("files", "md5") and len(parts) == 4 else None

    def _why(self, path: str, full: Path) -> str:
        """Where wrong bytes come from, and what to do."""
        if not full.is_symlink():
            return f"it was changed since it was written: {self.remedy(path)}"
        return f"its content is the DVC object {full.resolve()}, damaged: delete that; then {self.back(path)}"

    def back(self, path: str) -> str:
        """What brings back a file whose content is not in the cache."""
        if dvc.remotes(self.root):
            return "`lct restore --pull` fetches it from a remote"
        return f"`lct restore` removes the link, then `snakemake {shlex.quote(path)}` makes the file again"

    def _absent(self, path: str, full: Path) -> Finding:
        if is_dropped(full):
            return "unchecked", f"{path}: {DROPPED}; `snakemake {shlex.quote(path)} {KEEP}` makes it again"
        if not full.is_symlink():
            return "unchecked", f"{path}: not in the workspace"
        target, name = Path(os.readlink(full)), self._object_name(full)
        if name and dvc.stored_object(self.cache, name).exists():
            what = f"expected a link into {self.cache}, found one to {target}; the project folder was moved or renamed"
            return "missing", f"{path}: {what}: `lct restore` sets the links right"
        what = f"expected a file, found a link to {target}, which does not exist"
        what = f"expected the DVC object {name}, found a link to nothing" if name else what
        return "missing", f"{path}: {what}; {self.back(path)}"
