"""Three versions of a recorded state become one, key by key: those of both sides, and their common ancestor.

What one side has added, changed or taken away is kept. Content that both have made is taken once, and other content of
the same file is a conflict, which the user decides. Tables and pages are no conflict: they show numbers and measure
none, so ours stay until `snakemake` makes them again. Values only: `lct merge` reads commits, git's driver reads files.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, TypeVar

import yaml

from lct.files.formatting import format_some
from lct.files.hashing import canonical_json
from lct.lineage import registry
from lct.lineage.dvc import Lock, lock_text
from lct.lineage.registry import Entry
from lct.lineage.stages import dump

T = TypeVar("T")
Entries = dict[str, Entry]
_VIEWS = ("tables", "report")  # stages that show numbers and measure none


class ConflictError(ValueError):
    """Both sides have recorded other content under the same key, and nobody has decided."""


@dataclass
class MergeReport:
    """What a merge of two recorded states did."""

    ours: int = 0  # recorded files that only the current branch has, or has changed
    theirs: int = 0  # those of the other branch
    twice: int = 0  # made on both sides with the same content: the first of the two is kept
    views: list[str] = field(default_factory=list)  # tables and pages of one side only: `snakemake` makes them again
    removed: list[str] = field(default_factory=list)  # recorded before, and taken away by one side
    conflicts: list[str] = field(default_factory=list)  # the same file with other content, and nobody has decided
    decided: list[str] = field(default_factory=list)  # the same, where a side was chosen
    unmerged: list[str] = field(default_factory=list)  # files that are no recorded state, and that git could not merge
    next: str = "git commit"  # what ends the merge


def joined(
    before: Mapping[str, T], mine: Mapping[str, T], other: Mapping[str, T], both: Callable[[str, T, T], T]
) -> dict[str, T]:
    """The keys of both sides, sorted. both(key, here, there): the value where both have changed it."""
    result: dict[str, T] = {}
    for key in sorted({*mine, *other}):
        here, there = mine.get(key), other.get(key)
        if here == there or there == before.get(key):
            value = here
        elif here == before.get(key):
            value = there
        elif here is None or there is None:  # gone on one side, made again on the other
            value = there if here is None else here
        else:
            value = both(key, here, there)
        if value is not None:
            result[key] = value
    return result


def merge_entries(
    ancestor: Entries, mine: Entries, other: Entries, report: MergeReport, ours: Sequence[str], theirs: Sequence[str]
) -> Entries:
    """The entries of a scale; what happened is added to `report`. ours, theirs: beginnings of paths whose conflicts
    that side decides; where neither does, ours stay."""

    def both(path: str, here: Entry, there: Entry) -> Entry:
        stages = {(of.settings or {}).get("stage") for of in (here, mine.get(str(here.job), here))}
        if path.startswith("reports/") or not stages.isdisjoint(_VIEWS):
            report.views.append(path)
        elif here.sha256 == there.sha256:
            report.twice += 1
            return min((here, mine), (there, other), key=_age)[0]
        else:
            by_theirs = path.startswith(tuple(theirs))
            (report.decided if by_theirs or path.startswith(tuple(ours)) else report.conflicts).append(path)
            return there if by_theirs else here
        return here

    changed = {path for path in {*mine, *other} if mine.get(path) != other.get(path)}
    report.ours += sum(other.get(path) == ancestor.get(path) for path in changed)
    report.theirs += sum(mine.get(path) == ancestor.get(path) for path in changed)
    return _with_leads(joined(ancestor, mine, other, both), mine, other)


def _age(side: tuple[Entry, Entries]) -> tuple[float, str]:
    """When the job of an entry started; the same order seen from either branch."""
    entry, entries = side
    lead = entries.get(str(entry.job), entry)
    return float((lead.snakemake or {}).get("started", 0)), canonical_json([lead.run, lead.settings])


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


# --- whole files, as git's merge driver has them --------------------------------------------------------------------
def merge_texts(path: str, ancestor: str, mine: str, other: str) -> str:
    """The joined content of a file of the recorded state; "" where a side has no such file.

    Raises ConflictError where a user has to decide, and ValueError on damage or a file that is no recorded state."""
    name, texts = PurePath(path).name, (ancestor, mine, other)
    if name.endswith(".jsonl"):
        report = MergeReport()
        entries = merge_entries(*(registry.parse(text, path) for text in texts), report, (), ())
        if report.conflicts:
            raise _conflict(path, report.conflicts)
        return registry.text(entries)
    if name == "dvc.lock":
        return lock_text(_stages(path, *(Lock(text, path).blocks for text in texts), str))
    if name == "dvc.yaml":
        before, here, there = (_dvc_yaml(text, path) for text in texts)
        stages = [side.pop("stages") for side in (before, here, there)]
        content: dict[str, Any] = {"stages": _stages(path, *stages, lambda stage: str(stage.get("cmd")))}
        lists = {part: joined(before[part], here[part], there[part], lambda _, ours, theirs: ours) for part in here}
        return dump(content | {part: list(items.values()) for part, items in lists.items() if items})
    raise ValueError(f"{path}: expected a file of the recorded state; git merges its lines")


def _stages(
    path: str, before: Mapping[str, T], mine: Mapping[str, T], other: Mapping[str, T], text: Callable[[T], str]
) -> dict[str, T]:
    """Stage -> its text or definition. Raises ConflictError."""
    conflicts: list[str] = []

    def both(name: str, here: T, there: T) -> T:
        if name.partition("-")[0] not in _VIEWS and "snakemake reports/" not in text(here):
            conflicts.append(name)
        return here

    result = joined(before, mine, other, both)
    if conflicts:
        raise _conflict(path, conflicts)
    return result


def _dvc_yaml(text: str, path: str) -> dict[str, dict[str, Any]]:
    """The parts of a dvc.yaml: its stages by name, the items of its lists by their content. Raises ValueError on
    damage."""
    try:
        content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}  # noqa: S506 safe
        lists = {part: {canonical_json(item): item for item in content.get(part, [])} for part in ("metrics", "plots")}
        return {"stages": content.get("stages") or {}, **lists}
    except (yaml.YAMLError, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: expected stages, metrics and plots, found damage ({' '.join(str(error).split())}); "
                         "`lct record` writes it") from error  # fmt: skip


def _conflict(path: str, conflicts: list[str]) -> ConflictError:
    return ConflictError(
        f"{path}: both sides have recorded other content of {format_some(conflicts)}; `lct merge` lists "
        "all, and `lct merge --ours PATH` or `--theirs PATH` decides"
    )
