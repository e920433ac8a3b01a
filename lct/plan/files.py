"""The files that each stage reads and writes, and those of each report, in one order everywhere."""

import os
from collections.abc import Iterable
from typing import Literal

from lct.config.model import MEASURED
from lct.metrics.settings import TrainedExtractor, feature_specs
from lct.plan.configuration import CLAIMS
from lct.plan.paths import AUTOENCODER_FILES, DRAWN, FLOORS, download, grid, manifest, milestone, page_name
from lct.plan.plan import Cell, Plan


# --- of a dataset -----------------------------------------------------------------------------------------------------
def image_download(plan: Plan, dataset: str) -> str | None:
    """The record of the download that a dataset's images are read from; None for local and built-in images."""
    return download(dataset) if plan.datasets[dataset].source.kind == "download" else None


def heldout(plan: Plan, dataset: str, path: str) -> list[str]:
    """A file of held-out images, where there are any."""
    return [path] if plan.datasets[dataset].heldout else []


def compared_heldout(plan: Plan, dataset: str) -> list[str]:
    """The manifest of the held-out images, where the first protocol compares with them too."""
    path = manifest(plan.paths.images(dataset, "heldout"))
    return heldout(plan, dataset, path) if plan.protocol.reference == "all" else []


def autoencoder_sources(plan: Plan, dataset: str) -> list[str]:
    """Files that a pretrained autoencoder is taken from: the record of its download, or a local folder's files."""
    autoencoder = plan.datasets[dataset].autoencoder
    if autoencoder.kind != "pretrained":
        return []
    if autoencoder.weights is not None:
        return [download(autoencoder.weights)]
    return [f"{os.path.expanduser(autoencoder.folder)}/{name}" for name in AUTOENCODER_FILES]


def latents(plan: Plan, dataset: str, name: str) -> str:
    """A file of the encoding of a dataset."""
    return f"{plan.paths.latents(dataset, plan.datasets[dataset].encoding.id)}/{name}"


def own_extractor(plan: Plan, dataset: str) -> str | None:
    """The dataset's own extractor, where the graph trains it and a protocol uses it."""
    own = plan.datasets[dataset].extractor
    trained = isinstance(own, TrainedExtractor) and plan.uses_own_extractor
    return plan.paths.extractor(dataset, own.id) if trained else None


def extractors(plan: Plan, dataset: str) -> dict[str, str]:
    """Extractor id -> its weights, for every extractor of a dataset: made in the graph, or the record of a download."""
    return {
        e.id: plan.paths.extractor(dataset, e.id) if isinstance(e, TrainedExtractor) else download(e.weights)
        for e in plan.extractors_of(dataset)
    }


def extractor_of(plan: Plan, dataset: str, role: Literal["distance", "recall"]) -> str:
    """Weights of the network that the first protocol's distance, or its precision and recall, look through."""
    return extractors(plan, dataset)[plan.extractor(dataset, getattr(plan.protocol, role)).id]


def references(plan: Plan, dataset: str) -> list[str]:
    """What the protocols compare generated images with."""
    return [plan.paths.reference(dataset, protocol.id) for protocol in plan.scale.protocols]


def floors(plan: Plan, dataset: str) -> list[str]:
    """Metrics files of the floor rows that are measured."""
    return [
        plan.paths.floor_metrics(dataset, floor, protocol.id)
        for floor in FLOORS
        for protocol in plan.scale.protocols
        if plan.floor_missing(dataset, floor, protocol) is None
    ]


# --- of a run and a training seed, which may be the wildcard "{seed}"; at: of one milestone alone ---------------------
def initial(plan: Plan, run: str, seed: int | str) -> list[str]:
    """The weights that a training starts from, where it does not start from random ones."""
    init, name = plan.runs[run].init, plan.initial_weights(run)
    if init is None:
        return []
    return [plan.paths.weights(str(init.run), seed, name) if name else str(init.file)]


def curves(plan: Plan, run: str, seed: int | str, at: str) -> list[str]:
    """The curve of a training, which its last milestone publishes."""
    is_last = plan.runs[run].is_trained and at == plan.milestones(run)[-1]
    return [f"{plan.paths.train(run, seed)}/curves.json"] if is_last else []


def trained(plan: Plan, run: str, seed: int | str, at: str) -> list[str]:
    """The file that a training publishes last at a milestone; of images made elsewhere, themselves."""
    if plan.runs[run].samples is not None:
        return samples(plan, run, seed, at)
    weights = plan.paths.weights(run, seed, plan.weights_at(run, at)[-1])
    return curves(plan, run, seed, at) or [weights]


def trained_before(plan: Plan, run: str, seed: int | str, at: str) -> list[str]:
    """Weights of the milestone before this one; none where it is the first."""
    before = plan.milestones(run)[: plan.milestones(run).index(at)][-1:]
    return [plan.paths.weights(run, seed, plan.weights_at(run, name)[0]) for name in before]


def samples(plan: Plan, run: str, seed: int | str, at: str | None = None) -> list[str]:
    """Image sets of a run and seed."""
    return [plan.paths.samples(run, seed, *sample_set) for sample_set in plan.sample_sets(run, at)]


def features(plan: Plan, run: str, seed: int | str, at: str | None = None) -> list[str]:
    """Feature files of each image set, per feature spec; none where the scale keeps none."""
    if not plan.scale.keep_features:
        return []
    own = plan.datasets[plan.runs[run].dataset].extractor.id
    specs = feature_specs(protocol.resolved(own) for protocol in plan.scale.protocols)
    sets = plan.sample_sets(run, at)
    return [plan.paths.features(run, seed, *sample_set, spec.name) for sample_set in sets for spec in specs]


def metrics(plan: Plan, run: str, seed: int | str, at: str | None = None) -> list[str]:
    """Metrics files of each image set, per protocol."""
    sets, protocols = plan.sample_sets(run, at), plan.scale.protocols
    return [plan.paths.metrics(run, seed, *sample_set, protocol.id) for sample_set in sets for protocol in protocols]


def distances(plan: Plan, run: str, seed: int | str, at: str) -> list[str]:
    """The Frechet distance of each image set of a milestone, by the first protocol."""
    return [plan.paths.distance(run, seed, *sample_set, plan.protocol.id) for sample_set in plan.sample_sets(run, at)]


def first_samples(plan: Plan, run: str, seed: int | str, at: str | None = None) -> list[str]:
    """Image sets of the first draw of each sampler."""
    return [plan.paths.samples(run, seed, *sample_set) for sample_set in plan.sample_sets(run, at, first=True)]


def neighbours(plan: Plan, run: str, seed: int | str, kind: str, at: str | None = None) -> list[str]:
    """Nearest training images of those image sets, in the same order; kind: json or png."""
    return [plan.paths.neighbours(run, seed, *sample_set, kind) for sample_set in plan.sample_sets(run, at, first=True)]


def image_readers(plan: Plan, run: str, seed: int | str, at: str) -> list[str]:
    """What is computed from the image sets of a milestone."""
    numbers = metrics(plan, run, seed, at) + features(plan, run, seed, at)
    return numbers + [path for kind in ("json", "png") for path in neighbours(plan, run, seed, kind, at)]


# --- of a report: `which` is "tables", those that the scale lists, or "all", its further ones too ---------------------
def figure_numbers(plan: Plan) -> list[str]:
    """Numbers of every measured figure; its pictures are beside them."""
    names, datasets = plan.figures_of(*MEASURED), plan.shown_datasets
    return [plan.paths.figure(name, dataset, "json") for name in names for dataset in datasets]


def cell_metrics(plan: Plan, cells: Iterable[Cell]) -> list[str]:
    """Metrics files of cells, for every protocol."""
    sets = {s for cell in cells for s in cell.sets}
    protocols = plan.scale.protocols
    return sorted(plan.paths.metrics(*s, protocol.id) for s in sets for protocol in protocols)


def pilot_distances(plan: Plan) -> list[str]:
    """The Frechet distances of the rows of the pilot."""
    return sorted({plan.paths.distance(*s, plan.protocol.id) for cell in plan.pilot for s in cell.sets})


def cell_inputs(plan: Plan, cells: Iterable[Cell]) -> list[str]:
    """What is shown of cells beside their metrics: previews, curves and, but of what claims compare, neighbours."""
    kinds = () if CLAIMS in plan.only else ("json", "png")
    sets = {s for cell in cells for s in cell.sets}
    paths = {grid(plan.paths.samples(*s)) for s in sets}
    for run, seed, at in {(s.run, s.seed, milestone(s.weights)) for s in sets}:
        paths |= {path for kind in kinds for path in neighbours(plan, run, seed, kind, at)}
        paths |= set(curves(plan, run, seed, at))
    return sorted(paths)


def report_metrics(plan: Plan, which: str = "all") -> list[str]:
    """Metrics files of every cell and every floor row."""
    cells = set(cell_metrics(plan, plan.cells_of(which)))
    return sorted(cells | {floor for dataset in plan.shown_datasets for floor in floors(plan, dataset)})


def report_inputs(plan: Plan, which: str = "all") -> list[str]:
    """What a report shows beside the metrics: previews, neighbours, reconstructions, curves, summaries, figures."""
    paths = set(cell_inputs(plan, plan.cells_of(which)))
    for dataset in plan.shown_datasets:
        paths |= {latents(plan, dataset, name) for name in ("reconstructions.grid.png", "summary.json")}
        paths |= {plan.paths.degraded(dataset)} if CLAIMS not in plan.only else set()
        if (extractor := own_extractor(plan, dataset)) is not None:
            paths.add(extractor.replace(".safetensors", ".summary.json"))
    return sorted(paths) + figure_numbers(plan)


def claimed_tables(plan: Plan) -> list[str]:
    """The tables.json of `snakemake claims`, where it exists: reports of whole tables judge claims by it."""
    path = plan.claims_paths.tables()
    return [path] if not plan.only and (plan.root / path).exists() else []


def row_pages(plan: Plan, which: str) -> list[str]:
    """Pages of the rows that a report shows, floors included, relative to its index."""
    floor_pages = [
        page_name(name, part.id, f"floor-{floor}")
        for name in plan.tables_of(which)
        for part in plan.published[plan.tables[name].published].subtables
        if (dataset := plan.subtables.get(part.id)) is not None
        for floor in FLOORS
        if plan.floor_missing(dataset, floor, plan.protocol) is None
    ]
    return [page_name(cell.table, cell.subtable, cell.row) for cell in plan.cells_of(which)] + floor_pages


def report_figures(plan: Plan) -> list[str]:
    """Figures that a report draws by itself, relative to its index."""
    return [f"figures/{name}.{kind}" for name in plan.figures_of("schedules", "samples") for kind in DRAWN]
