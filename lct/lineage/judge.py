"""Which jobs may be recorded: those whose whole chain is up to date and whose bytes are what they wrote down."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lct.files.advice import make, make_again
from lct.files.atomic import read_json, read_json_or_empty, write_json
from lct.files.hashing import FileHash, hash_file
from lct.files.records import differences, is_dropped, run_path, settings_path
from lct.lineage.registry import Entry
from lct.lineage.snakemake_adapter import Job, read_metadata, upstream
from lct.lineage.stages import archived_content

_MEMO = ".dvc/tmp/lct-hashes.json"
Entries = dict[str, Entry]  # path -> entry


class HashMemo:
    """Hashes of recorded files by size, time and inode, so that recording again need not read them again.

    Only a file that is recorded already is taken from here; whatever is new to the record is read. Bytes changed behind
    a kept time and size thus never enter the record: `lct verify --deep` finds them.
    """

    def __init__(self, root: Path):
        self.root = root
        self._stamps = read_json_or_empty(root / _MEMO)

    def _stamp(self, path: str) -> list[int]:
        status = os.stat(self.root / path)
        return [status.st_size, status.st_mtime_ns, status.st_ino]

    def hash(self, path: str, recorded: Entry | None, run: dict[str, Any] | None) -> FileHash:
        if recorded is not None and recorded.run == run:
            if self._stamps.get(path) == [*self._stamp(path), recorded.sha256]:
                return FileHash(recorded.bytes, recorded.sha256, str(recorded.md5))
        return hash_file(self.root / path)

    def save(self, entries: Mapping[str, Entry]) -> None:
        stamps = {path: [*self._stamp(path), entry.sha256] for path, entry in entries.items() if entry.is_kept}
        with contextlib.suppress(OSError):  # without it everything is only read again
            write_json(self.root / _MEMO, self._stamps | stamps)


def judge(
    root: Path, jobs: list[Job], recorded: Mapping[str, Entry], memo: HashMemo
) -> tuple[list[Entries], dict[str, str], list[str]]:
    """Judge every job of a graph, producers first. recorded: the entries of before.

    Returns the entries of the outputs of each job that may be recorded; an output of each other job -> why not; and the
    first outputs of the jobs that no run has done yet."""
    may, left_out, not_made = [], {}, []
    good = {path: entry.sha256 for path, entry in recorded.items() if not (root / path).exists()}  # merely not here
    bad: set[str] = set()
    declared = {path for job in jobs for path in job.outputs}
    for job in upstream(jobs):
        present = [path for path in job.outputs if os.path.lexists(root / path)]
        path = present[0] if present else job.outputs[0]
        try:
            if not present:
                not_made += [] if path in recorded else [path]  # recorded, and merely not here
                bad.update(job.outputs)
                continue
            records = {}
            for path in sorted(job.outputs):
                records[path] = _records(root, path)
            path = present[0]
            if job.due or not any(records.values()):
                raise ValueError("; ".join(job.reasons) or "its records are missing; lct.files.records writes them")
            entries: Entries = {}
            for path in records:
                entries[path] = _entry(root, path, records[path], recorded, memo)
                _check_chain(entries[path], declared, good, bad)
        except ValueError as error:
            left_out[path] = " ".join(str(error).split())
            bad.update(job.outputs)
            continue
        good |= {path: entry.sha256 for path, entry in entries.items()}
        may.append(_with_lead(entries))
    return may, left_out, not_made


def _with_lead(entries: Entries) -> Entries:
    """What Snakemake knows of a job stands once, in the entry of its first output; the others name that output."""
    lead = next(iter(entries))
    return {
        path: replace(entry, job=lead, snakemake=entry.snakemake if path == lead else None)
        for path, entry in entries.items()
    }


def _records(root: Path, path: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Settings and run of an output; None where it has no such records."""
    if not settings_path(root / path).exists() and not run_path(root / path).exists():
        return None
    settings, run = read_json(settings_path(root / path)), read_json(run_path(root / path))
    try:
        for entry in settings["inputs"].values():
            entry["path"], entry["sha256"]
        run["output"]["sha256"], run["output"]["bytes"]
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{path}: its records are not what a job writes; {make_again(path)}") from None
    return settings, run


def _entry(
    root: Path, path: str, records: tuple[dict, dict] | None, recorded: Mapping[str, Entry], memo: HashMemo
) -> Entry:
    """The entry of a file, after checking its bytes against its records. Raises ValueError naming the difference."""
    dropped = is_dropped(root / path) and records is not None
    if not dropped and not (root / path).exists():
        back = "`lct restore` brings it back" if path in recorded else f"`{make(path)}` makes it"
        raise ValueError(f"{path} is missing; {back}")
    metadata = read_metadata(root, path)
    if metadata is None:
        raise ValueError(f"Snakemake does not know how {path} was made; `lct restore` tells it what was recorded")
    settings, run = records or (None, None)
    if dropped and run is not None:
        size, sha256, md5 = run["output"]["bytes"], run["output"]["sha256"], None
    else:
        size, sha256, md5 = memo.hash(path, recorded.get(path), run)
    if run is not None and (size, sha256) != (run["output"]["bytes"], run["output"]["sha256"]):
        raise ValueError(f"{path} is not what its job wrote: expected sha256 {run['output']['sha256'][:12]}, found "
                         f"{sha256[:12]}; {make_again(path)}")  # fmt: skip
    _check_edits(path, run, recorded.get(path), metadata.ended)
    job = {**metadata.job, "started": metadata.started}
    content = archived_content(root, path)
    return Entry(path, size, sha256, md5, settings, run, snakemake=job, content=content, ended=metadata.ended)


def _check_edits(path: str, run: dict[str, Any] | None, before: Entry | None, ended: tuple[float, ...]) -> None:
    """Raise ValueError when the run record of a file that no job has written again is not the recorded one."""
    if before is None or None in (run, before.run) or run == before.run or ended[:1] != before.ended[:1]:
        return
    keys = ", ".join(differences(before.run, run))
    raise ValueError(f"{run_path(path)} was edited since it was recorded ({keys}); `lct restore` brings it back")


def _check_chain(entry: Entry, declared: set[str], good: dict[str, str], bad: set[str]) -> None:
    """Raise ValueError unless everything the output was made from is good, or recorded and merely not here."""
    for used in entry.inputs.values():
        path, sha256 = used["path"], used["sha256"]
        if path not in declared or good.get(path) == sha256:
            continue
        if path in bad:
            raise ValueError(f"made from {path}, which is left out")
        raise ValueError(f"made from {path} as it was before: expected sha256 {sha256[:12]}, found another")
