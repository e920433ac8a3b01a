"""Merging: the recorded states of two branches become one, file by file instead of line by line.

Git merges lines, and two recordings differ in many. Here every recorded file is a key: what one side has added or
changed since their common ancestor is kept, content that both have made is taken once, and other content of the same
file is a conflict, which the user decides. dvc.lock, dvc.yaml and lineage/{scale}/ follow from that.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lct.files.atomic import write_text
from lct.files.git import checkout_fault, run_git
from lct.files.hashing import canonical_json
from lct.files.lock import hold
from lct.lineage import registry, views
from lct.lineage.dvc_lock import Lock, lock_path, lock_text, read_lock
from lct.lineage.journal import STAGES, undo
from lct.lineage.record import LOCK, agrees, lock_block, state_paths
from lct.lineage.registry import Entry
from lct.lineage.stages import Stage, dvc_yaml, stages

Entries = dict[str, Entry]
_UNFINISHED = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REBASE_HEAD")  # what git calls the other side
_VIEWS = ("tables", "report")  # stages that show numbers and measure none


@dataclass(frozen=True)
class Side:
    """The recorded state of a revision."""

    archives: Mapping[str, Entries]  # scale -> path -> entry
    lock: Lock


@dataclass
class MergeReport:
    """What a merge of two recorded states did."""

    ours: int = 0  # recorded files that only the current branch has, or has changed
    theirs: int = 0  # those of the other branch
    twice: int = 0  # made on both sides with the same content: the first of the two is kept
    views: list[str] = field(default_factory=list)  # tables and pages of one side only: `snakemake` makes them again
    conflicts: list[str] = field(default_factory=list)  # the same file with other content, and nobody has decided
    unmerged: list[str] = field(default_factory=list)  # files that are no recorded state, and that git could not merge


def merge(root: Path, ours: Sequence[str] = (), theirs: Sequence[str] = ()) -> MergeReport:
    """Join both sides of the merge, rebase or cherry-pick that git is in, or of the merge commit that is checked out.

    ours, theirs: beginnings of paths whose conflicts that side decides. With a conflict left, nothing is written.
    Raises ValueError with one line outside a merge, and on damaged records.
    """
    if fault := checkout_fault(root):
        raise ValueError(fault)
    with hold(root / LOCK, "running `lct record` or `lct restore`"), contextlib.ExitStack() as stack:
        undo(root)
        ancestor, mine, other = (stack.enter_context(_side(root, name)) for name in _revisions(root))
        report, merged = MergeReport(), {}
        for scale in sorted({*mine.archives, *other.archives}):
            sides = [side.archives.get(scale, {}) for side in (ancestor, mine, other)]
            merged[scale] = merge_entries(*sides, report, ours, theirs)
        if not report.conflicts:
            _write(root, merged, mine.lock, other.lock)
        unmerged = run_git(root, "diff", "--name-only", "--relative", "--diff-filter=U").stdout.split("\n")
        report.unmerged = [path for path in unmerged if path and not path.startswith((*_state(root), "lineage/"))]
        return report


def _state(root: Path) -> tuple[str, ...]:
    return tuple(path for path in state_paths(root) if path != "lineage")


def _revisions(root: Path) -> tuple[str, str, str]:
    """Common ancestor, current branch, other branch."""

    def exists(name: str) -> bool:
        return run_git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").returncode == 0

    head, other = "HEAD", next((name for name in _UNFINISHED if exists(name)), None)
    if other is None and exists("HEAD^2"):  # a finished merge, in which a side may have been left out
        head, other = "HEAD^1", "HEAD^2"
    if other is None:
        raise ValueError("expected a merge of two branches, found none; `git merge BRANCH` or `git pull` starts one")
    if other in _UNFINISHED[1:]:
        return f"{other}^", head, other
    ancestor = run_git(root, "merge-base", head, other).stdout.strip()
    return ancestor, head, other  # "": unrelated histories


@contextlib.contextmanager
def _side(root: Path, revision: str) -> Iterator[Side]:
    """The recorded state at a revision, read without checking it out; empty for no revision."""
    with tempfile.TemporaryDirectory(prefix="lct-merge-") as name:
        folder = Path(name)
        listed = run_git(root, "ls-tree", "--name-only", revision, "lineage/", "dvc.lock").stdout if revision else ""
        for path in (path for path in listed.splitlines() if path.endswith((".jsonl", "dvc.lock"))):
            content = run_git(root, "show", f"{revision}:./{path}", text=False).stdout
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(content)
        try:
            archives = {scale: registry.read(folder, scale) for scale in registry.scales(folder)}
            yield Side(archives, read_lock(folder) or Lock(""))
        except ValueError as error:
            raise ValueError(str(error).replace(f"{folder}/", f"{revision}:")) from error


def merge_entries(
    ancestor: Entries, mine: Entries, other: Entries, report: MergeReport, ours: Sequence[str], theirs: Sequence[str]
) -> Entries:
    """The entries of a scale, by the rules of a three-way merge of keys; what happened is added to `report`."""
    merged: Entries = {}
    for path in sorted({*mine, *other}):
        before, here, there = ancestor.get(path), mine.get(path), other.get(path)
        entry = here
        if here != there and here == before:
            entry, report.theirs = there, report.theirs + 1
        elif here != there and there == before:
            report.ours += 1
        elif here is None or there is None:  # gone on one side, made again on the other
            entry = here or there
        elif here != there and here.sha256 == there.sha256:
            entry, report.twice = min((here, mine), (there, other), key=_age)[0], report.twice + 1
        elif here != there:
            if path.startswith(tuple(theirs)):
                entry = there
            elif not path.startswith(tuple(ours)):
                (report.views if _is_view(here, mine) else report.conflicts).append(path)
        if entry is not None:
            merged[path] = entry
    return _with_leads(merged, mine, other)


def _age(side: tuple[Entry, Entries]) -> tuple[float, str]:
    """When the job of an entry started; the same order seen from either branch."""
    entry, entries = side
    lead = entries.get(str(entry.job), entry)
    return float((lead.snakemake or {}).get("started", 0)), canonical_json([lead.run, lead.settings])


def _is_view(entry: Entry, entries: Entries) -> bool:
    lead = entries.get(str(entry.job), entry)
    return any((of.settings or {}).get("stage") in _VIEWS for of in (entry, lead)) or entry.path.startswith("reports/")


def _with_leads(merged: Entries, mine: Entries, other: Entries) -> Entries:
    """The entries, each naming the one that holds what Snakemake knew of its job, also where the sides' jobs differ."""
    result: Entries = {}
    leads: dict[str, str] = {}
    for path, entry in merged.items():
        lead = entry.job
        if lead is not None and lead in merged and merged[lead].job not in (None, lead):
            lead = str(merged[lead].job)
        if lead is not None and lead not in merged:
            former = mine.get(lead) or other.get(lead)
            lead = leads.setdefault(lead, path)
            entry = replace(entry, snakemake=former.snakemake if former and lead == path else None)
        result[path] = replace(entry, job=lead)
    return result


def _write(root: Path, merged: dict[str, Entries], mine: Lock, other: Lock) -> None:
    """The joined state, and git is told that it is merged."""
    every = {path: entry for entries in merged.values() for path, entry in entries.items()}
    both = Lock(lock_text(other.blocks | mine.blocks))

    def block(stage: Stage) -> str:
        stored = {lock.blocks[stage.name] for lock in (mine, other) if agrees(stage, lock, every)}
        return stored.pop() if len(stored) == 1 else lock_block(stage, every, both)

    if merged:
        write_text(lock_path(root), lock_text({name: block(stage) for name, stage in stages(merged).items()}))
    for scale, entries in merged.items():
        registry.write(root, scale, entries)
        views.write(root, scale, entries)
    write_text(root / STAGES, dvc_yaml(merged))
    done = run_git(root, "add", "--all", "--", *state_paths(root))
    if done.returncode != 0:
        raise ValueError(f"git add: {' '.join(done.stderr.split())}")
