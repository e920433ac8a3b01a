"""Recording: what a run has finished becomes part of the recorded state.

Recorded state = lineage/{scale}.jsonl (every file of every recorded job, and all about it), dvc.lock (DVC's hashes of
them), and what follows from the first: dvc.yaml and lineage/{scale}/. All is in git, and the content in DVC's cache. A
job is recorded when Snakemake calls its whole chain up to date, its records match its bytes, and what it was made from
is what is recorded. A journal undoes a recording that failed or was killed; content is never deleted.
"""

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lct.config.folder import ConfigFolder
from lct.files.atomic import copy, read_json, read_json_or_empty, write_bytes, write_json, write_text
from lct.files.git import run_git
from lct.files.lock import hold, is_held
from lct.files.records import outputs_below, run_path
from lct.lineage import dvc, registry
from lct.lineage.dvc import Lock, cached, lock_path, lock_text, read_lock
from lct.lineage.judge import HashMemo, judge
from lct.lineage.registry import Entry
from lct.lineage.snakemake_adapter import Job, plan_jobs
from lct.lineage.stages import SHARED, Stage, dump, dvc_yaml, stages, write_views

LOCK = ".dvc/tmp/lct-record.lock"
_ESCAPED = {ord(char): f"\\u{ord(char):04x}" for char in "\x85\u2028\u2029"}  # what YAML takes for ends of lines
RUN_LOCK = ".snakemake/lct.lock"  # held by a running snakemake
JOURNAL = ".dvc/tmp/lct-record"
STAGES = "dvc.yaml"
FORMER = "config/recorded.yaml"  # where the version before kept its list of artifacts
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_TIME_STEP = 1e-6  # seconds that two times of a file may differ by and be equal
OPENED = (".html", ".md", ".tex", ".csv", ".svg", ".png", ".pdf")  # a browser goes by the name of what a link points to


@dataclass
class RecordReport:
    """What a recording did."""

    scale: str
    recorded: list[str] = field(default_factory=list)  # jobs recorded now, by their stages' names
    kept: int = 0  # jobs that were recorded already, and are still what they were
    left_out: dict[str, str] = field(default_factory=dict)  # an output of a job -> why the job is not recorded
    not_made: list[str] = field(default_factory=list)  # first outputs of jobs that no run has done yet
    dropped: list[str] = field(default_factory=list)  # stages that the graph no longer declares
    dirty: int = 0  # jobs recorded now that ran with changed sources


def record(
    root: Path, config: dict[str, Any], scale: str, in_run: bool = False, wait_seconds: float = 0.0
) -> RecordReport:
    """Record what is up to date of a scale. Raises ValueError, LockHeldError or OSError with one line; then nothing
    changed. What the version before this one has recorded is carried over."""
    dvc.check_place(root)
    if not in_run and is_held(root / RUN_LOCK):
        raise ValueError(
            "expected no running snakemake, found one; it records at its end, or wait and call `lct record`"
        )
    with hold(root / LOCK, "running `lct record`", wait_seconds):
        undo(root)
        names = [scale, *(name for name in registry.scales(root) if name != scale)]
        before = {name: registry.read(root, name) for name in names}
        lock = read_lock(root) or Lock("")
        lock.all()  # readable, or nothing is touched
        jobs, memo = plan_jobs(root, config, adopt=True), HashMemo(root)
        good, left_out, not_made = judge(root, jobs, before[scale], memo)
        new = {path: entry for entries in good for path, entry in entries.items()}
        gone = _undeclared(root, config, jobs, before[scale])
        after = before | {scale: _merged({p: e for p, e in before[scale].items() if p not in gone}, new)}
        update = {
            name: stage
            for name, stage in stages(after).items()
            if new.keys() >= set(stage.outs)
            and (
                any(before[scale].get(path) != new[path] for path in stage.outs)
                or not agrees(stage, lock, after[scale])
            )
        }
        _write(root, scale, after, lock, update)
        memo.save(new)
        runs = {name: [new[path].run or {} for path in stage.outs] for name, stage in update.items()}
        return RecordReport(
            scale,
            recorded=sorted(update),
            kept=len(good) - len(update),
            left_out=left_out,
            not_made=not_made,
            dropped=[name for name, stage in stages(before).items() if gone.issuperset(stage.outs)],
            dirty=sum(any((run.get("git") or {}).get("dirty") for run in of) for of in runs.values()),
        )


def _undeclared(root: Path, config: dict[str, Any], jobs: list[Job], recorded: Mapping[str, Entry]) -> set[str]:
    """Recorded files that the graph no longer declares. Neither with another `dataset`: none, which is the paper's
    tables, or one that has recorded a report; nor with another `only`. A dataset whose configuration is gone declares
    nothing any more. Runs and seeds of which no table shows anything stay, as long as the run exists."""
    gone = {path for path in recorded if not path.startswith(f"{SHARED}/")} - {
        path for job in jobs for path in job.outputs
    }
    matches = [re.search("/(?:dataset-([^/]+)/)?(?:only-([^/]+)/)?[^/]*$", path) for path in gone]
    others = {(match[1], match[2]) for match in matches if match}
    declared = [path for job in jobs for path in job.outputs]
    for dataset, only in sorted({(None, None), *others}, key=str) if gone else []:
        selection = {"dataset": dataset, "only": only.replace("+", ",") if only else ()}
        with contextlib.suppress(ValueError):
            declared += [path for job in plan_jobs(root, {**config, **selection}) for path in job.outputs]
    runs, shown = ConfigFolder(root).run_entries(), set(map(training, declared))
    unlisted = {path for path in gone if (of := training(path)) and of[0] in runs and of not in shown}
    return gone - set(declared) - unlisted


def training(path: str) -> tuple[str, str] | None:
    """(run, seed) that a result belongs to."""
    match = re.match("results/[^/]+/[^/]+/([^/]+)/s([0-9]+)/", path)
    return (match[1], match[2]) if match else None


def _merged(kept: dict[str, Entry], new: dict[str, Entry]) -> dict[str, Entry]:
    """Kept and new entries. Where the entry that holds what Snakemake knew of a job is replaced or gone, the first of
    the kept ones takes it over."""
    merged = kept | new
    leads: dict[str, str] = {}
    for path, entry in sorted(kept.items()):
        if path in new or entry.job is None or (entry.job in kept and entry.job not in new):
            continue
        lead = leads.setdefault(entry.job, path)
        metadata = kept[entry.job].snakemake if entry.job in kept else None
        merged[path] = replace(entry, job=lead, snakemake=metadata if lead == path else None)
    return merged


def agrees(stage: Stage, lock: Lock, entries: Mapping[str, Entry]) -> bool:
    """Whether dvc.lock holds a stage as it is recorded."""
    if stage.name not in lock.blocks:
        return False
    files = lock.files(stage.name)
    outs = {stored.path: stored.md5 for stored in files if stored.role == "outs"}
    deps = {stored.path for stored in files if stored.role == "deps"}
    return outs == {path: entries[path].md5 for path in stage.outs} and deps == set(stage.deps)


# --- what changes ---------------------------------------------------------------------------------------------------
def _write(root: Path, scale: str, after: dict[str, dict[str, Entry]], lock: Lock, update: dict[str, Stage]) -> None:
    """The new recorded state, by one `dvc commit`; undone when anything fails."""
    every = {path: entry for entries in reversed(after.values()) for path, entry in entries.items()}
    moving = {path: every[path] for stage in update.values() for path in stage.outs}
    recorded = stages(after)
    blocks = {
        name: lock.blocks[name] if agrees(stage, lock, every) else lock_block(stage, every, lock)
        for name, stage in recorded.items()
        if name not in update
    }
    if not update and _is_current(root, scale, after, blocks):
        write_views(root, scale, after[scale])
        return
    open_journal(root, scale, moving)
    try:
        if update:
            blocks |= _commit(root, update, moving)
        for path, entry in moving.items():  # DVC's touch is no news to Snakemake
            set_time(root / path, entry.ended[0])
        write_text(lock_path(root), lock_text(blocks))
        registry.write(root, scale, after[scale])
        write_views(root, scale, after[scale])
        write_text(root / STAGES, dvc_yaml(after))
        (root / FORMER).unlink(missing_ok=True)
    except BaseException:
        undo(root)
        raise
    shutil.rmtree(root / JOURNAL)  # complete: nothing is to be undone


def _is_current(root: Path, scale: str, after: dict[str, dict[str, Entry]], blocks: dict[str, str]) -> bool:
    """Whether the recorded state on disk is this one already."""
    files = {root / STAGES: dvc_yaml(after)}
    if after[scale] or registry.archive_path(root, scale).exists():
        files |= {lock_path(root): lock_text(blocks), registry.archive_path(root, scale): registry.text(after[scale])}
    return not (root / FORMER).exists() and all(
        path.exists() and path.read_text(encoding="utf-8") == text for path, text in files.items()
    )


def _commit(root: Path, update: dict[str, Stage], moving: dict[str, Entry]) -> dict[str, str]:
    """Move contents into the cache; returns the blocks of dvc.lock. For this moment dvc.yaml holds these stages only,
    and there is no dvc.lock: `dvc commit` would read and write all the others too, which takes it long."""
    write_text(root / STAGES, dump({"stages": {name: stage.definition for name, stage in update.items()}}))
    lock_path(root).unlink(missing_ok=True)
    dvc.commit(root)
    committed = read_lock(root) or Lock("")
    hashes = committed.outs()
    for path, entry in moving.items():
        if hashes.get(path) != entry.md5:
            raise ValueError(f"{path}: changed while it was being recorded, or DVC's memory of it is stale (dvc status "
                             "says more); nothing was recorded")  # fmt: skip
        if Path(path).suffix in OPENED and (root / path).is_symlink():
            link(cached(root, str(entry.md5)), root / path)
    return committed.blocks


def lock_block(stage: Stage, entries: Mapping[str, Entry], lock: Lock) -> str:
    """The block of dvc.lock of a stage whose files are not all here, from the archive; hashes of files that are not in
    it are taken from the block of before. What the version before this one recorded gets its new name in this way."""
    read = {stored.path: stored for path in stage.outs for stored in lock.maker(path) if stored.role == "deps"}
    hashes = {path: (stored.md5, stored.bytes) for path, stored in read.items()}
    for path in (*stage.outs, *stage.deps):
        if path in entries and entries[path].is_kept:
            hashes[path] = entries[path].md5, entries[path].bytes
    lines = [f"  {stage.name}:", f"    cmd: snakemake {stage.outs[0]}"]
    for role, paths in (("deps", stage.deps), ("outs", stage.outs)):
        stored = [path for path in paths if path in hashes]
        if role == "outs" and stage.params:
            settings = entries[stage.params.removesuffix(".settings.json")].settings
            text = json.dumps(settings, ensure_ascii=False).translate(_ESCAPED)
            lines += ["    params:", f"      {stage.params}: {text}"]
        lines += [f"    {role}:"] * bool(stored)
        for path in stored:
            md5, size = hashes[path]
            lines += [f"    - path: {json.dumps(path)}", "      hash: md5", f"      md5: {quoted(md5)}"]
            lines += [f"      size: {size}"]
    return "\n".join(lines) + "\n"


def quoted(md5: str) -> str:
    """A hash as DVC writes it: in quotes where YAML would read a number."""
    return f"'{md5}'" if re.fullmatch(r"[0-9]+(e[0-9]+)?", md5) else md5


# --- git ------------------------------------------------------------------------------------------------------------
def state_paths(root: Path) -> list[str]:
    """The recorded state, as git names it."""
    former = run_git(root, "ls-files", "--", FORMER).stdout.split()
    return [STAGES, "dvc.lock", "lineage", *former]


def commit(root: Path, scale: str) -> None:
    """Commit the recorded state, and nothing else. Raises ValueError with git's message."""
    paths = state_paths(root)
    for words in (["add", "--all"], ["diff", "--cached", "--quiet"], ["commit", "-m", f"Record {scale}"]):
        done = run_git(root, *words, "--", *paths)
        if words[0] == "diff" and done.returncode == 0:
            return  # it is committed already
        if words[0] != "diff" and done.returncode != 0:
            raise ValueError(f"git {words[0]}: {' '.join((done.stderr or done.stdout).split())}")


def unrecorded(root: Path, scale: str) -> list[str]:
    """Outputs of a scale whose run is not the recorded one, by their run records alone."""
    entries = registry.read(root, scale)
    outputs = (path for folder in ("results", "reports") for path in outputs_below(root, f"{folder}/{scale}"))
    return [p for p in outputs if p not in entries or entries[p].run != read_json_or_empty(run_path(root / p))]


# --- the journal, and links into the cache --------------------------------------------------------------------------
def _state_files(root: Path, scale: str) -> list[Path]:
    return [root / STAGES, root / FORMER, lock_path(root), registry.archive_path(root, scale)]


def open_journal(root: Path, scale: str, moving: Mapping[str, Entry]) -> None:
    """Keep what `undo` needs: the recorded state as it is, and which contents are about to move into the cache."""
    partial = root / f"{JOURNAL}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for path in _state_files(root, scale):
        if path.exists():
            shutil.copyfile(path, partial / path.name)
    contents = {
        path: {"md5": entry.md5, "bytes": entry.bytes, "ended": entry.ended[0]} for path, entry in moving.items()
    }
    write_json(partial / "journal.json", {"scale": scale, "contents": contents})
    os.replace(partial, root / JOURNAL)


def undo(root: Path) -> bool:
    """Bring back the recorded state from before a recording that failed or was killed, and every file it was moving.
    Returns whether there was anything to undo."""
    journal = root / JOURNAL
    if not journal.exists():
        return False
    back = f"`rm -r {JOURNAL} && git checkout -- {STAGES} dvc.lock lineage` goes back to what git has"
    content = read_json(journal / "journal.json", hint=back)
    for path, moved in content["contents"].items():
        place, stored = root / path, cached(root, moved["md5"])
        if not os.path.lexists(place) and stored.exists() and stored.stat().st_size == moved["bytes"]:
            link(stored, place)
        if place.exists():
            set_time(place, moved["ended"])
    for path in _state_files(root, content["scale"]):
        kept = journal / path.name
        if kept.exists():
            write_bytes(path, kept.read_bytes())
        else:
            path.unlink(missing_ok=True)
    write_views(root, content["scale"], registry.read(root, content["scale"]))
    shutil.rmtree(journal)
    return True


def set_time(path: Path, seconds: float) -> None:
    """Set the modification time of a file, and of the link to it."""
    if path.is_symlink() and abs(path.stat().st_mtime - seconds) > _TIME_STEP:
        with contextlib.suppress(PermissionError):  # a content that another user owns keeps its time
            os.utime(path, (seconds, seconds))
    if abs(path.lstat().st_mtime - seconds) <= _TIME_STEP:
        return
    try:
        os.utime(path, (seconds, seconds), follow_symlinks=False)
    except PermissionError:  # only a file's owner sets its time: make it this user's
        if path.is_symlink():
            _symlink(os.readlink(path), path)
        else:
            copy(path, path)
        os.utime(path, (seconds, seconds), follow_symlinks=False)


def _symlink(target: str, place: Path) -> None:
    partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    os.symlink(target, partial)
    os.replace(partial, place)


def link(stored: Path, place: Path) -> None:
    """Make `place` a link to a content in the cache, or a copy of it where people open it or the file system has no
    links; what was there is replaced in one step."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.suffix in OPENED:
        copy(stored, place)
        return
    try:
        _symlink(os.path.abspath(stored), place)
    except OSError as error:
        if error.errno not in _NO_LINKS or not os.access(place.parent, os.W_OK):
            raise
        copy(stored, place)  # a file system without symbolic links
