"""Layers merged into resolved settings, each value with its source.

A run:     defaults (dataclasses) < config/methods < config/scales < config/datasets < its bases < itself < `short`.
A dataset: defaults (dataclasses) < config/datasets < config/scales.
"""

import copy
import dataclasses
import re
from pathlib import Path
from typing import Any

from lct.config import yaml
from lct.config.figures import Figure
from lct.config.model import Dataset, Main, Method, PublishedTable, Run, RunEntry, Scale, Short, TableSpec, Weights
from lct.config.schema import ID_PATTERN, build, check, plain
from lct.metrics.settings import PretrainedExtractor
from lct.training.settings import Training


@dataclasses.dataclass(frozen=True)
class Layer:
    """Values from one file (or one entry of it)."""

    source: str
    values: dict[str, Any]


TAGGED = ("source", "autoencoder", "extractor")  # keys whose `kind` decides what else may stand there


def merge(layers: list[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """Deep merge, later layers winning; another `kind` of a tagged union replaces it. Gives values and sources."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for layer in layers:
        _merge_into(values, layer.values, layer.source, sources, "")
    return values, sources


def _merge_into(into: dict[str, Any], new: dict[str, Any], source: str, sources: dict[str, str], prefix: str) -> None:
    tagged = prefix.removesuffix(".").rpartition(".")[2] in TAGGED
    if tagged and new.get("kind", into.get("kind")) != into.get("kind"):
        into.clear()
        for key in [k for k in sources if k.startswith(prefix)]:
            del sources[key]
    for key, value in new.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            if not isinstance(into.get(key), dict):
                into[key] = {}
            _merge_into(into[key], value, source, sources, f"{name}.")
        else:
            into[key] = copy.deepcopy(value)
            sources[name] = source


def every_source(cls: type, settings: Any, sources: dict[str, str], prefix: str = "") -> dict[str, str]:
    """Source of every leaf of resolved settings; what no layer set comes from the dataclass: "default"."""
    found: dict[str, str] = {}
    for f in dataclasses.fields(cls):
        value, name = getattr(settings, f.name), f"{prefix}{f.name}"
        if dataclasses.is_dataclass(value):
            found |= every_source(type(value), value, sources, f"{name}.")
        else:
            found[name] = sources.get(name, "default")
    return found


@dataclasses.dataclass(frozen=True)
class RunSource:
    """One run as an entry of a file gives it."""

    source: str
    entry: RunEntry
    values: dict[str, Any]


class Files:
    """The YAML files under config/, read once, checked, and looked up by name with a helpful error."""

    def __init__(self, root: Path):
        self.root = root
        self._cache: dict[Path, Any] = {}
        self._runs: dict[str, RunSource] | None = None

    def names(self, folder: str) -> list[str]:
        return sorted(p.stem for p in (self.root / "config" / folder).glob("*.yaml"))

    def raw(self, folder: str, name: str, what: str, asked_by: str) -> Layer:
        """The values of config/FOLDER/NAME.yaml; ValueError listing the known names when there is none."""
        known = self.names(folder)
        if not re.match(ID_PATTERN, str(name)) or name not in known:
            raise ValueError(
                f"{asked_by}: expected a {what} of {known}, found {name!r}; fix it or add config/{folder}/{name}.yaml"
            )
        source = f"config/{folder}/{name}.yaml"
        return Layer(source, self._load(source))

    def _load(self, source: str) -> dict[str, Any]:
        path = self.root / source
        if path not in self._cache:
            self._cache[path] = yaml.load(path)
        return self._cache[path]

    def main(self) -> Layer:
        return Layer("config/config.yaml", self._load("config/config.yaml"))

    def run_entries(self) -> dict[str, RunSource]:
        """Every run by id: those of config/runs/*.yaml (an entry for several datasets gives one for each), and
        DATASET-METHOD for datasets that these do not name."""
        if self._runs is None:
            self._runs = {}
            for name in self.names("runs"):
                source = f"config/runs/{name}.yaml"
                for key, values in self._load(source).items():
                    for run, one in _per_dataset(str(key), values, source):
                        self._add_run(run, one, source)
            declared = {found.entry.dataset for found in self._runs.values()}
            for dataset in set(self.names("datasets")) - declared:  # the plain runs of a new dataset need no entry
                for method in self.names("methods"):
                    values = {"dataset": dataset, "method": method}
                    self._add_run(f"{dataset}-{method}", values, f"config/datasets/{dataset}.yaml")
        return self._runs

    def _add_run(self, run: str, values: dict[str, Any], source: str) -> None:
        if not re.match(ID_PATTERN, run):
            raise ValueError(f"{source}: expected run names of a-z, 0-9, _ and -, found {run!r}; rename it")
        if run in self._runs:
            raise ValueError(f"{source}: run {run!r} is also in {self._runs[run].source}; rename one")
        if run == "reference":
            raise ValueError(f"{source}: run name 'reference' is taken by the reference features; rename it")
        self._runs[run] = RunSource(source, build(RunEntry, values, f"{source}: {run}"), values)

    def run_chain(self, run: str) -> list[tuple[str, RunSource]]:
        """The run and those it starts from, the first one first."""
        entries, chain = self.run_entries(), []
        while run is not None:
            found = entries[run]
            if run in [name for name, _ in chain]:
                raise ValueError(
                    f"{found.source}: {run}: base: expected no circle, found {run!r} again; remove one base"
                )
            chain.insert(0, (run, found))
            where = f"{found.source}: {run}"
            if found.entry.base is None:
                for key in ("dataset", "method"):
                    if getattr(found.entry, key) is None:
                        raise ValueError(f"{where}: expected key {key!r} or `base`, found neither; add one")
            elif found.entry.base not in entries:
                raise ValueError(
                    f"{where}: base: expected a run of config/runs/, found {found.entry.base!r}; fix the name"
                )
            elif found.entry.method is not None or (found.entry.dataset is not None and not found.entry.datasets):
                raise ValueError(f"{where}: expected dataset and method, or base, found both; remove one")
            run = found.entry.base
        return chain


def _per_dataset(key: str, values: Any, source: str) -> list[tuple[str, dict[str, Any]]]:
    """(run, values) of an entry: itself, or one for each of its `datasets`."""
    if not isinstance(values, dict):
        raise ValueError(f"{source}: {key}: expected a mapping, found {values!r}; give dataset and method, or base")
    datasets = values.get("datasets", [])
    if not datasets or not isinstance(datasets, list):
        return [(key, values)]
    if "{dataset}" not in key or "dataset" in values:
        raise ValueError(f"{source}: {key}: expected `{{dataset}}` in the name of a run with `datasets`; rename it")
    made = []
    for dataset in datasets:
        one = values | {"dataset": dataset}
        if isinstance(values.get("base"), str):
            one["base"] = values["base"].replace("{dataset}", str(dataset))
        made.append((key.replace("{dataset}", str(dataset)), one))
    return made


def main_settings(files: Files, overrides: dict[str, Any] | None = None) -> Main:
    """config/config.yaml with what the command line sets on top."""
    layer = files.main()
    check(layer.values, Main, layer.source)
    switches = {"true": True, "false": False}  # Snakemake reads True and False only
    given = {key: switches.get(str(value), value) for key, value in (overrides or {}).items()}
    return build(Main, layer.values | given, "--config" if overrides else layer.source)


def scale_settings(files: Files, name: str) -> tuple[Scale, Layer]:
    layer = files.raw("scales", name, "scale", "--config scale")
    return build(Scale, layer.values, layer.source), layer


def dataset_settings(files: Files, name: str, scale: Layer, asked_by: str) -> tuple[Dataset, dict[str, str]]:
    layer = files.raw("datasets", name, "dataset", asked_by)
    check(layer.values, Dataset, layer.source, partial=True)
    values, sources = merge([layer, Layer(scale.source, _fitting(scale.values.get("dataset", {}), layer.values))])
    dataset = build(Dataset, values, layer.source)
    return dataset, every_source(Dataset, dataset, sources)


def _fitting(overrides: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Overrides of a tagged union apply only to datasets that have the same kind."""
    kept = {}
    for key, value in overrides.items():
        present = values.get(key)
        if (
            isinstance(value, dict)
            and isinstance(present, dict)
            and value.get("kind", present.get("kind")) != present.get("kind")
        ):
            continue
        kept[key] = value
    return kept


def run_settings(files: Files, run: str, scale: Layer) -> Run:
    """Resolved settings of a run, with the source of each. RUN-SUFFIX is the scale's cheapened form of RUN."""
    short = scale.values.get("short") if run not in files.run_entries() else None
    chain = files.run_chain(run if short is None else run.removesuffix(f"-{_suffix(short)}"))
    (root, first), (_, last) = chain[0], chain[-1]
    method = files.raw("methods", first.entry.method, "method", f"{first.source}: {root}: method")
    dataset = files.raw("datasets", first.entry.dataset, "dataset", f"{first.source}: {root}: dataset")
    described = build(Method, method.values, method.source)
    check(dataset.values, Dataset, dataset.source, partial=True)
    layers = [
        Layer(method.source, method.values.get("training", {})),
        Layer(scale.source, scale.values.get("training", {})),
        Layer(scale.source, scale.values.get("methods", {}).get(first.entry.method, {})),
        Layer(dataset.source, dataset.values.get("training", {})),
        *(Layer(f"{found.source}: {name}", found.values.get("training", {})) for name, found in chain),
    ]
    if short is not None:
        layers.append(Layer(f"{scale.source}: short", short.get("training", {})))
    values, sources = merge(_one_length(layers))
    where = f"{last.source}: {run}: training"
    training = build(Training, values, where)
    samplers = described.samplers
    for _, found in chain:
        samplers = samplers | found.entry.samplers
    return Run(
        id=run,
        dataset=first.entry.dataset,
        method=first.entry.method,
        training=training,
        samplers=samplers,
        sources=every_source(Training, training, sources),
        note=last.entry.note,
        weights=last.entry.weights,
        short=short is not None,
    )


def figure_settings(files: Files, name: str, scale_name: str, scale: Layer) -> tuple[Figure, Training | None] | None:
    """A figure and the resolved settings of its trainings, if it has any; None where it is not made at this scale."""
    layer = files.raw("figures", name, "figure", "config/figures")
    figure = build(Figure, layer.values, layer.source)
    if scale_name not in figure.scales:
        return None
    if figure.kind != "box-plots":
        return figure, None
    method = files.raw("methods", figure.method, "method", f"{layer.source}: method")
    layers = [
        Layer(method.source, method.values.get("training", {})),
        Layer(scale.source, scale.values.get("training", {})),
        Layer(layer.source, layer.values.get("training", {})),
        Layer(layer.source, layer.values["scales"][scale_name].get("training", {})),
    ]
    where = f"{layer.source}: training at scale {scale_name}"
    training = build(Training, merge(_one_length(layers))[0], where)
    if training.objective.kind != "consistency" or training.curriculum.kind != "constant":
        raise ValueError(f"{where}: expected a consistency objective and a constant curriculum, found another; fix it")
    return figure, training


def _suffix(short: dict[str, Any]) -> str:
    return short.get("suffix", Short.suffix)


def known_run(files: Files, run: str, scale: Layer) -> bool:
    """Whether `run` is an entry of config/runs/, or the scale's cheapened form of one."""
    short, entries = scale.values.get("short"), files.run_entries()
    return run in entries or (short is not None and run.removesuffix(f"-{_suffix(short)}") in entries)


def _one_length(layers: list[Layer]) -> list[Layer]:
    """Epochs and steps replace each other: the last layer that gives either has the word."""
    last = next((i for i in reversed(range(len(layers))) if {"epochs", "steps"} & layers[i].values.keys()), None)
    if last is None:
        return layers
    dropped = {"epochs", "keep_epochs"} if "steps" in layers[last].values else {"steps", "keep_steps"}
    dropped -= layers[last].values.keys()
    earlier = [Layer(a.source, {k: v for k, v in a.values.items() if k not in dropped}) for a in layers[:last]]
    return earlier + layers[last:]


def extractor_settings(files: Files, name: str, asked_by: str) -> PretrainedExtractor:
    layer = files.raw("extractors", name, "extractor", asked_by)
    found = build(PretrainedExtractor, layer.values, layer.source)
    if found.id != name:
        raise ValueError(f"{layer.source}: id: expected {name!r}, the file's name, found {found.id!r}; make them equal")
    return found


def table_spec(files: Files, name: str, asked_by: str) -> TableSpec:
    layer = files.raw("tables", name, "table", asked_by)
    return build(TableSpec, layer.values, layer.source)


def published_table(files: Files, name: str, asked_by: str) -> PublishedTable:
    layer = files.raw("published", name, "published table", asked_by)
    return build(PublishedTable, layer.values, layer.source)


def weights_settings(files: Files, name: str, asked_by: str) -> Weights:
    layer = files.raw("weights", name, "network's weights", asked_by)
    return build(Weights, layer.values, layer.source)


def flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Settings as dotted key -> plain value."""
    found: dict[str, Any] = {}
    for key, value in plain(settings).items():
        if isinstance(value, dict):
            found |= flat_dict(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def flat_dict(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat_dict(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
