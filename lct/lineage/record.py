"""Recording: what a run has finished becomes part of the recorded state.

Recorded state = config/recorded.yaml (which artifacts), dvc.lock (their hashes), lineage/{scale}.jsonl (everything
about them), all in git, and the content in DVC's cache. An artifact is recorded when Snakemake calls its whole chain up
to date, its records match its bytes, and what it was made from is what is recorded. A journal undoes a recording that
failed or was killed; content is never deleted.
"""

import contextlib
import dataclasses
import os
import re
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lct.files.atomic import copy, read_json, write_bytes, write_json
from lct.files.git import run_git
from lct.files.hashing import hash_file
from lct.files.lock import hold, is_held
from lct.files.records import run_path, settings_path
from lct.lineage import dvc, registry
from lct.lineage.graph import Job, ask, metadata
from lct.lineage.registry import Entry
from lct.lineage.stages import RECORDED, SHARED, Book, Stage, artifacts, item_of, read_recorded, write_recorded

LOCK = ".dvc/tmp/lct-record.lock"
JOURNAL = ".dvc/tmp/lct-record"
MEMO = ".dvc/tmp/lct-hashes.json"
OPENED = (".html", ".md", ".tex", ".csv", ".svg", ".png", ".pdf")  # a browser goes by the name of what a link points to
RUN_LOCK = ".snakemake/lct.lock"  # held by a running snakemake


@dataclass
class Report:
    """What a recording did."""

    scale: str
    recorded: list[str] = field(default_factory=list)  # artifacts recorded now, by their stages' names
    kept: int = 0  # artifacts that were recorded already, and still are what they were
    left_out: dict[str, str] = field(default_factory=dict)  # path of an artifact -> why it is not recorded
    not_made: list[str] = field(default_factory=list)  # artifacts of the scale that no run has made yet
    dropped: list[str] = field(default_factory=list)  # stages that the graph no longer declares
    dirty: int = 0  # artifacts recorded now that were made from changed sources


def record(root: Path, config: dict[str, Any], scale: str, in_run: bool = False, wait_seconds: float = 0.0) -> Report:
    """Record what is up to date of a scale. Raises ValueError, LockHeldError or OSError; then nothing changed."""
    dvc.check(root)
    if not in_run and is_held(root / RUN_LOCK):
        raise ValueError(
            "expected no running snakemake, found one; it records at its end, or wait and call `lct record`"
        )
    with hold(root / LOCK, "running `lct record`", wait_seconds):
        undo(root)
        recorded, entries = read_recorded(root), registry.read(root, scale)
        dvc.lock(root)  # readable, or nothing is touched
        jobs, book = ask(root, config), Book(root)
        if faults := book.unclaimed(jobs):
            raise ValueError(f"dvc.yaml: expected one stage for each declared output, found none or two for {faults}")
        memo = _Memo(root)
        report = Report(scale)
        found = _judge(root, jobs, book, entries, memo, report)
        declared = {path for job in jobs for path in job.outputs}
        gone = {stage.path for stage in book.stages(recorded) if stage.item["scale"] == scale} - declared
        besides = gone & _declared_besides(root, config, gone) if gone else set()
        update = _update(root, book, recorded, entries, found, declared | besides, report)
        if update is not None:
            update += _gathering(root, [s for s in book.stages(recorded) if s.path in besides], update, entries, memo)
            _write(root, book, scale, recorded, update, entries, found, report)
        memo.save(found)
        return report


def _declared_besides(root: Path, config: dict[str, Any], gone: set[str]) -> set[str]:
    """What the graph declares with another `dataset`: none, which is the paper's tables, or one that has recorded a
    report. A dataset whose configuration is gone declares nothing any more."""
    declared: set[str] = set()
    for name in [None, *sorted({found[1] for path in gone if (found := re.search("/dataset-([^/]+)/", path))})]:
        with contextlib.suppress(ValueError):
            declared |= {path for job in ask(root, {**config, "dataset": name}) for path in job.outputs}
    return declared


@dataclass(frozen=True)
class _Found:
    """A stage whose files are good, with the entries they would have."""

    stage: Stage
    entries: dict[str, Entry]


# --- what is good ---------------------------------------------------------------------------------------------------
def _judge(
    root: Path, jobs: list[Job], book: Book, old: dict[str, Entry], memo: "_Memo", report: Report
) -> list[_Found]:
    """Stages whose chain is up to date and whose content is what the records say; the others go into the report."""
    good: dict[str, str] = {}  # path -> sha256
    bad: set[str] = set()
    makers = {path: job for job in jobs for path in job.outputs}
    found = []
    for job in _in_order(jobs, makers):
        mine: list[_Found] = []
        for kind, names in artifacts(job):
            path = names["path"]
            try:
                records = _records(root, path)
                if job.due or records is None:
                    if os.path.lexists(root / path):
                        raise ValueError("; ".join(job.reasons) or "its records are missing")
                    bad.update(job.outputs)
                    report.not_made += [] if path in old else [path]  # recorded, and merely not here
                    continue
                settings, _ = records
                stage = book.stage(kind, item_of(names, {role: i["path"] for role, i in settings["inputs"].items()}))
                entries = {out: _entry(root, out, old, memo) for out in stage.outs}
                _check_chain(root, entries[path], makers, good, bad, old)
            except ValueError as error:
                report.left_out[path] = " ".join(str(error).split())
                bad.update(job.outputs)
                continue
            good |= {out: entry.sha256 for out, entry in entries.items()}
            mine.append(_Found(stage, entries))
        found += _led(root, mine)
    return found


def _led(root: Path, mine: list[_Found]) -> list[_Found]:
    """What Snakemake knew of a job is written once, into the line of its first file; the others name that one."""
    paths = sorted(path for one in mine for path in one.entries)
    known = metadata(root, paths[0]) if paths else None
    if known is None:
        return []
    job = {**known["job"], "started": known["started"]}
    return [
        _Found(
            one.stage,
            {
                path: replace(entry, job=paths[0], snakemake=job if path == paths[0] else None)
                for path, entry in one.entries.items()
            },
        )
        for one in mine
    ]


def _in_order(jobs: list[Job], makers: dict[str, Job]) -> list[Job]:
    """Producers before consumers."""
    ordered: dict[str, Job] = {}

    def visit(job: Job) -> None:
        for path in job.inputs:
            if path in makers and makers[path].outputs[0] not in ordered:
                visit(makers[path])
        ordered.setdefault(job.outputs[0], job)

    for job in jobs:
        visit(job)
    return list(ordered.values())


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
        raise ValueError(f"{path}: its records are not what a job writes; make it again: snakemake --force") from None
    return settings, run


def _entry(root: Path, path: str, old: dict[str, Entry], memo: "_Memo") -> Entry:
    """The line of a file, after checking its bytes against its records. Raises ValueError saying what is wrong."""
    if not (root / path).exists():
        raise ValueError(f"{path} is missing")
    records = _records(root, path)
    known = metadata(root, path)
    if known is None:
        raise ValueError(f"Snakemake does not know how {path} was made; `lct restore` tells it what was recorded")
    settings, run = records or (None, None)
    size, sha256, md5 = memo.digests(path, old.get(path), run)
    if run is not None and (size, sha256) != (run["output"]["bytes"], run["output"]["sha256"]):
        raise ValueError(f"{path} is not what its job wrote: expected sha256 {run['output']['sha256'][:12]}, found "
                         f"{sha256[:12]}; snakemake --force makes it again")  # fmt: skip
    content = read_json(root / path) if path.split("/")[2] == "metrics" else None
    return Entry(path, size, sha256, md5, settings, run, content=content, ended=tuple(known["ended"]))


def _check_chain(
    root: Path, entry: Entry, makers: dict[str, Job], good: dict[str, str], bad: set[str], old: dict[str, Entry]
) -> None:
    """Raise ValueError unless everything the artifact was made from is good, or recorded and merely not here."""
    for used in entry.inputs.values():
        path, sha256 = used["path"], used["sha256"]
        if path not in makers:
            continue
        if path in good and good[path] == sha256:
            continue
        if path in old and old[path].sha256 == sha256 and not (root / path).exists():
            continue
        if path in bad:
            raise ValueError(f"made from {path}, which is left out")
        raise ValueError(f"made from {path} as it was before: expected sha256 {sha256[:12]}, found another")


# --- what changes ---------------------------------------------------------------------------------------------------
def _update(
    root: Path,
    book: Book,
    recorded: dict[str, dict[str, dict[str, str]]],
    old: dict[str, Entry],
    found: list[_Found],
    declared: set[str],
    report: Report,
) -> list[_Found] | None:
    """Stages to commit, and in the report those to drop; None when there is nothing to do."""
    locked = dvc.lock(root)
    changed = []
    for one in found:
        same = (
            recorded[one.stage.kind].get(one.stage.id) == one.stage.item
            and one.stage.name in locked
            and all(old.get(path) == entry for path, entry in one.entries.items())
            and {out["path"] for out in locked[one.stage.name].get("outs", ())} == set(one.stage.outs)
        )
        if not same:
            changed.append(one)
    report.dropped = sorted(
        stage.name
        for stage in book.stages(recorded)
        if stage.item["scale"] == report.scale and stage.path not in declared
    )
    if not changed and not report.dropped:
        report.kept = len(found)
        return None
    outs = {path for one in changed for path in one.entries}
    gathering = [  # a folder of other stages' files is an input: whatever changed in it, its hash is taken again
        one
        for one in found
        if one not in changed and any(out.startswith(f"{dep}/") for dep in one.stage.deps for out in outs)
    ]
    report.kept = len(found) - len(changed)
    report.recorded = sorted(one.stage.name for one in changed)
    report.dirty = sum(bool((one.entries[one.stage.path].run["git"] or {}).get("dirty")) for one in changed)
    return changed + gathering


def _gathering(
    root: Path, stages: list[Stage], update: list[_Found], old: dict[str, Entry], memo: "_Memo"
) -> list[_Found]:
    """Recorded stages of another dataset, as they are, one of whose inputs is a folder that `update` adds to."""
    outs = {path for one in update for path in one.entries}
    found = []
    for stage in stages:
        if not any(out.startswith(f"{dep}/") for dep in stage.deps for out in outs):
            continue
        entries = {out: old[out] for out in stage.outs if out in old and (root / out).exists()}
        same = all(memo.digests(out, entry, entry.run)[1] == entry.sha256 for out, entry in entries.items())
        if same and len(entries) == len(stage.outs):
            found.append(_Found(stage, entries))
    return found


def _write(
    root: Path,
    book: Book,
    scale: str,
    recorded: dict[str, dict[str, dict[str, str]]],
    update: list[_Found],
    old: dict[str, Entry],
    found: list[_Found],
    report: Report,
) -> None:
    """The new recorded state, by one `dvc commit`; undone when anything fails."""
    new = {path: entry for one in update for path, entry in one.entries.items()}
    _open_journal(root, scale, new)
    lock = root / "dvc.lock"
    locked = dvc.blocks(lock.read_text(encoding="utf-8")) if lock.exists() else {}
    try:
        chosen: dict[str, dict[str, dict[str, str]]] = {}
        for one in update:
            chosen.setdefault(one.stage.kind, {})[one.stage.id] = one.stage.item
        if update:
            write_recorded(root, chosen)  # for this moment only: `dvc commit` shall see these and no others,
            lock.unlink(missing_ok=True)  # and need not read and write the rest of the lock, which takes it long
            dvc.commit(root)
            _check_commit(root, new)
            for path, entry in new.items():
                if Path(path).suffix in OPENED and (root / path).is_symlink():
                    link(dvc.cached(root, str(entry.md5)), root / path)
            locked |= dvc.blocks(lock.read_text(encoding="utf-8"))
        _keep_times(root, new)
        dropped = set(report.dropped)
        complete = {
            kind: {key: item for key, item in items.items() if f"{kind}@{key}" not in dropped}
            | chosen.get(kind, {})
            for kind, items in recorded.items()
        }  # fmt: skip
        dvc.write_lock(root, {name: block for name, block in locked.items() if name not in dropped})
        held = {o for stage in book.stages(complete) if stage.item["scale"] in (scale, SHARED) for o in stage.outs}
        registry.write(root, scale, _merged({p: e for p, e in old.items() if p in held}, new))
        write_recorded(root, complete)
    except BaseException:
        undo(root)
        raise
    shutil.rmtree(root / JOURNAL)


def _merged(old: dict[str, Entry], new: dict[str, Entry]) -> dict[str, Entry]:
    """Old and new entries; an old one whose job's line is replaced keeps what Snakemake knew of that job in its own."""
    merged = old | new
    for path, entry in old.items():
        if path not in new and entry.job in new and entry.job in old:
            merged[path] = replace(entry, job=path, snakemake=old[entry.job].snakemake)
    return merged


def _check_commit(root: Path, new: dict[str, Entry]) -> None:
    """What DVC stored is what was hashed here: bytes that changed in between, or a stale hash of DVC's, are refused."""
    stored = dvc.hashes(root)
    for path, entry in new.items():
        if stored.get(path) != entry.md5:
            raise ValueError(f"{path}: changed while it was being recorded, or DVC's memory of it is stale (dvc status "
                             "says more); nothing was recorded")  # fmt: skip


def _keep_times(root: Path, new: dict[str, Entry]) -> None:
    """A link into the cache gets the time of the file it stands for: DVC's touch is no news to Snakemake."""
    for path, entry in new.items():
        set_time(root / path, entry.ended[0])


def set_time(path: Path, seconds: float) -> None:
    """Set the modification time of a file, and of the link to it."""
    os.utime(path, (seconds, seconds), follow_symlinks=False)
    if path.is_symlink():
        os.utime(path, (seconds, seconds))


# --- undoing --------------------------------------------------------------------------------------------------------
def _state_files(root: Path, scale: str) -> list[Path]:
    return [root / RECORDED, root / "dvc.lock", registry.archive_path(root, scale)]


def _open_journal(root: Path, scale: str, new: dict[str, Entry]) -> None:
    """Keep what `undo` needs: the recorded state as it is, and which contents are about to move into the cache."""
    partial = root / f"{JOURNAL}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for path in _state_files(root, scale):
        if path.exists():
            shutil.copyfile(path, partial / path.name)
    contents = {path: {"md5": entry.md5, "bytes": entry.bytes, "ended": entry.ended[0]} for path, entry in new.items()}
    write_json(partial / "journal.json", {"scale": scale, "contents": contents})
    os.replace(partial, root / JOURNAL)


def undo(root: Path) -> bool:
    """Bring back the recorded state from before a recording that failed or was killed, and every file it was moving."""
    journal = root / JOURNAL
    if not journal.exists():
        return False
    content = read_json(journal / "journal.json", hint=f"remove {journal}, then git checkout -- {RECORDED} dvc.lock")
    for path, moved in content["contents"].items():
        place, stored = root / path, dvc.cached(root, moved["md5"])
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
    shutil.rmtree(journal)
    return True


def link(stored: Path, place: Path) -> None:
    """Make `place` a link to a content in the cache, or a copy of it where people open it; what was there is replaced
    in one step."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.suffix in OPENED:
        copy(stored, place)
        return
    partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    os.symlink(os.path.abspath(stored), partial)
    os.replace(partial, place)


class _Memo:
    """Hashes of recorded files by size, time and inode, so that recording again need not read them again.

    Only a file that is recorded already is taken from here; whatever is new to the record is read. Bytes changed behind
    a kept time and size thus never enter the record: `lct verify --deep` finds them.
    """

    def __init__(self, root: Path):
        self.root = root
        try:
            self.known = read_json(root / MEMO)
        except ValueError:
            self.known = {}

    def _stamp(self, path: str) -> list[int]:
        found = os.stat(self.root / path)
        return [found.st_size, found.st_mtime_ns, found.st_ino]

    def digests(self, path: str, recorded: Entry | None, run: dict[str, Any] | None) -> tuple[int, str, str]:
        known = self.known.get(path)
        if recorded is not None and recorded.run == run and known == [*self._stamp(path), recorded.sha256]:
            return recorded.bytes, recorded.sha256, str(recorded.md5)
        return hash_file(self.root / path)

    def save(self, found: list[_Found]) -> None:
        for one in found:
            for path, entry in one.entries.items():
                self.known[path] = [*self._stamp(path), entry.sha256]
        with contextlib.suppress(OSError):  # without it everything is only read again
            write_json(self.root / MEMO, self.known)


# --- git ------------------------------------------------------------------------------------------------------------
def git_command(scale: str) -> list[str]:
    """What puts the recorded state into git."""
    return ["git", "commit", "-m", f"Record {scale}", "--", RECORDED, "dvc.lock", f"lineage/{scale}.jsonl"]


def commit(root: Path, scale: str) -> None:
    """Commit the recorded state, and nothing else. Raises ValueError with git's message."""
    paths = git_command(scale)[-3:]
    staged = ["diff", "--cached", "--quiet", "--", *paths]
    for words in (["add", "--", *paths], staged, git_command(scale)[1:]):
        done = run_git(root, *words)
        if words[0] == "diff" and done.returncode == 0:
            return  # it is committed already
        if words[0] != "diff" and done.returncode != 0:
            raise ValueError(f"git {words[0]}: {' '.join((done.stderr or done.stdout).split())}")


def unrecorded(root: Path, scale: str) -> list[str]:
    """Outputs of a scale whose run is not the recorded one, by their run records alone."""
    entries = registry.read(root, scale)
    found = []
    for folder in (root / "results" / scale, root / "reports" / scale):
        for path in sorted(folder.rglob("*.run.json")):
            output = str(path.relative_to(root)).removesuffix(".run.json")
            entry = entries.get(output)
            try:
                same = entry is not None and entry.run == read_json(path)
            except ValueError:
                same = False
            if not same:
                found.append(output)
    return found


def as_json(report: Report) -> dict[str, Any]:
    return dataclasses.asdict(report)
