"""Layers merged into resolved settings, each value with its source.

A run:     defaults (dataclasses) < config/methods < config/scales < config/datasets < its bases < itself < `short`.
A dataset: defaults (dataclasses) < config/datasets < config/scales < `limit`.
The base of a scale comes just before the scale.
"""

import copy
import dataclasses
from typing import Any

from lct.checks import require
from lct.config import local_images
from lct.config.folder import ConfigFolder, Layer, ScaleLayer, load_yaml
from lct.config.model import ELSEWHERE, GIVEN, Dataset, Figure, Main, Method, Run, Scale
from lct.config.schema import build, check_layer, plain
from lct.data.settings import COUNTS_ADVICE, DownloadSource, readings
from lct.download.settings import Origin, Weights
from lct.files.records import flatten
from lct.metrics.settings import PretrainedExtractor
from lct.training.settings import Training

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


def every_source(settings: Any, sources: dict[str, str]) -> dict[str, str]:
    """Source of every leaf of resolved settings; what no layer set comes from the dataclass: "default"."""
    return {name: sources.get(name, "default") for name in flatten(plain(settings))}


# --- settings of one file ---------------------------------------------------------------------------------------------
def main_settings(config: ConfigFolder, overrides: dict[str, Any] | None = None) -> Main:
    """config/config.yaml with what the command line sets on top."""
    source = "config/config.yaml"
    layer = Layer(source, load_yaml(config.root / source))
    build(Main, layer.values, layer.source)
    switches = {"true": True, "false": False}  # Snakemake reads True and False only
    given = {key: switches.get(str(value), value) for key, value in (overrides or {}).items()}
    return build(Main, layer.values | given, "--config" if overrides else layer.source)


def scale_settings(config: ConfigFolder, name: str) -> tuple[Scale, ScaleLayer]:
    """A scale, with what it takes from its bases, and its values."""
    names, files, where = [], [], "--config scale"
    base: str | None = name
    while base is not None:
        require(base not in names, where, "no circle", f"{base!r} again", "remove one base")
        layer = config.layer("scales", base, where)
        settings = build(Scale, layer.values, layer.source)
        names.append(base)
        files.insert(0, layer)
        base, where = settings.base, f"{layer.source}: base"
    values, source = merge(files)[0], files[-1].source
    scale = build(Scale, values, source)
    layer = ScaleLayer(source, values, tuple(names), tuple(files), scale)
    return scale.limit.scale(scale) if scale.limit else scale, layer


def extractor_settings(config: ConfigFolder, name: str, where: str) -> PretrainedExtractor:
    extractor = config.read(PretrainedExtractor, "extractors", name, where)
    at, expected = f"config/extractors/{name}.yaml: id", f"{name!r}, the file's name"
    require(extractor.id == name, at, expected, repr(extractor.id), "make them equal")
    return extractor


def download_origins(config: ConfigFolder) -> dict[str, tuple[Origin, ...]]:
    """Origins of every download by id: the networks of config/weights/, and the datasets whose source is one."""
    weights = config.names("weights")
    origins = {name: config.read(Weights, "weights", name, "config/weights").origins for name in weights}
    for name in config.names("datasets"):
        layer = config.layer("datasets", name, "config/datasets")
        values = layer.values.get("source")
        if not isinstance(values, dict) or values.get("kind") != "download":
            continue
        if name in origins:
            raise ValueError(f"{layer.source}: config/weights/{name}.yaml has the same name; rename one of them")
        source = build(DownloadSource, values, f"{layer.source}: source")
        origins[name] = tuple(alternative.origin for alternative in source.alternatives)
    return origins


# --- settings joined from several -------------------------------------------------------------------------------------
def dataset_settings(config: ConfigFolder, name: str, scale: ScaleLayer, where: str) -> tuple[Dataset, dict[str, str]]:
    """Resolved settings of a dataset, and the source of each."""
    layer = config.layer("datasets", name, where)
    check_layer(Dataset, layer.values, layer.source)
    overrides = [Layer(part.source, _fitting(part.values, layer.values)) for part in scale.under("dataset")]
    values, sources = merge([layer, *overrides])
    local_images.fit(name, values, sources, scale, config.root)
    try:
        dataset = build(Dataset, values, layer.source)
    except ValueError as error:
        places = [f"{sources[key]} ({key})" for key in ("train", "heldout") if key in sources]
        advice = f"lower them in {' and '.join(places)}, or take another scale"
        raise ValueError(str(error).replace(COUNTS_ADVICE, advice)) from None
    if "extractor.labels" not in sources and not gives_labels(dataset) and dataset.extractor.kind == "trained":
        dataset = dataclasses.replace(dataset, extractor=dataclasses.replace(dataset.extractor, labels="rotations"))
        sources = {**sources, "extractor.labels": "default, since the source gives no labels"}
    if (limit := scale.settings.limit) is not None:
        whole, dataset = dataset, limit.dataset(dataset)
        reduced = [key for key in ("train", "heldout") if getattr(dataset, key) != getattr(whole, key)]
        sources = {**sources, **dict.fromkeys(reduced, f"{scale.source}: limit")}
    return dataset, every_source(dataset, sources)


def gives_labels(dataset: Dataset) -> bool:
    """Whether every image of a dataset comes with a label."""
    return all(
        getattr(reading, "labels", "none") == "folders" or getattr(reading, "label", None) is not None
        for reading in readings(dataset.source)
    )


def _fitting(overrides: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Overrides of a tagged union apply only to datasets that have the same kind."""
    kinds = {key: value.get("kind") for key, value in values.items() if isinstance(value, dict)}
    other = [key for key, new in overrides.items() if key in kinds and new.get("kind", kinds[key]) != kinds[key]]
    return {key: value for key, value in overrides.items() if key not in other}


def run_settings(config: ConfigFolder, run: str, scale: ScaleLayer) -> Run:
    """Resolved settings of a run, with the source of each. RUN-SUFFIX is RUN with the scale's reduced budget."""
    reduced = scale.settings.short if run not in config.run_entries() else None
    chain = config.run_chain(run if reduced is None else run.removesuffix(f"-{reduced.suffix}"))
    first, last = chain[0], chain[-1]
    if (images := last.entry.samples) is not None:
        sources = {f"samples.{key}": last.source for key in last.values["samples"]}
        about = {"dataset": last.entry.dataset, "method": ELSEWHERE, "note": last.entry.note}
        return Run(id=run, training=None, samplers={GIVEN: images}, sources=sources, samples=images, **about)
    method_layer = config.layer("methods", first.entry.method, f"{first.source}: method")
    dataset_layer = config.layer("datasets", first.entry.dataset, f"{first.source}: dataset")
    method = build(Method, method_layer.values, method_layer.source)
    check_layer(Dataset, dataset_layer.values, dataset_layer.source)
    layers = [
        *_of_method(method_layer, first.entry.method, scale),
        Layer(dataset_layer.source, dataset_layer.values.get("training", {})),
        *(Layer(link.source, link.values.get("training", {})) for link in chain),
    ]
    if reduced is not None:
        layers.append(Layer(f"{scale.source}: short", reduced.training))
    values, sources = merge(_one_length(layers))
    training = build(Training, values, f"{last.source}: training")
    samplers = dict(method.samplers)
    for link in chain:
        samplers.update(link.entry.samplers)
    init = next((link.entry.init for link in reversed(chain) if link.entry.init is not None), None)
    if init is not None and init.run is not None and reduced is not None:  # the reduced form of the run it names
        init = dataclasses.replace(init, run=f"{init.run}-{reduced.suffix}")
    return Run(
        id=run,
        dataset=first.entry.dataset,
        method=first.entry.method,
        training=training,
        samplers=samplers,
        sources=every_source(training, sources),
        note=last.entry.note,
        weights=last.entry.weights,
        init=init,
        reduced=reduced is not None,
    )


def _of_method(method: Layer, name: str, scale: ScaleLayer) -> list[Layer]:
    """The first layers of a training: a method's, and what the scale changes of it."""
    own = Layer(method.source, method.values.get("training", {}))
    return [own, *scale.under("training"), *scale.under("methods", name)]


def run_exists(config: ConfigFolder, run: str, scale: ScaleLayer) -> bool:
    """Whether `run` is an entry of config/runs/, or one with the scale's reduced budget."""
    reduced, entries = scale.settings.short, config.run_entries()
    return run in entries or (reduced is not None and run.removesuffix(f"-{reduced.suffix}") in entries)


def figure_settings(
    config: ConfigFolder, name: str, scale_name: str, scale: ScaleLayer
) -> tuple[Figure, Training | None] | None:
    """A figure, with its cost at this scale alone, and the resolved settings of its trainings, if it has any; None
    where it is not made at this scale."""
    layer = config.layer("figures", name, "config/figures")
    figure = build(Figure, layer.values, layer.source)
    if (key := scale.name_in(figure.scales)) is None:
        return None
    cost, limit = figure.scales[key], scale.settings.limit
    if limit is not None:
        counts = {name: min(getattr(cost, name), limit.images) for name in ("images", "pairs")}
        cost = dataclasses.replace(cost, **counts)
    figure = dataclasses.replace(figure, scales={scale_name: cost})
    if figure.kind != "box-plots":
        return figure, None
    method = config.layer("methods", figure.method, f"{layer.source}: method")
    layers = [
        *_of_method(method, figure.method, scale),
        Layer(layer.source, layer.values.get("training", {})),
        Layer(layer.source, layer.values["scales"][key].get("training", {})),
    ]
    where = f"{layer.source}: training at scale {scale_name}"
    training = build(Training, merge(_one_length(layers))[0], where)
    if training.objective.kind != "consistency" or training.curriculum.kind != "constant":
        raise ValueError(f"{where}: expected a consistency objective and a constant curriculum, found another; fix it")
    return figure, training


def _one_length(layers: list[Layer]) -> list[Layer]:
    """Epochs and steps replace each other: the last layer that gives either has the word."""
    last = next((i for i in reversed(range(len(layers))) if {"epochs", "steps"} & layers[i].values.keys()), None)
    if last is None:
        return layers
    dropped = {"epochs", "keep_epochs"} if "steps" in layers[last].values else {"steps", "keep_steps"}
    dropped -= layers[last].values.keys()
    earlier = [Layer(a.source, {k: v for k, v in a.values.items() if k not in dropped}) for a in layers[:last]]
    return earlier + layers[last:]
