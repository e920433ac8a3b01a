"""The journal of a recording, which brings the recorded state back after a failure; and links into the cache."""

import contextlib
import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from lct.files.atomic import copy, read_json, write_bytes, write_json
from lct.lineage import registry
from lct.lineage.dvc_lock import cached, lock_path
from lct.lineage.registry import Entry
from lct.lineage.stages import write_views

JOURNAL = ".dvc/tmp/lct-record"
STAGES = "dvc.yaml"
FORMER = "config/recorded.yaml"  # where the version before kept its list of artifacts
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_TIME_STEP = 1e-6  # seconds that two times of a file may differ by and be equal
OPENED = (".html", ".md", ".tex", ".csv", ".svg", ".png", ".pdf")  # a browser goes by the name of what a link points to


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
        _replace(path)
        os.utime(path, (seconds, seconds), follow_symlinks=False)


def _replace(path: Path) -> None:
    """Put an equal file, or link, of this user in the place of another user's. Raises OSError naming the file."""
    if path.is_symlink():
        _symlink(os.readlink(path), path)
    else:
        copy(path, path)


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
