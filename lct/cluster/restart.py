"""When a run starts again: jobs that an earlier, dead Snakemake left in SLURM, and the outputs of such jobs."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lct.cluster import slurm
from lct.files.advice import make_again
from lct.files.records import disagreements, settings_path


def wait_for_earlier_jobs(
    root: Path,
    say: Callable[[str], None],
    on_cluster: bool,
    every_seconds: float = 10.0,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until no job of an earlier run of this project is queued or running; whether there was one.

    Submitting them again would only make copies that wait for the first. When SLURM does not answer, a run `on_cluster`
    tries for a minute, then raises slurm.UnansweredError; another run goes on, as it may have no SLURM at all.
    """
    if not slurm.has_command("squeue"):
        return False
    latest: list[str] | None = None  # jobs of the last answer
    failures = 0
    while True:
        try:
            jobs = [job.id for job in slurm.queued_jobs(root)]
        except slurm.UnansweredError:
            failures += 1
            if not on_cluster and latest is None:
                return False
            if failures * every_seconds > 60:
                raise
        else:
            if not jobs:
                return latest is not None
            if jobs != latest:
                latest = jobs
                shown = " ".join(jobs[:8])
                more = " ..." if len(jobs) > 8 else ""
                say(
                    f"Waiting for {len(jobs)} jobs that an earlier run left in SLURM ({shown}{more}); "
                    f"`scancel {shown}` ends them"
                )
        sleep(every_seconds)


def start_again() -> None:
    """Replace this process by the same command, which then plans anew."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def unrecorded(dag: Any) -> list[Any]:
    """Finished jobs of a Snakemake DAG without a record of Snakemake: they outlived the Snakemake that started them.

    Snakemake would not notice a change of their settings, so the job's own record must hold today's settings. Raises
    ValueError otherwise.
    """
    jobs = []
    for job in dag.jobs:
        settings = job.params.get("settings")
        if job.is_local or settings is None or dag.needrun(job) or not dag.reason(job).no_metadata:
            continue
        records = [settings_path(output) for output in job.output if settings_path(output).exists()]
        _check_records([str(record).removesuffix(".settings.json") for record in records], json.loads(settings))
        jobs += [job] if records else []
    return jobs


def _check_records(outputs: list[str], settings: dict[str, Any]) -> None:
    if reasons := disagreements(outputs, settings):
        raise ValueError(
            f"{outputs[0]}: expected an output of today's settings, found one made while no Snakemake "
            f"watched: {reasons[0]}; {make_again(outputs[0])}"
        )
