"""States of the project to compare: a git revision, read without checking it out, or the workspace."""

import io
import json
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lct.files.git import checkout_fault, run_git
from lct.files.records import outputs_below
from lct.lineage import dvc_lock, registry
from lct.lineage.audit import Target
from lct.lineage.chain import Record, Records

WORKSPACE = "workspace"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/~^@{}+-]*")


@dataclass
class State:
    """What was recorded of a scale at one time."""

    name: str  # as the user gave it
    commit: str | None  # None: the workspace
    root: Path  # where config/, lineage/ and dvc.lock of that time lie
    records: dict[str, Record]
    md5: dict[str, str]  # file -> DVC's name of its content
    entries: dict[str, registry.Entry]  # what the archive holds
    notes: list[str] = field(default_factory=list)
    cells: dict[str, Target] = field(default_factory=dict)  # as its configuration names them


def commit(root: Path, name: str) -> str:
    """The full hash of a revision; ValueError when there is no git checkout or no such revision."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"revision {name!r}: expected a commit, branch or tag, found other characters; git log lists them"
        )
    if fault := checkout_fault(root):
        raise ValueError(f"{fault}; earlier revisions are in git alone")
    done = run_git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if done.returncode:
        raise ValueError(
            f"revision {name!r}: expected a commit, branch or tag, found none; git log --oneline lists them"
        )
    return done.stdout.strip()


def at_revision(root: Path, scale: str, name: str, folder: Path) -> State:
    """A revision; its configuration and records are written under `folder`, a new one."""
    revision = commit(root, name)
    folder.mkdir()
    for path in (f"lineage/{scale}.jsonl", "dvc.lock"):
        done = run_git(root, "show", f"{revision}:./{path}", text=False)
        if done.returncode == 0:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(done.stdout)
    done = run_git(root, "archive", "--format=zip", revision, "config", text=False)
    if done.returncode == 0:
        with zipfile.ZipFile(io.BytesIO(done.stdout)) as packed:
            packed.extractall(folder)
    try:
        entries = registry.read(folder, scale)
        md5 = _md5(folder, entries)
    except ValueError as error:
        raise ValueError(str(error).replace(f"{folder}/", f"{name}:")) from error
    records = Records(folder, entries)
    state = State(name, revision, folder, {path: records.of(path) for path in entries}, md5, entries)
    if not entries:
        state.notes.append(f"{name}: no lineage/{scale}.jsonl: nothing was recorded of this scale then")
    return state


def in_workspace(root: Path, scale: str) -> State:
    """What is in the workspace now; of files that are not there, what the archive says."""
    entries = registry.read(root, scale)
    records, paths = Records(root, entries), {*entries, *outputs_below(root, f"results/{scale}")}
    every = {path: records.of(path) for path in sorted(paths)}
    return State(WORKSPACE, None, root, every, _md5(root, entries), entries)


def _md5(root: Path, entries: dict[str, registry.Entry]) -> dict[str, str]:
    lock = dvc_lock.read_lock(root)
    return (lock.outs() if lock else {}) | {path: entry.md5 for path, entry in entries.items() if entry.md5}


class Reader:
    """Contents of files as they were in a state, from the workspace where it still holds them, or DVC's cache."""

    def __init__(self, root: Path, hashes: Any):
        self.root = root  # of the workspace
        self.cache = dvc_lock.cache_folder(root)
        self.hashes = hashes  # path -> (sha256, md5)

    def find(self, state: State, path: str) -> Path | None:
        """A file with the content that `path` had, or None."""
        here, record, md5 = self.root / path, state.records.get(path), state.md5.get(path)
        if here.exists() and state.commit is None:
            return here
        sha256 = record.sha256 if record else None
        if here.exists() and sha256 is not None and self.hashes(here)[0] == sha256:
            return here
        if md5 is not None and (stored := dvc_lock.stored_object(self.cache, md5)).exists():
            return stored if sha256 is None or self.hashes(stored)[0] == sha256 else None
        return None

    def json(self, state: State, path: str) -> dict[str, Any] | None:
        """A JSON object as it was; None where it is not here or damaged."""
        place = self.find(state, path)
        try:
            content = json.loads(place.read_bytes()) if place else self._archived(state, path)
        except ValueError:
            return None
        return content if isinstance(content, dict) else None

    def _archived(self, state: State, path: str) -> dict[str, Any] | None:
        """What the archive holds of a metrics file, unless the workspace has newer values."""
        changed = (self.root / path).exists() and state.commit is None
        return None if changed or path not in state.entries else state.entries[path].content
