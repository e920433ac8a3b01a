"""The chain behind a file: its records, those of its inputs, and so on to the source of the images.

Records are read beside the files; where a file is not in the workspace, from the archive.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lct.checks import require
from lct.files.advice import make_again
from lct.files.atomic import read_json
from lct.files.records import RUN, SETTINGS, job_costs, run_path, settings_path
from lct.lineage.registry import Entry

MANIFEST = ".manifest.json"
PACKAGED = {"digits": "scikit-learn", "patches": "scikit-learn"}  # kinds of source that ship inside a package
# the order in which a chain is told: the way of a number back to its source first, the rest by name
_ROLES = ("samples", "weights", "latents", "statistics", "autoencoder", "images", "train")


@dataclass(frozen=True)
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


def walk(records: Records, start: str) -> dict[str, Record]:
    """Every file behind `start`, itself first, each once, in the order of a telling."""
    records_by_path: dict[str, Record] = {}
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in records_by_path:
            continue
        records_by_path[path] = records.of(path)
        waiting += [other for _, other, _ in reversed(records_by_path[path].inputs)]
    return records_by_path


def origins(record: Record, content: Any = None) -> list[dict[str, str]]:
    """Where data come from: downloads with their hashes, packages with their version, local folders.

    content: what stands in the file itself, where it lists its downloads."""
    sources: list[dict[str, str]] = []
    _urls(record.settings or {}, sources)
    _urls(content, sources)
    for kind, source in _sources((record.settings or {}).get("settings") or {}):
        if kind in PACKAGED:
            version = ((record.run or {}).get("packages") or {}).get(PACKAGED[kind])
            sources.append({"kind": kind, "package": PACKAGED[kind], "version": version or "not recorded"})
        elif "path" in source:
            sources.append({"kind": kind, "folder": str(source["path"])})
    return sources


def _urls(value: Any, sources: list[dict[str, str]]) -> None:
    """Every mapping that names a place on the network, wherever it stands, with the hash beside it."""
    if isinstance(value, dict):
        if isinstance(value.get("url") or value.get("hub"), str):
            sources.append({key: str(value[key]) for key in ("url", "hub", "revision", "sha256") if value.get(key)})
        for item in value.values():
            _urls(item, sources)
    elif isinstance(value, list):
        for item in value:
            _urls(item, sources)


def _sources(settings: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(kind, settings) of every `source` in resolved settings."""
    sources = []
    for key, value in settings.items():
        if isinstance(value, dict):
            sources += [(str(value["kind"]), value)] if key == "source" and "kind" in value else _sources(value)
    return sources


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
