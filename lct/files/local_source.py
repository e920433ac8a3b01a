"""A local source of images, which comes from outside the graph: what it holds, and whether that is what was read.

The source is a folder, an archive, parquet files or an LMDB. The record of the image sets holds a hash over the names,
sizes and content of its files. `source.json` beside the sets remembers times and hashes, so that a start only looks at
sizes and times; content is hashed again where these differ, or on demand. Without that memory everything is hashed.
"""

import contextlib
import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lct.files.atomic import read_json_or_empty, write_text
from lct.files.hashing import sha256_file, sha256_text
from lct.files.selection import is_tool_folder, select, walk

KINDS = ("folder", "archive", "parquet", "lmdb")
MEMORY = "source.json"  # its name, beside the image sets
Files = dict[str, tuple[int, int, int, str]]  # name -> (bytes, mtime, ctime [ns], sha256)


@dataclass(frozen=True)
class SourceState:
    """What a local source holds."""

    path: str  # as the settings name it
    files: Files

    @property
    def sha256(self) -> str:
        """Hash over names, sizes and content; times do not count."""
        listing = [[name, size, sha256] for name, (size, _, _, sha256) in sorted(self.files.items())]
        return sha256_text(json.dumps(listing))  # names may hold bytes that are no UTF-8

    def record(self) -> dict[str, Any]:
        """What X.settings.json holds of it."""
        size = sum(size for size, *_ in self.files.values())
        return {"path": self.path, "files": len(self.files), "bytes": size, "sha256": self.sha256}

    def check_unchanged(self, source: Mapping[str, Any]) -> None:
        """Raises ValueError where the source does not hold this any more."""
        if read_state(source, memory=self.files) != self:
            raise ValueError(
                f"{self.path}: expected files that stay the same while they are read, found changes; run the same "
                "command again when nothing writes there"
            )

    def remember(self, folder: Path) -> None:
        """Write the memory of it beside the image sets in `folder`."""
        write_text(folder / MEMORY, json.dumps({"path": self.path, "files": self.files}) + "\n")


def is_local(source: Mapping[str, Any]) -> bool:
    """Whether resolved settings of a source name files outside the graph."""
    return source.get("kind") in KINDS


def of_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The source in the settings of a job that reads one: a dataset's, or that of images made elsewhere."""
    return settings.get("dataset", settings).get("source", {})


def relevant(source: Mapping[str, Any], path: Path, files: Iterable[Path]) -> dict[str, Path]:
    """Name -> file of those among a source's `files` that decide which images it holds.

    source: of its settings, the kind, and for a folder the extensions. path: where it is, a file or a folder."""
    if path.is_file():
        return {path.name: path}
    names = sorted((file.relative_to(path).as_posix(), file) for file in files)
    if source["kind"] == "folder":
        return dict(select(names, source["extensions"])[0])
    if source["kind"] == "parquet":
        names = [(name, file) for name, file in names if not any(map(is_tool_folder, name.split("/")))]
        return {name: file for name, file in names if file.suffix == ".parquet"}
    return {name: file for name, file in names if file.name == "data.mdb"}


def read_state(source: Mapping[str, Any], root: Path = Path(), memory: Files | None = None) -> SourceState:
    """What a source holds now.

    source: its resolved settings; relative paths are below `root`.
    memory: files of an earlier state: their hashes are taken for files of the same size and times.
    Raises ValueError for links to nothing and folders that cannot be listed."""
    path = root / Path(source["path"]).expanduser()
    files = walk(path, source["kind"] != "folder" or source["recursive"])[0] if path.is_dir() else []
    states: Files = {}
    for name, file in relevant(source, path, files).items():
        status = file.stat()
        stamp = status.st_size, status.st_mtime_ns, status.st_ctime_ns
        kept = (memory or {}).get(name)
        states[name] = (*stamp, kept[3] if kept and tuple(kept[:3]) == stamp else content_sha256(file))
    return SourceState(source["path"], states)


def change(
    settings: Mapping[str, Any], recorded: Mapping[str, Any], folder: Path, root: Path, deep: bool = False
) -> str | None:
    """How a source differs from what was read, in one line; None where it does not, or is not on this machine.

    settings: of the job that read it; recorded: what its record holds of the source; folder: of the image sets.
    deep:     hash every file again, also those of the same size and times."""
    text = json.dumps(of_settings(settings), sort_keys=True)
    return _change(text, recorded["path"], recorded["sha256"], folder, root, deep)


@functools.lru_cache(maxsize=64)
def _change(text: str, path: str, sha256: str, folder: Path, root: Path, deep: bool) -> str | None:
    source = json.loads(text)
    if not is_local(source) or source["path"] != path:
        return None  # other settings: that alone is a difference
    memory = _memory(folder, path)
    try:
        state = read_state(source, root, None if deep else memory)
    except ValueError as error:
        return str(error)
    except OSError:
        return None
    if not state.files:
        return None
    if state.sha256 == sha256:
        if any(tuple(memory.get(name, ())) != file for name, file in state.files.items()):
            with contextlib.suppress(OSError):
                state.remember(folder)
        return None
    names = sorted({*memory, *state.files} if memory else ())
    names = [name for name in names if tuple(memory.get(name, "-"))[3:] != tuple(state.files.get(name, "-"))[3:]]
    some = f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""
    count = f"{len(names)} of its {len(state.files)} files" if names else "its files"
    return f"the source {path} changed: {count}{some} are not those that were read"


def is_here(path: str, root: Path) -> bool:
    """Whether there is anything at a source's path."""
    return (root / Path(path).expanduser()).exists()


def look_again() -> None:
    """Forget which sources are unchanged, which is looked at once for each plan."""
    _change.cache_clear()


def _memory(folder: Path, path: str) -> Files:
    content = read_json_or_empty(folder / MEMORY) if (folder / MEMORY).exists() else {}
    return content["files"] if content.get("path") == path and isinstance(content.get("files"), dict) else {}


def content_sha256(path: Path) -> str:
    """SHA-256 of a file that a process asks for several times; "unreadable" where it may not be read."""
    status = path.stat()
    try:
        return _content_sha256(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    except PermissionError:
        return "unreadable"


@functools.lru_cache(maxsize=1024)
def _content_sha256(path: Path, _size: int, _mtime_ns: int, _ctime_ns: int) -> str:
    return sha256_file(path)
