"""The one cost model: FLOPs, seconds, bytes and GPUs of every job of the graph, counted from the settings.

`lct plan`, the resources that rules ask for, `lct doctor` and the report all use it. 1 MAC (multiply-add) is 2 FLOPs. A
job's work is divided by the device's rates. Jobs are shared: a cell's cost is that of all jobs it needs, so that cells
do not add up to a table, nor tables to the paper. The constants marked "estimated" have not been measured on GPUs.
"""

import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lct.cluster.rates import EXTRACTOR_FLOPS, Machine, Work
from lct.plan import files as stage_files
from lct.plan import settings as stage_settings
from lct.plan.paths import milestone
from lct.plan.plan import Cell, Plan

BYTES_PER_PIXEL = 2.0  # of a stored image: 132 kB at 256 x 256, measured on photographs (benchmarks/images.py)
STATES_KEPT = 2  # resume states that a training keeps
SAVE_MINUTES = 5.0  # between two saved states, where neither `save_minutes` nor the profile says otherwise
STATE_GB_PER_HOUR = 5.0  # most that a training writes into its states, where `save_minutes` is not set
UNKNOWN_COUNT = 100_000  # images of a dataset whose number is not in its settings
MOST_GPUS = 8  # of one node; the trainer accumulates what does not fit over several passes
RUN_STAGES = ("train", "sample", "distance", "score", "neighbours")
_CARD_OVERHEAD = 4e9  # bytes of a GPU taken by context, libraries and fragmentation: estimated
_WORKSPACE = 1.3  # activations while training / those kept for the backward pass: target pass, workspace; estimated
_DECODERS = 8  # threads that read image files
_BLOCK = 8192  # lct.metrics.distances.BLOCK, which is not imported: it brings torch


class PlannedJob(NamedTuple):
    """A job of the graph."""

    stage: str
    owner: str  # dataset, run or figure
    seed: int | None = None  # of a run
    at: str | None = None  # its milestone; None: all of them together, and always for a run with a single one


@dataclass
class Cost:
    """What some jobs cost together."""

    seconds: float = 0.0  # of one device, measured and estimated parts
    estimated: float = 0.0  # seconds of it that rest on estimates
    assumed: float = 0.0  # further seconds, of work without any speed, by the rates that requests assume
    disk: float = 0.0  # bytes
    unknown: set[str] = field(default_factory=set)  # work without any speed, left out of `seconds`
    sources: dict[str, str] = field(default_factory=dict)  # kind of work -> basis and source of its rate


def state_bytes(plan: Plan, run: str) -> int:
    """Bytes of a resume state in float32: all parameters, and for the trainable ones two moments, every average and,
    where it is no copy of the network, the target."""
    training, (total, trainable) = plan.runs[run].training, plan.parameters_of(run)
    target = total if training.objective.target_ema else 0
    return 4 * (total + target + trainable * (2 + len(training.emas)))


def minutes_between_states(plan: Plan, run: str, minutes: float = SAVE_MINUTES) -> float:
    """Minutes between two saved states of a training: `save_minutes` where it is set, otherwise `minutes`, and more
    where that would write over STATE_GB_PER_HOUR."""
    return plan.main.save_minutes or minutes_for_states(state_bytes(plan, run), minutes)


def minutes_for_states(size: float, minutes: float, gb_per_hour: float = STATE_GB_PER_HOUR) -> float:
    """`minutes`, or as many more as states of `size` bytes need to write no more than `gb_per_hour`."""
    return max(minutes, 60 * size / (1e9 * gb_per_hour))


def reading_threads(plan: Plan, dataset: str) -> int:
    """Threads that read images: files are worth several, the small images that are computed are not."""
    return 1 if plan.datasets[dataset].source.kind in ("digits", "patches") else _DECODERS


class CostModel:
    """Costs of a plan's jobs on a machine.

    pilot: images are measured as `snakemake pilot` does: by the Frechet distance alone, without references."""

    def __init__(self, plan: Plan, machine: Machine, pilot: bool = False):
        self.plan, self.machine, self.pilot = plan, machine, pilot
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
            if job.stage != "figure" and self.plan.datasets[dataset := self._dataset(job)].count is None:
                count = f"{UNKNOWN_COUNT} images: their number is not in the settings"
                cost.estimated, cost.sources[f"images of {dataset}"] = cost.seconds, f"estimate: {count}"
            self._costs[job] = cost
        return self._costs[job]

    def total(self, jobs: Iterable[PlannedJob]) -> Cost:
        """Cost of different jobs together."""
        costs = [self.of(job) for job in sorted({PlannedJob(*job) for job in jobs}, key=str)]
        return Cost(
            **{name: sum(getattr(c, name) for c in costs) for name in ("seconds", "estimated", "assumed", "disk")},
            unknown={work for cost in costs for work in cost.unknown},
            sources={work: source for cost in costs for work, source in cost.sources.items()},
        )

    def seconds_without_start(self, job: PlannedJob) -> float:
        """Seconds of a job from where its own record begins: without the start of Python and its libraries."""
        start = self.machine.speed(Work("start", 1))
        return self.of(job).seconds - (0.0 if start is None else 1 / start.per_second)

    # --- which jobs ---------------------------------------------------------------------------------------------
    def needed(self, cells: Iterable[Cell]) -> set[PlannedJob]:
        """Every job behind some cells: of a run, its training up to their milestones, and what is made of these."""
        jobs: set[PlannedJob] = set()
        for cell in cells:
            jobs |= set(self.preparation(self.plan.runs[cell.run].dataset))
            for samples in cell.sets:
                chain = self.chain(samples.run, samples.seed)
                last = max(i for i, job in enumerate(chain) if job.at in (None, milestone(cell.weights)))
                jobs |= {job for job in chain[: last + 1] if job.stage == "train" or job.at == chain[last].at}
                sources = self.initial_runs(samples.run)
                jobs |= {job for run in sources for job in self.chain(run, samples.seed) if job.stage == "train"}
        return jobs

    def initial_runs(self, run: str) -> list[str]:
        """The runs whose weights a run starts from: its own `init` first, then that one's."""
        runs = []
        while (init := self.plan.runs[run].init) is not None and init.run is not None:
            run = init.run
            runs.append(run)
        return runs

    def preparation(self, dataset: str) -> list[PlannedJob]:
        """The jobs of a dataset, in order."""
        extractor = ["extractor"] if stage_files.own_extractor(self.plan, dataset) is not None else []
        reference = [] if self.pilot else ["reference"]
        return [PlannedJob(stage, dataset) for stage in ("images", "autoencoder", "encode", *extractor, *reference)]

    def chain(self, run: str, seed: int) -> list[PlannedJob]:
        """The jobs of a run and seed, in order, milestone after milestone."""
        milestones, jobs = self.plan.milestones(run), []
        for at in milestones if len(milestones) > 1 else [None]:
            train = ["train"] if self.plan.runs[run].is_trained else []
            evaluation = ["sample", "distance" if self.pilot else "score"] if self.plan.evaluations(run, at) else []
            jobs += [PlannedJob(stage, run, seed, at) for stage in (*train, *evaluation)]
        return jobs

    def wall(self, jobs: Iterable[PlannedJob], devices: int) -> float:
        """Seconds until all jobs are done on `devices` like this one: each dataset's preparation before its runs, a
        run before those that start from its weights, a run's jobs one after the other, the longest run first."""
        pending = {PlannedJob(*job) for job in jobs}
        datasets = {job.owner for job in pending if job.seed is None}
        ready = {name: self.total(pending & set(self.preparation(name))).seconds for name in datasets}
        free_at = [0.0] * devices
        for dataset in sorted(ready, key=lambda name: -ready[name]):
            ready[dataset] += heapq.heappop(free_at)
            heapq.heappush(free_at, ready[dataset])
        runs = {(job.owner, job.seed) for job in pending if job.seed is not None}
        lengths = {(run, seed): self.total(pending & set(self.chain(run, seed))).seconds for run, seed in runs}
        ends: dict[tuple[str, int | None], float] = {}
        for run, seed in sorted(runs, key=lambda key: (len(self.initial_runs(key[0])), -lengths[key], key)):
            before = [ends.get((source, seed), 0.0) for source in self.initial_runs(run)]
            begin = max(heapq.heappop(free_at), ready.get(self.plan.runs[run].dataset, 0.0), *before)
            ends[run, seed] = begin + lengths[run, seed]
            heapq.heappush(free_at, ends[run, seed])
        return max(free_at)

    # --- what they do -------------------------------------------------------------------------------------------
    def _work(self, job: PlannedJob) -> Iterator[Work]:
        stage, owner, _, at = job
        plan, dataset_name = self.plan, self._dataset(job)
        if stage == "figure":  # two trainings of one size, one after the other; or minutes at most
            figure, training = plan.figures[owner]
            if training is None:
                return
            steps, macs = training.total_steps(figure.scales[plan.scale_name].images), plan.macs_of_figure(owner)
            yield Work("train", 2 * steps * training.batch * 4 * 2 * macs, macs=macs)
            return
        dataset, images = plan.datasets[dataset_name], self._images(dataset_name)
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
        elif stage == "train":
            # a forward pass, a backward pass as two, one more for the target of consistency training
            training, (macs, _) = plan.runs[owner].training, plan.macs_and_activations_of(owner)
            passes = 3 if training.objective.kind == "denoising" else 4
            yield Work("train", plan.steps_of(owner, at) * training.batch * passes * 2 * macs, macs=macs)
        elif stage == "sample" and plan.runs[owner].samples is not None:
            yield Work("prepare", self._samples(owner, at), side=side)
        elif stage == "sample":
            macs, _ = plan.macs_and_activations_of(owner)
            nfe = sum(plan.runs[owner].samplers[sampler].nfe for _, sampler, _ in plan.sample_sets(owner, at))
            yield Work("evaluate", plan.scale.sampling.count * nfe * 2 * macs, macs=macs)
            yield Work("decode", self._samples(owner, at), side=side, network=network)
        elif stage in ("reference", "degraded", "score", "distance"):
            count = self._measured_images(stage, owner, at)
            for extractor in self._extractors(stage, dataset_name):  # of pretrained ones in passes of Inception
                flops = EXTRACTOR_FLOPS.get(getattr(extractor, "architecture", ""))
                passes = 1.0 if flops is None else flops / EXTRACTOR_FLOPS["inception"]
                yield Work("score", count * passes, side=side, network=extractor.kind)

    def _dataset(self, job: PlannedJob) -> str:
        return self.plan.runs[job.owner].dataset if job.stage in RUN_STAGES else job.owner

    def _train_images(self, dataset: str) -> int:
        return self.plan.datasets[dataset].count or UNKNOWN_COUNT

    def _images(self, dataset: str) -> int:
        """Images of both splits."""
        return self._train_images(dataset) + self.plan.datasets[dataset].heldout

    def _extractors(self, stage: str, dataset: str) -> list[Any]:
        """Settings of the networks that images are measured in: of the first distance alone, or of all protocols."""
        if stage == "distance":
            return [self.plan.extractor(dataset, self.plan.protocol.distance)]
        return self.plan.extractors_of(dataset)

    def _measured_images(self, stage: str, owner: str, at: str | None) -> int:
        """Images that a job measures: both splits and their reconstructions, damaged ones, or generated ones, for the
        pilot beside the training images."""
        if stage in ("score", "distance"):
            more = self._train_images(self.plan.runs[owner].dataset) if stage == "distance" else 0
            return self._samples(owner, at) + more
        images, plan, dataset = self._images(owner), self.plan, owner
        if stage == "reference":
            return 2 * images
        most = max(protocol.num_images for protocol in plan.protocols_of(dataset))
        return len(stage_settings.degraded(plan, dataset)["degradations"]) * min(images, most)

    def _samples(self, run: str, at: str | None) -> int:
        """Images that are sampled from one seed of a run, at one of its milestones."""
        return self.plan.scale.sampling.count * len(self.plan.sample_sets(run, at))

    # --- what they keep: on the disk, in main memory, on GPUs ---------------------------------------------------
    def _disk(self, job: PlannedJob) -> float:
        stage, owner, _, at = job
        plan = self.plan
        if stage == "train":  # the states count once, with the last milestone
            kept = plan.kept_weights(owner) if at is None else plan.weights_at(owner, at)
            states = STATES_KEPT * state_bytes(plan, owner) * (at in (None, plan.milestones(owner)[-1]))
            return 4 * plan.parameters_of(owner)[0] * len(kept) + states
        if stage == "score":
            width = sum(extractor.features for extractor in self._extractors(stage, self._dataset(job)))
            return 4 * self._samples(owner, at) * width * plan.scale.keep_features
        if stage not in ("images", "encode", "sample"):
            return 0.0
        dataset = plan.datasets[self._dataset(job)]
        image = BYTES_PER_PIXEL * dataset.resolution**2
        if stage == "sample":
            return self._samples(owner, at) * image * (plan.main.keep_images is not False)
        return self._images(owner) * (image + 4 * math.prod(dataset.latent_shape) * (stage == "encode"))

    def memory(self, job: PlannedJob) -> float:
        """Bytes of main memory that a job needs beyond Python and torch."""
        stage, owner, *_ = job
        plan, dataset = self.plan, self._dataset(job)
        if stage == "images":
            return 64 * reading_threads(plan, owner) * plan.datasets[owner].resolution ** 2 * 3
        if stage in ("reference", "degraded", "score", "distance"):
            others = self._train_images(dataset) if stage == "reference" else plan.scale.sampling.count
            width = sum(extractor.features for extractor in self._extractors(stage, dataset))
            return (self._train_images(dataset) + others) * width * 12  # float32; float64 while distances are taken
        if stage == "train":  # all latents, raw and normalised, per process; a state is copied here when it is saved
            return 2 * self._latent_bytes(dataset) * self.gpus(owner) + state_bytes(plan, owner)
        if stage == "sample" and plan.runs[owner].samples is None:  # weights, and one batch of images
            pixels = plan.scale.sampling.batch * plan.datasets[dataset].resolution ** 2
            return 8 * plan.parameters_of(owner)[0] + pixels * 3 * 16
        if stage == "neighbours":  # stored features and those compared, and a block of these in float64
            protocol, width = plan.protocol, plan.extractor(dataset, plan.protocol.recall).features
            images = self._images(dataset) if protocol.reference == "all" else self._train_images(dataset)
            return (min(images, protocol.recall_reference) * 8 + _BLOCK * 8) * width
        if stage == "figure":  # latents, raw and normalised; couplings: float64 tables of pairs by pairs and elements
            cost = plan.figures[owner][0].scales[plan.scale_name]
            elements = max(math.prod(dataset.latent_shape) for dataset in plan.datasets.values())
            tables = 8 * 3 * cost.pairs * (cost.pairs + 2 * elements) * (plan.figures[owner][0].kind == "couplings")
            return cost.images * 4 * 4 * elements + tables
        return 0.0

    def _latent_bytes(self, dataset: str) -> int:
        return self._train_images(dataset) * math.prod(self.plan.datasets[dataset].latent_shape) * 4

    def gpus(self, run: str) -> int:
        """The fewest of 1, 2, 4 and 8 GPUs whose memory holds a training: latents, state, gradients, and its share of
        the activations of a batch."""
        plan, training = self.plan, self.plan.runs[run].training
        gradients = 4 * plan.parameters_of(run)[1]
        fixed = _CARD_OVERHEAD + self._latent_bytes(plan.runs[run].dataset) + state_bytes(plan, run) + gradients
        # bfloat16 saves nothing: norms and SiLU keep float32 (measured: 13.9 instead of 15.0 GB for a batch of 128)
        activations = training.batch * plan.macs_and_activations_of(run)[1] * 4 * _WORKSPACE
        free = max(self.machine.memory - fixed, 1.0)
        return next((count for count in (1, 2, 4) if activations <= count * free), MOST_GPUS)
