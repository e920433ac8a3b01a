"""What DVC's own verbs read: the stages of dvc.yaml, one for each recorded job, and small files in lineage/{scale}/.

Both are outputs of `lct record`, follow from lineage/*.jsonl alone and are never read by this project: a new kind of
output needs its rule and nothing here. DVC runs no stage; it stores their outputs and shows how they depend. A metrics
file of the graph holds its whole protocol, which makes `dvc metrics show` a table of 67 columns; a curves file holds
columns, which `dvc plots show` cannot draw. The small files hold the values alone, and a thinned curve as rows.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lct.files.atomic import read_json, write_text
from lct.files.records import settings_path
from lct.lineage.registry import Entry

SHARED = "resources"  # the folder of files that all scales share
Archives = Mapping[str, Mapping[str, Entry]]  # scale -> path -> entry

_HEADER = """\
# Written by `lct record` from the jobs that have finished; do not edit. One stage for each recorded job of the
# Snakemake graph: its outputs, the files it read, and its settings as params. Snakemake computes; DVC runs none of
# this, it records. `dvc metrics show`, `dvc metrics diff REVISION`, `dvc plots show` and `dvc dag` read it; see
# docs/lineage.md.
"""
CURVES = "curves.json"
_COLUMNS = ("step", "loss", "gradient_norm", "lr")
_POINTS = 100  # of a curve, at most
_SECONDARY = ("confidence", "fd_cleanfid")  # values that no table shows: left out, so that a line fits a terminal


@dataclass(frozen=True)
class Stage:
    """A recorded job as DVC sees it."""

    name: str
    outs: tuple[str, ...]  # sorted
    deps: tuple[str, ...]  # sorted
    params: str | None  # the settings file of one output; None where no output has one

    @property
    def definition(self) -> dict[str, Any]:
        """Its entry in dvc.yaml."""
        return {
            "cmd": f"snakemake {self.outs[0]}",
            **({"deps": list(self.deps)} if self.deps else {}),
            **({"params": [{self.params: None}]} if self.params else {}),
            "outs": [{path: {"persist": True}} for path in self.outs],
        }


def stages(archives: Archives) -> dict[str, Stage]:
    """Name -> stage of everything recorded, sorted. A job that several scales share is taken from the first of them."""
    jobs: dict[str, list[Entry]] = {}
    for entries in archives.values():
        of_scale: dict[str, list[Entry]] = {}
        for _, entry in sorted(entries.items()):
            of_scale.setdefault(entry.job or entry.path, []).append(entry)
        jobs = of_scale | jobs
    names = {lead: _name(job) for lead, job in jobs.items()}
    count = Counter(names.values())
    unique = {lead: name if count[name] == 1 else f"{name}-{_identifier(lead)}" for lead, name in names.items()}
    return {name: _stage(name, jobs[lead]) for lead, name in sorted(unique.items(), key=lambda item: item[1])}


def _stage(name: str, job: list[Entry]) -> Stage:
    paths = {entry.path for entry in job}
    deps = {used["path"] for entry in job for used in entry.inputs.values()}
    with_settings = [entry.path for entry in job if entry.settings is not None]
    return Stage(
        name=name,
        outs=tuple(sorted(entry.path for entry in job if entry.is_kept)),
        deps=tuple(sorted(path for path in deps - paths if not path.startswith("config/"))),  # git has those itself
        params=str(settings_path(with_settings[0])) if with_settings else None,
    )


def _name(job: list[Entry]) -> str:
    """What a job does, its scale, and what its outputs' paths begin with: train-smoke-digits-lct-s0."""
    entry = next((entry for entry in job if entry.settings is not None), job[0])
    word = (entry.settings or {}).get("stage") or (entry.snakemake or {}).get("rule") or "job"
    parts = entry.path.split("/")
    top = "/".join(parts[: {"results": 3, "reports": 2}.get(parts[0], 1)])
    paths = [other.path for other in job if other.path.startswith(f"{top}/")]
    prefix = re.sub(r"[^/.]*$", "", os.path.commonprefix(paths))  # whole words
    common = prefix if len(paths) > 1 else os.path.splitext(paths[0])[0]
    scale = SHARED if parts[0] == SHARED else parts[1]
    return _identifier(f"{word}-{scale}-{common.removeprefix(top)}")


def _identifier(text: str) -> str:
    """A text in characters that a stage's name may have."""
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")


def dvc_yaml(archives: Archives) -> str:
    """The content of dvc.yaml."""
    files = sorted(path for scale, entries in archives.items() for path in view_contents(scale, entries))
    content: dict[str, Any] = {"stages": {name: stage.definition for name, stage in stages(archives).items()}}
    metrics = [path for path in files if not is_curve(path)]
    plots = [{path: {"x": "step", "y": "loss"}} for path in files if is_curve(path)]
    return dump(content | ({"metrics": metrics} if metrics else {}) | ({"plots": plots} if plots else {}))


def dump(content: dict[str, Any]) -> str:
    """A dvc.yaml as text."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return _HEADER + yaml.dump(content, Dumper=dumper, sort_keys=False, width=1000, allow_unicode=True)


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


def view_contents(scale: str, entries: Mapping[str, Entry]) -> dict[str, str]:
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


def write_views(root: Path, scale: str, entries: Mapping[str, Entry]) -> None:
    """Bring lineage/{scale}/ in line with the archive."""
    files, folder = view_contents(scale, entries), root / "lineage" / scale
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        elif path.is_file() and path.relative_to(root).as_posix() not in files:
            path.unlink()
    for name, text in files.items():
        path = root / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
