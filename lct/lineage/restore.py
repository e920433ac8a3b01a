"""Restoring: a checkout of the project becomes the recorded state again, so that Snakemake plans nothing.

Content comes from DVC's cache (`dvc pull` fills it from a remote); the records beside each file, Snakemake's metadata
and the file times come from lineage/*.jsonl in git. Nothing that is not safe in the cache is ever replaced.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lct.files.atomic import read_json_or_empty, write_json
from lct.files.hashing import hash_file
from lct.files.lock import hold, is_held
from lct.files.records import mark, run_path, settings_path
from lct.lineage import dvc, registry
from lct.lineage.dvc import cached
from lct.lineage.record import LOCK, OPENED, RUN_LOCK, link, set_time, undo
from lct.lineage.registry import Entry
from lct.lineage.snakemake_adapter import write_metadata


@dataclass
class RestoreReport:
    """What a restoration did."""

    scale: str
    restored: int = 0  # files that are now as they were recorded
    linked: int = 0  # of these, links into the cache, or copies of it, that were set or set right
    absent: list[str] = field(default_factory=list)  # recorded, but their content is not on this machine
    differing: list[str] = field(default_factory=list)  # here, but neither as recorded nor safe in the cache
    removed: list[str] = field(default_factory=list)  # links and copies of artifacts that this revision does not record


def chain(entries: Mapping[str, Entry], paths: Iterable[str]) -> set[str]:
    """The paths and all that they were made from, as far as it is recorded; of each job on the way, the outputs in the
    same folder come along: an image set with its manifest, but not the sets of other samplers."""
    beside: dict[tuple[str | None, str], list[str]] = {}
    for path, entry in entries.items():
        beside.setdefault((entry.job, os.path.dirname(path)), []).append(path)
    needed: set[str] = set()
    waiting = list(paths)
    while waiting:
        path = waiting.pop()
        if path not in entries or path in needed:
            continue
        group = beside[entries[path].job, os.path.dirname(path)]
        needed.update(group)
        waiting += [used["path"] for other in group for used in entries[other].inputs.values()]
    return needed


def restore(root: Path, scale: str, only: Iterable[str] | None = None, pull: bool = False) -> RestoreReport:
    """Restore a scale, or of it only the chain of the files in `only`. Raises ValueError, LockHeldError or OSError."""
    if is_held(root / RUN_LOCK):
        raise ValueError("expected no running snakemake, found one; wait for it to end, then `lct restore`")
    with hold(root / LOCK, "running `lct record` or `lct restore`"):
        undo(root)
        entries = registry.read(root, scale)
        paths = entries.keys() if only is None else chain(entries, only)
        if pull:
            dvc.check(root)
            dvc.pull(root, [] if only is None else sorted(path for path in paths if entries[path].is_kept))
        report = RestoreReport(scale)
        previews = registry.previews(root, entries)
        restored = {p for p, entry in entries.items() if p in paths and _restore(root, p, entry, report, previews)}
        _tell_snakemake(root, entries, restored)
        if only is None:
            _clear(root, scale, entries, report)
        return report


def _restore(root: Path, path: str, entry: Entry, report: RestoreReport, previews: tuple[str, ...]) -> bool:
    """Content, records and times of a file; whether it is now as recorded. Previews of reports are replaced."""
    state = _place(root, path, entry, path.startswith(previews))
    if state in ("absent", "differing"):
        getattr(report, state).append(path)
        return False
    report.restored += 1
    report.linked += state == "linked"
    if state == "dropped":
        mark(root / path)
    else:
        set_time(root / path, entry.ended[0])
    for name, content, ended in zip(_records(entry), (entry.settings, entry.run), entry.ended[1:], strict=False):
        if read_json_or_empty(root / name) != content:  # gone, damaged or edited
            write_json(root / name, content)
        set_time(root / name, ended)
    return True


def _records(entry: Entry) -> list[str]:
    return [] if entry.settings is None else [str(of(entry.path)) for of in (settings_path, run_path)]


def _tell_snakemake(root: Path, entries: dict[str, Entry], restored: set[str]) -> None:
    """Snakemake's metadata of every job that has a file back; of its other files too, or it would forget the job's
    settings and never see them change."""
    jobs = {entries[path].job for path in restored}
    for entry in entries.values():
        leader = entries.get(str(entry.job))
        here = (root / entry.path).exists()
        if entry.job not in jobs or leader is None or leader.snakemake is None or (here and entry.path not in restored):
            continue
        metadata = dict(leader.snakemake)
        started = metadata.pop("started")
        for name, ended in zip([entry.path, *_records(entry)], entry.ended, strict=True):
            write_metadata(root, name, metadata, started, ended)


def _place(root: Path, path: str, entry: Entry, is_preview: bool) -> str:
    """Make sure that the recorded content is in its place: "there", "linked", "dropped", "absent" or "differing"."""
    place, stored = root / path, cached(root, str(entry.md5))
    if not entry.is_kept and (not os.path.lexists(place) or (place.is_symlink() and _into_a_cache(place))):
        place.unlink(missing_ok=True)  # a link that another revision has recorded
        return "dropped"
    here = stored.exists() and stored.stat().st_size == entry.bytes
    if place.suffix not in OPENED and place.is_symlink() and here and os.readlink(place) == os.path.abspath(stored):
        return "there"  # a link to the content by its name; `lct verify --deep` reads it
    if not place.is_symlink() and place.exists():
        size, sha256, md5 = hash_file(place)
        if (size, sha256) == (entry.bytes, entry.sha256):
            return "there"
        if not is_preview and not cached(root, md5).exists():
            return "differing"
    elif place.is_symlink() and not _into_a_cache(place):
        return "differing"
    if not here:
        place.unlink(missing_ok=True)  # a link to nothing stops Snakemake
        return "absent"
    link(stored, place)
    return "linked"


def _into_a_cache(place: Path) -> bool:
    """Whether a link points to a content in a DVC cache: this one's, or that of the folder's former place."""
    return "/files/md5/" in os.readlink(place)


def _clear(root: Path, scale: str, entries: dict[str, Entry], report: RestoreReport) -> None:
    """Take away links and copies of artifacts that this revision does not record; the cache keeps their content."""
    for folder in (root / "results" / scale, root / "reports" / scale):
        for place in sorted(folder.rglob("*")):
            path = str(place.relative_to(root))
            if path in entries:
                continue
            copied = place.suffix in OPENED and place.is_file()  # as pages and pictures are, out of the cache
            if _into_a_cache(place) if place.is_symlink() else copied and cached(root, hash_file(place)[2]).exists():
                place.unlink()
                settings_path(place).unlink(missing_ok=True)
                run_path(place).unlink(missing_ok=True)
                report.removed.append(path)
