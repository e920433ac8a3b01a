"""The stages of dvc.yaml, derived from what is recorded: one for each recorded job of the graph.

dvc.yaml is an output of `lct record`. It follows from lineage/*.jsonl alone and is never read by this project: a new
kind of output needs its rule and nothing here. DVC runs no stage; it stores their outputs and shows how they depend.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from lct.files.records import settings_path
from lct.lineage import views
from lct.lineage.registry import Entry

SHARED = "resources"  # the folder of files that all scales share
Archives = Mapping[str, Mapping[str, Entry]]  # scale -> path -> entry

_HEADER = """\
# Written by `lct record` from the jobs that have finished; do not edit. One stage for each recorded job of the
# Snakemake graph: its outputs, the files it read, and its settings as params. Snakemake computes; DVC runs none of
# this, it records. `dvc metrics show`, `dvc metrics diff REVISION`, `dvc plots show` and `dvc dag` read it; see
# docs/lineage.md.
"""


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
    files = sorted(path for scale, entries in archives.items() for path in views.contents(scale, entries))
    content: dict[str, Any] = {"stages": {name: stage.definition for name, stage in stages(archives).items()}}
    metrics = [path for path in files if not views.is_curve(path)]
    plots = [{path: {"x": "step", "y": "loss"}} for path in files if views.is_curve(path)]
    return dump(content | ({"metrics": metrics} if metrics else {}) | ({"plots": plots} if plots else {}))


def dump(content: dict[str, Any]) -> str:
    """A dvc.yaml as text."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return _HEADER + yaml.dump(content, Dumper=dumper, sort_keys=False, width=1000, allow_unicode=True)
