"""The settings that each stage's job is given: a changed value reruns the stage and what follows from it.

So does a new recipe number, which is raised, on purpose, when a change of a stage's code changes what the same settings
mean. The graph does not look at code, so that a comment never costs a training. Losses, which users add, are the
exception: lct.plan.code.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from lct.config.model import MEASURED
from lct.config.schema import plain
from lct.metrics.settings import DEGRADATIONS, WIDE_FEATURES
from lct.plan.code import SHIPPED, loss_code
from lct.plan.listing import left_out
from lct.plan.paths import milestone
from lct.plan.plan import Plan

Settings = dict[str, Any]  # values that JSON can hold
Planned = Callable[[str, str], Settings | None]  # (stage, owner: dataset, run or milestone) -> what its job is given
RECIPES = {
    "download": 1,
    "images": 1,
    "autoencoder": 1,
    "encode": 2,
    "extractor": 1,
    "train": 2,
    "sample": 1,
    "score": 3,
    "score of wide features": 4,  # in place of `score` for datasets with an extractor of WIDE_FEATURES or more: last
    # digits of the Frechet distance by Cholesky factors
    "distance": 1,
    "degraded": 1,
    "neighbours": 1,
    "figure": 4,
    "pilot": 1,
    "tables": 3,
    "report": 5,
}


# --- of a dataset -----------------------------------------------------------------------------------------------------
def images(plan: Plan, dataset: str) -> Settings:
    keys = ("source", "resolution", "train", "heldout", "split_seed", "flips")
    values = plain(plan.datasets[dataset])
    return {"recipe": RECIPES["images"], "dataset": {key: values[key] for key in keys}}


def autoencoder(plan: Plan, dataset: str) -> Settings:
    return {"recipe": RECIPES["autoencoder"], "autoencoder": plain(plan.datasets[dataset].autoencoder)}


def encode(plan: Plan, dataset: str) -> Settings:
    return {"recipe": RECIPES["encode"], "encoding": plain(plan.datasets[dataset].encoding)}


def extractor(plan: Plan, dataset: str) -> Settings:
    return {"recipe": RECIPES["extractor"], "extractor": plain(plan.datasets[dataset].extractor)}


def score(plan: Plan, dataset: str) -> Settings:
    """Of scoring."""
    extractors = plan.extractors_of(dataset)
    wide = any(extractor.features >= WIDE_FEATURES for extractor in extractors)
    return {
        "recipe": RECIPES["score of wide features" if wide else "score"],
        "protocols": plain(plan.protocols_of(dataset)),
        "extractors": plain(extractors),
        "own_extractor": plan.datasets[dataset].extractor.id,
        "flips": plan.datasets[dataset].flips,
    }


def reference(plan: Plan, dataset: str) -> Settings:
    """Of references and floor rows. few: fewer images are held out than generated, on which distances depend."""
    return score(plan, dataset) | ({"few": True} if plan.few_heldout(dataset) else {})


def distance(plan: Plan, dataset: str) -> Settings:
    """Of the Frechet distance of the first protocol alone."""
    scoring, protocol = score(plan, dataset), plan.protocols_of(dataset)[0]
    network = plan.extractor(dataset, protocol.distance)
    own = {"recipe": RECIPES["distance"], "protocols": [plain(protocol)], "extractors": [plain(network)]}
    return scoring | {"scoring": scoring["recipe"]} | own


def degraded(plan: Plan, dataset: str) -> Settings:
    """Of real images that are damaged on purpose: held-out ones, or training images where fewer are held out than
    generated."""
    scoring = score(plan, dataset)
    own = {"recipe": RECIPES["degraded"], "degradations": plain(DEGRADATIONS), "side": plan.degraded_side(dataset)}
    return scoring | {"scoring": scoring["recipe"]} | own


def neighbours(plan: Plan, dataset: str) -> Settings:
    """How the first protocol sees images, and how many generated ones are shown with how many training images."""
    return {
        "recipe": RECIPES["neighbours"],
        "shown": 8,
        "nearest": 3,
        "protocols": [plain(plan.protocol)],
        "extractors": [plain(plan.extractor(dataset, plan.protocol.recall))],
        "own_extractor": plan.datasets[dataset].extractor.id,
    }


# --- of a run ---------------------------------------------------------------------------------------------------------
def train(plan: Plan, run: str) -> Settings:
    training = plan.runs[run].training
    values = {"recipe": RECIPES["train"], "training": plain(training)} | loss_code(training.objective.loss)
    if (init := plan.runs[run].init) is not None:
        given = {"path": init.path, "sha256": init.sha256}
        values["init"] = {"run": init.run, "weights": plan.initial_weights(run)} if init.run else given
    return values


def import_weights(plan: Plan, run: str) -> Settings:
    return {
        "recipe": RECIPES["train"],
        "weights": plain(plan.runs[run].weights),
        "network": plain(plan.runs[run].training.network),
        "latent_shape": plain(plan.datasets[plan.runs[run].dataset].latent_shape),
    }


def take_samples(plan: Plan, run: str) -> Settings:
    dataset = plan.runs[run].dataset
    return {
        "recipe": RECIPES["images"],
        "source": plain(plan.runs[run].samples.source),
        "images": max(protocol.num_images for protocol in plan.protocols_of(dataset)),
        "resolution": plan.datasets[dataset].resolution,
        "grid_images": plan.scale.sampling.grid_images,
    }


def sample(plan: Plan, run: str, at: str | None = None) -> Settings:
    """at: the milestone whose weights are sampled from; needed where a run has several."""
    training, evaluations = plan.runs[run].training, plan.evaluations(run, at)
    samplers = sorted({sampler for _, sampler in evaluations})
    return {
        "recipe": RECIPES["sample"],
        "sampling": plain(plan.sampling_of(plan.runs[run].dataset)),
        "samplers": {name: plain(plan.runs[run].samplers[name]) for name in samplers},
        "wanted": plain(evaluations),
        "network": plain(training.network),
        "scaling": plain(training.scaling),
        "grid": plain(training.grid),
        "encoding": {"batch": plan.datasets[plan.runs[run].dataset].encoding.batch},
    }


# --- of downloads, figures and tables ---------------------------------------------------------------------------------
def download(plan: Plan, name: str) -> Settings:
    return {"recipe": RECIPES["download"], "id": name, "origins": plain(plan.downloads[name])}


def figure(plan: Plan, name: str) -> Settings:
    spec, training = plan.figures[name]
    cost = spec.scales[plan.scale_name]
    if spec.kind == "losses":
        return {"recipe": RECIPES["figure"], "kind": spec.kind} | loss_code(*SHIPPED)
    if spec.kind == "couplings":
        shared = {"recipe": RECIPES["figure"], "kind": spec.kind, "seed": spec.seed}
        shared |= {"random": plain(spec.random)} if spec.random else {}
        return shared | {"groups": list(spec.groups), "images": cost.images, "pairs": cost.pairs}
    return {
        "recipe": RECIPES["figure"],
        "figure": {key: getattr(cost, key) for key in ("images", "values", "pairs")},
        "seed": spec.seed,
        "training": plain(training),
    } | loss_code(training.objective.loss)


def pilot(plan: Plan) -> Settings:
    return {"recipe": RECIPES["pilot"], "rows": [cell.name for cell in plan.pilot]}


def tables(plan: Plan, which: str = "all") -> Settings:
    """Everything that the tables show and no metrics file holds."""
    scale = plain(dataclasses.replace(plan.scale, dataset={}, training={}, methods={}))
    del scale["pilot"]  # it has a page of its own
    if which != "all":
        del scale["more_tables"], scale["short"]
    names, runs = plan.tables_of(which), plan.runs_of(which)
    return {
        "recipe": RECIPES["tables"],
        "scale": scale,
        "tables": {name: plain(plan.tables[name]) for name in names},
        "published": {
            name: plain(plan.published[name]) for name in sorted({plan.tables[table].published for table in names})
        },
        "datasets": {
            name: {"title": dataset.title, "stands_for": dataset.stands_for, "note": dataset.note}
            for name, dataset in plan.datasets.items()
        },
        "runs": {
            name: {"sources": run.sources, "note": run.note}
            | ({"samples": plain(run.samples)} if run.samples else {"training": plain(run.training)})
            | ({"init": plain(run.init)} if run.init else {})
            for name, run in plan.runs.items()
            if name in runs
        },
        "figures": {
            name: [spec.kind, spec.title, spec.caption, *spec.rows] for name, (spec, _) in plan.figures.items()
        },
        "left_out": left_out(plan, which),
    } | ({"only": list(plan.only)} if plan.only else {})


# --- of every job -----------------------------------------------------------------------------------------------------
def planned(plan: Plan) -> Planned:
    """What the graph would give each job now, built when it is first asked for. All seeds of a run share theirs."""
    return functools.cache(functools.partial(_of_job, plan))


_OF_DATASETS = {stage.__name__: stage for stage in (images, autoencoder, encode, extractor, reference, degraded)}
_OF_SCORING = {stage.__name__: stage for stage in (score, distance, neighbours)}


def _of_job(plan: Plan, stage: str, owner: str) -> Settings | None:
    """None where the configuration has no such job."""
    if stage in _OF_DATASETS:
        return _OF_DATASETS[stage](plan, owner) if owner in plan.datasets else None
    if stage == "download":
        return download(plan, owner) if owner in plan.downloads else None
    if stage == "figure":
        return figure(plan, owner) if owner in plan.figures_of(*MEASURED) else None
    if stage == "tables":
        return tables(plan, owner) if owner in ("tables", "all") else None
    name, _, at = owner.partition("/")
    run = plan.runs.get(name)
    if run is None or bool(at) != (stage == "sample"):
        return None
    if stage in _OF_SCORING:
        return _OF_SCORING[stage](plan, run.dataset)
    if stage == "sample":
        return sample(plan, name, at) if run.samples is None and at in plan.sampled_milestones(name) else None
    if stage == "train":
        return train(plan, name) if run.is_trained else None
    if stage == "take" and not run.is_trained:
        return take_samples(plan, name) if run.samples is not None else import_weights(plan, name)
    return None


def of_file(jobs: Planned, stage: str | None, path: str) -> Settings | None:
    """The settings for the job of a file; None where the configuration has no such job. The owner is a folder of its
    path: results/{scale}/{kind}/{owner}/..., behind "reference" for what belongs to a dataset's real images, or
    resources/{owner}/...; images of a run are those of a milestone."""
    folders = path.split("/")
    owners = folders[1:2] if folders[0] == "resources" else folders[3:5]
    owners = [*owners, *(f"{folders[3]}/{milestone(weights)}" for weights in folders[5:6])]
    settings = (jobs(str(stage), owner.removesuffix(".json")) for owner in owners)
    return next((values for values in settings if values is not None), None)
