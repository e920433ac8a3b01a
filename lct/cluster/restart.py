"""What a run finds when it starts again: jobs that an earlier, dead Snakemake left in SLURM, and outputs they made."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lct.cluster import slurm
from lct.files.atomic import read_json
from lct.files.records import settings_path


def wait_for_earlier_jobs(
    root: Path,
    say: Callable[[str], None],
    on_cluster: bool,
    every_seconds: float = 10.0,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until no job of an earlier run of this project is queued or running; whether there was one.

    Submitting them again would only make copies that wait for the first. When SLURM's queue cannot be seen: a run
    `on_cluster` tries a minute long, then raises slurm.Unanswered; another run goes on, it may have no SLURM at all.
    """
    if not slurm.there_is("squeue"):
        return False
    said: list[str] = []
    waited = failures = 0
    while True:
        try:
            jobs = [job.id for job in slurm.queued(root)]
        except slurm.Unanswered:
            failures += 1
            if not on_cluster and not waited:
                return False
            if failures * every_seconds > 60:
                raise
            jobs = said or ["unknown"]
        if not jobs:
            return bool(waited)
        if jobs != said and jobs != ["unknown"]:
            said = jobs
            say(
                f"Waiting for {len(jobs)} jobs that an earlier run left in SLURM ({' '.join(jobs[:8])}"
                f"{' ...' if len(jobs) > 8 else ''}); `scancel {' '.join(jobs[:8])}` ends them"
            )
        waited += jobs != ["unknown"]
        sleep(every_seconds)


def start_again() -> None:
    """Replace this process by the same command, which then plans anew."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def unrecorded(dag: Any) -> list[Any]:
    """Finished jobs of a Snakemake DAG that Snakemake has no record of: a job that outlived its Snakemake made them.

    Without a record a change of their settings would go unseen, so each must name today's settings in its own record.
    Raises ValueError for one that does not.
    """
    found = []
    for job in dag.jobs:
        settings = job.params.get("settings")
        if job.is_local or settings is None or dag.needrun(job) or not dag.reason(job).no_metadata:
            continue
        records = [settings_path(output) for output in job.output if settings_path(output).exists()]
        for record in records:
            _check_settings(record, json.loads(settings))
        found += [job] if records else []
    return found


def _check_settings(record: Path, settings: dict[str, Any]) -> None:
    if read_json(record).get("settings") != settings:
        output = str(record).removesuffix(".settings.json")
        raise ValueError(
            f"{output}: expected an output of today's settings, found one of others, made while no Snakemake watched; "
            f"make it again: snakemake --force {output}"
        )
