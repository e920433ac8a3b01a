"""What cells, tables and the whole scale cost: device-hours, wall time on several devices, disk, money, with sources.

A job's work is counted from its settings (operations of networks, images through autoencoder and extractors), and
divided by the device's rates. Jobs are shared: a cell's cost is that of all jobs it needs, so that cells do not add up
to a table, nor tables to the paper. Downloads, the preparing of images, figures and the report are not counted.
"""

import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lct.cluster.effort import sampling_operations, state_bytes, training_operations
from lct.cluster.rates import Machine, Speed
from lct.plan import files as stage_files
from lct.plan.plan import Cell, Plan

BYTES_PER_PIXEL = 2.0  # of a stored image: 132 kB at 256 x 256, measured on photographs (benchmarks/images.py)
GENERATIONS = 2  # resume states that a training keeps

Key = tuple[str, str, int | None]  # stage, dataset or run, seed


@dataclass(frozen=True)
class Work:
    """Some units of one kind of work."""

    kind: str  # of lct.config.devices.Measured.work
    units: float
    macs: int | None = None
    side: int | None = None
    of: str | None = None  # kind of autoencoder or extractor


@dataclass
class Cost:
    """What some jobs cost together."""

    seconds: float = 0.0  # of one device, measured and estimated parts
    estimated: float = 0.0  # seconds of it that rest on estimates
    disk: float = 0.0  # bytes
    unknown: set[str] = field(default_factory=set)  # work that nobody has measured, left out of the seconds
    sources: dict[str, str] = field(default_factory=dict)  # kind of work -> basis and source of its rate

    def add(self, other: "Cost") -> None:
        self.seconds += other.seconds
        self.estimated += other.estimated
        self.disk += other.disk
        self.unknown |= other.unknown
        self.sources |= other.sources


class Estimate:
    """Costs of a plan on a machine."""

    def __init__(self, plan: Plan, machine: Machine):
        self.plan, self.machine = plan, machine
        self._costs: dict[Key, Cost] = {}

    def cost(self, jobs: Iterable[Key]) -> Cost:
        """Of different jobs together."""
        total = Cost()
        for job in sorted(set(jobs), key=str):
            total.add(self.of(job))
        return total

    def of(self, job: Key) -> Cost:
        """Of one job."""
        if job not in self._costs:
            made = Cost(disk=self._disk(job))
            for work in [Work("start", 1), *self._work(job)]:
                speed = self._speed(work)
                if speed is None:
                    made.unknown.add(_named(work))
                    continue
                seconds = work.units / speed.per_second
                made.seconds += seconds
                made.estimated += seconds * (speed.basis == "estimate")
                made.sources[_named(work)] = f"{speed.basis}: {speed.source}"
            self._costs[job] = made
        return self._costs[job]

    def recorded(self, job: Key) -> float:
        """Seconds of a job from where its own record begins: without the start of Python and its libraries."""
        start = self._speed(Work("start", 1))
        return self.of(job).seconds - (0.0 if start is None else 1 / start.per_second)

    def _speed(self, work: Work) -> Speed | None:
        return self.machine.speed(work.kind, macs=work.macs, side=work.side, kind=work.of)

    # --- which jobs ---------------------------------------------------------------------------------------------
    def needed(self, cells: Iterable[Cell]) -> set[Key]:
        """Every job behind some cells."""
        found: set[Key] = set()
        for cell in cells:
            dataset = self.plan.runs[cell.run].dataset
            found |= set(self.preparation(dataset))
            for one in cell.sets:
                found |= set(self.chain(one.run, one.seed))
        return found

    def preparation(self, dataset: str) -> list[Key]:
        """The jobs of a dataset, in order."""
        stages = ["images", "autoencoder", "encode", "extractor", "reference"]
        if stage_files.own_extractor(self.plan, dataset) is None:
            stages.remove("extractor")
        return [(stage, dataset, None) for stage in stages]

    def chain(self, run: str, seed: int) -> list[Key]:
        """The jobs of a run and seed, in order."""
        stages = ["sample", "score"] if self.plan.runs[run].weights else ["train", "sample", "score"]
        return [(stage, run, seed) for stage in stages]

    def wall(self, jobs: Iterable[Key], devices: int) -> float:
        """Seconds until all are done on `devices` like this one: each dataset's preparation before its runs, a run's
        jobs one after the other, the longest run first."""
        asked = set(jobs)
        ready = {
            dataset: self.cost(asked & set(self.preparation(dataset))).seconds
            for dataset in {owner for _, owner, seed in asked if seed is None}
        }
        free = [0.0] * devices
        for dataset in sorted(ready, key=lambda name: -ready[name]):
            ready[dataset] += heapq.heappop(free)
            heapq.heappush(free, ready[dataset])
        runs = {(owner, seed) for _, owner, seed in asked if seed is not None}
        length = {one: self.cost(asked & set(self.chain(*one))).seconds for one in runs}
        for one in sorted(runs, key=lambda one: (-length[one], one)):
            begin = max(heapq.heappop(free), ready.get(self.plan.runs[one[0]].dataset, 0.0))
            heapq.heappush(free, begin + length[one])
        return max(free)

    # --- what they do ---------------------------------------------------------------------------------------------
    def _work(self, job: Key) -> Iterator[Work]:
        stage, owner, _ = job
        if stage in ("train", "sample", "score"):
            yield from self._run_work(stage, owner)
            return
        dataset = self.plan.datasets[owner]
        sides, kind = self._images(owner), dataset.autoencoder.kind
        if stage == "autoencoder" and kind == "trained":
            yield Work("autoencoder", dataset.autoencoder.steps * dataset.autoencoder.batch, side=dataset.resolution)
        if stage == "encode":
            yield Work("encode", sides, side=dataset.resolution, of=kind)
            yield Work("decode", sides, side=dataset.resolution, of=kind)
        if stage == "extractor":
            yield Work("extractor", dataset.extractor.steps * dataset.extractor.batch, side=dataset.resolution)
        if stage == "reference":  # both sides, and the reconstructions of both, through every network
            yield from self._scored(owner, 2 * sides)

    def _run_work(self, stage: str, owner: str) -> Iterator[Work]:
        run, plan = self.plan.runs[owner], self.plan
        macs, _ = plan.macs_and_activations_of(owner)
        sets, count, side = plan.sample_sets(owner), plan.scale.sampling.count, plan.datasets[run.dataset].resolution
        if stage == "train":
            yield Work("train", training_operations(plan, owner), macs=macs)
        elif stage == "sample":
            yield Work("evaluate", count * sampling_operations(plan, owner), macs=macs)
            yield Work("decode", count * len(sets), side=side, of=plan.datasets[run.dataset].autoencoder.kind)
        else:
            yield from self._scored(run.dataset, count * len(sets))

    def _scored(self, dataset: str, images: int) -> Iterator[Work]:
        for extractor in self.plan.extractors_of(dataset):
            yield Work("score", images, side=self.plan.datasets[dataset].resolution, of=extractor.kind)

    def _images(self, dataset: str) -> int:
        """Of both sides; 0 where the settings do not tell."""
        found = self.plan.datasets[dataset]
        return (found.count or 0) + found.heldout

    # --- what they leave on the disk --------------------------------------------------------------------------------
    def _disk(self, job: Key) -> float:
        stage, owner, _ = job
        plan, stored = self.plan, BYTES_PER_PIXEL
        if stage == "images":
            return self._images(owner) * stored * plan.datasets[owner].resolution ** 2
        if stage == "encode":
            latents = 4 * math.prod(plan.datasets[owner].latent_shape)
            return self._images(owner) * (latents + stored * plan.datasets[owner].resolution ** 2)
        if stage == "train":
            weights = 4 * plan.parameters_of(owner)[0] * len(plan.kept_weights(owner))
            return weights + GENERATIONS * state_bytes(plan, owner)
        if stage == "sample":
            pixels = plan.datasets[plan.runs[owner].dataset].resolution ** 2
            return len(plan.sample_sets(owner)) * plan.scale.sampling.count * stored * pixels
        if stage == "score" and plan.scale.keep_features:
            width = sum(extractor.features for extractor in plan.extractors_of(plan.runs[owner].dataset))
            return len(plan.sample_sets(owner)) * plan.scale.sampling.count * width * 4
        return 0.0


def _named(work: Work) -> str:
    return work.kind if work.of is None else f"{work.kind} ({work.of})"
