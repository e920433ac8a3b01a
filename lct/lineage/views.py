"""Small files in lineage/{scale}/ for DVC's own verbs, written from the archive: numbers and training curves.

A metrics file of the graph holds its whole protocol, which makes `dvc metrics show` a table of 67 columns; a curves
file holds columns, which `dvc plots show` cannot draw. These hold the values alone, and a thinned curve as rows.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lct.files.atomic import read_json, write_text
from lct.lineage.registry import Entry

CURVES = "curves.json"
_COLUMNS = ("step", "loss", "gradient_norm", "lr")
_POINTS = 100  # of a curve, at most
_SECONDARY = ("confidence", "fd_cleanfid")  # values that no table shows: left out, so that a line fits a terminal


def is_curve(path: str) -> bool:
    return path.endswith(f"/{CURVES}")


def archived_content(root: Path, path: str) -> dict[str, Any] | None:
    """What the archive keeps of a file's content: a metrics file whole, a training's curves thinned, else nothing."""
    parts = path.split("/")
    if parts[2:3] == ["metrics"]:
        return read_json(root / path)
    if parts[2:3] == ["train"] and is_curve(path):
        return _thinned(read_json(root / path))
    return None


def _thinned(curves: dict[str, Any]) -> dict[str, list[float | None]] | None:
    """At most so many points of the columns that are drawn; the last one is kept."""
    columns = {name: curves[name] for name in _COLUMNS if isinstance(curves.get(name), list)}
    if not {"step", "loss"} <= columns.keys() or len({len(column) for column in columns.values()}) != 1:
        return None
    stride = -(-len(columns["step"]) // _POINTS)  # rounded up
    return {name: column[::-1][:: max(stride, 1)][::-1] for name, column in columns.items()}


def contents(scale: str, entries: Mapping[str, Entry]) -> dict[str, str]:
    """Path -> content of every such file of a scale. A metrics file that is the only one of its folder is named after
    the folder: lineage/smoke/digits-lct/s0/step40-ema0.9/one/d0.json."""
    files = {}
    folders = Counter(os.path.dirname(path) for path, entry in entries.items() if entry.content)
    for path, entry in entries.items():
        if not entry.content:
            continue
        folder = os.path.dirname(path)
        place = path if is_curve(path) or folders[folder] > 1 else f"{folder}.json"
        place = f"lineage/{scale}/{place.split('/', 3)[3]}"
        if is_curve(path):
            names = [name for name in _COLUMNS if name in entry.content]  # the archive sorts its keys
            columns = [entry.content[name] for name in names]
            points = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
            files[place] = "[" + ",\n".join(json.dumps(point) for point in points) + "]\n"
        else:
            values = entry.content.get("values", entry.content).items()
            numbers = {name: v for name, v in values if isinstance(v, int | float) and name not in _SECONDARY}
            files[place] = json.dumps(numbers, indent=1, sort_keys=True) + "\n"
    return files


def write(root: Path, scale: str, entries: Mapping[str, Entry]) -> None:
    """Bring lineage/{scale}/ in line with the archive."""
    files, folder = contents(scale, entries), root / "lineage" / scale
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        elif path.is_file() and path.relative_to(root).as_posix() not in files:
            path.unlink()
    for name, text in files.items():
        path = root / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
