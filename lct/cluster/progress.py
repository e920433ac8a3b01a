"""What the terminal shows while the graph runs: jobs done, the time that is left, and where a report so far stands."""

import contextlib
import dataclasses
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from lct.cluster.cost_model import RUN_STAGES, PlannedJob
from lct.cluster.resources import Requests
from lct.plan import files as stage_files
from lct.plan.plan import Cell, Plan
from lct.plan.selection import option_words

EVERY_SECONDS = 20.0  # between two lines
_DATASET_STAGES = ("images", "autoencoder", "encode", "extractor")


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
        self.command = [sys.executable, "-m", "lct.jobs.report", "--collect", "tables", "--scale", plan.scale_name]
        self.command += [*option_words(plan), "--out", folder]
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
