"""What files hold now, against what was written: sizes, hashes, links into DVC's cache."""

import contextlib
import os
import shlex
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from lct.files.advice import force
from lct.files.atomic import read_json_or_empty, write_json
from lct.files.hashing import hash_file
from lct.files.records import is_dropped
from lct.lineage import dvc

SMALL = 1_000_000  # bytes; files up to this size are hashed even without `deep`
_GIVEN = ".dvc/tmp/lct-given.json"  # path -> [bytes, mtime, ctime [ns], sha256] of big files from outside the graph
STATES = ("broken", "missing", "dirty", "stale", "unchecked", "ok")  # worst first
FAULTS = STATES[:4]
DROPPED = "dropped after it was measured"
KEEP = "--config keep_images=true"  # else it would be dropped once more


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    kind: str  # "file", "records", "manifest", "input", "settings", "source", "git", "dvc", "value", "protocol"
    state: str  # one of STATES
    text: str  # what was found, in one line; for a fault also what to do


def worst(states: list[str]) -> str:
    return min(states, key=STATES.index, default="ok")


class Contents:
    """Files under a root; each is hashed at most once, whatever names lead to it."""

    def __init__(self, root: Path, deep: bool, recorded: Container[str] = ()):
        self.root = root
        self.deep = deep  # hash every file, not only the small ones
        self.recorded = recorded  # paths that `lct restore` can bring back
        self.cache = dvc.cache_folder(root)
        self._hashes: dict[tuple[int, int], tuple[str, str]] = {}

    def hashes(self, path: Path) -> tuple[str, str]:
        """(sha256, md5) of the file that `path` leads to."""
        status = path.stat()
        key = (status.st_dev, status.st_ino)
        if key not in self._hashes:
            self._hashes[key] = hash_file(path)[1:]
        return self._hashes[key]

    def sha256(self, path: str, given: bool = False) -> str | None:
        """Hash of a small file, or of any when `deep`; None where it is missing or too big.

        given: a file from outside the graph, whose hash nothing else says: a big one is read too, and read again when
        its size or times change."""
        full = self.root / path
        if not full.is_file():
            return None
        if full.stat().st_size <= SMALL or self.deep:
            return self.hashes(full)[0]
        return self._given_sha256(path, full) if given else None

    def _given_sha256(self, path: str, full: Path) -> str:
        status = full.stat()
        stamp, memory = [status.st_size, status.st_mtime_ns, status.st_ctime_ns], read_json_or_empty(self.root / _GIVEN)
        if memory.get(path, [])[:3] != stamp:
            memory[path] = [*stamp, self.hashes(full)[0]]
            with contextlib.suppress(OSError):  # without it the file is only read again
                write_json(self.root / _GIVEN, memory)
        return memory[path][3]

    def check(self, path: str, size: int | None, sha256: str | None, md5: str | None = None) -> Check:
        """A file against its recorded size and hash. Missing here is no fault by itself: the state is "unchecked"."""
        full = self.root / path
        if not full.exists():
            return self._absent(path, full)
        if not full.is_file():
            return Check("file", "broken", f"{path}: expected a file, found a directory; {self.remedy(path)}")
        actual_size = full.stat().st_size
        if size is not None and actual_size != size:
            what = f"expected {size} bytes, found {actual_size}"
            return Check("file", "broken", f"{path}: {what}; {self._why(path, full)}")
        if full.is_symlink() and md5 is not None and (named := self._object_name(full)) not in (None, md5):
            what = f"expected a link to the DVC object {md5[:12]}, found one to {named[:12]}"
            return Check("file", "broken", f"{path}: {what}; {self.remedy(path)}")
        if actual_size > SMALL and not self.deep:
            return Check("file", "ok", f"{actual_size} bytes; not hashed: --deep does")
        hashed = self.hashes(full)[0]
        if sha256 is not None and hashed != sha256:
            what = f"expected sha256 {sha256[:12]}, found {hashed[:12]}" + " (same size)" * (size == actual_size)
            return Check("file", "broken", f"{path}: {what}; {self._why(path, full)}")
        return Check("file", "ok", f"{actual_size} bytes, sha256 {hashed[:12]}")

    def foreign_cache(self, path: str) -> Path | None:
        """The DVC cache that a link leads to, where it is not this project's."""
        full = self.root / path
        if not full.is_symlink() or not full.exists() or self._object_name(full) is None:
            return None
        folder = Path(os.readlink(full)).parents[3]
        return None if folder.resolve() == self.cache else folder

    def remedy(self, path: str) -> str:
        """How to get the right bytes."""
        again = f"`{force(path)}` makes it again"
        back = "delete it, and `lct restore` brings back what was recorded; or "
        return f"{back if path in self.recorded else ''}{again}"

    def _object_name(self, link: Path) -> str | None:
        """The md5 in the target of a link into a DVC cache."""
        parts = Path(os.readlink(link)).parts[-4:]
        return parts[2] + parts[3] if parts[:2] == ("files", "md5") and len(parts) == 4 else None

    def _why(self, path: str, full: Path) -> str:
        """Where wrong bytes come from, and what to do."""
        if not full.is_symlink():
            return f"it was changed since it was written: {self.remedy(path)}"
        return f"its content is the DVC object {full.resolve()}, damaged: delete that; then {self.back(path)}"

    def back(self, path: str) -> str:
        """What brings back a file whose content is not in the cache."""
        if dvc.remotes(self.root):
            return "`lct restore --pull` fetches it from a remote"
        return f"`lct restore` removes the link, then `snakemake {shlex.quote(path)}` makes the file again"

    def _absent(self, path: str, full: Path) -> Check:
        if is_dropped(full):
            again = f"`snakemake {shlex.quote(path)} {KEEP}` makes it again"
            return Check("file", "unchecked", f"{path}: {DROPPED}; {again}")
        if not full.is_symlink():
            return Check("file", "unchecked", f"{path}: not in the workspace")
        target, name = Path(os.readlink(full)), self._object_name(full)
        here = dvc.stored_object(self.cache, name) if name else None
        if here is not None and here.exists():
            what = f"expected a link into {self.cache}, found one to {target}; the project folder was moved or renamed"
            return Check("file", "missing", f"{path}: {what}: `lct restore` sets the links right")
        what = f"expected a file, found a link to {target}, which does not exist"
        what = f"expected the DVC object {name}, found a link to nothing" if name else what
        return Check("file", "missing", f"{path}: {what}; {self.back(path)}")
