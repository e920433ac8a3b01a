"""What differs between two states of a scale: cells, settings, protocols, files, pictures of samples.

A state is a git revision, read without checking it out, or the workspace.
"""

import json
import math
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from lct.checks import require
from lct.files.git import checkout_fault, export, run_git
from lct.files.records import outputs_below
from lct.lineage import dvc, registry
from lct.lineage.audit import differing, equal
from lct.lineage.cells import targets
from lct.lineage.chain import MANIFEST, Contents, Record, Records
from lct.plan.plan import Plan

GRID = ".grid.png"
Pictures = list[tuple[Path | None, Path | None]]
WORKSPACE = "workspace"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/~^@{}+-]*")


def commit(root: Path, name: str) -> str:
    """The full hash of a revision; ValueError when there is no git checkout or no such revision."""
    where, expected = f"revision {name!r}", "a commit, branch or tag"
    require(_NAME.fullmatch(name), where, expected, "other characters", "git log lists them")
    if fault := checkout_fault(root):
        raise ValueError(f"{fault}; earlier revisions are in git alone")
    done = run_git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    require(not done.returncode, where, expected, "none", "git log --oneline lists them")
    return done.stdout.strip()


class State:
    """What was recorded of a scale at one time."""

    def __init__(self, workspace: Contents, config: dict[str, Any], name: str | None, folder: Path):
        """name: of a revision, whose configuration and records are written to `folder`; None: what is in the workspace
        now, and of files that are not there, what the archive says."""
        self.workspace, self.name, self.notes = workspace, name or WORKSPACE, []
        self.commit, root = None if name is None else commit(workspace.root, name), workspace.root
        archive = registry.archive_path(Path(), config["scale"])
        if self.commit is not None:
            for path in (str(archive), "dvc.lock", "config"):
                export(root, self.commit, path, folder)
            root = folder
        try:
            self.entries, lock = registry.read(root, config["scale"]), dvc.read_lock(root)
            self._md5 = lock.outs() if lock else {}
        except ValueError as error:
            raise ValueError(str(error).replace(f"{folder}/", f"{name}:")) from error
        self._md5 |= {path: entry.md5 for path, entry in self.entries.items() if entry.md5}
        records, here = Records(root, self.entries), outputs_below(root, f"results/{config['scale']}")
        self.records = {path: records.of(path) for path in sorted({*self.entries, *here})}
        if name is not None and not self.entries:
            self.notes.append(f"{name}: no {archive}: nothing was recorded of this scale then")
        try:
            self.cells = targets(Plan(root, config))
        except ValueError as error:
            text = f"its configuration is not one of this version, so its cells are left out: {error}"
            self.notes.append(f"{self.name}: {text.replace(f'{root}/', '')}")
            self.cells = {}

    def file(self, path: str) -> Path | None:
        """A file of the workspace, or of DVC's cache, with the content that `path` had; None where there is none."""
        here, record, md5 = self.workspace.root / path, self.records.get(path), self._md5.get(path)
        if here.exists() and self.commit is None:
            return here
        sha256 = record.sha256 if record else None
        if here.exists() and sha256 is not None and self.workspace.hashes(here)[0] == sha256:
            return here
        if md5 is not None and (stored := dvc.stored_object(self.workspace.cache, md5)).exists():
            return stored if sha256 is None or self.workspace.hashes(stored)[0] == sha256 else None
        return None

    def json(self, path: str) -> dict[str, Any] | None:
        """A JSON object as it was; None where it is not here or damaged."""
        place = self.file(path)
        try:
            content = json.loads(place.read_bytes()) if place else None
        except ValueError:
            return None
        if place is None and path in self.entries:
            content = self.entries[path].content
        return content if isinstance(content, dict) else None


def compare(
    root: Path, config: dict[str, Any], old: str, new: str | None
) -> tuple[dict[str, Any], Callable[[], Pictures]]:
    """What differs between two revisions, or a revision and the workspace (`new` is None), as JSON; and a function that
    gives the (old, new) pictures of each of its "samples". Nothing is checked out."""
    config = config | {"scale": Plan(root, config).scale_name}
    workspace = Contents(root, deep=False)
    with tempfile.TemporaryDirectory(prefix="lct-diff-") as folder:
        sides = (("old", old), ("new", new))
        before, after = (State(workspace, config, name, Path(folder, side)) for side, name in sides)
        value = _differences(before, after, config["scale"])

    def pictures() -> Pictures:
        states = (("old", before), ("new", after))
        return [tuple(row[side] and state.file(row[side]) for side, state in states) for row in value["samples"]]

    return value, pictures


def _differences(old: State, new: State, scale: str) -> dict[str, Any]:
    """All differences, as JSON."""
    compared = [_cell(name, old, new) for name in dict.fromkeys([*new.cells, *old.cells])]
    return {
        "scale": scale,
        "old": {"name": old.name, "commit": old.commit},
        "new": {"name": new.name, "commit": new.commit},
        "notes": [*old.notes, *new.notes],
        "cells": [cell for cell in compared if cell["state"] != "not run"],
        "not_run": sum(cell["state"] == "not run" for cell in compared),
        "settings": _settings(old, new),
        "protocols": _protocols(compared),
        "files": _files(old, new),
        "samples": _samples(compared, old, new),
    }


def _cell(name: str, old: State, new: State) -> dict[str, Any]:
    before, after = _values(name, old), _values(name, new)
    numbers = [[value["value"] for value in side if value["value"] is not None] for side in (before, after)]
    if not before and not after:
        state = "not run"
    elif not before or not after:
        state = "removed" if before else "added"
    elif [(v["seed"], v["draw"], v["sha256"]) for v in before] == [(v["seed"], v["draw"], v["sha256"]) for v in after]:
        state = "same"
    elif len(numbers[0]) < len(before) or len(numbers[1]) < len(after):
        state = "changed, value not here"
    elif len(numbers[0]) == len(numbers[1]) and all(equal(a, b) for a, b in zip(*numbers, strict=True)):
        state = "same value"
    else:
        state = "changed"
    difference = fmean(numbers[1]) - fmean(numbers[0]) if all(numbers) else None
    finite = difference is not None and math.isfinite(difference)
    return {"id": name, "state": state, "old": before, "new": after, "difference": difference if finite else None}


def _values(name: str, state: State) -> list[dict[str, Any]]:
    """Each value of a cell in a state, as far as it was computed then."""
    target = state.cells.get(name)
    values = []
    for seed, draw, path in target.files if target else ():
        record = state.records.get(path)
        if record is None or not record.where:
            continue
        content = state.json(path) or {}
        value = (content.get("values") or {}).get(target.metric)
        number = float(value) if isinstance(value, int | float | str) else None
        values.append(
            {
                "seed": seed,
                "draw": draw,
                "metrics": path,
                "sha256": record.sha256,
                "value": number,
                "protocol": content.get("protocol_hash"),
                "contents": content.get("protocol"),
                "samples": next((p.removesuffix(MANIFEST) + GRID for r, p, _ in record.inputs if r == "samples"), None),
            }
        )
    return values


def _settings(old: State, new: State) -> list[dict[str, Any]]:
    """Settings that differ, per stage and run or dataset."""
    before, after = _groups(old.records), _groups(new.records)
    groups = []
    for group in sorted(before.keys() | after.keys()):
        kind, name = group
        if group not in before or group not in after:
            state = "removed" if group in before else "added"
            groups.append({"stage": kind, "name": name, "state": state, "changes": []})
        elif changes := _changes(before[group], after[group]):
            groups.append({"stage": kind, "name": name, "state": "changed", "changes": changes})
    return groups


def _changes(old: dict[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "old": a, "new": b} for key, a, b in differing(old, new)]


def _groups(records: dict[str, Record]) -> dict[tuple[str, str], dict[str, Any]]:
    """(stage, run or dataset) -> settings; files of different seeds share theirs."""
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for path, record in sorted(records.items()):
        settings = (record.settings or {}).get("settings")
        parts = path.split("/")
        if settings is not None and len(parts) > 4 and parts[0] == "results":
            groups.setdefault((str(record.stage), parts[3]), settings)
    return groups


def _protocols(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pairs of protocols that stand against each other in some cell, and what differs between them."""
    pairs: dict[tuple[str, str], dict[str, Any]] = {}
    for cell in cells:
        for a, b in zip(cell["old"], cell["new"], strict=False):
            if a["protocol"] and b["protocol"] and a["protocol"] != b["protocol"]:
                changes = _changes(a["contents"] or {}, b["contents"] or {})
                pair = {"old": a["protocol"], "new": b["protocol"], "changes": changes, "cells": []}
                pairs.setdefault((a["protocol"], b["protocol"]), pair)["cells"].append(cell["id"])
    return [pair | {"cells": list(dict.fromkeys(pair["cells"]))} for pair in pairs.values()]


def _files(old: State, new: State) -> list[dict[str, Any]]:
    """Files whose recorded hash differs, or that only one side has."""
    hashes = [{path: record.sha256 for path, record in state.records.items()} for state in (old, new)]
    pairs = {path: [of.get(path) for of in hashes] for path in sorted({*hashes[0], *hashes[1]})}
    return [{"path": path, "old": a, "new": b} for path, (a, b) in pairs.items() if a != b]


def _samples(cells: list[dict[str, Any]], old: State, new: State) -> list[dict[str, Any]]:
    """Pictures to show side by side: per row, seed and draw, where something differs."""
    rows: dict[tuple[str, int, int], dict[str, Any]] = {}
    for cell in cells:
        row = cell["id"].rpartition(".")[0]
        for side in ("old", "new"):
            for value in cell[side]:
                if cell["state"] not in ("same", "same value"):
                    key = (row, value["seed"], value["draw"])
                    blank = {"row": row, "seed": value["seed"], "draw": value["draw"], "old": None, "new": None}
                    rows.setdefault(key, blank)[side] = value["samples"]
    return list(rows.values())
