"""The plan of one scale: which datasets, runs, cells and files its tables need. The graph and the report read it."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lct.config.model import Dataset, Main, PublishedTable, Run, TableSpec
from lct.config.paths import FLOORS, Paths, grid
from lct.config.recipes import RECIPES
from lct.config.resolve import (
    Files,
    Layer,
    dataset_settings,
    main_settings,
    published_table,
    run_settings,
    scale_settings,
    table_spec,
)
from lct.config.schema import plain


@dataclass(frozen=True)
class SampleSet:
    """One set of generated images: everything between a training seed and a metrics file."""

    run: str
    seed: int
    weights: str
    sampler: str
    draw: int


@dataclass(frozen=True)
class Cell:
    """(table, sub-table, row): one sampler of one run, measured over its training seeds and draws."""

    table: str
    subtable: str
    row: str
    run: str
    weights: str
    sampler: str
    sets: tuple[SampleSet, ...]

    def id(self, metric: str) -> str:
        return f"{self.table}.{self.subtable}.{self.row}.{metric}"


class Plan:
    """Resolved configuration of one scale. Raises ValueError with one line on anything inconsistent."""

    def __init__(self, root: Path, overrides: dict[str, Any] | None = None):
        self.root = root
        self.files = Files(root)
        self.main: Main = main_settings(self.files, overrides)
        self.scale_name = self.main.scale
        self.scale, self._scale_layer = scale_settings(self.files, self.scale_name)
        self.paths = Paths(self.scale_name)
        where = self._scale_layer.source
        self.tables: dict[str, TableSpec] = {
            name: table_spec(self.files, name, f"{where}: tables") for name in self.scale.tables
        }
        self.published: dict[str, PublishedTable] = {
            spec.published: published_table(self.files, spec.published, f"config/tables/{name}.yaml: published")
            for name, spec in self.tables.items()
        }
        for method in self.scale.methods:
            self.files.raw("methods", method, "method", f"{where}: methods")
        self.datasets: dict[str, Dataset] = {}
        self.dataset_sources: dict[str, dict[str, str]] = {}
        for subtable, name in self.scale.subtables.items():
            dataset, sources = dataset_settings(self.files, name, self._scale_layer, f"{where}: subtables.{subtable}")
            self.datasets[name], self.dataset_sources[name] = dataset, sources
            if name not in self.scale.seeds:
                raise ValueError(
                    f"{where}: seeds: expected training seeds for dataset {name!r}, found none; add `{name}: [0]`"
                )
        self.runs: dict[str, Run] = {}
        self.cells: list[Cell] = [cell for name, spec in self.tables.items() for cell in self._cells(name, spec)]
        self._refuse_twins()

    @property
    def scale_layer(self) -> Layer:
        return self._scale_layer

    def _cells(self, table: str, spec: TableSpec) -> list[Cell]:
        published = self.published[spec.published]
        cells = []
        for subtable, dataset in self.scale.subtables.items():
            rows = published.rows_of(subtable)
            for row, entry in spec.rows.items():
                where = f"config/tables/{table}.yaml: rows.{row}"
                if row not in rows:
                    continue
                run = self._run(entry.run.replace("{dataset}", dataset), where)
                if self.scale_name not in entry.sampler:
                    raise ValueError(
                        f"{where}: sampler: expected one for scale {self.scale_name!r}, found {entry.sampler}; add it"
                    )
                sampler = entry.sampler[self.scale_name]
                if sampler not in run.samplers:
                    raise ValueError(
                        f"{where}: sampler: expected one of {sorted(run.samplers)} (run {run.id}), found {sampler!r}"
                    )
                weights = self.weights_names(run)[0]
                sets = tuple(
                    SampleSet(run.id, seed, weights, sampler, draw)
                    for seed in self.scale.seeds[dataset]
                    for draw in self.scale.sampling.draws
                )
                cells.append(Cell(table, subtable, row, run.id, weights, sampler, sets))
        return cells

    def _run(self, name: str, where: str) -> Run:
        if name not in self.runs:
            known = sorted(self.files.run_entries())
            if name not in known:
                raise ValueError(
                    f"{where}: expected a run of config/runs/, found {name!r}; known: {known}; fix it or add the run"
                )
            run = run_settings(self.files, name, self._scale_layer)
            if run.dataset not in self.datasets:
                raise ValueError(
                    f"{where}: run {name} is trained on {run.dataset!r}, expected one of {sorted(self.datasets)}"
                )
            self.runs[name] = run
        return self.runs[name]

    def _refuse_twins(self) -> None:
        seen: dict[str, str] = {}
        for run in self.runs.values():
            key = repr((run.dataset, plain(run.training)))
            if key in seen:
                raise ValueError(
                    f"config/runs: expected different settings, found {seen[key]!r} and {run.id!r} equal at scale "
                    f"{self.scale_name!r}; let both table rows name one run"
                )
            seen[key] = run.id

    # --- what a run keeps and is asked for ---------------------------------------------------------------------
    def weights_names(self, run: Run) -> list[str]:
        """(step, EMA) pairs a run keeps; the first is the one evaluated."""
        training, count = run.training, self.datasets[run.dataset].train
        if count is None and training.steps is None:
            raise ValueError(
                f"run {run.id}: epochs need the number of training images; set `train` in the dataset or `steps`"
            )
        last = training.total_steps(count) if count is not None else training.steps
        steps = [last, *sorted(set(training.keep_steps) - {last})]
        if any(not 0 < step <= last for step in steps):
            raise ValueError(
                f"run {run.id}: keep_steps: expected steps from 1 to {last}, found {list(training.keep_steps)}"
            )
        return [f"step{step}-ema{rate}" for step in steps for rate in training.emas]

    def samplers_of(self, run: str) -> list[tuple[str, str]]:
        """(weights, sampler) pairs that the cells ask of a run, sorted: one sampling job makes them all."""
        return sorted({(cell.weights, cell.sampler) for cell in self.cells if cell.run == run})

    def sample_sets(self, run: str) -> list[tuple[str, str, int]]:
        """(weights, sampler, draw) of every image set of a run, for each of its seeds."""
        return [(w, s, d) for w, s in self.samplers_of(run) for d in self.scale.sampling.draws]

    def seeds_of(self, run: str) -> tuple[int, ...]:
        return self.scale.seeds[self.runs[run].dataset]

    def weights_asked(self, run: str) -> list[str]:
        return sorted({weights for weights, _ in self.samplers_of(run)})

    def latents_of(self, dataset: str, name: str) -> str:
        """A file of the encoding of a dataset."""
        return f"{self.paths.latents(dataset, self.datasets[dataset].encoding.sample)}/{name}"

    def extractor_of(self, dataset: str) -> str:
        return self.paths.extractor(dataset, self.datasets[dataset].extractor.id)

    def reference_of(self, dataset: str) -> str:
        return self.paths.reference_features(dataset, self.datasets[dataset].extractor.id)

    def samples_of(self, run: str, seed: int | str) -> list[str]:
        """Image sets of a run and seed, in one order everywhere."""
        return [self.paths.samples(run, seed, *one) for one in self.sample_sets(run)]

    def features_of(self, run: str, seed: int | str) -> list[str]:
        extractor = self.datasets[self.runs[run].dataset].extractor.id
        return [self.paths.features(run, seed, *one, extractor) for one in self.sample_sets(run)]

    def metrics_of(self, run: str, seed: int | str) -> list[str]:
        return [self.paths.metrics(run, seed, *one, self.protocol) for one in self.sample_sets(run)]

    def all_metrics(self) -> list[str]:
        """Metrics files of every cell and every floor row."""
        cells = {
            self.paths.metrics(s.run, s.seed, s.weights, s.sampler, s.draw, self.protocol)
            for cell in self.cells
            for s in cell.sets
        }
        floors = {
            self.paths.floor_metrics(dataset, floor, self.protocol) for dataset in self.datasets for floor in FLOORS
        }
        return sorted(cells | floors)

    def shown(self) -> list[str]:
        """What the report shows beside the metrics: previews, reconstructions, curves, summaries."""
        files = {
            grid(images) for run in self.runs for seed in self.seeds_of(run) for images in self.samples_of(run, seed)
        }
        files |= {f"{self.paths.train(run, seed)}/curves.json" for run in self.runs for seed in self.seeds_of(run)}
        for dataset in self.datasets:
            files |= {self.latents_of(dataset, name) for name in ("reconstructions.grid.png", "summary.json")}
            files.add(self.extractor_of(dataset).replace(".safetensors", ".summary.json"))
        return sorted(files)

    @cached_property
    def protocol(self) -> str:
        """Id of the metric protocol: the name of the metrics files."""
        return self.scale.protocol.id

    # --- settings that each stage's job is given: a changed value reruns the stage and what follows from it ---------
    def images_settings(self, dataset: str) -> dict[str, Any]:
        wanted = plain(self.datasets[dataset])
        keys = ("source", "resolution", "train", "heldout", "split_seed", "flips")
        return {"recipe": RECIPES["images"], "dataset": {key: wanted[key] for key in keys}}

    def autoencoder_settings(self, dataset: str) -> dict[str, Any]:
        return {"recipe": RECIPES["autoencoder"], "autoencoder": plain(self.datasets[dataset].autoencoder)}

    def encoding_settings(self, dataset: str) -> dict[str, Any]:
        return {"recipe": RECIPES["encode"], "encoding": plain(self.datasets[dataset].encoding)}

    def extractor_settings(self, dataset: str) -> dict[str, Any]:
        return {"recipe": RECIPES["extractor"], "extractor": plain(self.datasets[dataset].extractor)}

    def training_settings(self, run: str) -> dict[str, Any]:
        return {"recipe": RECIPES["train"], "training": plain(self.runs[run].training)}

    def sampling_settings(self, run: str) -> dict[str, Any]:
        wanted = self.samplers_of(run)
        training = self.runs[run].training
        return {
            "recipe": RECIPES["sample"],
            "sampling": plain(self.scale.sampling),
            "samplers": {name: plain(self.runs[run].samplers[name]) for name in sorted({s for _, s in wanted})},
            "wanted": [list(pair) for pair in wanted],
            "network": plain(training.network),
            "scaling": plain(training.scaling),
            "grid": plain(training.grid),
            "encoding": plain(self.datasets[self.runs[run].dataset].encoding),
        }

    def scoring_settings(self, dataset: str) -> dict[str, Any]:
        return {
            "recipe": RECIPES["score"],
            "protocol": plain(self.scale.protocol),
            "extractor": plain(self.datasets[dataset].extractor),
        }

    def tables_settings(self) -> dict[str, Any]:
        """Everything the tables show that is not in a metrics file."""
        return {
            "scale": plain(dataclasses.replace(self.scale, dataset={}, training={}, methods={})),
            "tables": {name: plain(spec) for name, spec in self.tables.items()},
            "published": {name: plain(table) for name, table in self.published.items()},
            "datasets": {name: {"title": d.title, "stands_for": d.stands_for} for name, d in self.datasets.items()},
            "runs": {
                name: {"training": plain(run.training), "sources": run.sources} for name, run in self.runs.items()
            },
        }
