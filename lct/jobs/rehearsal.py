"""The page that a rehearsal ends in: what its jobs took beside what they asked for, and what to change before the whole
scale is started. It is no job: the graph writes it when a run ends, whatever has failed.

A rehearsal has the networks, batches and image sizes of the whole scale, so that its peaks differ from those of the
whole scale by the images that jobs hold alone; the cost model counts these, and they are added here.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lct.cluster.cost_model import RUN_STAGES, PlannedJob
from lct.cluster.resources import Requests
from lct.cluster.run import owners
from lct.files.atomic import read_json_or_empty, write_json, write_text
from lct.files.records import run_path

MOST = 0.8  # share of what was asked for, from which on a peak is marked


def write_rehearsal(root: Path, requests: Requests, jobs: Iterable[Any]) -> str:
    """Write page and numbers of the jobs of a Snakemake DAG, and say where. Never raises: a run ends as its jobs do."""
    out = requests.plan.paths.report("rehearsal.html")
    try:
        from lct.report.render import html  # brings Jinja, which only a rehearsal needs here

        result = numbers(requests, list(jobs), root)
        write_text(root / out, html("rehearsal.html", rehearsal=result))
        write_json((root / out).with_suffix(".json"), result)
    except (ValueError, OSError) as error:
        return f"warning: no page of the rehearsal: {' '.join(str(error).split())}"
    return f"What the rehearsal took beside what it asked for: {out}"


@dataclass(frozen=True)
class Row:
    """The jobs of one stage of a run, dataset or figure: their largest peaks, together with the images that a job of
    the whole scale holds; memory in bytes."""

    stage: str
    owner: str
    jobs: int
    measured: int  # of these jobs
    seconds: float = 0.0  # of the longest
    minutes: float = 0.0  # asked for
    read: int = 0  # bytes, of all
    written: int = 0
    memory: float = 0.0  # measured
    more_memory: float = 0.0  # by the images of the whole scale, from the cost model
    request: float = 0.0  # memory that each job asks for
    gpus: int = 0  # of each job
    gpu_memory: float | None = None  # measured, of each GPU
    more_gpu_memory: float = 0.0
    card: float | None = None  # memory of a GPU
    share: float = 0.0  # expected peak / memory asked for
    gpu_share: float | None = None  # expected peak / memory of a GPU; None: none was used, or its memory is not known
    tight: tuple[str, ...] = ()  # what is marked: memory, GPU memory


def rows(requests: Requests, jobs: Iterable[Any], root: Path) -> list[Row]:
    """A row for each stage and owner of the jobs of a Snakemake DAG, those of the largest share of memory first."""
    owner_of, together = owners(requests.plan), {}
    for job in jobs:
        if (owner := owner_of(job.rule.name, dict(job.wildcards.items()))) is not None:
            together.setdefault(owner, []).append(job)
    every = [_row(requests, *owner, of, root) for owner, of in together.items()]
    return sorted(every, key=lambda row: (not row.tight, -max(row.share, row.gpu_share or 0.0), row.stage, row.owner))


def _resource(job: Any, name: str) -> float:
    """What a job asks for; 0 where that is known only once its inputs exist."""
    value = job.resources.get(name, 0)
    return float(value) if isinstance(value, int | float) else 0.0


def _row(requests: Requests, stage: str, owner: str, jobs: Sequence[Any], root: Path) -> Row:
    planned, gpus = PlannedJob(stage, owner), int(max(_resource(job, "gpu") for job in jobs))
    # a training has one for each GPU; the record is the first one's
    processes = max(1, gpus) if stage == "train" else 1
    records = [record for job in jobs if (record := _record(job, root))]
    more = max(0.0, requests.sizes.memory(planned) - requests.costs.memory(planned)) if records else 0.0
    memory = processes * max((record["peak_memory_bytes"] for record in records), default=0)
    request = 1e6 * max(_resource(job, "mem_mb") for job in jobs)
    share = (memory + more) / request if request else 0.0
    gpu_memory = max((r["peak_gpu_memory_bytes"] for r in records if "peak_gpu_memory_bytes" in r), default=None)
    on_gpu, card = gpu_memory is not None, requests.costs.machine.memory
    more_gpu_memory = more * on_gpu / (2 * processes if stage == "train" else 1)
    gpu_share = (gpu_memory + more_gpu_memory) / card if on_gpu and math.isfinite(card) else None
    marks = {"memory": share, "GPU memory": gpu_share or 0.0}
    return Row(
        stage=stage,
        owner=owner,
        jobs=len(jobs),
        measured=len(records),
        seconds=max((record["seconds"] for record in records), default=0.0),
        minutes=max(_resource(job, "runtime") for job in jobs),
        read=processes * sum(record.get("read_bytes", 0) for record in records),
        written=sum(record.get("written_bytes", 0) for record in records),
        memory=memory,
        more_memory=more,
        request=request,
        gpus=gpus,
        gpu_memory=gpu_memory,
        more_gpu_memory=more_gpu_memory,
        card=None if gpu_share is None else card,
        share=share,
        gpu_share=gpu_share,
        tight=tuple(name for name, used in marks.items() if used > MOST),
    )


def _record(job: Any, root: Path) -> dict[str, Any]:
    """What a job's outputs record of it, each number the largest; empty where it has not finished."""
    every = [record for path in job.output if (record := read_json_or_empty(run_path(root / path)))]
    names = ("seconds", "peak_memory_bytes", "peak_gpu_memory_bytes", "read_bytes", "written_bytes")
    return {name: max(values) for name in names if (values := [record[name] for record in every if name in record])}


def rules(requests: Requests, row: Row) -> list[str]:
    """Names of a row's rules at the whole scale."""
    plan = requests.plan.whole
    if row.stage not in RUN_STAGES:
        prefix = {"reference": "reference", "degraded": "degraded", "figure": "figures"}.get(row.stage)
        name = row.stage if prefix is None else f"{prefix}_{row.owner}"
        return [name.replace("-", "_")]
    milestones = plan.milestones(row.owner) if row.stage == "train" else plan.sampled_milestones(row.owner)
    return [f"{row.stage}_{row.owner}{plan.suffix(row.owner, at)}".replace("-", "_") for at in milestones]


def advice(requests: Requests, marked: Iterable[Row]) -> str:
    """Lines for the profile that give marked jobs what they need; empty where none is marked."""
    lines = []
    for row in (row for row in marked if row.tight):
        values = []
        if "memory" in row.tight:  # half of the request stays free
            values.append(f"mem_mb: {math.ceil(1.5 * (row.memory + row.more_memory) / 1e9) * 1000}")
        if "GPU memory" in row.tight and row.stage == "train":
            values.append(f"gpu: {2 * max(1, row.gpus)}")
        lines += [f"  {rule}: {{{', '.join(values)}}}" for rule in rules(requests, row) if values]
    return "\n".join(["set-resources:", *lines]) if lines else ""


def numbers(requests: Requests, jobs: Sequence[Any], root: Path) -> dict[str, Any]:
    """What the page of a rehearsal shows, as JSON can hold it."""
    every = rows(requests, jobs, root)
    gpu_hours = sum(_record(job, root).get("seconds", 0.0) * _resource(job, "gpu") for job in jobs) / 3600
    return {
        "scale": requests.plan.scale_name,
        "whole": requests.plan.whole.scale_name,
        "device": requests.costs.machine.name if requests.cluster.has_gpus else "",
        "most": MOST,
        "jobs": sum(row.jobs for row in every),
        "measured": sum(row.measured for row in every),
        "gpu_hours": gpu_hours,
        "rows": [asdict(row) for row in every],
        "advice": advice(requests, every),
    }
