"""The one cost model: FLOPs, seconds, bytes and GPUs of every job of the graph, counted from the settings.

`lct plan`, the resources that rules ask for, `lct doctor` and the report all use it. 1 MAC (multiply-add) is 2 FLOPs. A
job's work is divided by the device's rates. Jobs are shared: a cell's cost is that of all jobs it needs, so that cells
do not add up to a table, nor tables to the paper. The constants marked "estimated" have not been measured on GPUs.
"""

import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from lct.cluster.rates import Machine, Work
from lct.plan import files as stage_files
from lct.plan.plan import Cell, Plan

BYTES_PER_PIXEL = 2.0  # of a stored image: 132 kB at 256 x 256, measured on photographs (benchmarks/images.py)
STATES_KEPT = 2  # resume states that a training keeps
UNKNOWN_COUNT = 100_000  # images of a dataset whose number is not in its settings
MOST_GPUS = 8  # of one node; the trainer accumulates what does not fit over several passes
RUN_STAGES = ("train", "sample", "score")
_CARD_OVERHEAD = 4e9  # bytes of a GPU taken by context, libraries and fragmentation: estimated
_WORKSPACE = 1.3  # activations while training / those kept for the backward pass: target pass, workspace; estimated
_DECODERS = 8  # threads that read image files


class PlannedJob(NamedTuple):
    """A job of the graph."""

    stage: str
    owner: str  # dataset, run or figure
    seed: int | None = None  # of a run


@dataclass
class Cost:
    """What some jobs cost together."""

    seconds: float = 0.0  # of one device, measured and estimated parts
    estimated: float = 0.0  # seconds of it that rest on estimates
    assumed: float = 0.0  # further seconds, of work without any speed, by the rates that requests assume
    disk: float = 0.0  # bytes
    unknown: set[str] = field(default_factory=set)  # work without any speed, left out of `seconds`
    sources: dict[str, str] = field(default_factory=dict)  # kind of work -> basis and source of its rate

    def add(self, other: "Cost") -> None:
        self.seconds += other.seconds
        self.estimated += other.estimated
        self.assumed += other.assumed
        self.disk += other.disk
        self.unknown |= other.unknown
        self.sources |= other.sources


def training_flops(plan: Plan, run: str) -> int:
    """FLOPs of a training: a forward pass, a backward pass as two forward ones, and one more for the target of
    consistency training."""
    training, (macs, _) = plan.runs[run].training, plan.macs_and_activations_of(run)
    passes = 3 if training.objective.kind == "denoising" else 4
    return plan.steps_of(run) * training.batch * passes * 2 * macs


def state_bytes(plan: Plan, run: str) -> int:
    """Bytes of a resume state in float32: all parameters, and for the trainable ones two moments, every average and,
    where it is no copy of the network, the target."""
    training, (total, trainable) = plan.runs[run].training, plan.parameters_of(run)
    target = total if training.objective.target_ema else 0
    return 4 * (total + target + trainable * (2 + len(training.emas)))


def reading_threads(plan: Plan, dataset: str) -> int:
    """Threads that read images: files are worth several, the small images that are computed are not."""
    return 1 if plan.datasets[dataset].source.kind in ("digits", "patches") else _DECODERS


class CostModel:
    """Costs of a plan's jobs on a machine."""

    def __init__(self, plan: Plan, machine: Machine):
        self.plan, self.machine = plan, machine
        self._costs: dict[PlannedJob, Cost] = {}

    def of(self, job: PlannedJob) -> Cost:
        """Cost of one job; (stage, owner, seed) will do."""
        job = PlannedJob(*job)
        if job not in self._costs:
            cost = Cost(disk=self._disk(job))
            for work in [Work("start", 1), *self._work(job)]:
                speed = self.machine.speed(work)
                if speed is None:
                    cost.assumed += work.units / self.machine.assumed(work)
                    cost.unknown |= {work.name} - {"prepare"}
                    continue
                seconds = work.units / speed.per_second
                cost.seconds += seconds
                cost.estimated += seconds * (speed.basis == "estimate")
                cost.sources[work.name] = f"{speed.basis}: {speed.source}"
            dataset = self.plan.runs[job.owner].dataset if job.stage in RUN_STAGES else job.owner
            if job.stage != "figure" and self.plan.datasets[dataset].count is None:
                count = f"{UNKNOWN_COUNT} images: their number is not in the settings"
                cost.estimated, cost.sources[f"images of {dataset}"] = cost.seconds, f"estimate: {count}"
            self._costs[job] = cost
        return self._costs[job]

    def total(self, jobs: Iterable[PlannedJob]) -> Cost:
        """Cost of different jobs together."""
        total = Cost()
        for job in sorted({PlannedJob(*job) for job in jobs}, key=str):
            total.add(self.of(job))
        return total

    def seconds_without_start(self, job: PlannedJob) -> float:
        """Seconds of a job from where its own record begins: without the start of Python and its libraries."""
        start = self.machine.speed(Work("start", 1))
        return self.of(job).seconds - (0.0 if start is None else 1 / start.per_second)

    # --- which jobs ---------------------------------------------------------------------------------------------
    def needed(self, cells: Iterable[Cell]) -> set[PlannedJob]:
        """Every job behind some cells."""
        jobs: set[PlannedJob] = set()
        for cell in cells:
            jobs |= set(self.preparation(self.plan.runs[cell.run].dataset))
            for samples in cell.sets:
                jobs |= set(self.chain(samples.run, samples.seed))
        return jobs

    def preparation(self, dataset: str) -> list[PlannedJob]:
        """The jobs of a dataset, in order."""
        extractor = ["extractor"] if stage_files.own_extractor(self.plan, dataset) is not None else []
        return [PlannedJob(stage, dataset) for stage in ("images", "autoencoder", "encode", *extractor, "reference")]

    def chain(self, run: str, seed: int) -> list[PlannedJob]:
        """The jobs of a run and seed, in order."""
        train = [] if self.plan.runs[run].weights else ["train"]
        return [PlannedJob(stage, run, seed) for stage in (*train, "sample", "score")]

    def wall(self, jobs: Iterable[PlannedJob], devices: int) -> float:
        """Seconds until all jobs are done on `devices` like this one: each dataset's preparation before its runs, a
        run's jobs one after the other, the longest run first."""
        wanted_jobs = {PlannedJob(*job) for job in jobs}
        ready = {
            dataset: self.total(wanted_jobs & set(self.preparation(dataset))).seconds
            for dataset in {job.owner for job in wanted_jobs if job.seed is None}
        }
        free_at = [0.0] * devices
        for dataset in sorted(ready, key=lambda name: -ready[name]):
            ready[dataset] += heapq.heappop(free_at)
            heapq.heappush(free_at, ready[dataset])
        runs = {(job.owner, job.seed) for job in wanted_jobs if job.seed is not None}
        lengths = {(run, seed): self.total(wanted_jobs & set(self.chain(run, seed))).seconds for run, seed in runs}
        for run, seed in sorted(runs, key=lambda key: (-lengths[key], key)):
            begin = max(heapq.heappop(free_at), ready.get(self.plan.runs[run].dataset, 0.0))
            heapq.heappush(free_at, begin + lengths[run, seed])
        return max(free_at)

    # --- what they do -------------------------------------------------------------------------------------------
    def _work(self, job: PlannedJob) -> Iterator[Work]:
        stage, owner, _ = job
        plan = self.plan
        if stage == "figure":  # two trainings of one size, one after the other
            figure, training = plan.figures[owner]
            steps = training.total_steps(figure.scales[plan.scale_name].images)
            macs = plan.macs_of_figure(owner)
            yield Work("train", 2 * steps * training.batch * 4 * 2 * macs, macs=macs)
        elif stage in RUN_STAGES:
            yield from self._run_work(stage, owner)
        else:
            yield from self._dataset_work(stage, owner)

    def _dataset_work(self, stage: str, name: str) -> Iterator[Work]:
        dataset, images = self.plan.datasets[name], self._images(name)
        side, network = dataset.resolution, dataset.autoencoder.kind
        if stage == "images":
            yield Work("prepare", images, side=side)
        elif stage == "autoencoder" and network == "trained":
            yield Work("autoencoder", dataset.autoencoder.steps * dataset.autoencoder.batch, side=side)
        elif stage == "encode":
            yield Work("encode", images, side=side, network=network)
            yield Work("decode", images, side=side, network=network)
        elif stage == "extractor":
            yield Work("extractor", dataset.extractor.steps * dataset.extractor.batch, side=side)
        elif stage == "reference":  # both splits, and the reconstructions of both, through every network
            yield from self._scored(name, 2 * images)

    def _run_work(self, stage: str, name: str) -> Iterator[Work]:
        plan, run = self.plan, self.plan.runs[name]
        macs, _ = plan.macs_and_activations_of(name)
        sets, count, dataset = plan.sample_sets(name), plan.scale.sampling.count, plan.datasets[run.dataset]
        if stage == "train":
            yield Work("train", training_flops(plan, name), macs=macs)
        elif stage == "sample":
            evaluations = sum(run.samplers[sampler].nfe for _, sampler, _ in sets)
            yield Work("evaluate", count * evaluations * 2 * macs, macs=macs)
            yield Work("decode", count * len(sets), side=dataset.resolution, network=dataset.autoencoder.kind)
        else:
            yield from self._scored(run.dataset, count * len(sets))

    def _scored(self, dataset: str, images: int) -> Iterator[Work]:
        for extractor in self.plan.extractors_of(dataset):
            yield Work("score", images, side=self.plan.datasets[dataset].resolution, network=extractor.kind)

    def _train_images(self, dataset: str) -> int:
        return self.plan.datasets[dataset].count or UNKNOWN_COUNT

    def _images(self, dataset: str) -> int:
        """Images of both splits."""
        return self._train_images(dataset) + self.plan.datasets[dataset].heldout

    # --- what they keep: on the disk, in main memory, on GPUs ---------------------------------------------------
    def _disk(self, job: PlannedJob) -> float:
        stage, owner, _ = job
        plan, sampling = self.plan, self.plan.scale.sampling
        if stage in ("images", "encode"):  # encode: latents, and the reconstructed images
            latents = 4 * math.prod(plan.datasets[owner].latent_shape) if stage == "encode" else 0
            return self._images(owner) * (latents + BYTES_PER_PIXEL * plan.datasets[owner].resolution ** 2)
        if stage == "train":
            weights = 4 * plan.parameters_of(owner)[0] * len(plan.kept_weights(owner))
            return weights + STATES_KEPT * state_bytes(plan, owner)
        if stage == "sample":
            pixels = plan.datasets[plan.runs[owner].dataset].resolution ** 2
            return len(plan.sample_sets(owner)) * sampling.count * BYTES_PER_PIXEL * pixels
        if stage == "score" and plan.scale.keep_features:
            return len(plan.sample_sets(owner)) * sampling.count * self._feature_width(plan.runs[owner].dataset) * 4
        return 0.0

    def _feature_width(self, dataset: str) -> int:
        return sum(extractor.features for extractor in self.plan.extractors_of(dataset))

    def memory(self, job: PlannedJob) -> float:
        """Bytes of main memory that a job needs beyond Python and torch."""
        stage, owner, _ = job
        plan, sampling = self.plan, self.plan.scale.sampling
        if stage == "images":
            return 64 * reading_threads(plan, owner) * plan.datasets[owner].resolution ** 2 * 3
        if stage == "reference":  # features are float32 on disk, and float64 while distances are taken
            return 2 * self._train_images(owner) * self._feature_width(owner) * 12
        if stage == "train":  # all latents, raw and normalised, per process; a state is copied here when it is saved
            return 2 * self._latent_bytes(owner) * self.gpus(owner) + state_bytes(plan, owner)
        if stage == "sample":  # weights, and one batch of images
            pixels = plan.datasets[plan.runs[owner].dataset].resolution ** 2
            return 8 * plan.parameters_of(owner)[0] + sampling.batch * pixels * 3 * 16
        if stage == "score":  # one set of samples at a time, beside the real images
            dataset = plan.runs[owner].dataset
            return (sampling.count + self._train_images(dataset)) * self._feature_width(dataset) * 12
        if stage == "figure":
            images = plan.figures[owner][0].scales[plan.scale_name].images
            return images * 4 * 4 * max(math.prod(plan.datasets[dataset].latent_shape) for dataset in plan.datasets)
        return 0.0

    def _latent_bytes(self, run: str) -> int:
        dataset = self.plan.runs[run].dataset
        return self._train_images(dataset) * math.prod(self.plan.datasets[dataset].latent_shape) * 4

    def gpus(self, run: str) -> int:
        """The fewest of 1, 2, 4 and 8 GPUs whose memory holds a training: latents, state, gradients, and its share of
        the activations of a batch."""
        plan, training = self.plan, self.plan.runs[run].training
        gradients = 4 * plan.parameters_of(run)[1]
        fixed = _CARD_OVERHEAD + self._latent_bytes(run) + state_bytes(plan, run) + gradients
        bytes_each = 4 * (0.5 if training.mixed_precision == "bfloat16" else 1.0)
        activations = training.batch * plan.macs_and_activations_of(run)[1] * bytes_each * _WORKSPACE
        free = max(self.machine.memory - fixed, 1.0)
        return next((count for count in (1, 2, 4) if activations <= count * free), MOST_GPUS)
