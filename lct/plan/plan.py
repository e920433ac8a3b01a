"""The plan of one scale: which runs and cells its tables need. The graph and the report read it."""

import functools
import itertools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lct.checks import did_you_mean, invalid, require
from lct.config.model import GIVEN, Figure, Run
from lct.config.published import (
    PublishedRow,
    RowChange,
    TableRow,
    TableSpec,
    row_without_print,
    without_print,
)
from lct.config.resolve import figure_settings, run_settings
from lct.config.schema import plain
from lct.networks.settings import macs_and_activations, parameters
from lct.plan.configuration import CLAIMS, Configuration
from lct.plan.names import Cell, SampleSet, cells_named
from lct.plan.paths import milestone
from lct.training.settings import Training

OWN_RUNS = "own-runs"  # the table of runs that no file of config/tables/ lists


class Plan(Configuration):
    """Runs, cells and figures of one scale. Raises ValueError with one line on anything inconsistent.

    more_runs: runs that no table lists and that can be made nevertheless, beside those that the report shows."""

    def __init__(self, root: Path, overrides: dict[str, Any] | None = None, more_runs: Iterable[str] = ()):
        super().__init__(root, overrides)
        self._given = (overrides or {}, tuple(more_runs))
        self.runs: dict[str, Run] = {}
        self.kept_weights = functools.cache(self.kept_weights)
        self.milestones = functools.cache(self.milestones)
        self.cells: list[Cell] = [cell for name, spec in self.tables.items() for cell in self._table_cells(name, spec)]
        self._check_pilot()
        self._check_distinct_runs()
        self.own_runs = self._with_results() if self.main.own_runs is None else self.main.own_runs
        self._add_own_runs(sorted({*self.own_runs, *more_runs} - self.runs.keys()))
        self._check_initial_weights()
        self._check_batches()
        names = [row for name in self.only for row in (self._claimed() if name == CLAIMS else (name,))]
        self._only = {cell.name for cell in cells_named(self.cells, names, self.scale_name)}
        self.figures: dict[str, tuple[Figure, Training | None]] = {}  # (figure, its training)
        for name in sorted(self.config.names("figures"), key=_natural_order):
            figure = figure_settings(self.config, name, self.scale_name, self.scale_layer)
            evidence = CLAIMS in self.only and figure and figure[0].kind in ("box-plots", "couplings", "schedules")
            if figure is not None and self._has_rows_of(figure[0]) and (evidence or not self.only):
                self.figures[name] = figure

    @functools.cached_property
    def whole(self) -> "Plan":
        """The plan of the scale that this rehearsal is of; itself where it is none."""
        overrides, more_runs = self._given
        if self.scale.limit is None or self.scale.base is None:
            return self
        return Plan(self.root, overrides | {"scale": self.scale.base}, {*self.own_runs, *more_runs}).whole

    # --- cells: which run, weights and sampler answer a row --------------------------------------------------------
    def _table_cells(self, table: str, spec: TableSpec) -> list[Cell]:
        published = self.published[spec.published]
        printed = {row for subtable in published.subtables for row in published.rows_of(subtable.id)}
        unknown, expected = sorted(spec.rows.keys() - printed), f"rows of config/published/{spec.published}.yaml"
        advice = f"known: {sorted(printed)}; fix the names"
        require(not unknown, f"config/tables/{table}.yaml: rows", expected, unknown, advice)
        self._check_own_names(table, spec)
        cells = [
            self._cell(table, subtable, row, entry, f"config/tables/{table}.yaml: rows.{row}")
            for subtable in self.scale.subtables
            for row, entry in spec.rows.items()
            if row in published.rows_of(subtable)
        ]
        return [cell for cell in cells if cell is not None]

    def _check_own_names(self, table: str, spec: TableSpec) -> None:
        """`model` and `group` are for rows without print; a row that was quoted in print is trained by nobody."""
        quoted = {row.id for part in self.published[spec.published].subtables for row in part.rows if row.quoted}
        for row, entry in spec.rows.items():
            where, printed = f"config/tables/{table}.yaml: rows.{row}", f"config/published/{spec.published}.yaml"
            expected = "no run for a row that the paper quotes from other work"
            advice = f"set retrained_by_authors: true in {printed}, or remove the row here"
            require(row not in quoted, where, expected, repr(entry.run), advice)
            named, expected = entry.model or entry.group, "model and group only in a table without `published`"
            without = not named or spec.published in self.without_print
            require(without, where, expected, "them", f"{printed} has the names")

    def _cell(self, table: str, subtable: str, row: str, entry: TableRow, where: str) -> Cell | None:
        """The cell of one row; None where the row has no counterpart at this scale."""
        dataset = self.scale.subtables[subtable]
        change = entry.datasets.get(dataset, RowChange())
        samplers = entry.sampler | change.sampler
        name, expected = self.scale_layer.name_in(samplers), f"one for scale {self.scale_name!r}"
        require(name is not None, f"{where}: sampler", expected, samplers, "add it (null: none)")
        sampler = samplers[name]
        if sampler is None:
            return None
        run = self._run((change.run or entry.run).replace("{dataset}", dataset), table, where)
        self._check_sampler(run, sampler, where)
        nfe = run.samplers[sampler].nfe
        printed = self.published[self.tables[table].published].rows_of(subtable)[row].nfe
        if self.scale.comparable and None not in (nfe, printed) and nfe != printed:
            raise ValueError(f"{where}: sampler: expected one of {printed} NFE, the row's, found {sampler} with {nfe}")
        weights = self._evaluated_weights(run, entry, where)
        seeds = self._at_scale(entry.seeds or {}) or self._default_seeds(run)
        single, expected = run.is_trained or len(seeds) < 2, f"a single seed, as run {run.id} is not trained here"
        require(single, f"{where}: seeds", expected, list(seeds), "remove the others")
        sets = tuple(SampleSet(run.id, seed, weights, sampler, draw) for seed in seeds for draw in self.draws_of(run))
        return Cell(table, subtable, row, run.id, weights, sampler, sets)

    def _at_scale(self, by_scale: Mapping[str, Any]) -> Any:
        """What a mapping by scale says of this one, or else of its base; None where it says nothing."""
        return by_scale.get(self.scale_layer.name_in(by_scale))

    def _check_sampler(self, run: Run, name: str, where: str) -> None:
        require(name in run.samplers, f"{where}: sampler", f"one of {sorted(run.samplers)} (run {run.id})", repr(name))
        sigmas, grid = getattr(run.samplers[name], "middle_sigmas", ()), run.training and run.training.grid
        if sigmas:
            inside = grid.sigma_min < min(sigmas) and max(sigmas) < grid.sigma_max
            expected = f"middle_sigmas inside ({grid.sigma_min}, {grid.sigma_max}), the grid of run {run.id}"
            require(inside, f"{where}: sampler {name}", expected, list(sigmas), "fix them")

    def _evaluated_weights(self, run: Run, entry: TableRow, where: str) -> str:
        """The (step, EMA) pair that a row evaluates."""
        kept = self.kept_weights(run.id)
        if not run.is_trained:
            return kept[0]
        training, rate = run.training, self._at_scale(entry.ema)
        keeps = f"one that run {run.id} keeps"
        require(rate in (None, *training.emas), f"{where}: ema", f"{keeps}, {list(training.emas)}", rate, "fix it")
        epoch, epochs, step = self._at_scale(entry.epoch), training.keep_epochs, milestone(kept[0])
        if epoch is not None:
            require(epoch in epochs, f"{where}: epoch", f"{keeps}, {list(epochs)}", epoch, "add it to keep_epochs")
            step = f"step{training.step_of(epoch, self.datasets[run.dataset].count)}"
        name = f"{step}-ema{training.emas[0] if rate is None else rate}"
        expected = f"{training.emas[0]}, the one kept before the last step"
        require(name in kept, f"{where}: ema", expected, rate, "fix it")
        return name

    def _run(self, name: str, table: str, where: str) -> Run:
        """The run that a row names; in the scale's further tables its form with the reduced budget, if there is one."""
        entries, reduced = self.config.run_entries(), self.scale.short
        advice = f"known: {sorted(entries)}; fix it or add it"
        require(name in entries, where, "a run of config/runs/", repr(name), advice)
        given = entries[name].entry.weights or entries[name].entry.samples
        if reduced is not None and table in self.scale.more_tables and given is None:
            name = f"{name}-{reduced.suffix}"
            if name in entries:
                raise ValueError(f"{entries[name].source}: this is the name of a shortened run; rename it")
        if name not in self.runs:
            run = run_settings(self.config, name, self.scale_layer)
            expected, given = f"a run on one of {sorted(self.datasets)}", f"{name} on {run.dataset!r}"
            require(run.dataset in self.datasets, where, expected, given, "name another")
            seeded, at = not run.reduced or run.dataset in reduced.seeds, f"{self.scale_layer.source}: short.seeds"
            require(seeded, at, f"training seeds for {run.dataset!r}", "none", f"add `{run.dataset}: [0]`")
            self.runs[name] = run
        return self.runs[name]

    # --- runs that no table lists ------------------------------------------------------------------------------------
    def unlisted(self) -> list[str]:
        """Runs of config/runs/ on the datasets of this scale that no table lists."""
        listed = {cell.run for cell in self.cells if cell.table != OWN_RUNS}
        entries = self.config.run_entries()
        return [name for name in entries if name not in listed and self.config.dataset_of(name) in self.datasets]

    def _with_results(self) -> tuple[str, ...]:
        folder = self.root / "results" / self.scale_name / "metrics"
        names = self.unlisted() if folder.is_dir() else []
        return tuple(name for name in names if any((folder / name).glob("s*/*/*/d*/*.json")))

    def unlisted_trainings(self, root: Path) -> set[tuple[str, int]]:
        """(run, seed) of trainings that have weights or a state here, and that no report shows."""
        shown = {(s.run, s.seed) for cell in self.cells_of("all") for s in cell.sets}
        trainings = set()
        for run in (*self.runs, *self.unlisted()):
            folders = [root / "results" / self.scale_name / "train" / run, root / self.paths.work(run)]
            seeds = {path.parent.parent.name for folder in folders for path in folder.glob("s*/*/progress.json")}
            seeds |= {path.parent.name for folder in folders for path in folder.glob("s*/*.safetensors")}
            trainings |= {(run, int(seed[1:])) for seed in seeds if seed[1:].isdecimal()}
        return trainings - shown

    def _add_own_runs(self, names: list[str]) -> None:
        """Rows of a table of its own for runs that no table lists: each with the samplers that the first table uses for
        its method, and those that its own entry names."""
        if unknown := sorted(set(names) - set(self.unlisted())):
            expected = f"runs of config/runs/ on {', '.join(self.datasets)}"
            advice = did_you_mean(unknown[0], [*self.runs, *self.unlisted()]) or "fix the name"
            raise invalid("own_runs", expected, repr(unknown[0]), advice)
        usual: dict[str, set[str]] = {}
        for cell in self.cells:
            if cell.table == self.scale.tables[0]:
                usual.setdefault(self.runs[cell.run].method, set()).add(cell.sampler)
        rows: dict[str, list[PublishedRow]] = {letter: [] for letter in self.scale.subtables}
        for name in names:
            self.runs[name] = run = run_settings(self.config, name, self.scale_layer)
            letter = next(key for key, dataset in self.scale.subtables.items() if dataset == run.dataset)
            samplers = {*usual.get(run.method, run.samplers), *self.config.run_entries()[name].entry.samplers}
            for sampler in sorted(samplers & run.samplers.keys()):
                weights = self.kept_weights(name)[0]
                draws = itertools.product(self._default_seeds(run), self.draws_of(run))
                sets = tuple(SampleSet(name, seed, weights, sampler, draw) for seed, draw in draws)
                self.cells.append(Cell(OWN_RUNS, letter, f"{name}-{sampler}", name, weights, sampler, sets))
                if name in self.own_runs:
                    nfe, title = run.samplers[sampler].nfe, f"{name}, {sampler}"
                    rows[letter].append(row_without_print(f"{name}-{sampler}", run.method, title, nfe))
        if any(rows.values()):
            first = next(iter(self.published.values()))
            published = without_print(OWN_RUNS, "This project alone.", self.subtables_of(rows))
            self.published[OWN_RUNS] = replace(published, paper=first.paper, metrics=first.metrics)
            caption = "Runs of config/runs/ that no table lists, measured like the rows of the tables."
            self.tables[OWN_RUNS] = TableSpec(id=OWN_RUNS, title="Own runs", caption=caption, published=OWN_RUNS)

    def _check_batches(self) -> None:
        """A batch is drawn without replacement, so it holds at most all training images."""
        for run in self.runs.values():
            count, batch = self.datasets[run.dataset].count, run.training.batch if run.is_trained else 0
            where, fits = f"{run.sources.get('batch')}: training.batch of run {run.id}", count is None or batch <= count
            expected = f"at most the {count} training images of {run.dataset} ({self.home(run.dataset, 'train')})"
            require(fits, where, expected, batch, "lower it, or raise train")

    def _check_pilot(self) -> None:
        """The rows of the pilot are rows of their tables, where this plan has these at all."""
        rows = [cell.name for cell in self.cells]
        for name in set(self.scale.pilot) - {*rows}:
            table, letter, *_ = (*name.split("."), "")
            if table in self.tables and letter in self.scale.subtables:
                where, expected = f"{self.scale_layer.source}: pilot", f"rows of {table} that this scale computes"
                raise invalid(where, expected, repr(name), did_you_mean(name, rows) or "fix the name")

    def _check_distinct_runs(self) -> None:
        names: dict[str, str] = {}
        for run in self.runs.values():
            given = (run.weights, run.samples, run.init)
            first = names.setdefault(repr((run.dataset, plain(run.training), *given)), run.id)
            given = f"{first!r} and {run.id!r} equal at scale {self.scale_name!r}"
            require(first == run.id, "config/runs", "different settings", given, "let both table rows name one run")

    def _check_initial_weights(self) -> None:
        """A run that starts from another needs that one's weights, of the same network, dataset and seeds."""
        for run in (run for run in self.runs.values() if run.init is not None and run.is_trained):
            where, source = f"run {run.id}: init.run", self.runs.get(str(run.init.run))
            if run.init.run is None:
                continue
            shown, expected = source and source.samples is None, f"a run that a row of scale {self.scale_name!r} shows"
            require(shown, where, expected, repr(run.init.run), f"known: {sorted(self.runs)}; add a row of it")
            for what, ours, theirs in (
                ("dataset", run.dataset, source.dataset),
                ("network", plain(run.training.network), plain(source.training.network)),
            ):
                require(ours == theirs, where, f"the {what} of {source.id}, {theirs}", ours, "make them equal")
            missing = sorted(set(self.seeds_of(run.id)) - set(self.seeds_of(source.id)))
            require(not missing, where, f"seeds {missing} of run {source.id} too", "none", "add them there")
            self.initial_weights(run.id)
            chain = [run.id]
            while (source := self.runs.get(str(source.init.run)) if source and source.init else None) is not None:
                require(source.id not in chain, where, "no circle", f"{source.id!r} again", "remove one init")
                chain.append(source.id)

    def initial_weights(self, run: str) -> str | None:
        """Name of the weights of `init.run` that a run starts from: those of its last step."""
        init = self.runs[run].init
        if init is None or init.run is None:
            return None
        kept = self.kept_weights(init.run)
        name = kept[0] if init.ema is None else f"{milestone(kept[0])}-ema{init.ema}"
        expected = f"one that run {init.run} keeps, {list(self.runs[init.run].training.emas)}"
        require(name in kept, f"run {run}: init.ema", expected, init.ema, "fix it")
        return name

    # --- what a run keeps, and what the cells need of it -----------------------------------------------------------
    def kept_weights(self, run: str) -> list[str]:
        """(step, EMA) pairs that a run keeps; the first is the one evaluated. Existing weights go by their hash. Raises
        ValueError where a length in epochs needs the number of training images, and the dataset does not give it."""
        if not self.runs[run].is_trained:
            return [GIVEN if self.runs[run].weights is None else self.runs[run].weights.name]
        training, count = self.runs[run].training, self.datasets[self.runs[run].dataset].count
        try:
            if training.steps is not None:
                count = max(training.batch, count or 0)
            elif count is None:
                raise ValueError("epochs need the number of training images; set `train` in the dataset or `steps`")
            training.curriculum.stage_steps(training.schedule_steps(count))  # refuses fewer steps than stages
            last, *earlier = training.kept_steps(count)
        except ValueError as error:
            raise ValueError(f"run {run}: {error}") from error
        at_end = [f"step{last}-ema{rate}" for rate in training.emas]
        return at_end + [f"step{step}-ema{training.emas[0]}" for step in earlier]

    def milestones(self, run: str) -> list[str]:
        """Steps whose weights a run keeps, as step1200, the earliest first: each is a job. Existing weights are one."""
        steps = list(dict.fromkeys(map(milestone, self.kept_weights(run))))
        return sorted(steps, key=lambda name: int(name.removeprefix("step"))) if len(steps) > 1 else steps

    def suffix(self, run: str, name: str) -> str:
        """What the names of a milestone's jobs and logs end in: nothing for a run with a single one."""
        return f"-{name}" if len(self.milestones(run)) > 1 else ""

    def weights_at(self, run: str, name: str) -> list[str]:
        """(step, EMA) pairs that a run keeps at a milestone."""
        return [weights for weights in self.kept_weights(run) if milestone(weights) == name]

    def steps_of(self, run: str, name: str | None = None) -> int:
        """Steps of a run that is trained; with a milestone, those from the one before it."""
        steps = [int(other.removeprefix("step")) for other in self.milestones(run)]
        if name is None:
            return steps[-1]
        position = self.milestones(run).index(name)
        return steps[position] - ([0, *steps][position])

    def seeds_of(self, run: str) -> tuple[int, ...]:
        """Training seeds of a run: those of the rows that show it."""
        return tuple(sorted({s.seed for cell in self.cells if cell.run == run for s in cell.sets}))

    def _default_seeds(self, run: Run) -> tuple[int, ...]:
        """Training seeds of a row that names none; one for existing weights, whatever seed they were trained with."""
        if not run.is_trained:
            return (0,)
        return (self.scale.short.seeds if run.reduced else self.scale.seeds)[run.dataset]

    def draws_of(self, run: Run) -> tuple[int, ...]:
        """Sampling seeds of a run; one for images made elsewhere."""
        return self.scale.sampling.draws if run.samples is None else (min(self.scale.sampling.draws),)

    def evaluations(self, run: str, at: str | None = None) -> list[tuple[str, str]]:
        """(weights, sampler) pairs of a run that the cells show, sorted; at: those of one milestone, which one sampling
        job makes."""
        return [pair for pair in self._evaluated.get(run, ()) if at is None or milestone(pair[0]) == at]

    @functools.cached_property
    def _evaluated(self) -> dict[str, list[tuple[str, str]]]:
        """Run -> its pairs; asked for thousands of times, when all cells are there."""
        pairs: dict[str, set[tuple[str, str]]] = {}
        for cell in self.cells:
            pairs.setdefault(cell.run, set()).add((cell.weights, cell.sampler))
        return {run: sorted(of) for run, of in pairs.items()}

    def sampled_milestones(self, run: str) -> list[str]:
        """Milestones of a run that are sampled from."""
        return [name for name in self.milestones(run) if self.evaluations(run, name)]

    def sampled_weights(self, run: str, at: str | None = None) -> list[str]:
        """Weights of a run, or of one of its milestones, that are sampled from."""
        return sorted({weights for weights, _ in self.evaluations(run, at)})

    def sample_sets(self, run: str, at: str | None = None, first: bool = False) -> list[tuple[str, str, int]]:
        """(weights, sampler, draw) of every image set of a run, or of one of its milestones, for each seed; first: of
        the first draw alone."""
        draws = sorted(self.draws_of(self.runs[run]))[:1] if first else self.draws_of(self.runs[run])
        return [(weights, sampler, draw) for weights, sampler in self.evaluations(run, at) for draw in draws]

    def parameters_of(self, run: str) -> tuple[int, int]:
        """(all, trainable) parameters of a run's network."""
        channels, side, _ = self.datasets[self.runs[run].dataset].latent_shape
        return parameters(self.runs[run].training.network, channels, side)

    def macs_and_activations_of(self, run: str) -> tuple[int, int]:
        """(MACs, activations kept) of one forward pass of a run's network over one sample."""
        channels, side, _ = self.datasets[self.runs[run].dataset].latent_shape
        return macs_and_activations(self.runs[run].training.network, channels, side)

    def macs_of_figure(self, name: str) -> int:
        """MACs of one forward pass of a figure's networks over one sample of the largest latents."""
        network = self.figures[name][1].network
        shapes = [dataset.latent_shape for dataset in self.datasets.values()]
        return max(macs_and_activations(network, channels, side)[0] for channels, side, _ in shapes)

    def c_stages(self, run: str) -> list[dict[str, float]]:
        """First step, intervals and c of each stage of a run's curriculum; empty for losses that read no c."""
        dataset = self.datasets[self.runs[run].dataset]
        if self.runs[run].samples is not None:
            return []
        return self.runs[run].training.c_stages(dataset.count, math.prod(dataset.latent_shape))

    # --- what a report shows: `which` is "tables", those the scale lists, or "all", its further ones too -----------
    def tables_of(self, which: str) -> list[str]:
        """Tables of a report: those that the scale lists ("tables"), or its further ones too ("all"); under `only`,
        those that have rows of it. Runs that no table lists have a table of their own."""
        if self.only:
            return [name for name in self.tables if any(row.startswith(f"{name}.") for row in self._only)]
        names = [name for name in (self.tables if which == "all" else self.scale.tables) if name != OWN_RUNS]
        return [*names, *([OWN_RUNS] if OWN_RUNS in self.tables else [])]

    def cells_of(self, which: str) -> list[Cell]:
        names, own = self.tables_of(which), set(self.own_runs)
        cells = [cell for cell in self.cells if cell.table in names and (not self.only or cell.name in self._only)]
        return [cell for cell in cells if cell.table != OWN_RUNS or cell.run in own]

    @property
    def subtables(self) -> dict[str, str]:
        """Sub-table -> dataset, of those that a report shows."""
        letters = {row.split(".")[1] for row in self._only} if self.only else self.scale.subtables
        return {letter: dataset for letter, dataset in self.scale.subtables.items() if letter in letters}

    @property
    def shown_datasets(self) -> list[str]:
        """Datasets of those sub-tables, each once."""
        return list(dict.fromkeys(self.subtables.values()))

    @property
    def pilot(self) -> list[Cell]:
        """Rows of the scale's pilot; none where its tables do not hold them all."""
        cells = [cell for cell in self.cells if cell.name in self.scale.pilot]
        return cells if len(cells) == len(self.scale.pilot) else []

    @property
    def pilot_milestones(self) -> list[tuple[str, str]]:
        """(run, milestone) of those rows, each once."""
        return list(dict.fromkeys((cell.run, milestone(cell.weights)) for cell in self.pilot))

    def runs_of(self, which: str) -> list[str]:
        return sorted({cell.run for cell in self.cells_of(which)})

    def figures_of(self, *kinds: str) -> list[str]:
        return [name for name, (figure, _) in self.figures.items() if figure.kind in kinds]

    def _claimed(self) -> list[str]:
        """Rows of this scale that claims compare. ValueError where nothing could be judged by them."""
        of = {row: claim.id for claim in self.claims for part in claim.parts for row in part.rows}
        cells = [cell for cell in self.cells if cell.name in of]
        require(cells, "config/claims", f"claims about rows of scale {self.scale_name}", "none", "add one")
        for letter in sorted({cell.subtable for cell in cells}):
            here = [cell for cell in cells if cell.subtable == letter]
            if max(len(self.seeds_of(cell.run)) for cell in here) < 2:
                raise ValueError(
                    f"config/claims: {of[here[0].name]}: expected two training seeds or more of a run in sub-table "
                    f"{letter}, which show the spread between trainings, found existing weights alone, with one each; "
                    "compare a run that is trained here"
                )
        return [cell.name for cell in cells]

    def _has_rows_of(self, figure: Figure) -> bool:
        """Whether this plan has the rows that a figure is drawn from; c by stage is a figure of the paper's runs."""
        if figure.kind == "schedules":
            return self.main.dataset is None
        places = [row.split(".") for row in figure.rows]
        return all(table in self.tables and subtable in self.scale.subtables for table, subtable, *_ in places)


def _natural_order(name: str) -> list[tuple[str, int]]:
    """A key that sorts figure10 behind figure2."""
    return [(word, int(digits or 0)) for word, digits in re.findall(r"([^0-9]*)([0-9]*)", name)]
