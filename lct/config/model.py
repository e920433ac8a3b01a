"""What the YAML files under config/ may hold, joined from the rooms' settings. Nothing here imports torch."""

from dataclasses import dataclass, field
from typing import Any

from lct.data.settings import Dataset as DataSettings
from lct.metrics.settings import Extractor, Protocol, TrainedExtractor
from lct.report.settings import PublishedTable, TableSpec
from lct.sampling.settings import Sampler, Sampling
from lct.training.settings import Training

__all__ = ["Dataset", "Main", "Method", "PublishedTable", "Run", "RunEntry", "Scale", "TableSpec"]


@dataclass(frozen=True, kw_only=True)
class Dataset(DataSettings):
    """config/datasets/*.yaml: images, autoencoder and encoding, and the network whose features measure distances."""

    extractor: Extractor = field(default_factory=TrainedExtractor)  # feature extractor of FD, precision and recall


@dataclass(frozen=True, kw_only=True)
class Main:
    """config/config.yaml: which scale a bare `snakemake` computes."""

    scale: str = "mini"  # a file in config/scales/
    allow_retrain: tuple[str, ...] = ()  # cells whose recorded trainings may be replaced
    record: bool = False  # record lineage with DVC when a run ends


@dataclass(frozen=True, kw_only=True)
class Scale:
    """config/scales/*.yaml: one size of the whole experiment."""

    title: str  # as the report prints it
    banner: tuple[str, ...]  # first lines of the report: what this scale is and is not
    watermark: str | None = None  # word over every page of a scale whose numbers mean nothing
    comparable: bool = False  # whether its numbers may be set against published ones
    distance: str = "FID"  # name of the Frechet distance here; FID only with the Inception network
    tables: tuple[str, ...]  # files in config/tables/ that a bare `snakemake` makes
    subtables: dict[str, str]  # sub-table -> file in config/datasets/; missing ones are reported as not run
    seeds: dict[str, tuple[int, ...]]  # dataset -> training seeds
    sampling: Sampling = field(default_factory=Sampling)  # how many images each sampling job makes
    protocol: Protocol = field(default_factory=Protocol)  # how they are scored
    dataset: dict[str, Any] = field(default_factory=dict, metadata={"partial": Dataset})  # overrides for every dataset
    training: dict[str, Any] = field(default_factory=dict, metadata={"partial": Training})  # overrides for every run
    methods: dict[str, Any] = field(
        default_factory=dict, metadata={"partials": Training}
    )  # method -> further overrides


@dataclass(frozen=True, kw_only=True)
class Method:
    """config/methods/*.yaml: one way of training, and the samplers that go with it."""

    title: str  # as the report prints it
    training: dict[str, Any] = field(
        default_factory=dict, metadata={"partial": Training}
    )  # differences from the defaults
    samplers: dict[str, Sampler] = field(default_factory=dict)  # sampler id -> sampler


@dataclass(frozen=True, kw_only=True)
class RunEntry:
    """An entry of config/runs/*.yaml: dataset, method, and what differs from both."""

    dataset: str  # a file in config/datasets/
    method: str  # a file in config/methods/
    note: str | None = None  # provenance, in one line
    training: dict[str, Any] = field(
        default_factory=dict, metadata={"partial": Training}
    )  # differences from the method
    samplers: dict[str, Sampler] = field(default_factory=dict)  # further samplers


@dataclass(frozen=True, kw_only=True)
class Run:
    """One set of resolved training settings, with the samplers it may be asked for."""

    id: str  # its key in config/runs/
    dataset: str  # a file in config/datasets/
    method: str  # a file in config/methods/
    training: Training  # resolved
    samplers: dict[str, Sampler]  # sampler id -> sampler
    sources: dict[str, str]  # dotted key -> the file that set it, or "default"
