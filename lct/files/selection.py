"""Which files of a folder or an archive are images of a dataset; the others are counted by kind, never passed over."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
ALIASES = {"jpg": ("jfif", "jpe"), "jpeg": ("jfif", "jpe")}  # other endings of the same format
TOOL_FOLDERS = {
    "$RECYCLE.BIN",
    "#recycle",
    "@eaDir",
    "__MACOSX",
    "lost+found",
    "System Volume Information",
}  # made by systems and tools, as are those that start with a dot
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
    pending, links = [folder], []
    while pending or links:
        if not pending:  # links come last, so that a folder's own name is the one that counts
            links.sort()
            pending.append(links.pop(0))
        parent = pending.pop()
        state = parent.stat()
        if (identity := (state.st_dev, state.st_ino)) in visited:
            others["links to folders that are read already"] += 1
            continue
        visited.add(identity)
        for entry in _entries(parent, folder):
            if entry.is_dir():
                if recursive:
                    (links if entry.is_symlink() else pending).append(Path(entry.path))
                elif not is_tool_folder(entry.name):
                    others["sub-folders"] += 1
            elif entry.is_file():
                files.append(Path(entry.path))
            elif entry.is_symlink():
                if not _of_tools(Path(entry.path), folder):
                    check_link(Path(entry.path))
            else:
                others["other files"] += 1
    return files, others


def _entries(parent: Path, root: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(parent) as entries:
            return list(entries)
    except PermissionError as error:
        if _of_tools(parent, root):
            return []
        raise ValueError(
            f"{parent}: expected a folder that may be listed, found: {os.strerror(error.errno)}; make it readable "
            "(chmod u+rx), or move it elsewhere"
        ) from error


def _of_tools(path: Path, root: Path) -> bool:
    return any(is_tool_folder(part) for part in path.relative_to(root).parts)


def check_link(path: Path) -> None:
    """Raises ValueError for a link to nothing."""
    if path.is_symlink() and not path.exists():
        raise ValueError(
            f"{path}: expected a file or folder, found a link to nothing ({os.readlink(path)}); copy what it should "
            "lead to (cp -L, rsync -L), or remove the link"
        )
