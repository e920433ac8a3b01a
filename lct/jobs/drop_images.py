"""Image sets that nothing reads any more go, where `keep_images: false` says so. No job: a run calls it."""

from collections.abc import Container, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lct.checks import require
from lct.files.records import drop
from lct.plan import files as stage_files
from lct.plan.plan import Plan


def keeps_images(setting: bool | None, defaults: Mapping[str, Any]) -> bool:
    """Whether image sets stay: what the configuration says, else `keep_images` of a profile's default resources, else
    yes. Raises ValueError for another value."""
    if setting is not None:
        return setting
    given = str(defaults.get("keep_images", True)).lower()
    require(given in ("true", "false"), "default-resources: keep_images", "true or false", f"{given!r}", "correct it")
    return given == "true"


def drop_images(root: Path, plan: Plan, pending: Container[str]) -> list[str]:
    """Drop the sampled image sets whose every reader is computed; images made elsewhere stay.

    pending: outputs of jobs that have not finished; the pilot's are waited for where it was asked for. Returns the sets
    that went."""
    dropped = []
    for run in (name for name, run in plan.runs.items() if run.samples is None):
        for seed in plan.seeds_of(run):
            for at in plan.sampled_milestones(run):
                sets = [path for path in stage_files.samples(plan, run, seed, at) if (root / path).exists()]
                needed = [*sets, *stage_files.image_readers(plan, run, seed, at)] if sets else []
                planned = [path for path in stage_files.distances(plan, run, seed, at) if path in pending]
                if not planned and all(path not in pending and (root / path).exists() for path in needed):
                    for path in sets:
                        with suppress(OSError):  # a set that cannot be taken away stays
                            drop(root / path)
                            dropped.append(path)
    return dropped
