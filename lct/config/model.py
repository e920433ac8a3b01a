"""What the YAML files under config/ may hold, joined from the rooms' settings. Nothing here imports torch."""

import os
import re
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from lct.checks import require
from lct.config.schema import ID_PATTERN, Name, Partial, plain
from lct.data.settings import ArchiveSource, DataSettings, FolderSource
from lct.download.settings import Downloads
from lct.metrics.settings import Extractor, Protocol, TrainedExtractor
from lct.sampling.settings import Sampler, Sampling, Seeds
from lct.schedules import OPTIONAL
from lct.training.settings import Training

REHEARSAL = "REHEARSAL: NO RESULT"  # the watermark of every scale with a `limit`; nothing is judged by its numbers
EXPORTED = "generator/diffusion_pytorch_model.safetensors"  # in a folder of `lct export --to diffusers`
ELSEWHERE = "made elsewhere"  # in the place of a method, for images that no training of this project has made
GIVEN = "given"  # in the place of weights and sampler, for the same images
_CONTAINERS = (".zip", ".tar", ".tgz", ".gz", ".npz", ".npy")  # endings of files of images; all else is a folder

TrainingChanges = Annotated[dict[str, Any], Partial(Training)]  # values for some keys of Training
MEASURED = ("box-plots", "losses", "couplings")  # kinds made by jobs of their own, for each dataset
_require = partial(require, advice="correct it in config/figures/")


def words(value: str | int | tuple[str | int, ...]) -> tuple[str | int, ...]:
    """A list as the command line gives it, separated by commas, or as YAML does."""
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    return value if isinstance(value, tuple) else (value,)


@dataclass(frozen=True, kw_only=True)
class Dataset(DataSettings):
    """config/datasets/*.yaml: images, autoencoder and encoding, and the network whose features measure distances."""

    extractor: Extractor = field(default_factory=TrainedExtractor)  # the dataset's own feature extractor, for protocols
    # that name no other
    training: TrainingChanges = field(default_factory=dict)  # settings of every run on this dataset, such as epochs and
    # batch


@dataclass(frozen=True, kw_only=True)
class Main:
    """config/config.yaml: which scale a bare `snakemake` computes."""

    scale: str = "mini"  # a file in config/scales/
    dataset: str | None = None  # a file in config/datasets/: the methods on it in a table of its own, and nothing else
    downloads: Downloads = field(default_factory=Downloads)  # mirror, cache and offline mode of this machine
    record: bool = True  # whether a run records at its end what it finished (`lct record` does it by hand)
    allow_retrain: str | tuple[str, ...] = ()  # recorded cells that may be trained again; "all": every one
    only: str | tuple[str, ...] = ()  # rows that are made and shown, such as table1.a, or claims; none: all of them
    seeds: str | int | tuple[int, ...] = ()  # training seeds beside those of the scale, such as "1,2", for every
    # dataset
    own_runs: tuple[str, ...] | None = None  # runs that no table lists and the report shows; null: those with results
    save_minutes: float | None = None  # between two saved states of a training; null: the profile's, or 5
    keep_images: bool | None = None  # whether sampled image sets stay when all that reads them is computed; null: the
    # profile's, or true

    def __post_init__(self):
        for seed in words(self.seeds):
            require(str(seed).isdecimal(), "seeds", "numbers from 0 on, such as 1,2", repr(seed))
        require(self.save_minutes is None or self.save_minutes > 0, "save_minutes", "above 0", self.save_minutes)


@dataclass(frozen=True, kw_only=True)
class ReducedBudget:
    """A smaller budget for the runs of `more_tables`: runs of their own, RUN-SUFFIX, which no other table uses."""

    suffix: str = "short"  # run digits-lct becomes digits-lct-short
    seeds: dict[Name, Seeds]  # dataset -> training seeds
    training: TrainingChanges = field(default_factory=dict)  # settings on top of each run's own
    note: str  # what this does to the numbers, printed under every such table


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Most images that a rehearsal of another scale works with. Batches, networks and image sizes stay as they are."""

    images: int  # of each side of a dataset, and of a figure; no fewer than the largest batch
    samples: int  # generated for an image set, though no fewer than a batch

    def __post_init__(self):
        require(min(self.images, self.samples) >= 2, "limit", "2 images and samples or more", self, "raise them")

    def scale(self, scale: "Scale") -> "Scale":
        """A scale with fewer samples, that is marked as a rehearsal."""
        sampling = scale.sampling
        num_images = min(sampling.num_images, max(self.samples, sampling.batch))
        sampling = replace(sampling, num_images=num_images)
        protocols = tuple(replace(p, num_images=min(p.num_images, sampling.count)) for p in scale.protocols)
        short = {"sampling": sampling, "protocols": protocols, "counts": None, "pilot": ()}
        return replace(scale, comparable=False, watermark=REHEARSAL, **short)

    def dataset(self, dataset: Dataset) -> Dataset:
        """A dataset with fewer images on both sides."""
        train = self.images if dataset.train is None else min(dataset.train, self.images)
        return replace(dataset, train=train, heldout=min(dataset.heldout, self.images))


@dataclass(frozen=True, kw_only=True)
class Scale:
    """config/scales/*.yaml: one size of the whole experiment."""

    base: str | None = field(default=None, metadata=OPTIONAL)  # another scale, whose values this one starts from; what
    # tables and figures say about the base counts here too
    limit: Limit | None = field(default=None, metadata=OPTIONAL)  # of a rehearsal: most images of each kind
    banner: tuple[str, ...] = ()  # first lines of the report: what this scale is and is not
    watermark: str | None = None  # word over every page of a scale whose numbers mean nothing
    comparable: bool = False  # whether its numbers may be compared with published ones
    distance: str = "FID"  # name of the Frechet distance here; FID only with the Inception network
    tables: tuple[str, ...] = ()  # files in config/tables/ that a bare `snakemake` makes
    more_tables: tuple[str, ...] = ()  # further ones, that `snakemake all_tables` makes
    short: ReducedBudget | None = None  # a smaller budget for the runs of more_tables; null: they are the same runs
    pilot: tuple[str, ...] = ()  # rows of early milestones that `snakemake pilot` sets against the authors' log
    subtables: dict[Name, str] = field(default_factory=dict)  # sub-table -> file in config/datasets/; missing ones are
    # reported as not run
    seeds: dict[Name, Seeds] = field(default_factory=dict)  # dataset -> training seeds
    sampling: Sampling = field(default_factory=Sampling)  # how many images each sampling job makes
    counts: dict[Name, int] | None = field(default=None, metadata=OPTIONAL)  # dataset -> images that are sampled, and
    # scored by the first protocol, where its authors had another number
    protocols: tuple[Protocol, ...] = (Protocol(),)  # how they are scored; tables show the first
    keep_features: bool = True  # whether scoring keeps the features of generated images; a metrics file needs none
    dataset: Annotated[dict[str, Any], Partial(Dataset)] = field(default_factory=dict)  # overrides for every dataset
    training: TrainingChanges = field(default_factory=dict)  # overrides for every run
    methods: dict[Name, TrainingChanges] = field(default_factory=dict)  # method -> further overrides

    def __post_init__(self):
        for key in ("banner", "tables", "subtables", "seeds"):
            if not getattr(self, key) and self.base is None:
                raise ValueError(f"expected key {key!r} with a value, or `base`, found neither; add it")
        ids = [protocol.id for protocol in self.protocols]
        allowed = ids and len(set(ids)) == len(ids) and all(re.fullmatch(ID_PATTERN, name) for name in ids)
        require(allowed, "protocols", "one or more different ids of a-z, 0-9, _ and -", ids, "fix them")
        if len({protocol.batch for protocol in self.protocols}) > 1:
            raise ValueError("protocols: expected one `batch` for all, since they share each pass; make them equal")

    @property
    def needs_gpus(self) -> bool:
        """Whether its trainings are those of the paper, or as large."""
        return self.comparable or self.limit is not None


@dataclass(frozen=True, kw_only=True)
class Method:
    """config/methods/*.yaml: one way of training, and the samplers that go with it."""

    training: TrainingChanges = field(default_factory=dict)  # differences from the defaults
    samplers: dict[Name, Sampler] = field(default_factory=dict)  # sampler id -> sampler


@dataclass(frozen=True, kw_only=True)
class GivenWeights:
    """Weights that exist already: the tensors of the network, as safetensors, as a state dict of torch (.pt), or in
    a folder that `lct export --to diffusers` wrote."""

    path: str  # the file or folder; relative to the repository root unless absolute
    sha256: str  # of that file; part of every path made from it

    def __post_init__(self):
        require(self.path, "path", "a file or folder", "an empty text", "name it")
        check_sha256(self.sha256)

    @property
    def file(self) -> str:
        """The file that holds the tensors."""
        return os.path.join(self.path, EXPORTED) if os.path.isdir(self.path) else self.path

    @property
    def name(self) -> str:
        """In the place of step and EMA, which are not known."""
        return f"given-{self.sha256[:12]}"


@dataclass(frozen=True, kw_only=True)
class GivenSamples:
    """Images that were made elsewhere. They stand in the place of a sampler, which is not known."""

    path: str  # a folder, zip, tar, npz or npy; relative to the repository root unless absolute
    nfe: int | None = None  # network evaluations of an image, where that is known

    def __post_init__(self):
        require(self.nfe is None or self.nfe >= 1, "nfe", "1 or more", self.nfe, "leave it out where it is not known")
        is_ours = not self.path.strip() or Path.cwd().is_relative_to(Path(os.path.expanduser(self.path)).resolve())
        what = f"{self.path!r}, which is the project's own folder or one around it"
        require(not is_ours, "path", "a folder or file of images alone", what, "name it")

    @property
    def source(self) -> FolderSource | ArchiveSource:
        """The same as a local source of images."""
        return (ArchiveSource if self.path.endswith(_CONTAINERS) else FolderSource)(path=self.path)


@dataclass(frozen=True, kw_only=True)
class Initial:
    """Weights that a training starts from, instead of random ones: those at the end of another run, or a file."""

    run: str | None = None  # a run on the same dataset with the same network, of the same seed, that a row shows
    ema: float | None = None  # which average of that run; null: the first that it keeps
    path: str | None = None  # or a file as for `weights`
    sha256: str | None = None  # of that file

    def __post_init__(self):
        if (self.run is None) == (self.path is None) or (self.path is None) != (self.sha256 is None):
            raise ValueError("expected either run (and ema), or path and sha256; correct it")
        if self.ema is not None and self.run is None:
            raise ValueError("expected ema with run alone, found it with a file; remove it")
        if self.sha256 is not None:
            check_sha256(self.sha256)

    @property
    def file(self) -> str | None:
        """The file that holds the tensors; None where another run makes them."""
        return None if self.path is None else GivenWeights(path=self.path, sha256=str(self.sha256)).file


def check_sha256(text: str) -> None:
    digits = re.fullmatch("[0-9a-f]{64}", text)
    require(digits, "sha256", "64 hexadecimal digits in lower case", repr(text), "sha256sum prints them")


@dataclass(frozen=True, kw_only=True)
class RunEntry:
    """An entry of config/runs/*.yaml: dataset and method, or another run, and what differs from them."""

    dataset: str | None = None  # a file in config/datasets/; with `base`, that run's
    datasets: tuple[str, ...] = ()  # one run for each of these instead; "{dataset}" in name and base stands for it
    method: str | None = None  # a file in config/methods/; with `base`, that run's
    base: str | None = None  # another run, whose settings and samplers this one starts from
    note: str | None = None  # which reading of the sources this is, and where it is known from
    training: TrainingChanges = field(default_factory=dict)  # differences from the method or base
    samplers: dict[Name, Sampler] = field(default_factory=dict)  # further samplers
    weights: GivenWeights | None = None  # existing weights: sampled and scored without training
    samples: GivenSamples | None = None  # images made elsewhere: scored, without training and sampling
    init: Initial | None = None  # weights that the training starts from; null: random ones, or those of `base`

    def __post_init__(self):
        others = [key for key in ("method", "base", "training", "samplers", "weights", "init") if getattr(self, key)]
        allowed, have = self.samples is None or (self.dataset and not others), ["dataset"] * bool(self.dataset) + others
        require(allowed, "samples", "dataset, and at most note, beside them", have)
        untrained = self.weights is None or self.init is None
        require(untrained, "weights", "no init beside them, as nothing is trained", "both", "remove one")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One set of resolved training settings, with the samplers it may be asked for."""

    id: str  # its key in config/runs/
    dataset: str  # a file in config/datasets/
    method: str  # a file in config/methods/
    training: Training | None  # resolved; None for images made elsewhere
    samplers: dict[Name, Sampler | GivenSamples]  # sampler id -> sampler
    sources: dict[str, str]  # dotted key -> the file that set it, or "default"
    note: str | None = None  # which reading of the sources this is
    weights: GivenWeights | None = None  # existing weights, taken instead of training
    samples: GivenSamples | None = None  # images made elsewhere, taken instead of training and sampling
    init: Initial | None = None  # weights that the training starts from
    reduced: bool = False  # with the smaller budget of the tables that only `snakemake all_tables` makes

    @property
    def is_trained(self) -> bool:
        """Whether this project trains it."""
        return self.weights is None and self.samples is None

    @property
    def applied(self) -> dict[str, Any]:
        """The settings that made or use its weights: those of sampling alone, where the weights were given."""
        if self.samples is not None:
            return {"samples": plain(self.samples)}
        values = plain(self.training)
        if self.weights is not None:
            return {key: values[key] for key in ("network", "scaling", "grid")}
        return values | ({} if self.init is None else {"init": plain(self.init)})


@dataclass(frozen=True, kw_only=True)
class FigureScale:
    """What a figure costs at one scale."""

    images: int = 1  # training images looked at, evenly spaced; box-plots: both networks are trained on them
    values: int = 4096  # values of each image that are pooled, at most, evenly spaced
    pairs: int = 1  # box-plots: temporal differences computed after training; couplings: pairs per size; rounded up
    # to full batches
    training: TrainingChanges = field(default_factory=dict)  # such as steps and network

    def __post_init__(self):
        for name in ("images", "values", "pairs"):
            _require(getattr(self, name) >= 1, name, "a positive count", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class RandomLatents:
    """Normal latents of another shape, coupled beside those of the scale."""

    shape: tuple[int, int, int]  # C, H, W
    group: int = 128  # size of the groups in which pairs are sought
    pairs: int = 1024  # as many are drawn

    def __post_init__(self):
        _require(min(self.shape) >= 1, "random.shape", "positive numbers", self.shape)
        _require(2 <= self.group <= self.pairs, "random", "2 <= group <= pairs", (self.group, self.pairs))


@dataclass(frozen=True, kw_only=True)
class Figure:
    """config/figures/*.yaml: one figure of the report.

    box-plots: pixel and latent values, and the temporal differences of one network each; settings of both trainings:
               defaults < config/methods < config/scales < `training` < `scales.SCALE.training`
    losses:    the robust losses and their derivatives, at the c of a dataset's latents
    couplings: distances and variances of pairs of latents and noise, with and without transport, measured
    schedules: c by stage of the curriculum, and FID by epoch; drawn from tables.json
    samples:   sample grids of table rows, side by side; drawn from tables.json"""

    title: str  # heading
    caption: str  # what is shown, how it was made, and what of it is our reading
    kind: Literal["box-plots", "losses", "couplings", "schedules", "samples"] = "box-plots"  # what is drawn
    rows: tuple[str, ...] = ()  # samples: TABLE.SUBTABLE.ROW of each grid
    groups: tuple[int, ...] = ()  # couplings: sizes of the groups in which pairs are sought
    random: RandomLatents | None = None  # couplings: normal latents that are paired as well
    method: str = "ilct"  # box-plots: a file in config/methods/, the objective of both trainings
    seed: int = 0  # of both trainings, or of the pairs drawn
    training: TrainingChanges = field(default_factory=dict)  # differences from it
    scales: dict[Name, FigureScale]  # scale -> its cost; a scale that is missing here does not make the figure

    def __post_init__(self):
        _require(bool(self.rows) == (self.kind == "samples"), "rows", "rows with `kind: samples` alone", self.rows)
        sizes = bool(self.groups) and min(self.groups) >= 2
        _require(sizes == (self.kind == "couplings"), "groups", "sizes from 2 on, of `couplings` alone", self.groups)
        alone = self.random is None or self.kind == "couplings"
        _require(alone, "random", "it with `kind: couplings` alone", self.random)
