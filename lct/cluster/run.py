"""A run of the graph: checks of its settings and folders when it starts, its lock, jobs that an earlier, dead Snakemake
left in SLURM, and what the terminal shows: jobs done, the time that is left, and where a report so far stands."""

import contextlib
import dataclasses
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from lct.checks import invalid, require
from lct.cluster import slurm
from lct.cluster.attempts import last_lines
from lct.cluster.cost_model import RUN_STAGES, PlannedJob
from lct.cluster.resources import Requests, unquoted
from lct.files.advice import make_again
from lct.files.lock import acquire
from lct.files.records import disagreements, settings_path
from lct.plan import files as stage_files
from lct.plan.plan import Cell, Plan
from lct.plan.selection import option_words

_ADVICE = "start with profiles/default (a bare `snakemake` does, and `--profile profiles/default` beside another one)"
EVERY_SECONDS = 20.0  # between two lines
_DATASET_STAGES = ("images", "autoencoder", "encode", "extractor")


def check_settings(triggers: set[str], max_checksum_bytes: int, snakemake_lock: bool, rerun_incomplete: bool) -> None:
    """Raise ValueError when Snakemake was started without the keys of profiles/default that results depend on."""
    given = {
        "rerun-triggers: [mtime, params, input]": (triggers == {"mtime", "params", "input"}, sorted(triggers)),
        "max-checksum-file-size: 100GB": (max_checksum_bytes >= 100_000_000_000, f"{max_checksum_bytes} bytes"),
        "rerun-incomplete: true": (rerun_incomplete, "false"),
        "nolock: true": (not snakemake_lock, "false"),
    }
    wrong = [f"{expected} (found {value})" for expected, (is_set, value) in given.items() if not is_set]
    if wrong:
        raise ValueError(f"snakemake: expected {'; '.join(wrong)}; {_ADVICE}")


def check_project(folder: Path) -> None:
    """Raise ValueError for a folder of the project that Snakemake cannot work in: it takes braces for wildcards."""
    fit = not set("{}\n") & set(str(folder))
    require(fit, repr(str(folder)), "a path without braces and line breaks", "some", "move the project")


def check_device(name: str | None) -> None:
    """Raise ValueError where LCT_DEVICE names no device that jobs compute on. None: it is not set."""
    if name and not re.fullmatch(r"auto|cpu|mps|xpu|cuda(:\d+)?", name):
        raise ValueError(f"LCT_DEVICE: expected auto, cpu, cuda or mps, found {name!r}; correct or unset it")


def set_job_environment() -> None:
    """Set what the shells of jobs inherit. `python` is the Python that runs the graph, also where its environment is
    not activated. glibc keeps the blocks of memory that a step frees, which the next step needs again."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        os.environ.setdefault(name, str(256 * 2**20))


def ignore_time_warnings() -> None:
    """Ignore SIGUSR1, SLURM's warning that a job's time is nearly up: it is for the training, but reaches the Snakemake
    inside the job as well, whose end would be the training's."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def correct_slurm_plugin() -> None:
    """Correct two faults of the SLURM executor plugin, version 2.8.0, where sacct's answers are taken as they are.

    A cancelled job is `CANCELLED by UID`, which the plugin does not know and waits on for ever: it gets the first word.
    The node of a job that is in the queue again after its node failed is `None assigned`; the plugin would exclude that
    from every later submission, and sbatch would refuse them all: what is no name of a node is dropped."""
    plugin = sys.modules.get("snakemake_executor_plugin_slurm")
    if plugin is None or hasattr(plugin.query_job_status, "whole_answer"):
        return
    whole_answer, submit_command = plugin.query_job_status, plugin.get_submit_command

    async def first_words(command: str, logger: Any) -> tuple[dict[str, str] | None, float | None]:
        states, seconds = await whole_answer(command, logger)
        return states and {job: state.partition(" ")[0] for job, state in states.items()}, seconds

    def excluding_nodes(*args: Any, failed_nodes: set[str] | None = None, **options: Any) -> str:
        if failed_nodes:  # the executor's own set, which it prints at the end
            failed_nodes.difference_update([name for name in failed_nodes if " " in name])
        return submit_command(*args, failed_nodes=failed_nodes, **options)

    first_words.whole_answer = whole_answer
    plugin.query_job_status, plugin.get_submit_command = first_words, excluding_nodes


def plain_defaults(resources: Mapping[str, Any] | None) -> dict[str, Any]:
    """The default resources of Snakemake's command line and profiles as plain values; expressions as their text."""
    given = {} if resources is None else dict(resources.items())
    values = {name: item.raw if item.is_evaluable() else item.value for name, item in given.items()}
    return {name: unquoted(value) for name, value in values.items()}


def check_writable(root: Path) -> None:
    """Raise ValueError, before any job, when a folder that a run writes to is there but cannot be written."""
    for name in ("results", "reports", "logs", "work", "resources"):
        folder = root / name
        writable = not folder.exists() or os.access(folder, os.W_OK | os.X_OK)
        require(writable, folder, "a writable folder", "a read-only one", "fix its permissions or mount")


def quieter(on_cluster: bool = False, finished: Callable[[int], None] | None = None) -> None:
    """Hide Snakemake's log of scheduling. The terminal shows one line for each finished job: its own, or Snakemake's
    where the job ran on a node of a cluster; and one line that says why a job failed there.

    finished: called with the id of each finished job."""
    noise = ("Select jobs", "Execute ", "Using shell:", "Conda environments: ignored", "Assuming unrestricted")
    events = () if on_cluster else ("JOB_FINISHED", "PROGRESS")

    def is_shown(record: logging.LogRecord) -> bool:
        event = getattr(getattr(record, "event", None), "name", None)
        if event in ("JOB_ERROR", "GROUP_ERROR") and (line := failure(vars(record))):
            print(line, file=sys.stderr, flush=True)
        if event == "JOB_FINISHED" and finished is not None:
            finished(record.job_id)  # type: ignore[attr-defined]
        return event not in events and not record.getMessage().startswith(noise)

    logging.getLogger("snakemake.logging").addFilter(is_shown)


def failure(error: Mapping[str, Any]) -> str | None:
    """One line on a job that failed on a cluster, from Snakemake's record of the error; None for a local job, which
    prints its own line."""
    if error.get("rule_msg"):
        name, reason, logs = error["rule_name"], str(error["rule_msg"]), error["log"]
    elif error.get("aux_logs"):
        rules = [job["rule_name"] for job in error["job_error_info"]]
        name, reason = " and ".join(rules), "the job failed"
        logs = [*error["aux_logs"], *(log for job in error["job_error_info"] for log in job["log"])]
    else:
        return None
    logs = [str(log) for log in logs if log]
    lines = [line for log in logs for line in last_lines(Path(log)) if "error: " in line]
    own = [line for line in lines if re.search("(^|ERROR )error: ", line)]  # srun and slurmstepd add theirs
    if errors := own or lines:
        reason = errors[-1][errors[-1].index("error: ") :]
    place = f" (logs: {', '.join(logs)})" if logs else ""
    return f"failed on the cluster: {name}: {' '.join(reason.split())[:400]}{place}"


def take_lock(root: Path) -> IO[Any]:
    """The lock of the project's one running graph, held until this process ends, however it ends."""
    return acquire(root / ".snakemake" / "lct.lock", "running snakemake")


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
        outputs = [str(record).removesuffix(".settings.json") for record in records]
        if reasons := disagreements(outputs, json.loads(settings)):
            text = f"one made while no Snakemake watched: {reasons[0]}"
            raise invalid(outputs[0], "an output of today's settings", text, make_again(outputs[0]))
        jobs += [job] if records else []
    return jobs


def owners(plan: Plan) -> Callable[[str, Mapping[str, str]], tuple[str, str] | None]:
    """A function from a job's rule and wildcards to its stage, and the run, dataset or figure that it works for; None
    for jobs that the cost model does not count. The milestones of a run have one owner."""
    named = {f"{stage}_{run}".replace("-", "_"): (stage, run) for run in plan.runs for stage in RUN_STAGES}
    stages = ("reference", "degraded")
    named |= {f"{of}_{name}".replace("-", "_"): (of, name) for name in plan.datasets for of in stages}
    named |= {f"figures_{figure}".replace("-", "_"): ("figure", figure) for figure in plan.figures}

    def owner_of(rule: str, wildcards: Mapping[str, str]) -> tuple[str, str] | None:
        if rule in _DATASET_STAGES:
            return rule, wildcards["dataset"]
        whole = rule if rule in named else max((n for n in named if rule.startswith(f"{n}_")), key=len, default=rule)
        return named.get(whole)

    return owner_of


def planned_seconds(requests: Requests, jobs: Iterable[Any]) -> dict[int, float]:
    """Id of each Snakemake job -> estimated seconds; 1 where the cost model counts nothing. The milestones of a run
    share its seconds."""
    owner_of, shared = owners(requests.plan), {}
    for job in jobs:
        wildcards = dict(job.wildcards.items())
        shared.setdefault((owner_of(job.rule.name, wildcards), *sorted(wildcards.items())), []).append(job.jobid)
    seconds = {}
    for (owner, *_), ids in shared.items():
        estimate = len(ids) if owner is None else requests.seconds(PlannedJob(*owner))
        seconds |= dict.fromkeys(ids, max(1.0, estimate / len(ids)))
    return seconds


class RunProgress:
    """Called with the id of each finished job; says now and then how many are done, and how long the others will take
    if the estimates are off by the same factor as so far."""

    def __init__(
        self, seconds: Mapping[int, float], say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ):
        """seconds: id of each job -> estimated seconds."""
        self._seconds, self._say, self._clock = seconds, say, clock
        self._finished: set[int] = set()
        self._started = self._last = clock()

    def __call__(self, job: int) -> None:
        self._finished |= {job} & self._seconds.keys()
        now = self._clock()
        if now - self._last < EVERY_SECONDS or not self._finished or len(self._finished) == len(self._seconds):
            return
        self._last = now
        done = sum(self._seconds[job] for job in self._finished)
        left = (now - self._started) * (sum(self._seconds.values()) / done - 1)
        text = f"about {round(left / 60)} min left" if left >= 90 else "about a minute left"
        self._say(f"{len(self._finished)} of {len(self._seconds)} jobs, {text}")


def _with_first_seed(cell: Cell) -> Cell:
    """A cell with the sets of its first training seed alone."""
    first = min(s.seed for s in cell.sets)
    return dataclasses.replace(cell, sets=tuple(s for s in cell.sets if s.seed == first))


class ReportSoFar:
    """Called whenever a job has finished; when all cells of one more sub-table exist, first those of its first training
    seed, renders a report of what exists in a process of its own, in a folder of its own. It never raises, and the
    graph knows nothing of it."""

    def __init__(self, root: Path, plan: Plan, say: Callable[[str], None]):
        self.root, self._say = root, say
        self.index = plan.paths.report("so-far/index.html")
        folder = str(Path(self.index).parent)
        self.command = [sys.executable, "-m", "lct.jobs.report", "--scale", plan.scale_name, *option_words(plan)]
        self.command += ["--out", folder]
        cells = plan.cells_of("tables")
        self.parts: dict[str, list[str]] = {}
        for part in sorted({cell.subtable for cell in cells}):
            own = [cell for cell in cells if cell.subtable == part]
            self.parts[f"{part}, first seed"] = stage_files.cell_metrics(plan, map(_with_first_seed, own))
            self.parts[part] = stage_files.cell_metrics(plan, own)
        self._reported = self._complete()
        self._process: subprocess.Popen | None = None
        self._thread: threading.Thread | None = None

    def __call__(self, job: int) -> None:
        complete = self._complete()
        if complete <= self._reported or len(complete) == len(self.parts):
            return
        if self._thread is not None and self._thread.is_alive():
            return
        self._reported = complete
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                self.command, cwd=self.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            self._thread = threading.Thread(target=self._announce, args=(self._process,), daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End a rendering that goes on, and remove its pages: the run's own report takes their place."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        if self._thread is not None:
            self._thread.join()
        shutil.rmtree((self.root / self.index).parent, ignore_errors=True)

    def _announce(self, process: subprocess.Popen) -> None:
        if process.wait() == 0:
            self._say(f"Report so far: {(self.root / self.index).absolute().as_uri()}")

    def _complete(self) -> set[str]:
        """Parts whose cells all exist."""
        return {part for part, paths in self.parts.items() if all((self.root / path).exists() for path in paths)}
