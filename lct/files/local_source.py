"""A local source of images, which comes from outside the graph: what it holds, and whether that is what was read.

The source is a folder, an archive, parquet files or an LMDB. The record of the image sets holds a hash over the names,
sizes and content of its files. `source.json` beside the sets remembers times and hashes, so that a start only looks at
sizes and times; content is hashed again where these differ, or on demand. Without that memory everything is hashed.

Files that are no images of a dataset are counted by kind, never passed over.
"""

import contextlib
import functools
import heapq
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lct.checks import invalid, require
from lct.files.atomic import read_json_or_empty, write_text
from lct.files.hashing import sha256_file, sha256_text

T = TypeVar("T")
KINDS = ("folder", "archive", "parquet", "lmdb")
MEMORY = "source.json"  # its name, beside the image sets
Files = dict[str, tuple[int, int, int, str]]  # name -> (bytes, mtime, ctime [ns], sha256)
ALIASES = {"jpg": ("jfif", "jpe"), "jpeg": ("jfif", "jpe")}  # other endings of the same format
# made by systems and tools, as are those that start with a dot
TOOL_FOLDERS = {"$RECYCLE.BIN", "#recycle", "@eaDir", "__MACOSX", "lost+found", "System Volume Information"}
CONTAINERS = set("7z arrow bz2 gz h5 hdf5 mat mdb npy npz parquet rar tar tfrecord tgz xz zip zst".split())  # of images
PICTURES = set(
    "apng arw avif bmp cr2 cr3 dng exr gif heic heif ico j2k jfif jp2 jpe jpeg jpg jxl nef orf pbm pgm png pnm ppm psd "
    "raf rw2 svg tga tif tiff webp".split()
)  # endings of images, whether they can be read here or not


def select(
    files: Iterable[tuple[str, T]], extensions: Sequence[str], is_image: Callable[[T], bool] = lambda file: False
) -> tuple[list[tuple[str, T]], Counter[str]]:
    """The images among (relative name, anything), and how many of each kind the other files are.

    extensions: of images, in any case, with or without a dot.
    is_image:   whether a file is one by its content, whatever its name; asked of those whose names do not say it."""
    endings = {extension.lower().lstrip(".") for extension in extensions}
    endings |= {alias for ending in endings for alias in ALIASES.get(ending, ())}
    images: list[tuple[str, T]] = []
    others: Counter[str] = Counter()
    for file in files:
        if (kind := _kind(file[0], endings)) is None:
            images.append(file)
        else:
            nameless = kind == "other files" and is_image(file[1])
            others["images without an ending of images" if nameless else kind] += 1
    return images, others


def _kind(name: str, endings: set[str]) -> str | None:
    """What a file is that is no image of the dataset; None for one that is."""
    *folders, last = name.split("/")
    stem, _, ending = last.rpartition(".")
    ending = ending.lower() if stem else ""
    tool = next((folder for folder in folders if is_tool_folder(folder)), None)
    if tool or last.startswith("."):
        is_picture = ending in PICTURES | endings and not last.startswith("._")
        return (f"in {ascii(tool)[1:-1]}" if tool else "hidden images") if is_picture else "other files"
    if ending in endings:
        return None
    return f".{ending}" if ending in PICTURES | CONTAINERS else "other files"


def is_tool_folder(name: str) -> bool:
    """Whether a folder of this name is hidden, or belongs to a system or tool."""
    return name in TOOL_FOLDERS or (name.startswith(".") and name not in (".", ".."))


def pictures(others: Counter[str]) -> dict[str, int]:
    """The kinds of files that are images or may hold some, most frequent first."""
    return {kind: count for kind, count in others.most_common() if kind != "other files"}


def describe(others: Counter[str], most: int = 6) -> str:
    """Images that are not taken, by kind, for people; empty where there are none."""
    kinds = list(pictures(others).items())
    texts = [f"{count} {kind}" for kind, count in kinds[:most]]
    rest = sum(count for _, count in kinds[most:])
    return ", ".join([*texts, f"{rest} of other kinds"] if rest else texts)


def walk(folder: Path, recursive: bool = True) -> tuple[list[Path], Counter[str]]:
    """The files of a folder, and how many of each kind of entry are not followed.

    Links to files and folders are followed, but each folder is read once. Raises ValueError for links to nothing and
    folders that cannot be listed, unless a tool made them."""
    files: list[Path] = []
    others: Counter[str] = Counter()
    visited: set[tuple[int, int]] = set()
    pending = [(False, folder)]  # links come last, so that a folder's own name is the one that counts
    while pending:
        _, parent = heapq.heappop(pending)
        state = parent.stat()
        if (identity := (state.st_dev, state.st_ino)) in visited:
            others["links to folders that are read already"] += 1
            continue
        visited.add(identity)
        for entry in _entries(parent, folder):
            if entry.is_dir():
                if recursive:
                    heapq.heappush(pending, (entry.is_symlink(), Path(entry.path)))
                elif not is_tool_folder(entry.name):
                    others["sub-folders"] += 1
            elif entry.is_file():
                files.append(Path(entry.path))
            else:  # a device, a socket, or a link to one or to nothing
                if not _of_tools(Path(entry.path), folder):
                    check_link(Path(entry.path))
                others["other files"] += 1
    return files, others


def _entries(parent: Path, root: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(parent) as entries:
            return list(entries)
    except PermissionError as error:
        if _of_tools(parent, root):
            return []
        advice = "make it readable (chmod u+rx), or move it elsewhere"
        raise invalid(parent, "a folder that may be listed", os.strerror(error.errno), advice) from error


def _of_tools(path: Path, root: Path) -> bool:
    return any(is_tool_folder(part) for part in path.relative_to(root).parts)


def check_link(path: Path) -> None:
    """Raises ValueError for a link to nothing."""
    if path.is_symlink() and not path.exists():
        advice = "copy what it should lead to (cp -L, rsync -L), or remove the link"
        raise invalid(path, "a file or folder", f"a link to nothing ({os.readlink(path)})", advice)


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
        same, advice = read_state(source, memory=self.files) == self, "run it again when nothing writes there"
        require(same, self.path, "files that stay the same while they are read", "changes", advice)

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
    path = root / Path(os.path.expanduser(source["path"]))
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
    content = read_json_or_empty(folder / MEMORY)
    memory: Files = content["files"] if content.get("path") == path and isinstance(content.get("files"), dict) else {}
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
    return (root / Path(os.path.expanduser(path))).exists()


def look_again() -> None:
    """Forget which sources are unchanged, which is looked at once for each plan."""
    _change.cache_clear()


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
