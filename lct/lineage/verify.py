"""Verify: is everything that was written still what was written?

Fast: sizes, hashes of small files, records against the archive, manifests against image sets, dvc.lock against the
archive; what settings or sources outdate is noted. Deep: every byte of the workspace, of DVC's cache and of the remotes
hashed again by us, since `dvc status` and `dvc pull` believe sizes, times and read-only marks.
"""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from lct.files.formatting import format_some
from lct.files.records import RUN, SETTINGS, is_dropped, outputs_below, run_path, settings_path
from lct.lineage import dvc, registry
from lct.lineage.audit import Auditor
from lct.lineage.chain import DROPPED, FAULTS, KEEP
from lct.lineage.stages import SHARED

_KINDS = ("file", "records", "manifest", "input", "dvc")  # what is about bytes; settings and sources are noted


@dataclass
class Findings:
    """What a verification saw."""

    checked: int = 0  # files
    objects: dict[str, int] = field(default_factory=dict)  # place ("cache", a remote) -> objects hashed
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what could not be checked


def verify(auditor: Auditor, scale: str) -> Findings:
    """Everything recorded of a scale; deep if the auditor is."""
    findings = Findings()
    paths = sorted(_written(auditor.root, scale) | auditor.archive.keys())
    absent, dropped, previews = [], [], _previews(auditor)
    in_place, paths = [p for p in paths if p.startswith(previews)], [p for p in paths if not p.startswith(previews)]
    for path in paths:
        checks = [check for check in auditor.checks(path) if check["kind"] in _KINDS]
        findings.faults += [check["text"] for check in checks if check["state"] in FAULTS]
        missing = any(c["kind"] == "file" and c["state"] == "unchecked" for c in checks)
        dropped += [path] if is_dropped(auditor.root / path) else []
        absent += [path] if missing and path not in dropped else []
        findings.notes += [
            c["text"]
            for c in checks
            if c["state"] == "unchecked" and not missing and c["kind"] != "records" and DROPPED not in c["text"]
        ]
        findings.checked += not missing
    findings.faults += _alone(auditor, scale, paths)
    again = f"`snakemake --config scale={scale}` makes them again"
    findings.notes += _counted(in_place, f"of a report rendered after a failed run ({again})")
    unrecorded = [path for path in paths if auditor.archive and path not in auditor.archive]
    outdated = [path for path in paths if path not in absent and auditor.outdated(path)]
    foreign = [path for path in paths if auditor.contents.foreign_cache(path) is not None]
    what = "are links into the cache of another project folder, as after a copy (`lct restore` sets them right)"
    findings.notes += _counted(foreign, what)
    findings.notes += _counted(outdated, f"outdated by today's settings or sources ({again})")
    what = f"were dropped after they were measured (`snakemake FILE {KEEP}` makes one again)"
    findings.notes += _counted(dropped, what)
    recorded = [path for path in absent if path in auditor.archive]
    findings.notes += _counted(recorded, "recorded, but not in the workspace (`lct restore`)")
    gone = [path for path in absent if path not in auditor.archive]
    findings.notes += _counted(gone, "gone, but for the records beside them (`snakemake FILE` makes each again)")
    findings.notes += _counted(unrecorded, f"not in the archive yet (`lct record --scale {scale}`)")
    if not auditor.archive:
        findings.notes.append(
            f"lineage/{scale}.jsonl: no archive yet: only the records in the workspace were looked at"
        )
    if auditor.deep:
        _cache(auditor, findings)
        _remotes(auditor, findings)
    findings.faults = list(dict.fromkeys(findings.faults))
    return findings


def _previews(auditor: Auditor) -> tuple[str, ...]:
    """Folders of reports that a failed run has rendered: their first page has no record, and something differs."""
    recorded = auditor.archive.items()
    return tuple(
        folder
        for folder in registry.previews(auditor.root, auditor.archive)
        if any(
            auditor.contents.check(path, entry.bytes, entry.sha256, entry.md5)[0] == "broken"
            for path, entry in recorded
            if path.startswith(folder)
        )
    )


def _written(root: Path, scale: str) -> set[str]:
    """Files with a record beside them."""
    folders = (f"results/{scale}", f"reports/{scale}")
    paths = {path for folder in folders for end in (RUN, SETTINGS) for path in outputs_below(root, folder, end)}
    downloads = (root / SHARED).glob(f"*/*{RUN}")  # not the files below them, which are many
    return paths | {str(path.relative_to(root)).removesuffix(RUN) for path in downloads}


def _alone(auditor: Auditor, scale: str, paths: list[str]) -> list[str]:
    """Archived records that are gone from beside a file that is there, and stages of dvc.lock that nothing records."""
    faults = []
    for path in paths:
        entry, full = auditor.archive.get(path), auditor.root / path
        if entry is None or entry.settings is None or not full.exists():
            continue
        gone = [of(path) for of in (settings_path, run_path) if not of(full).exists()]
        if len(gone) == 2:  # with one of them there, the file's own checks name the other
            faults.append(f"{path}: expected its records beside it, found none; `lct restore` brings them back")
    prefixes = tuple(f"{top}/{scale}/" for top in ("results", "reports"))
    for stored in auditor.lock.all() if auditor.lock and auditor.archive else ():
        if stored.role == "outs" and stored.path.startswith(prefixes) and stored.path not in auditor.archive:
            what = f"in it, but not in the archive; `lct record --scale {scale}`"
            faults.append(f"dvc.lock: stage {stored.stage}: {stored.path}: {what}")
    return faults


def _counted(paths: list[str], what: str) -> list[str]:
    return [f"{len(paths)} files {what}: {format_some(paths)}"] if paths else []


def _cache(auditor: Auditor, findings: Findings) -> None:
    """Every object of DVC's cache, whichever revision it belongs to, against its own name."""
    lacking = "not in DVC's cache (`dvc pull` fetches them, if a remote has them)"
    for path, _, owner in _damaged(auditor, findings, "cache", _objects(auditor.contents.cache), lacking):
        of, back = (f" ({owner})", f"; then {auditor.contents.back(owner)}") if owner else ("", "")
        findings.faults.append(
            f"{path}: expected content with the md5 of its name, found other content{of}: a damaged object of "
            f"DVC's cache; delete it{back}"
        )


def _damaged(
    auditor: Auditor, findings: Findings, place: str, objects: list[tuple[Path, str]], lacking: str
) -> list[tuple[Path, str, str]]:
    """(file, md5 that it should have, path that DVC stores there) of the damaged objects of a cache or a remote; those
    that it lacks are noted."""
    owners = _owners(auditor)
    findings.objects[place] = len(objects)
    findings.notes += _counted(sorted(owners[md5] for md5 in owners.keys() - {md5 for _, md5 in objects}), lacking)
    return [(path, md5, owners.get(md5, "")) for path, md5 in objects if auditor.contents.hashes(path)[1] != md5]


def _remotes(auditor: Auditor, findings: Findings) -> None:
    """The recorded objects in each remote, hashed here."""
    places, owners = dvc.remotes(auditor.root), _owners(auditor)
    if not places:
        findings.notes.append("no remote is set up, so no copy elsewhere was checked: `dvc remote add -d NAME WHERE`")
    for name, url in places.items():
        with tempfile.TemporaryDirectory(prefix="lct-verify-") as copy:
            failure = dvc.fetch(auditor.root, name, Path(copy)) if "://" in url else None
            folder = Path(copy, "cache") if "://" in url else Path(url)
            if "://" not in url and not folder.is_dir():
                findings.notes.append(f"remote {name}: {url} cannot be reached, so it was not checked")
                continue
            findings.notes += [f"remote {name} ({url}): {failure}"] if failure else []
            lacking = f"not read from remote {name}" if failure else f"not in remote {name} (`dvc push -r {name}`)"
            # not all that a remote holds: it may serve many projects
            stored = ((dvc.stored_object(folder, md5), md5) for md5 in sorted(owners))
            recorded = [(path, md5) for path, md5 in stored if path.exists()]
            for _, md5, owner in _damaged(auditor, findings, f"remote {name}", recorded, lacking):
                findings.faults.append(
                    f"remote {name} ({url}): object {md5} of {owner}: expected content with that md5, found other: "
                    f"damaged or tampered with; delete it there, then `dvc push -r {name}` from a clean copy"
                )


def _owners(auditor: Auditor) -> dict[str, str]:
    """md5 -> path of every file that DVC stores."""
    owners = {md5: path for path, md5 in auditor.lock.outs().items()} if auditor.lock else {}
    return owners or {entry.md5: path for path, entry in auditor.archive.items() if entry.md5}


def _objects(folder: Path) -> list[tuple[Path, str]]:
    """(file, md5 in its name) of every object under a cache folder."""
    objects = []
    for path in sorted((folder / "files" / "md5").glob("[0-9a-f][0-9a-f]/*")):
        name = (path.parent.name + path.name).removesuffix(".dir")
        if len(name) == 32 and path.is_file():  # what is not an object is a download under way
            objects.append((path, name))
    return objects
