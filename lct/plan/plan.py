"""The plan of one scale: which datasets, runs, cells and files its tables need. The graph and the report read it."""

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from lct.config.figures import MEASURED, Figure
from lct.config.model import Dataset, Main, PublishedTable, Run, Scale, TableSpec
from lct.config.published import RowChange, TableRow
from lct.config.resolve import (
    Files,
    dataset_settings,
    extractor_settings,
    figure_settings,
    main_settings,
    published_table,
    run_settings,
    scale_settings,
    table_spec,
    weights_settings,
)
from lct.config.schema import build, plain, settings_type
from lct.losses.settings import ROBUST
from lct.metrics.settings import OWN, Extractor, PretrainedExtractor, Protocol, TrainedExtractor, feature_specs
from lct.networks.layout import macs_and_activations, parameters
from lct.plan.paths import AUTOENCODER_FILES, DRAWN, FLOORS, Paths, download, grid, page_name
from lct.plan.recipes import RECIPES

OWN_TABLE = "own"  # the table of a dataset of the user's own; no scale lists it


def _of_one_dataset(scale: Scale, dataset: str) -> Scale:
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


def _numbered(name: str) -> list[tuple[str, int]]:
    """A key that sorts figure10 behind figure2."""
    return [(word, int(digits or 0)) for word, digits in re.findall(r"([^0-9]*)([0-9]*)", name)]


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
        if self.main.dataset is not None:
            self.scale = _of_one_dataset(self.scale, self.main.dataset)
        self.paths = Paths(self.scale_name, self.main.dataset)
        where = self._scale_layer.source
        listed = (*self.scale.tables, *self.scale.more_tables)
        if twice := sorted({name for name in listed if listed.count(name) > 1}):
            raise ValueError(
                f"{where}: tables, more_tables: expected every table once, found {twice} twice; remove one"
            )
        self.tables: dict[str, TableSpec] = {
            name: table_spec(self.files, name, f"{where}: {'tables' if i < len(self.scale.tables) else 'more_tables'}")
            for i, name in enumerate(listed)
        }
        self.published: dict[str, PublishedTable] = {
            spec.published: published_table(self.files, spec.published, f"config/tables/{name}.yaml: published")
            for name, spec in self.tables.items()
        }
        for method in self.scale.methods:
            self.files.raw("methods", method, "method", f"{where}: methods")
        letters = sorted({part.id for table in self.published.values() for part in table.subtables})
        if unknown := sorted(set(self.scale.subtables) - set(letters)):
            raise ValueError(f"{where}: subtables: expected letters of {letters}, found {unknown[0]!r}; fix it")
        self.datasets: dict[str, Dataset] = {}
        self.dataset_sources: dict[str, dict[str, str]] = {}
        for subtable, name in self.scale.subtables.items():
            dataset, sources = dataset_settings(self.files, name, self._scale_layer, f"{where}: subtables.{subtable}")
            self.datasets[name], self.dataset_sources[name] = dataset, sources
            if name not in self.scale.seeds:
                raise ValueError(
                    f"{where}: seeds: expected training seeds for dataset {name!r}, found none; add `{name}: [0]`"
                )
        self._downloads = self._read_downloads()
        for name in self.datasets:
            self.weights_of(name)
        for protocol in self.scale.protocols:
            if protocol.num_images > self.scale.sampling.count:
                raise ValueError(
                    f"{where}: protocols.{protocol.id}: num_images: expected at most the {self.scale.sampling.count} "
                    f"images of `sampling`, found {protocol.num_images}; sample more or score fewer"
                )
        self.extractors: dict[str, PretrainedExtractor] = {
            name: extractor_settings(self.files, name, f"{where}: protocols.{protocol.id}")
            for protocol in self.scale.protocols
            for name in (protocol.distance, protocol.recall)
            if name != OWN
        }
        self._check_extractors(where)
        self.runs: dict[str, Run] = {}
        self._weights_names: dict[str, list[str]] = {}
        self.cells: list[Cell] = [cell for name, spec in self.tables.items() for cell in self._cells(name, spec)]
        self._refuse_twins()
        made = {
            name: figure_settings(self.files, name, self.scale_name, self._scale_layer)
            for name in sorted(self.files.names("figures"), key=_numbered)
        }
        self.figures = {  # (figure, its training)
            name: found for name, found in made.items() if found is not None and self._has_rows_of(found[0])
        }

    def _has_rows_of(self, figure: Figure) -> bool:
        """Whether a figure that is drawn from tables finds its rows in this plan; the paper's are no one else's."""
        if figure.kind == "schedules":
            return self.main.dataset is None
        places = [row.split(".") for row in figure.rows]
        return all(place[0] in self.tables and place[1] in self.scale.subtables for place in places)

    def _check_extractors(self, where: str) -> None:
        """FID is the name of one network's distance, and an id is the name of one extractor."""
        for name, dataset in self.datasets.items():
            own = dataset.extractor
            if own.id in self.extractors and own != self.extractors[own.id] and self.uses_own_extractor(name):
                raise ValueError(
                    f"config/datasets/{name}.yaml: extractor.id: expected a name of its own, found {own.id!r}, which "
                    f"config/extractors/{own.id}.yaml has; rename it"
                )
            first = self.extractor(name, self.scale.protocols[0].distance)
            if self.scale.distance == "FID" and getattr(first, "architecture", None) != "inception":
                raise ValueError(
                    f"{where}: distance: expected another name than FID, which is the Inception network's, found it "
                    f"with extractor {first.id}; call it FD"
                )

    def _cells(self, table: str, spec: TableSpec) -> list[Cell]:
        published = self.published[spec.published]
        printed = {row for subtable in published.subtables for row in published.rows_of(subtable.id)}
        if unknown := sorted(spec.rows.keys() - printed):
            raise ValueError(
                f"config/tables/{table}.yaml: rows: expected rows of config/published/{spec.published}.yaml, found "
                f"{unknown}; known: {sorted(printed)}; fix the names"
            )
        cells = []
        for subtable, dataset in self.scale.subtables.items():
            rows = published.rows_of(subtable)
            for row, entry in spec.rows.items():
                where = f"config/tables/{table}.yaml: rows.{row}"
                if row in rows:
                    cell = self._cell(table, subtable, dataset, row, entry, where)
                    cells += [] if cell is None else [cell]
        return cells

    def _cell(self, table: str, subtable: str, dataset: str, row: str, entry: TableRow, where: str) -> Cell | None:
        """The cell of one row; None where the row has no counterpart at this scale."""
        change = entry.datasets.get(dataset, RowChange())
        samplers = entry.sampler | change.sampler
        if self.scale_name not in samplers:
            raise ValueError(
                f"{where}: sampler: expected one for scale {self.scale_name!r}, found {samplers}; add it (null: none)"
            )
        sampler = samplers[self.scale_name]
        if sampler is None:
            return None
        run = self._run((change.run or entry.run).replace("{dataset}", dataset), table, where)
        if sampler not in run.samplers:
            raise ValueError(
                f"{where}: sampler: expected one of {sorted(run.samplers)} (run {run.id}), found {sampler!r}"
            )
        self._check_sampler(run, sampler, table, subtable, row, where)
        weights = self._weights(run, entry, where)
        sets = tuple(
            SampleSet(run.id, seed, weights, sampler, draw)
            for seed in self.seeds_of(run.id)
            for draw in self.scale.sampling.draws
        )
        return Cell(table, subtable, row, run.id, weights, sampler, sets)

    def _check_sampler(self, run: Run, name: str, table: str, subtable: str, row: str, where: str) -> None:
        sampler, grid = run.samplers[name], run.training.grid
        sigmas = getattr(sampler, "middle_sigmas", ())
        if any(not grid.sigma_min < sigma < grid.sigma_max for sigma in sigmas):
            raise ValueError(
                f"{where}: sampler {name}: expected middle_sigmas inside ({grid.sigma_min}, {grid.sigma_max}), the "
                f"grid of run {run.id}, found {list(sigmas)}; fix them"
            )
        printed = self.published[self.tables[table].published].rows_of(subtable)[row].nfe
        if self.scale.comparable and sampler.nfe != printed:
            raise ValueError(
                f"{where}: sampler: expected one of {printed} NFE, the row's, found {name} with {sampler.nfe}"
            )

    def _weights(self, run: Run, entry: TableRow, where: str) -> str:
        """The (step, EMA) pair that a row evaluates."""
        names = self.weights_names(run)
        if run.weights is not None:
            return names[0]
        training, rate = run.training, entry.ema.get(self.scale_name)
        if rate is not None and rate not in training.emas:
            raise ValueError(
                f"{where}: ema: expected one that run {run.id} keeps, {list(training.emas)}, found {rate}; fix it"
            )
        epoch = entry.epoch.get(self.scale_name)
        if epoch is None:
            return names[0] if rate is None else names[0].rpartition("-ema")[0] + f"-ema{rate}"
        if epoch not in training.keep_epochs:
            raise ValueError(
                f"{where}: epoch: expected one that run {run.id} keeps, {list(training.keep_epochs)}, found {epoch};"
                " add it to keep_epochs"
            )
        step = training.step_of(epoch, self.datasets[run.dataset].count)
        name = f"step{step}-ema{rate or training.emas[0]}"
        if name not in names:
            raise ValueError(
                f"{where}: ema: expected {training.emas[0]}, the one kept before the last step, found {rate}"
            )
        return name

    def _run(self, name: str, table: str, where: str) -> Run:
        entries, short = self.files.run_entries(), self.scale.short
        if name not in entries:
            raise ValueError(
                f"{where}: expected a run of config/runs/, found {name!r}; known: {sorted(entries)}; fix it or add it"
            )
        if short is not None and table in self.scale.more_tables and entries[name].entry.weights is None:
            name = f"{name}-{short.suffix}"
            if name in entries:
                raise ValueError(f"{entries[name].source}: run {name!r} is the name of a shortened run; rename it")
        if name not in self.runs:
            run = run_settings(self.files, name, self._scale_layer)
            if run.dataset not in self.datasets:
                raise ValueError(
                    f"{where}: run {name} is trained on {run.dataset!r}, expected one of {sorted(self.datasets)}"
                )
            if run.short and run.dataset not in short.seeds:
                raise ValueError(
                    f"{self._scale_layer.source}: short.seeds: expected training seeds for {run.dataset!r}, found "
                    f"none; add `{run.dataset}: [0]`"
                )
            self.runs[name] = run
        return self.runs[name]

    def _refuse_twins(self) -> None:
        seen: dict[str, str] = {}
        for run in self.runs.values():
            key = repr((run.dataset, plain(run.training), run.weights))
            if key in seen:
                raise ValueError(
                    f"config/runs: expected different settings, found {seen[key]!r} and {run.id!r} equal at scale "
                    f"{self.scale_name!r}; let both table rows name one run"
                )
            seen[key] = run.id

    # --- downloads, the same at every scale -----------------------------------------------------------------------
    def _read_downloads(self) -> dict[str, dict[str, Any]]:
        found = {
            name: weights_settings(self.files, name, "config/weights").origins for name in self.files.names("weights")
        }
        for name in self.files.names("datasets"):
            layer = self.files.raw("datasets", name, "dataset", "config/datasets")
            values = layer.values.get("source")
            if not isinstance(values, dict) or values.get("kind") != "download":
                continue
            if name in found:
                raise ValueError(f"{layer.source}: config/weights/{name}.yaml has the same name; rename one of them")
            cls = settings_type(get_type_hints(Dataset)["source"], "download")
            source = build(cls, values, f"{layer.source}: source")
            found[name] = tuple(alternative.origin for alternative in source.alternatives)
        return {
            name: {"recipe": RECIPES["download"], "id": name, "origins": plain(origins)}
            for name, origins in found.items()
        }

    def downloads(self) -> dict[str, dict[str, Any]]:
        """Settings of every download by id: the networks of config/weights/, and the datasets that have a source so."""
        return self._downloads

    def download_path(self, name: str, asked_by: str = "config") -> str:
        """The download.json of a network or dataset; ValueError naming `asked_by` when nothing is declared for it."""
        if name not in self._downloads:
            raise ValueError(
                f"{asked_by}: expected a download of {sorted(self._downloads)}, found {name!r}; fix it or add "
                f"config/weights/{name}.yaml"
            )
        return download(name)

    def download_of(self, dataset: str) -> str | None:
        """The download that a dataset's images are read from; None for local and built-in images."""
        return download(dataset) if self.datasets[dataset].source.kind == "download" else None

    def weights_of(self, dataset: str) -> str | None:
        """The download that a dataset's autoencoder is taken from; None for one that is trained or local."""
        weights = getattr(self.datasets[dataset].autoencoder, "weights", None)
        where = f"config/datasets/{dataset}.yaml: autoencoder.weights"
        return None if weights is None else self.download_path(weights, where)

    # --- what a run keeps and is asked for ---------------------------------------------------------------------
    def weights_names(self, run: Run) -> list[str]:
        """(step, EMA) pairs a run keeps; the first is the one evaluated. Existing weights go by their hash."""
        if run.id not in self._weights_names:
            try:
                self._weights_names[run.id] = self._names(run)
            except ValueError as error:
                raise ValueError(f"run {run.id}: {error}") from error
        return self._weights_names[run.id]

    def _names(self, run: Run) -> list[str]:
        if run.weights is not None:
            return [run.weights.name]
        training, count = run.training, self.datasets[run.dataset].count
        if count is None and training.steps is None:
            raise ValueError("epochs need the number of training images; set `train` in the dataset or `steps`")
        count = max(training.batch, count or 0) if training.steps is not None else count
        training.curriculum.stage_steps(training.schedule_steps(count))  # refuses fewer steps than stages
        last, *earlier = training.kept_steps(count)
        kept = [f"step{last}-ema{rate}" for rate in training.emas]
        return kept + [f"step{step}-ema{training.emas[0]}" for step in earlier]

    def steps_of(self, run: str) -> int:
        """Steps of a run that is trained."""
        return int(self.weights_names(self.runs[run])[0].partition("-")[0].removeprefix("step"))

    def samplers_of(self, run: str) -> list[tuple[str, str]]:
        """(weights, sampler) pairs that the cells ask of a run, sorted: one sampling job makes them all."""
        return sorted({(cell.weights, cell.sampler) for cell in self.cells if cell.run == run})

    def sample_sets(self, run: str) -> list[tuple[str, str, int]]:
        """(weights, sampler, draw) of every image set of a run, for each of its seeds."""
        return [(w, s, d) for w, s in self.samplers_of(run) for d in self.scale.sampling.draws]

    def seeds_of(self, run: str) -> tuple[int, ...]:
        found = self.runs[run]
        if found.weights is not None:
            return (0,)  # whatever seed they were trained with, there is one set of weights
        return (self.scale.short.seeds if found.short else self.scale.seeds)[found.dataset]

    def weights_asked(self, run: str) -> list[str]:
        return sorted({weights for weights, _ in self.samplers_of(run)})

    def latents_of(self, dataset: str, name: str) -> str:
        """A file of the encoding of a dataset."""
        return f"{self.paths.latents(dataset, self.datasets[dataset].encoding.id)}/{name}"

    def autoencoder_sources(self, dataset: str) -> list[str]:
        """Files that a pretrained autoencoder is taken from: the record of its download, or a local folder's files."""
        found = self.datasets[dataset].autoencoder
        if found.kind != "pretrained":
            return []
        if (record := self.weights_of(dataset)) is not None:
            return [record]
        return [f"{found.folder}/{name}" for name in AUTOENCODER_FILES]

    def figures_of(self, *kinds: str) -> list[str]:
        return [name for name, (figure, _) in self.figures.items() if figure.kind in kinds]

    def figure_files(self) -> list[str]:
        """Numbers of every measured figure; its pictures stand beside them."""
        return [
            self.paths.figure(name, dataset, "json") for name in self.figures_of(*MEASURED) for dataset in self.datasets
        ]

    def neighbours_of(self, run: str, seed: int | str, kind: str) -> list[str]:
        """Nearest training images of the image sets of a run and seed, for the first draw of each sampler."""
        return [self.paths.neighbours(run, seed, *one, kind) for one in self._first_sets(run)]

    def first_samples_of(self, run: str, seed: int | str) -> list[str]:
        """Those image sets, in the same order."""
        return [self.paths.samples(run, seed, *one) for one in self._first_sets(run)]

    def _first_sets(self, run: str) -> list[tuple[str, str, int]]:
        return [one for one in self.sample_sets(run) if one[2] == min(self.scale.sampling.draws)]

    def c_stages(self, run: str) -> list[dict[str, float]]:
        """First step, intervals and c of each stage of a run's curriculum; empty for losses that read no c."""
        training, count = self.runs[run].training, self.datasets[self.runs[run].dataset].count
        if training.objective.loss not in ROBUST or training.curriculum.kind == "progressive":
            return []
        if count is None and training.steps is None:
            return []
        total, curriculum = training.schedule_steps(count or 0), training.curriculum
        dimension = math.prod(self.latent_shape(self.runs[run].dataset))
        found = []
        for stage in range(curriculum.stages):
            step = stage * curriculum.stage_steps(total)
            intervals = curriculum.intervals(step, total)
            c = training.objective.scale.c(intervals, curriculum.s0, dimension, training.grid)
            found.append({"step": step, "intervals": intervals, "c": c})
        return found

    # --- how image sets are measured ---------------------------------------------------------------------------
    def extractor(self, dataset: str, name: str) -> Extractor:
        """The extractor that a protocol names."""
        return self.datasets[dataset].extractor if name == OWN else self.extractors[name]

    def extractors_of(self, dataset: str) -> list[Extractor]:
        """Every extractor that the protocols need for a dataset, each once, in order of first use."""
        names = [name for protocol in self.scale.protocols for name in (protocol.distance, protocol.recall)]
        return list({(e := self.extractor(dataset, name)).id: e for name in names}.values())

    def extractor_files(self, dataset: str) -> list[str]:
        """Their weights in the same order: made in the graph, or the record of a download."""
        return [
            self.paths.extractor(dataset, e.id) if isinstance(e, TrainedExtractor) else download(e.weights)
            for e in self.extractors_of(dataset)
        ]

    def uses_own_extractor(self, dataset: str) -> bool:
        return any(OWN in (protocol.distance, protocol.recall) for protocol in self.scale.protocols)

    def extractor_of(self, dataset: str) -> str | None:
        """The dataset's own extractor, where the graph trains it and a protocol uses it."""
        own = self.datasets[dataset].extractor
        trained = isinstance(own, TrainedExtractor) and self.uses_own_extractor(dataset)
        return self.paths.extractor(dataset, own.id) if trained else None

    def references_of(self, dataset: str) -> list[str]:
        return [self.paths.reference(dataset, protocol.id) for protocol in self.scale.protocols]

    def floor_missing(self, dataset: str, floor: str, protocol: Protocol) -> str | None:
        """Why a floor row is not measured; None where it is."""
        if floor != "heldout":
            return None
        if not self.datasets[dataset].heldout:
            return "no held-out images"
        return "the held-out images are part of the reference" if protocol.reference == "all" else None

    def floors_of(self, dataset: str) -> list[str]:
        """Metrics files of the floor rows that are measured."""
        return [
            self.paths.floor_metrics(dataset, floor, protocol.id)
            for floor in FLOORS
            for protocol in self.scale.protocols
            if self.floor_missing(dataset, floor, protocol) is None
        ]

    def heldout_of(self, dataset: str, path: str) -> list[str]:
        """A file of held-out images, where there are any."""
        return [path] if self.datasets[dataset].heldout else []

    def samples_of(self, run: str, seed: int | str) -> list[str]:
        """Image sets of a run and seed, in one order everywhere."""
        return [self.paths.samples(run, seed, *one) for one in self.sample_sets(run)]

    def features_of(self, run: str, seed: int | str) -> list[str]:
        """Feature files of each image set, per view; none where the scale keeps none."""
        if not self.scale.keep_features:
            return []
        seen = feature_specs(self.scale.protocols, self.datasets[self.runs[run].dataset].extractor.id)
        return [self.paths.features(run, seed, *one, view.name) for one in self.sample_sets(run) for view in seen]

    def metrics_of(self, run: str, seed: int | str) -> list[str]:
        """Metrics files of each image set, per protocol."""
        return [
            self.paths.metrics(run, seed, *one, protocol.id)
            for one in self.sample_sets(run)
            for protocol in self.scale.protocols
        ]

    # --- what a report shows: `which` is "tables", those the scale lists, or "all", its further ones too ---------
    def tables_of(self, which: str) -> list[str]:
        return list(self.tables if which == "all" else self.scale.tables)

    def cells_of(self, which: str) -> list[Cell]:
        names = self.tables_of(which)
        return [cell for cell in self.cells if cell.table in names]

    def runs_of(self, which: str) -> list[str]:
        return sorted({cell.run for cell in self.cells_of(which)})

    def pages(self, which: str) -> list[str]:
        """Pages behind the rows that the report shows, floors included, beside its index."""
        first = self.scale.protocols[0]
        floors = [
            page_name(name, part.id, f"floor-{floor}")
            for name in self.tables_of(which)
            for part in self.published[self.tables[name].published].subtables
            if (dataset := self.scale.subtables.get(part.id)) is not None
            for floor in FLOORS
            if self.floor_missing(dataset, floor, first) is None
        ]
        return [page_name(cell.table, cell.subtable, cell.row) for cell in self.cells_of(which)] + floors

    def pictures(self) -> list[str]:
        """Figures that the report draws by itself, beside its index."""
        return [f"figures/{name}.{kind}" for name in self.figures_of("schedules", "samples") for kind in DRAWN]

    def left_out(self, which: str) -> list[dict[str, str]]:
        """Tables of config/tables/ that a report does not hold, and the command that makes them."""
        shown, found = self.tables_of(which), []
        for name in self.files.names("tables") if self.main.dataset is None else []:
            if name in shown or name == OWN_TABLE:
                continue
            spec = self.tables.get(name) or table_spec(self.files, name, "config/tables")
            scale = self.scale_name if name in self.tables else self._scale_with(name)
            why = "made on request" if name in self.tables else f"not part of the {self.scale_name} scale"
            command = f"snakemake all_tables --config scale={scale}" if scale else "listed by no scale"
            found.append({"id": name, "title": spec.title, "why": why, "command": command})
        return found

    def _scale_with(self, table: str) -> str | None:
        """The first scale, by name, that lists a table."""
        for name in self.files.names("scales"):
            values = self.files.raw("scales", name, "scale", "config/scales").values
            if table in (*values.get("tables", ()), *values.get("more_tables", ())):
                return name
        return None

    def listing(self, which: str = "tables") -> list[str]:
        """What a dry run says: every table with its rows, every run with its length, samplers and tables."""
        cells, lines = self.cells_of(which), []
        for name in self.tables_of(which):
            rows = sum(cell.table == name for cell in cells)
            lines.append(f"{self.tables[name].title}: {rows} rows of {name} are computed at {self.scale_name} scale")
        width = max(map(len, self.runs_of(which)), default=0)
        for name in self.runs_of(which):
            run, mine = self.runs[name], [cell for cell in cells if cell.run == name]
            work = "existing weights" if run.weights else f"{self.steps_of(name)} steps of {run.training.batch}"
            seeds, sets = len(self.seeds_of(name)), len({(cell.weights, cell.sampler) for cell in mine})
            tables = ", ".join(dict.fromkeys(cell.table for cell in mine))
            lines.append(f"  {name:<{width}}  {seeds} x {work}, {seeds * sets} image sets, for {tables}")
        return lines + [
            f"Left out: {left['title']} ({left['why']}: {left['command']})" for left in self.left_out(which)
        ]

    def all_metrics(self, which: str = "all") -> list[str]:
        """Metrics files of every cell and every floor row."""
        cells = {
            self.paths.metrics(s.run, s.seed, s.weights, s.sampler, s.draw, protocol.id)
            for cell in self.cells_of(which)
            for s in cell.sets
            for protocol in self.scale.protocols
        }
        return sorted(cells | {floor for dataset in self.datasets for floor in self.floors_of(dataset)})

    def shown(self, which: str = "all") -> list[str]:
        """What the report shows beside the metrics: previews, reconstructions, curves, summaries."""
        sets = [s for cell in self.cells_of(which) for s in cell.sets]
        files = {grid(self.paths.samples(s.run, s.seed, s.weights, s.sampler, s.draw)) for s in sets}
        files |= {path for run, seed in {(s.run, s.seed) for s in sets} for path in self._neighbours(run, seed)}
        trained = {(s.run, s.seed) for s in sets if self.runs[s.run].weights is None}
        files |= {f"{self.paths.train(run, seed)}/curves.json" for run, seed in trained}
        for dataset in self.datasets:
            files |= {self.latents_of(dataset, name) for name in ("reconstructions.grid.png", "summary.json")}
            if (extractor := self.extractor_of(dataset)) is not None:
                files.add(extractor.replace(".safetensors", ".summary.json"))
        return sorted(files) + self.figure_files()

    def _neighbours(self, run: str, seed: int) -> list[str]:
        return [path for kind in ("json", "png") for path in self.neighbours_of(run, seed, kind)]

    def latent_shape(self, dataset: str) -> list[int]:
        """(C, H, W) of a dataset's latents."""
        found = self.datasets[dataset]
        side = found.resolution // found.autoencoder.downsampling
        return [found.autoencoder.latent_channels, side, side]

    def parameters_of(self, run: str) -> tuple[int, int]:
        """(all, trainable) parameters of a run's network."""
        channels, side, _ = self.latent_shape(self.runs[run].dataset)
        return parameters(self.runs[run].training.network, channels, side)

    def macs_and_activations_of(self, run: str) -> tuple[int, int]:
        """(MACs, activations kept) of one forward pass of a run's network over one sample."""
        channels, side, _ = self.latent_shape(self.runs[run].dataset)
        return macs_and_activations(self.runs[run].training.network, channels, side)

    def macs_of_figure(self, name: str) -> int:
        """MACs of one forward pass of a figure's networks over one sample of the largest latents."""
        _, training = self.figures[name]
        shapes = [self.latent_shape(dataset) for dataset in self.datasets]
        return max(macs_and_activations(training.network, channels, side)[0] for channels, side, _ in shapes)

    @property
    def protocol(self) -> str:
        """Id of the protocol that tables show: the name of its metrics files."""
        return self.scale.protocols[0].id

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

    def given_settings(self, run: str) -> dict[str, Any]:
        found = self.runs[run]
        return {
            "recipe": RECIPES["train"],
            "weights": plain(found.weights),
            "network": plain(found.training.network),
            "latent_shape": self.latent_shape(found.dataset),
        }

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
            "encoding": {"batch": self.datasets[self.runs[run].dataset].encoding.batch},
        }

    def scoring_settings(self, dataset: str) -> dict[str, Any]:
        return {
            "recipe": RECIPES["score"],
            "protocols": plain(self.scale.protocols),
            "extractors": [plain(extractor) for extractor in self.extractors_of(dataset)],
            "own_extractor": self.datasets[dataset].extractor.id,
            "flips": self.datasets[dataset].flips,
        }

    def figure_settings(self, name: str) -> dict[str, Any]:
        figure, training = self.figures[name]
        cost = figure.scales[self.scale_name]
        if figure.kind == "losses":
            return {"recipe": RECIPES["figure"], "kind": figure.kind}
        if figure.kind == "couplings":
            shared = {"recipe": RECIPES["figure"], "kind": figure.kind, "seed": figure.seed}
            return shared | {"groups": list(figure.groups), "images": cost.images, "pairs": cost.pairs}
        return {
            "recipe": RECIPES["figure"],
            "figure": {key: getattr(cost, key) for key in ("images", "values", "pairs")},
            "seed": figure.seed,
            "training": plain(training),
        }

    def neighbours_settings(self, dataset: str) -> dict[str, Any]:
        """The first protocol's view of images, and how many generated ones are shown with how many training images."""
        first = self.scale.protocols[0]
        shared = {"recipe": RECIPES["neighbours"], "shown": 8, "nearest": 3, "protocols": [plain(first)]}
        shared["extractors"] = [plain(self.extractor(dataset, first.recall))]
        return shared | {"own_extractor": self.datasets[dataset].extractor.id}

    def recall_extractor(self, dataset: str) -> str:
        """Weights of the network that the first protocol's precision and recall look through."""
        wanted = self.extractor(dataset, self.scale.protocols[0].recall)
        return dict(zip([e.id for e in self.extractors_of(dataset)], self.extractor_files(dataset), strict=True))[
            wanted.id
        ]

    def tables_settings(self, which: str = "all") -> dict[str, Any]:
        """Everything the tables show that is not in a metrics file."""
        scale = plain(dataclasses.replace(self.scale, dataset={}, training={}, methods={}))
        if which != "all":
            del scale["more_tables"], scale["short"]
        return {
            "scale": scale,
            "tables": {name: plain(self.tables[name]) for name in self.tables_of(which)},
            "published": {
                name: plain(self.published[name])
                for name in sorted({self.tables[t].published for t in self.tables_of(which)})
            },
            "datasets": {
                name: {"title": d.title, "stands_for": d.stands_for, "note": d.note}
                for name, d in self.datasets.items()
            },
            "runs": {
                name: {"training": plain(run.training), "sources": run.sources, "note": run.note}
                for name, run in self.runs.items()
                if name in self.runs_of(which)
            },
            "figures": {
                name: [figure.kind, figure.title, figure.caption, *figure.rows]
                for name, (figure, _) in self.figures.items()
            },
            "left_out": self.left_out(which),
        }
