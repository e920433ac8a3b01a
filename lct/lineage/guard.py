"""Why would a cell run again? And the guard: what is recorded is not trained again by accident."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lct.checks import invalid
from lct.files import records
from lct.files.atomic import read_json_or_empty
from lct.files.records import SETTINGS_CHANGED, settings_path
from lct.lineage import registry
from lct.lineage.dvc import cache_folder, cached, remotes
from lct.lineage.registry import Entry
from lct.lineage.snakemake_adapter import Job, upstream
from lct.plan.names import cells_named
from lct.plan.plan import Cell, Plan


def metrics_of(plan: Plan, cell: Cell) -> list[str]:
    """Metrics files of a cell: one per training seed and draw."""
    return [plan.paths.metrics(*s, plan.protocol.id) for s in cell.sets]


# --- why ------------------------------------------------------------------------------------------------------------
def differences(old: Any, new: Any) -> list[str]:
    """How two settings differ: one "key: old -> new" per leaf."""
    lines = []
    for key, (before, after) in records.differences(old, new).items():
        if before is records.MISSING:
            lines.append(f"{key}: new, {after}")
        else:
            lines.append(
                f"{key}: was {before}, now gone" if after is records.MISSING else f"{key}: {before} -> {after}"
            )
    return lines


def causes(root: Path, job: Job, entries: dict[str, Entry]) -> list[str]:
    """Why a job would run, in plain words; settings are compared with those beside its outputs, or recorded ones."""
    words, recorded = [], [path for path in job.outputs if path in entries]
    for reason in job.reasons:
        if reason == SETTINGS_CHANGED:
            words += [f"setting changed: {line}" for line in _changed(root, job, entries)] or [reason]
        elif reason.startswith("missing: ") and (absent := [p for p in recorded if _lost(root, entries[p])]):
            words.append(f"recorded, but not here: {absent[0]}" + (" and more" if absent[1:] else "")
                         + f"; {_way_back(root, entries)}")  # fmt: skip
        elif ", so nothing says how " in reason and recorded:
            words.append(f"{reason}; `lct restore` brings it back")
        else:
            words.append(reason)
    return words


def _lost(root: Path, entry: Entry) -> bool:
    """Whether a recorded file is not here, and was not dropped."""
    return entry.is_kept and not os.path.exists(root / entry.path)


def _way_back(root: Path, entries: dict[str, Entry]) -> str:
    """How recorded files that are not here come back: from DVC's cache, from a remote, or not at all."""
    absent = [entry for entry in entries.values() if _lost(root, entry)]
    if all(cached(root, str(entry.md5)).exists() for entry in absent):
        return "`lct restore` brings it back"
    if remotes(root):
        return "`lct restore --pull` brings it back"
    where = f"DVC's cache ({cache_folder(root)})"
    return f"its content is not in {where} and no remote is set, so only its jobs can make it again"


def _changed(root: Path, job: Job, entries: dict[str, Entry]) -> list[str]:
    recorded = [entries[path].settings for path in job.outputs if path in entries]
    beside = [read_json_or_empty(settings_path(root / path)) for path in job.outputs]
    settings = [content["settings"] for content in (*beside, *recorded) if content and "settings" in content]
    return next((lines for old in settings if (lines := differences(old, job.settings))), [])


def why(root: Path, plan: Plan, jobs: list[Job], cell: Cell) -> dict[str, list[str]]:
    """Rule -> causes, of every job on the way to a cell that would run; {} when it would not run again."""
    entries = registry.read(root, plan.scale_name)
    return {
        f"{job.rule} ({job.outputs[0]})": causes(root, job, entries)
        for job in upstream(jobs, metrics_of(plan, cell))
        if job.due
    }


# --- the guard ------------------------------------------------------------------------------------------------------
def check_links(root: Path, scale: str) -> None:
    """Raise ValueError when a recorded file is a link to nothing, which Snakemake cannot plan with."""
    entries = registry.read(root, scale)
    dangling = [path for path in entries if os.path.islink(root / path) and not os.path.exists(root / path)]
    if not dangling:
        return
    lost = [path for path in dangling if not cached(root, str(entries[path].md5)).exists()]
    again = f", then `snakemake --config scale={scale}` makes {len(lost)} files again" if lost else ""
    back = f"`lct restore` sets links right{again}"
    if lost and remotes(root):
        back = "`lct restore --pull` fetches it and sets links right"
    first, target = dangling[0], os.readlink(root / dangling[0])
    advice = f"the project was moved, or the cache lost content: {back}"
    raise invalid(first, "a link into DVC's cache", f"one to nothing: {target}", advice)


def check_plan(root: Path, plan: Plan, jobs: list[Job], command: Sequence[str] = ("snakemake",)) -> None:
    """Raise ValueError when the jobs of a run would train a recorded cell again that `allow_retrain` does not name.

    command: what the user typed; the message gives it with the setting that goes on."""
    entries = registry.read(root, plan.scale_name)
    allowed = plan.main.allow_retrain
    allowed = allowed.split(",") if isinstance(allowed, str) else allowed
    free = {cell.run for cell in cells_named(plan.cells, allowed, plan.scale_name)}
    due = {path: job for job in jobs if job.due for path in job.outputs if path in entries}
    lines, firsts = [], []
    for run in sorted(set(plan.runs) - free):
        cells = [cell.name for cell in plan.cells if cell.run == run]
        for seed in plan.seeds_of(run):
            again = [path for path in due if path.startswith(f"{plan.paths.train(run, seed)}/")]
            if plan.runs[run].is_trained and again:
                reasons = "; ".join(_first_causes(root, jobs, due[again[0]], entries))
                lines.append(f"{', '.join(cells)} (run {run}, seed {seed}): {reasons}")
                firsts.append(cells[0])
                break
    if lines:
        given = ",".join([*allowed, *firsts])
        raise ValueError(
            "recorded results would be replaced; nothing was touched\n  "
            + "\n  ".join(lines)
            + f"\nto train them again: {_with_config(command, f'allow_retrain={given}')}\n"
            "to keep them: undo the change, or give it to a run of its own in config/runs/; "
            f"`lct why {firsts[0]} {plan.lct_options}` says more"
        )


def _with_config(command: Sequence[str], setting: str) -> str:
    """A Snakemake command with one more setting."""
    words = [word for word in command if not word.startswith(setting.partition("=")[0] + "=")]
    place = next((i + 1 for i, word in enumerate(words) if word in ("--config", "-C")), None)
    words = [*words, "--config", setting] if place is None else [*words[:place], setting, *words[place:]]
    return shlex.join(words)


def _first_causes(root: Path, jobs: list[Job], job: Job, entries: dict[str, Entry]) -> list[str]:
    """Where it begins: the causes of the first due jobs on the way to this one."""
    first_causes = []
    for upstream_job in upstream(jobs, job.outputs):
        if upstream_job.due:
            first_causes += [
                cause if upstream_job is job else f"{upstream_job.rule}: {cause}"
                for cause in causes(root, upstream_job, entries)
                if not cause.startswith("input will be made again")
            ]
    return first_causes or list(job.reasons)
