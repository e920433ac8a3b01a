"""Merging: the recorded states of two branches become one, file by file instead of line by line.

Git merges lines, and two recordings differ in many. Here every recorded file is a key, by the rules of three_way.py.
Where a clone has the merge driver, git itself calls those rules for each file that both sides have changed, and leaves
to `lct merge` what a user has to decide. dvc.lock, dvc.yaml and lineage/{scale}/ follow from lineage/{scale}.jsonl.
"""

import contextlib
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lct.checks import require
from lct.files.atomic import write_text
from lct.files.git import checkout_fault, export, run_git
from lct.files.lock import hold
from lct.lineage import registry
from lct.lineage.dvc import Lock, lock_path, lock_text, read_lock
from lct.lineage.record import LOCK, STAGES, agrees, lock_block, state_paths, undo
from lct.lineage.stages import Stage, dvc_yaml, stages, write_views
from lct.lineage.three_way import Entries, MergeReport, merge_entries
from lct.plan.names import nearest

_UNFINISHED = {  # what git calls the other side -> what ends it
    "MERGE_HEAD": "git commit",
    "REBASE_HEAD": "git rebase --continue",
    "CHERRY_PICK_HEAD": "git cherry-pick --continue",
    "REVERT_HEAD": "git revert --continue",
}
_DRIVER = "merge.lct.driver"  # git's setting that names the program behind `merge=lct` in .gitattributes


def merge(root: Path, ours: Sequence[str] = (), theirs: Sequence[str] = ()) -> MergeReport:
    """Join both sides of the merge, rebase, cherry-pick or revert that git is in, or of the merge commit that is
    checked out.

    ours, theirs: beginnings of paths whose conflicts that side decides. With a conflict left, nothing is written.
    Raises ValueError with one line outside a merge, and on damaged records.
    """
    if fault := checkout_fault(root):
        raise ValueError(fault)
    with hold(root / LOCK, "running `lct record` or `lct restore`"):
        undo(root)
        revisions = _revisions(root)
        archives, (_, mine, other) = zip(*(_recorded(root, name) for name in revisions), strict=True)
        report, merged = MergeReport(next=_UNFINISHED.get(revisions[2].rstrip("^"), "git commit")), {}
        for scale in sorted({*archives[1], *archives[2]}):
            sides = [entries.get(scale, {}) for entries in archives]
            merged[scale] = merge_entries(*sides, report, ours, theirs)
            report.removed += sorted((sides[0].keys() & {*sides[1], *sides[2]}) - merged[scale].keys())
        differing = [*report.conflicts, *report.decided]
        for path in filter(None, (*ours, *theirs)):
            decides, advice = any(of.startswith(path) for of in differing), nearest(path, differing)
            expected = "a file or folder that both sides have recorded with other content"
            require(decides, path, expected, "none that begins so", f"nothing is written; {advice}")
        if not report.conflicts:
            _write(root, merged, mine, other)
        state = tuple(path if path != "lineage" else "lineage/" for path in state_paths(root))
        report.unmerged = [path for path in _unmerged(root) if not path.startswith(state)]
        return report


def _unmerged(root: Path) -> list[str]:
    return run_git(root, "diff", "--name-only", "--relative", "--diff-filter=U").stdout.splitlines()


def _revisions(root: Path) -> tuple[str, str, str]:
    """Common ancestor, current branch, other branch."""

    def exists(name: str) -> bool:
        return run_git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").returncode == 0

    head, other = "HEAD", next((name for name in _UNFINISHED if exists(name) and _is_under_way(root, name)), None)
    if other is None and _unmerged(root):
        raise ValueError(
            "expected a merge, rebase, cherry-pick or revert, found unmerged files of a command that keeps no other "
            "side (git stash pop, git merge --squash); undo it (git reset --merge), and use one of these"
        )
    if other is None and exists("HEAD^2"):  # a finished merge, in which a side may have been left out
        head, other = "HEAD^1", "HEAD^2"
    if other is None:
        raise ValueError("expected a merge of two branches, found none; `git merge BRANCH` or `git pull` starts one")
    if other == "REVERT_HEAD":
        return other, head, f"{other}^"
    if other in ("REBASE_HEAD", "CHERRY_PICK_HEAD"):
        return f"{other}^", head, other
    ancestor = run_git(root, "merge-base", head, other).stdout.strip()
    return ancestor, head, other  # "": unrelated histories


def _is_under_way(root: Path, name: str) -> bool:
    """Whether git is still in what a head belongs to; that of a rebase stays after its end."""
    folders = [word for folder in ("rebase-merge", "rebase-apply") for word in ("--git-path", folder)]
    paths = run_git(root, "rev-parse", *folders).stdout.splitlines()
    return name != "REBASE_HEAD" or any((root / path).is_dir() for path in paths)


def _recorded(root: Path, revision: str) -> tuple[dict[str, Entries], Lock]:
    """The recorded state at a revision: scale -> entries, and dvc.lock; empty for no revision."""
    with tempfile.TemporaryDirectory(prefix="lct-merge-") as name:
        folder = Path(name)
        for path in (":(glob)lineage/*.jsonl", "dvc.lock"):
            export(root, revision, path, folder)
        try:
            archives = {scale: registry.read(folder, scale) for scale in registry.scales(folder)}
            return archives, read_lock(folder) or Lock("")
        except ValueError as error:
            text = str(error).replace(f"{folder}/", f"{revision}:").partition("; git checkout")[0]
            raise ValueError(f"{text}; mend the commit on its branch, or leave it out of the merge") from error


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
        write_views(root, scale, entries)
    write_text(root / STAGES, dvc_yaml(merged))
    done = run_git(root, "add", "--all", "--", *state_paths(root))
    if done.returncode != 0:
        raise ValueError(f"git add: {' '.join(done.stderr.split())}")


def install(root: Path) -> str | None:
    """Let git merge recordings here by the rules of three_way.py; a line that says so, or None if it did before.

    Where the driver cannot run, or there is a conflict to decide, git merges lines, as it does without a driver.
    Raises ValueError with one line: git does not take the setting, or .gitattributes does not ask for the driver."""
    if fault := checkout_fault(root):
        raise ValueError(fault)
    attribute = run_git(root, "check-attr", "merge", "--", "dvc.lock").stdout.strip()
    if not attribute.endswith(": lct"):
        where = root / ".gitattributes"
        raise ValueError(f"{where}: expected merge=lct for dvc.lock, dvc.yaml and lineage/*.jsonl, found none; add it")
    driver = run_git(root, "config", "--get", _DRIVER).stdout
    with contextlib.suppress(ValueError):  # no shell would run a driver with a quote that does not end
        if (words := shlex.split(driver)) and shutil.which(words[0]):
            return None
    program = f"{shlex.quote(sys.executable)} -m lct.cli.merge_driver %O %A %B %P"
    lines = "git merge-file -L ours -L base -L theirs %A %O %B"
    done = run_git(root, "config", "--local", _DRIVER, f"{program} || {lines}")
    if done.returncode != 0:
        raise ValueError(f"git config: {' '.join(done.stderr.split())}")
    return f"git merges recordings file by file in this clone from now on ({_DRIVER} in its configuration)"


def install_quietly(root: Path) -> list[str]:
    """What `install` says, where it can: a recording does not fail because git takes no driver."""
    with contextlib.suppress(ValueError, OSError):
        return [line] if (line := install(root)) else []
    return []
