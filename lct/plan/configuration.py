"""The YAML files that one scale needs, read, checked and joined: datasets, tables, extractors and downloads."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

from lct.checks import require, require_once
from lct.config.claims import Claim, PublishedRows, read_claims, read_repeats
from lct.config.model import Dataset, Main, Scale, words
from lct.config.published import (
    OWN_GROUP,
    PublishedRow,
    PublishedSubtable,
    PublishedTable,
    TableSpec,
    row_without_print,
    without_print,
)
from lct.config.resolve import (
    ConfigFolder,
    dataset_settings,
    download_origins,
    extractor_settings,
    gives_labels,
    main_settings,
    scale_settings,
)
from lct.download.settings import Origin as DownloadOrigin
from lct.metrics.settings import OWN, Extractor, PretrainedExtractor, Protocol
from lct.plan.paths import Paths, download
from lct.sampling.settings import Sampling

CLAIMS = "claims"  # in the place of rows: those that config/claims/ compares, and figures that claims are about
CLAIM_SEEDS = 3  # training seeds that each of their runs has at least
OWN_TABLE = "own"  # the table of a dataset of the user's own; no scale lists it


class Configuration:
    """Checked configuration of one scale. Raises ValueError with one line on anything inconsistent."""

    def __init__(self, root: Path, overrides: dict[str, Any] | None = None):
        self.root = root
        self.config = ConfigFolder(root)
        self.main: Main = main_settings(self.config, overrides)
        self.scale_name = self.main.scale
        self.scale, self.scale_layer = scale_settings(self.config, self.scale_name)
        if self.main.dataset is not None:
            self.scale = _scale_of_dataset(self.scale, self.main.dataset)
        self.only = tuple(map(str, words(self.main.only)))
        least = CLAIM_SEEDS if CLAIMS in self.only else 0
        self.scale = _with_seeds(self.scale, words(self.main.seeds), least)
        self.paths = Paths(self.scale_name, self.main.dataset, self.only)
        self.claims_paths = dataclasses.replace(self.paths, only=(CLAIMS,))  # of `snakemake claims`
        self.tables: dict[str, TableSpec] = self._read_tables()
        self.published_rows = PublishedRows(self.config)
        self.published: dict[str, PublishedTable] = {
            spec.published: self.published_rows.table(name, "config/tables")
            for name, spec in self.tables.items()
            if spec.published is not None
        }
        self.claims: list[Claim] = read_claims(self.config, self.published_rows)
        measures, given = CLAIMS not in self.only or self.scale.limit is None, f"the rehearsal {self.scale_name}"
        require(measures, "claims", "a scale that measures", given, "take its base")
        read_repeats(self.config, self.published_rows)  # a report that could not be made is refused before any job
        where = self.scale_layer.source
        for method in self.scale.methods:
            self.config.layer("methods", method, f"{where}: methods")
        self.datasets: dict[str, Dataset] = {}
        self.dataset_sources: dict[str, dict[str, str]] = {}
        self._read_datasets()
        self.without_print = [name for name, spec in self.tables.items() if spec.published is None]
        for name in self.without_print:
            spec, beside = self.tables[name], f"config/published/{name}.yaml"
            at, given = f"config/tables/{name}.yaml: published", f"none beside {beside}"
            require(not (root / beside).exists(), at, repr(name), given, "add it, or rename the table")
            self.tables[name] = dataclasses.replace(spec, published=name)
            provenance = f"Rows of config/tables/{name}.yaml, which nothing is published about."
            self.published[name] = without_print(name, provenance, self._own_subtables(spec))
        self.downloads: dict[str, tuple[DownloadOrigin, ...]] = download_origins(self.config)
        for name, dataset in self.datasets.items():
            if (weights := getattr(dataset.autoencoder, "weights", None)) is not None:
                self.download_record(weights, f"config/datasets/{name}.yaml: autoencoder.weights")
        self.extractors: dict[str, PretrainedExtractor] = {
            name: extractor_settings(self.config, name, f"{where}: protocols.{protocol.id}")
            for protocol in self.scale.protocols
            for name in (protocol.distance, protocol.recall)
            if name != OWN
        }
        self._check_protocols()
        self._check_extractors()
        self._check_counts()

    @property
    def snakemake_options(self) -> str:
        """What a printed `snakemake` command needs to mean this scale and dataset."""
        own = f" dataset={self.main.dataset}" if self.main.dataset else ""
        return f"--config scale={self.scale_name}{own}"

    @property
    def lct_options(self) -> str:
        """The same for a verb of `lct`."""
        own = f" --dataset {self.main.dataset}" if self.main.dataset else ""
        return f"--scale {self.scale_name}{own}"

    def _read_tables(self) -> dict[str, TableSpec]:
        where, names = self.scale_layer.source, (*self.scale.tables, *self.scale.more_tables)
        require_once(names, f"{where}: tables, more_tables", "table", "remove one")
        return {
            name: self.config.read(TableSpec, "tables", name, f"{where}: {key}")
            for key in ("tables", "more_tables")
            for name in getattr(self.scale, key)
        }

    def _read_datasets(self) -> None:
        where = self.scale_layer.source
        letters = sorted({part.id for table in self.published.values() for part in table.subtables})
        printed = all(spec.published is not None for spec in self.tables.values())
        if printed and (unknown := sorted(set(self.scale.subtables) - set(letters))):
            raise ValueError(f"{where}: subtables: expected letters of {letters}, found {unknown[0]!r}; fix it")
        for subtable, name in self.scale.subtables.items():
            self.datasets[name], self.dataset_sources[name] = dataset_settings(
                self.config, name, self.scale_layer, f"{where}: subtables.{subtable}"
            )
            expected = f"training seeds for dataset {name!r}"
            require(name in self.scale.seeds, f"{where}: seeds", expected, "none", f"add `{name}: [0]`")

    def _own_subtables(self, spec: TableSpec) -> tuple[PublishedSubtable, ...]:
        """Sub-tables of a table without a printed one: on each dataset, the rows whose run is trained on it."""
        rows = {
            letter: [
                row_without_print(row, entry.group or OWN_GROUP, entry.model or row)
                for row, entry in spec.rows.items()
                if self.config.dataset_of(entry.run.replace("{dataset}", name)) in (name, None)
            ]
            for letter, name in self.scale.subtables.items()
        }
        return self.subtables_of(rows)

    def subtables_of(self, rows: dict[str, list[PublishedRow]]) -> tuple[PublishedSubtable, ...]:
        """Sub-tables without print, of those letters that have rows."""
        of = {letter: self.datasets[self.scale.subtables[letter]] for letter, listed in rows.items() if listed}
        return tuple(
            PublishedSubtable(id=letter, dataset=data.title, resolution=data.resolution, rows=tuple(rows[letter]))
            for letter, data in of.items()
        )

    def _check_protocols(self) -> None:
        source, batch, least = self.scale_layer.source, self.scale.sampling.batch, self.scale.sampling.count
        for protocol in self.scale.protocols:
            where, count = f"{source}: protocols.{protocol.id}: num_images", protocol.num_images
            expected = f"at most the {least} images of `sampling`"
            require(count <= least, where, expected, count, "sample more or score fewer")
        for dataset, count in (self.scale.counts or {}).items():
            allowed = dataset in self.config.names("datasets") and count % batch == 0 and count >= least
            expected = f"a dataset of config/datasets/ and full batches of {batch}, no fewer than the {least} images of"
            require(allowed, f"{source}: counts", f"{expected} the others", f"{dataset}: {count}")

    def _check_extractors(self) -> None:
        """FID is the name of one network's distance, and an id is the name of one extractor."""
        for name, dataset in self.datasets.items():
            own = dataset.extractor
            where, advice = self.home(name, "extractor.labels"), "remove the line, or let the source give them"
            labelled = getattr(own, "labels", None) != "source" or gives_labels(dataset) or not self.uses_own_extractor
            expected = f"rotations, as the source of dataset {name} gives no labels"
            require(labelled, f"{where}: extractor.labels", expected, "source", f"{advice} (`labels: folders`)")
            alone, where = self.extractors.get(own.id, own) == own, f"config/datasets/{name}.yaml: extractor.id"
            given = f"{own.id!r}, which config/extractors/{own.id}.yaml has"
            require(alone or not self.uses_own_extractor, where, "a name of its own", given, "rename it")
            first = self.extractor(name, self.protocol.distance)
            inception = self.scale.distance != "FID" or getattr(first, "architecture", None) == "inception"
            expected, given = "another name than FID, which is the Inception network's", f"it with extractor {first.id}"
            require(inception, f"{self.scale_layer.source}: distance", expected, given, "call it FD")

    def _check_counts(self) -> None:
        """A ball that reaches the k-th neighbour needs more than k images: those of the reference, and of a floor."""
        for name, dataset in self.datasets.items():
            for protocol in self.scale.protocols:
                expected = f"more than k = {protocol.k} images, the neighbours of protocol {protocol.id}"
                expected = f"{expected} of {self.scale_layer.source}"
                compared = ["heldout"] if self.floor_missing(name, "heldout", protocol) is None else []
                for key in ("train", *compared):
                    count, where = getattr(dataset, key), f"{self.home(name, key)}: {key}"
                    enough, advice = count is None or count > protocol.k, f"raise {key}, or lower k there"
                    require(enough, where, expected, f"{count} for dataset {name}", advice)

    def home(self, dataset: str, key: str) -> str:
        """The file that sets a key of a dataset."""
        source = self.dataset_sources[dataset].get(key, "default")
        return f"config/datasets/{dataset}.yaml" if source == "default" else source

    def download_record(self, name: str, where: str) -> str:
        """The download.json of a network or dataset; ValueError naming `where` when nothing is declared for it."""
        expected, advice = f"a download of {sorted(self.downloads)}", f"fix it or add config/weights/{name}.yaml"
        require(name in self.downloads, where, expected, repr(name), advice)
        return download(name)

    @property
    def protocol(self) -> Protocol:
        """The protocol that tables show."""
        return self.scale.protocols[0]

    def sampling_of(self, dataset: str) -> Sampling:
        """How a dataset's runs are sampled: as all are, but for a number of images of its own."""
        count = (self.scale.counts or {}).get(dataset)
        return self.scale.sampling if count is None else dataclasses.replace(self.scale.sampling, num_images=count)

    def protocols_of(self, dataset: str) -> tuple[Protocol, ...]:
        """How a dataset's images are scored: the first protocol takes them all where it has a number of its own."""
        first, *others = self.scale.protocols
        count = (self.scale.counts or {}).get(dataset)
        return self.scale.protocols if count is None else (dataclasses.replace(first, num_images=count), *others)

    @property
    def uses_own_extractor(self) -> bool:
        """Whether a protocol measures with the extractor that each dataset names."""
        return any(OWN in (protocol.distance, protocol.recall) for protocol in self.scale.protocols)

    def extractor(self, dataset: str, name: str) -> Extractor:
        """The extractor that a protocol names."""
        return self.datasets[dataset].extractor if name == OWN else self.extractors[name]

    def extractors_of(self, dataset: str) -> list[Extractor]:
        """Every extractor that the protocols need for a dataset, each once, in order of first use."""
        names = [name for protocol in self.scale.protocols for name in (protocol.distance, protocol.recall)]
        return list({(e := self.extractor(dataset, name)).id: e for name in names}.values())

    def floor_missing(self, dataset: str, floor: str, protocol: Protocol) -> str | None:
        """Why a floor row is not measured; None where it is."""
        if floor != "heldout":
            return None
        if not self.datasets[dataset].heldout:
            return "no held-out images"
        return "the held-out images are part of the reference" if protocol.reference == "all" else None

    def few_heldout(self, dataset: str) -> bool:
        """Whether images are held out, and fewer than are generated."""
        most = max(protocol.num_images for protocol in self.protocols_of(dataset))
        return 0 < self.datasets[dataset].heldout < most

    def degraded_side(self, dataset: str) -> str:
        """Which real images are damaged on purpose and measured: as many as generated ones, if there are."""
        return "heldout" if self.datasets[dataset].heldout and not self.few_heldout(dataset) else "train"


def _with_seeds(scale: Scale, further: tuple[str | int, ...], least: int) -> Scale:
    """A scale with further training seeds for every dataset, at least so many: the first from 0 on fill up."""

    def extended(given: tuple[int, ...]) -> tuple[int, ...]:
        seeds = tuple(dict.fromkeys((*given, *map(int, further))))
        unused = (seed for seed in itertools.count() if seed not in seeds)
        return seeds + tuple(itertools.islice(unused, max(0, least - len(seeds))))

    seeds = {dataset: extended(given) for dataset, given in scale.seeds.items()}
    reduced = {dataset: extended(given) for dataset, given in scale.short.seeds.items()} if scale.short else {}
    short = scale.short and dataclasses.replace(scale.short, seeds=reduced)
    return dataclasses.replace(scale, seeds=seeds, short=short)


def _scale_of_dataset(scale: Scale, dataset: str) -> Scale:
    """A scale that holds the methods on one dataset, and nothing of the paper's tables."""
    return dataclasses.replace(
        scale,
        banner=(f"This report is about the dataset {dataset} alone; no number of the paper belongs to it.",),
        comparable=False,
        tables=(OWN_TABLE,),
        more_tables=(),
        short=None,
        subtables={"a": dataset},
        seeds={dataset: scale.seeds.get(dataset, (0,))},
    )
