"""When what of a scale appears on a number of GPUs: the graph's jobs in the order in which they would run.

A simulation: durations are the cost model's, every start of a job waits in the queue for the same time, a job longer
than the wall limit goes on in further ones, and a free GPU takes the ready job that Snakemake would take.
"""

import datetime
import functools
import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from pathlib import Path
from xml.sax.saxutils import escape

from lct.cluster.cost_model import RUN_STAGES, CostModel, PlannedJob
from lct.cluster.forecast import recorded_outputs
from lct.files.atomic import read_json_or_empty
from lct.files.records import run_path
from lct.plan.plan import Cell

PRIORITIES = {"distance": 4, "score": 3, "sample": 2, "train": 1}  # of the rules; the rest prepares and comes first
NUMBERS = ("distance", "score")  # jobs that end in a number
COLOURS = {"train": "#4c78a8", "sample": "#f2a541"} | dict.fromkeys(NUMBERS, "#54a24b")  # of the chart; others are grey
WIDTH, LEFT, ROW = 960, 250, 14  # pixels of the chart
QUEUE, LONGEST = 300.0, 86400.0  # seconds that a job waits, and may run, where nobody says otherwise


@dataclass(frozen=True)
class ScheduledJob:
    """A job, and when it runs: seconds after the start of the first one."""

    job: PlannedJob
    start: float  # out of the queue
    end: float
    gpus: int


@dataclass(frozen=True)
class Timeline:
    """What `simulate` gives."""

    jobs: tuple[ScheduledJob, ...]
    appears: dict[str, float]  # the first number, the pilot, each table -> seconds

    @property
    def end(self) -> float:
        return max((job.end for job in self.jobs), default=0.0)


def predecessors(model: CostModel, jobs: Iterable[PlannedJob]) -> dict[PlannedJob, list[PlannedJob]]:
    """What each job waits for: a dataset's preparation in order, a training for the latents, the run whose weights it
    starts from, and what came before it in its chain, sampling for the training before it, scoring for the images and
    the reference, the pilot's distance for the images alone."""
    jobs, waits = set(jobs), {}
    for owner, seed in sorted({(job.owner, job.seed) for job in jobs}, key=str):
        if seed is None:
            before: list[PlannedJob] = []
            for job in model.preparation(owner):
                waits[job], before = before, [job]
            continue
        prepared = model.preparation(model.plan.runs[owner].dataset)
        trained = sampled = [job for job in prepared if job.stage == "encode"]
        for source in model.initial_runs(owner)[:1]:
            trained = trained + [job for job in model.chain(source, seed) if job.stage == "train"][-1:]
        for job in (job for job in model.chain(owner, seed) if job in jobs):
            waits[job] = [*sampled, prepared[-1]] if job.stage in NUMBERS else trained
            if job.stage == "train":
                trained = [job]
            elif job.stage == "sample":
                sampled = [job]
    return {job: [before for before in waits[job] if before in jobs] for job in waits if job in jobs}


def simulate(
    model: CostModel,
    cells: list[Cell],
    gpus: int,
    queue: float,
    longest: float,
    done: frozenset[PlannedJob] = frozenset(),
) -> Timeline:
    """The jobs behind some cells on so many devices, but for those that are done.

    queue: seconds that every job waits before it starts. longest: seconds that one may run."""
    waits = predecessors(model, model.needed(cells) - done)
    order = {name: rank for rank, name in enumerate(dict.fromkeys(cell.run for cell in cells))}
    graph = TopologicalSorter(waits)
    graph.prepare()

    def rank(job: PlannedJob) -> tuple:
        return -PRIORITIES.get(job.stage, 9), order.get(job.owner, -1), str(job)

    @functools.cache  # a job may wait for a free GPU many times
    def needs(job: PlannedJob) -> tuple[int, float]:
        cost = model.of(job)
        count = min(gpus, model.gpus(job.owner)) if job.stage == "train" and model.machine.gpu else 1
        seconds = (cost.seconds + cost.assumed) / count
        return count, seconds + queue * max(0, math.ceil(seconds / longest) - 1)

    ready: list[tuple[float, tuple, PlannedJob]] = []
    running: list[tuple[float, int, PlannedJob]] = []
    scheduled: list[ScheduledJob] = []
    now, free = 0.0, gpus
    while graph.is_active():
        ready += [(now + queue, rank(job), job) for job in graph.get_ready()]
        # from the queue, best first, what has waited long enough and fits
        for _, _, job in sorted((entry for entry in ready if entry[0] <= now), key=lambda entry: entry[1]):
            count, seconds = needs(job)
            if count <= free:
                ready = [entry for entry in ready if entry[2] != job]
                free -= count
                heapq.heappush(running, (now + seconds, count, job))
                scheduled.append(ScheduledJob(job, now, now + seconds, count))
        coming = [entry[0] for entry in ready if entry[0] > now]
        if running and (not coming or running[0][0] <= min(coming)):
            now, count, job = heapq.heappop(running)
            free += count
            graph.done(job)
        elif coming:
            now = min(coming)
    ends = dict.fromkeys(done, 0.0) | {entry.job: entry.end for entry in scheduled}
    numbers = [entry.end for entry in scheduled if entry.job.stage in NUMBERS]
    appears = {"the first number": min(numbers)} if numbers else {}
    for table in dict.fromkeys(cell.table for cell in cells):
        jobs = model.needed([cell for cell in cells if cell.table == table])
        appears[table] = max((ends[job] for job in jobs), default=0.0)
    return Timeline(tuple(scheduled), appears)


def with_pilot(model: CostModel, cells: list[Cell], gpus: int, queue: float, longest: float) -> Timeline:
    """`simulate`, where the plan has a pilot: its rows first and alone, as `snakemake pilot` makes them, and the others
    when they have ended. Of a model of the pilot, these alone."""
    pilot = model.plan.pilot
    if not pilot or not set(pilot) <= set(cells):
        return simulate(model, cells, gpus, queue, longest)
    first = simulate(CostModel(model.plan, model.machine, pilot=True), pilot, gpus, queue, longest)
    appears = {"the first number": first.appears["the first number"], "the pilot": first.end}
    if model.pilot:
        return Timeline(first.jobs, appears)
    rest = simulate(model, cells, gpus, queue, longest, done=frozenset(entry.job for entry in first.jobs))
    later = [replace(entry, start=entry.start + first.end, end=entry.end + first.end) for entry in rest.jobs]
    appears |= {table: seconds + first.end for table, seconds in rest.appears.items() if table not in appears}
    return Timeline((*first.jobs, *later), appears)


def actual(model: CostModel, root: Path, cells: list[Cell]) -> dict[str, float]:
    """The names of `Timeline.appears` -> seconds from the first start that a record tells, for what is complete."""
    starts: list[float] = []
    ends: dict[PlannedJob, float] = {}
    for run in dict.fromkeys(cell.run for cell in cells):
        for job, paths in recorded_outputs(model.plan, run).items():
            records = [read_json_or_empty(run_path(root / path)) for path in paths]
            if paths and all(record.get("finished") for record in records):
                ends[job] = max(datetime.datetime.fromisoformat(r["finished"]).timestamp() for r in records)
                spent = max(float((record.get("cost") or {}).get("seconds", record["seconds"])) for record in records)
                starts.append(ends[job] - spent)
    if not ends:
        return {}
    appears = {"the first number": min((end for job, end in ends.items() if job.stage in NUMBERS), default=math.inf)}
    for table in dict.fromkeys(cell.table for cell in cells):
        jobs = model.needed([cell for cell in cells if cell.table == table])
        of_runs = [ends.get(job, math.inf) for job in jobs if job.stage in RUN_STAGES]
        appears[table] = max(of_runs, default=math.inf)
    return {name: end - min(starts) for name, end in appears.items() if end < math.inf}


def lines(timeline: Timeline, taken: dict[str, float], gpus: int, device: str, queue: float) -> list[str]:
    """What `lct plan --timeline` prints: planned, and beside it what was taken."""
    width = max(map(len, [*timeline.appears, "everything"]))
    out = [f"timeline on {gpus} x {device}, {queue / 60:g} minutes in the queue before every job:"]
    for name, seconds in [*timeline.appears.items(), ("everything", timeline.end)]:
        beside = f"   taken: {_duration(taken[name])}" if name in taken else ""
        out.append(f"  {name:<{width}}  {_duration(seconds)}{beside}")
    busy = sum((entry.end - entry.start) * entry.gpus for entry in timeline.jobs)
    return [*out, f"  GPUs busy {busy / (gpus * timeline.end or 1.0):.0%} of the time"]


def chart(timeline: Timeline, title: str) -> str:
    """SVG: a bar for each run or dataset, its jobs by colour, and a line where each table appears."""
    names = list(dict.fromkeys(_name(entry.job) for entry in timeline.jobs))
    height, end = ROW * (len(names) + len(timeline.appears) + 4), timeline.end or 1.0
    scale = (WIDTH - LEFT - 20) / end
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">']
    out += [f'<rect width="{WIDTH}" height="{height}" fill="white"/>', _text(8, ROW, title, 12)]
    for row, name in enumerate(names, start=2):
        out.append(_text(8, ROW * row + 10, name, 9))
        for entry in timeline.jobs:
            if _name(entry.job) == name:
                words = escape(f"{entry.job.stage}: {_duration(entry.start).strip()} to {_duration(entry.end).strip()}")
                box = f'x="{LEFT + entry.start * scale:.1f}" width="{max(1.0, (entry.end - entry.start) * scale):.1f}"'
                out.append(
                    f'<rect {box} y="{ROW * row}" height="{ROW - 3}" fill="{COLOURS.get(entry.job.stage, "#bbbbbb")}">'
                    f"<title>{words}</title></rect>"
                )
    for row, (name, seconds) in enumerate(timeline.appears.items(), start=len(names) + 3):
        x = LEFT + seconds * scale
        out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{2 * ROW}" y2="{ROW * row}" stroke="#999999"/>')
        out.append(_text(8, ROW * row, f"{name}: {_duration(seconds).strip()}", 9))
    return "\n".join([*out, "</svg>\n"])


def _text(x: float, y: float, words: str, size: int) -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}">{escape(words)}</text>'


def _name(job: PlannedJob) -> str:
    return job.owner if job.seed is None else f"{job.owner}, seed {job.seed}"


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:7.1f} {unit}"
    return f"{seconds:7.0f} s"
