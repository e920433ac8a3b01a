"""Layers merged into resolved settings, each value with its source.

A run:     defaults (dataclasses) < config/methods < config/scales < config/runs.
A dataset: defaults (dataclasses) < config/datasets < config/scales.
"""

import copy
import dataclasses
import re
from pathlib import Path
from typing import Any

from lct.config import yaml
from lct.config.model import Dataset, Main, Method, PublishedTable, Run, RunEntry, Scale, TableSpec
from lct.config.schema import ID_PATTERN, build, check, plain
from lct.training.settings import Training


@dataclasses.dataclass(frozen=True)
class Layer:
    """Values from one file (or one entry of it)."""

    source: str
    values: dict[str, Any]


def merge(layers: list[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """Deep merge, later layers winning; a changed `kind` replaces the whole value. Gives values and dotted sources."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for layer in layers:
        _merge_into(values, layer.values, layer.source, sources, "")
    return values, sources


def _merge_into(into: dict[str, Any], new: dict[str, Any], source: str, sources: dict[str, str], prefix: str) -> None:
    if "kind" in new and new["kind"] != into.get("kind"):
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


class Files:
    """The YAML files under config/, read once, checked, and looked up by name with a helpful error."""

    def __init__(self, root: Path):
        self.root = root
        self._cache: dict[Path, Any] = {}

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

    def run_entries(self) -> dict[str, tuple[str, RunEntry, dict[str, Any]]]:
        """Every run of config/runs/*.yaml: id -> (file, entry, its raw values)."""
        entries: dict[str, tuple[str, RunEntry, dict[str, Any]]] = {}
        for name in self.names("runs"):
            source = f"config/runs/{name}.yaml"
            for run, values in self._load(source).items():
                if not re.match(ID_PATTERN, str(run)):
                    raise ValueError(f"{source}: expected run names of a-z, 0-9, _ and -, found {run!r}; rename it")
                if run in entries:
                    raise ValueError(f"{source}: run {run!r} is also in {entries[run][0]}; rename one")
                if run == "reference":
                    raise ValueError(f"{source}: run name 'reference' is taken by the reference features; rename it")
                if not isinstance(values, dict):
                    raise ValueError(f"{source}: {run}: expected a mapping, found {values!r}; give dataset and method")
                entries[run] = (source, build(RunEntry, values, f"{source}: {run}"), values)
        return entries


def main_settings(files: Files, overrides: dict[str, Any] | None = None) -> Main:
    """config/config.yaml with what the command line sets on top."""
    layer = files.main()
    check(layer.values, Main, layer.source)
    return build(Main, layer.values | (overrides or {}), "--config" if overrides else layer.source)


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
    """Resolved settings of a run, with the source of each."""
    source, entry, raw = files.run_entries()[run]
    method = files.raw("methods", entry.method, "method", f"{source}: {run}: method")
    described = build(Method, method.values, method.source)
    values, sources = merge(
        [
            Layer(method.source, method.values.get("training", {})),
            Layer(scale.source, scale.values.get("training", {})),
            Layer(scale.source, scale.values.get("methods", {}).get(entry.method, {})),
            Layer(source, raw.get("training", {})),
        ]
    )
    if {"epochs", "steps"} <= values.keys():  # either replaces the other: the later layer has the word
        later = max(("epochs", "steps"), key=lambda key: _rank(sources[key], method.source, scale.source, source))
        dropped = "epochs" if later == "steps" else "steps"
        del values[dropped], sources[dropped]
    training = build(Training, values, f"{source}: {run}: training")
    return Run(
        id=run,
        dataset=entry.dataset,
        method=entry.method,
        training=training,
        samplers=described.samplers | entry.samplers,
        sources=every_source(Training, training, sources),
    )


def _rank(source: str, *order: str) -> int:
    return order.index(source)


def table_spec(files: Files, name: str, asked_by: str) -> TableSpec:
    layer = files.raw("tables", name, "table", asked_by)
    return build(TableSpec, layer.values, layer.source)


def published_table(files: Files, name: str, asked_by: str) -> PublishedTable:
    layer = files.raw("published", name, "published table", asked_by)
    return build(PublishedTable, layer.values, layer.source)


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
