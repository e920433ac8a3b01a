"""The YAML files under config/: read once, looked up by name, and the runs that config/runs/ declares."""

import functools
import itertools
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from lct.checks import did_you_mean, invalid, require
from lct.config.model import RunEntry, Scale
from lct.config.schema import ID_PATTERN, build

T = TypeVar("T")
_SAFE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, ten times as fast, where libyaml is
_MERGE, _INTEGER, _FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("merge", "int", "float"))


@dataclass(frozen=True)
class Layer:
    """Values from one file (or one entry of it)."""

    source: str
    values: dict[str, Any]


@dataclass(frozen=True)
class RunSource(Layer):
    """One run as an entry of a file gives it; `source` names both."""

    entry: RunEntry


@dataclass(frozen=True)
class ScaleLayer(Layer):
    """Values of a scale, those of its bases under its own."""

    names: tuple[str, ...]  # the scale, its base, and so on
    files: tuple[Layer, ...]  # the values of each, the last base first
    settings: Scale  # built from them, before its `limit` is applied

    def under(self, *keys: str) -> list[Layer]:
        """Values under some keys, file by file, for a merge."""
        return [
            Layer(of.source, functools.reduce(lambda values, key: values.get(key) or {}, keys, of.values))
            for of in self.files
        ]

    def name_in(self, by_scale: Mapping[str, Any]) -> str | None:
        """The key of a mapping by scale that counts here: the scale itself, or its nearest base; None: neither."""
        return next((name for name in self.names if name in by_scale), None)


_WORDS = {"published": "published table", "weights": "network's weights"}  # in the place of a folder's name
_TAKEN = {"reference", "encode", "figures", "all", "all_tables", "claims", "pilot", "unlisted"}  # folders and targets


class ConfigFolder:
    """The YAML files under config/, read once, checked, and looked up by name with a helpful error."""

    def __init__(self, root: Path):
        self.root = root
        self._load = functools.cache(lambda source: load_yaml(root / source))
        self._runs: dict[str, RunSource] | None = None

    def names(self, folder: str) -> list[str]:
        return sorted(p.stem for p in (self.root / "config" / folder).glob("*.yaml"))

    def layer(self, folder: str, name: str, where: str) -> Layer:
        """The values of config/FOLDER/NAME.yaml; ValueError listing the existing names when there is none."""
        names, what = self.names(folder), _WORDS.get(folder, folder.removesuffix("s"))
        source = f"config/{folder}/{name}.yaml"
        plain, expected = re.fullmatch(ID_PATTERN, name), "a file name of a-z, 0-9, _ and -, no - in front"
        require(plain or name not in names, source, expected, repr(name), "rename the file")
        if name not in names:
            advice = (did_you_mean(name, names) or "fix it") + (f" or add {source}" if plain else "")
            raise ValueError(f"{where}: expected a {what} of {names}, found {name!r}; {advice}")
        return Layer(source, self._load(source))

    def read(self, settings: type[T], folder: str, name: str, where: str) -> T:
        """config/FOLDER/NAME.yaml as settings, checked."""
        layer = self.layer(folder, name, where)
        return build(settings, layer.values, layer.source)

    def run_entries(self) -> dict[str, RunSource]:
        """Every run by id: those of config/runs/*.yaml (an entry for several datasets gives one for each), and
        DATASET-METHOD where these do not name it: the plain run of a method needs no entry."""
        if self._runs is None:
            self._runs = {}
            for name in self.names("runs"):
                source = f"config/runs/{name}.yaml"
                for key, values in self._load(source).items():
                    for run, run_values in _per_dataset(str(key), values, source):
                        self._add_run(run, run_values, source)
            for dataset, method in itertools.product(self.names("datasets"), self.names("methods")):
                if f"{dataset}-{method}" not in self._runs:
                    values = {"dataset": dataset, "method": method}
                    self._add_run(f"{dataset}-{method}", values, f"config/datasets/{dataset}.yaml")
        return self._runs

    def _add_run(self, run: str, values: dict[str, Any], source: str) -> None:
        expected = "run names of a-z, 0-9, _ and -, no - in front"
        require(re.fullmatch(ID_PATTERN, run), source, expected, repr(run), "rename it")
        where = f"{source}: {run}"
        if run in self._runs:
            raise ValueError(f"{where}: expected a name of its own, found {self._runs[run].source}; rename one")
        if run in _TAKEN:
            raise ValueError(f"{source}: run name {run!r} is taken by a folder or target of the project; rename it")
        self._runs[run] = RunSource(where, values, build(RunEntry, values, where))

    def dataset_of(self, run: str) -> str | None:
        """The dataset of a run; None where it starts from a run that does not exist, or from itself."""
        entries, passed = self.run_entries(), set()
        while run in entries and run not in passed and entries[run].entry.base is not None:
            passed.add(run)
            run = entries[run].entry.base
        return entries[run].entry.dataset if run in entries and run not in passed else None

    def run_chain(self, run: str) -> list[RunSource]:
        """The run and those it starts from, the first one first."""
        chain: list[RunSource] = []
        while run is not None:
            link = self.run_entries()[run]
            require(link not in chain, f"{link.source}: base", "no circle", f"{run!r} again", "remove one base")
            chain.insert(0, link)
            _check_base(link.entry, link.source, self.run_entries())
            run = link.entry.base
        return chain


def _check_base(entry: RunEntry, where: str, runs: dict[str, RunSource]) -> None:
    """A run has either a base, or dataset and method, which images made elsewhere have not; these are no base."""
    if entry.base is None and entry.samples is None:
        for key in ("dataset", "method"):
            require(getattr(entry, key) is not None, where, f"key {key!r} or `base`", "neither", "add one")
    if entry.base is None:
        return
    require(entry.base in runs, f"{where}: base", "a run of config/runs/", repr(entry.base), "fix the name")
    trains, given = runs[entry.base].entry.samples is None, f"{entry.base!r}, images made elsewhere"
    require(trains, f"{where}: base", "a run with a method", given, "name another")
    alone = entry.method is None and (entry.dataset is None or entry.datasets)
    require(alone, where, "dataset and method, or base", "both", "remove one")


def _per_dataset(key: str, values: Any, source: str) -> list[tuple[str, dict[str, Any]]]:
    """(run, values) of an entry: itself, or one for each of its `datasets`."""
    require(isinstance(values, dict), f"{source}: {key}", "a mapping", repr(values), "give dataset and method, or base")
    datasets = values.get("datasets", [])
    if not datasets or not isinstance(datasets, list):
        return [(key, values)]
    if "{dataset}" not in key or "dataset" in values:
        raise ValueError(f"{source}: {key}: expected `{{dataset}}` in the name of a run with `datasets`; rename it")
    runs = []
    for dataset in datasets:
        base = values.get("base")
        named = {"base": base.replace("{dataset}", str(dataset))} if isinstance(base, str) else {}
        if isinstance(init := values.get("init"), dict) and isinstance(init.get("run"), str):
            named["init"] = init | {"run": init["run"].replace("{dataset}", str(dataset))}
        runs.append((key.replace("{dataset}", str(dataset)), values | {"dataset": dataset} | named))
    return runs


class _StrictLoader(_SAFE):
    """SafeLoader that refuses a key given twice; plain YAML would silently keep the last."""


def _unique_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == _MERGE:
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise yaml.MarkedYAMLError(problem="a key that is no text", problem_mark=key_node.start_mark)
        if key in keys:
            raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice", problem_mark=key_node.start_mark)
        keys.add(key)
    return _SAFE.construct_mapping(loader, node, deep=True)


def _decimal_number(loader: _StrictLoader, node: yaml.ScalarNode) -> int | float:
    """A number. YAML 1.1 reads some in another base, 010 as 8 and 1:30 as 90: these are refused."""
    if re.fullmatch(r"[-+]?0[0-9_]+|.*:.*", node.value):
        problem = f"{node.value}, which YAML takes for an octal number, or for minutes and seconds: write it in decimal"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    construct = _SAFE.construct_yaml_int if node.tag == _INTEGER else _SAFE.construct_yaml_float
    return construct(loader, node)


for _tag in (_INTEGER, _FLOAT):
    _StrictLoader.add_constructor(_tag, _decimal_number)
_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in `path`; raises ValueError with one line on anything else."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 a SafeLoader
    except FileNotFoundError as error:
        raise ValueError(f"{path}: expected a YAML file, found nothing; create it or fix its name") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ValueError(f"{where}: expected YAML, found: {error.problem}; fix that line") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no such date, no such number, no UTF-8
        raise invalid(path, "YAML in UTF-8", " ".join(str(error).split()), "fix the file") from error
    if content is None:
        return {}
    require(isinstance(content, dict), path, "`key: value` lines", type(content).__name__, "fix the file")
    return content
