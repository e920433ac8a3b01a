"""What the settings of a local folder or archive of images take from it: class folders, and counts that fit it.

Where it is not on this machine, as in a clone, the record of the images that were read from it says the same.
"""

import contextlib
import functools
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lct.checks import require
from lct.config.folder import Layer
from lct.data.settings import ArchiveSource, FolderSource
from lct.files.atomic import read_json_or_empty
from lct.files.local_source import select, walk
from lct.files.zip_tar import Archive, has_listing
from lct.metrics.settings import OWN

SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing", "heldout"}  # folders, but no classes
MOST_CLASSES = 1000  # more folders than these are no classes


def fit(name: str, values: dict[str, Any], sources: dict[str, str], scale: Layer, root: Path) -> None:
    """Add to a dataset's merged `values`, in place, and say so in `sources`:

    - `source.labels: folders`, where every image lies in a class folder and no file says what the extractor learns;
    - fewer training and held-out images, where the scale asks for more than there are.

    A compressed tar is not looked into, since its listing takes a pass over all of it.
    name: of the dataset; scale: its file; root: where `config/` is."""
    source, extractor = values.get("source"), values.get("extractor", {})
    kind = source.get("kind") if isinstance(source, dict) else None
    if kind not in ("folder", "archive") or not isinstance(source.get("path"), str):
        return
    path = root / Path(os.path.expanduser(source["path"]))
    outside = kind != "folder" or not root.resolve().is_relative_to(path.resolve())
    where = f"{sources.get('source.path', f'dataset {name}')}: source.path"
    given = f"{path}, which holds this project and what it computes"
    require(outside, where, "a folder of images", given, "name the folder that holds the images alone")
    own = any(OWN in (p.get("distance", OWN), p.get("recall", OWN)) for p in scale.values.get("protocols", [{}]))
    undecided = own and "labels" not in source and extractor.get("labels") != "rotations"
    undecided = undecided and extractor.get("kind", "trained") == "trained"
    scaled = all(isinstance(scale.values.get("dataset", {}).get(key), int) for key in ("train", "heldout"))
    if not (undecided or scaled):
        return
    if path.is_dir() if kind == "folder" else path.is_file():
        if not (images := _images(path, source)):
            return
        labelled = bool(class_folders(images))
        available = min(len(images) - len(source.get("exceptions", ())), source.get("first") or len(images))
        counts = _fitting(values["train"], values["heldout"], available) if scaled else None
    else:
        recorded = _recorded(root, Path(scale.source).stem, name, source["path"])
        labelled = recorded.get("source", {}).get("labels") == "folders"
        counts = (recorded.get("train"), recorded.get("heldout"))
    if undecided and labelled:
        source["labels"], sources["source.labels"] = "folders", "default, since the images lie in class folders"
        values["extractor"] = {"kind": "trained", "task": "class folders"} | extractor
    if scaled and counts and None not in counts and sum(counts) < values["train"] + values["heldout"]:
        fitted = f"fitted to the {sum(counts)} images of {source['path']}"
        for key, count in zip(("train", "heldout"), counts, strict=True):
            values[key], sources[key] = count, f"{sources[key]}, {fitted}"


def _fitting(train: int, heldout: int, available: int) -> tuple[int, int] | None:
    """Counts in the same proportion, of the images that there are; None where these are enough, or too few for both."""
    part = heldout * available // (train + heldout)
    return (available - part, part) if 2 <= available < train + heldout else None


def class_folders(names: Iterable[str]) -> list[str]:
    """The folders of images, by relative names, that look like classes; none where some image lies in none, for a
    single folder, and for folders that are parts of a numbered collection or the splits of a dataset."""
    folders = {name.partition("/")[0] if "/" in name else "" for name in names}
    numbered = all(folder.isdecimal() and len(folder) > 2 for folder in folders)
    classes = "" not in folders and 1 < len(folders) <= MOST_CLASSES and not numbered
    return sorted(folders) if classes and not {folder.lower() for folder in folders} & SPLITS else []


def _images(path: Path, source: dict[str, Any]) -> list[str]:
    """The images of a folder, or below `inside` of a zip or tar, by relative names; none of an archive that cannot be
    listed at once."""
    if source["kind"] == "folder":
        files = walk(path, source.get("recursive", FolderSource.recursive))[0]
        names = [(file.relative_to(path).as_posix(), file) for file in files]
    else:
        status, inside = path.stat(), source.get("inside", ArchiveSource.inside).strip("/")
        below, members = f"{inside}/" if inside else "", _members(path, status.st_size, status.st_mtime_ns)
        names = [(name.removeprefix(below), None) for name in members if name.startswith(below)]
    return [name for name, _ in select(names, source.get("extensions", FolderSource.extensions))[0]]


@functools.lru_cache(maxsize=16)
def _members(path: Path, _size: int, _mtime_ns: int) -> tuple[str, ...]:
    """Names of an archive's members; none of a compressed tar, and of a file whose fault the job will name."""
    with contextlib.suppress(OSError, ValueError):
        if has_listing(path):
            with Archive(path) as archive:
                return tuple(member.name for member in archive.members)
    return ()


def _recorded(root: Path, scale: str, name: str, path: str) -> dict[str, Any]:
    """The settings of the images that were read from `path` at a scale, from their record; {} without one."""
    output = f"results/{scale}/images/{name}/train.zip"
    content = read_json_or_empty(root / f"{output}.settings.json")
    archive = root / f"lineage/{scale}.jsonl"
    if not content and archive.is_file():
        lines = archive.read_text(encoding="utf-8", errors="replace").split("\n")
        for line in filter(lambda line: output in line, lines):
            with contextlib.suppress(json.JSONDecodeError):  # a damaged line hides no other
                entry = json.loads(line)
                if entry.get("path") == output and entry.get("settings"):
                    content = entry["settings"]
                    break
    dataset = content.get("settings", {}).get("dataset", {})
    return dataset if dataset.get("source", {}).get("path") == path else {}
