"""What today's configuration says each job should be given: (stage, dataset, run or milestone) -> settings."""

from typing import Any

from lct.config.model import MEASURED
from lct.plan import settings as stage_settings
from lct.plan.paths import milestone
from lct.plan.plan import Plan

Settings = dict[tuple[str, str], dict[str, Any]]


def settings(plan: Plan) -> Settings:
    """(stage, owner) -> the settings that the graph would give that job now. All seeds of a run share theirs."""
    planned: Settings = {}
    for stage in ("images", "autoencoder", "encode", "extractor", "reference", "degraded"):
        planned |= {(stage, dataset): getattr(stage_settings, stage)(plan, dataset) for dataset in plan.datasets}
    for name, run in plan.runs.items():
        if run.samples is not None:
            planned["take", name] = stage_settings.take_samples(plan, name)
        elif run.weights is None:
            planned["train", name] = stage_settings.train(plan, name)
        else:
            planned["take", name] = stage_settings.import_weights(plan, name)
        for at in plan.sampled_milestones(name) if run.samples is None else []:
            planned["sample", f"{name}/{at}"] = stage_settings.sample(plan, name, at)
        planned["score", name] = stage_settings.score(plan, run.dataset)
        planned["distance", name] = stage_settings.distance(plan, run.dataset)
        planned["neighbours", name] = stage_settings.neighbours(plan, run.dataset)
    for name in plan.downloads:
        planned["download", name] = stage_settings.download(plan, name)
    for name in plan.figures_of(*MEASURED):
        planned["figure", name] = stage_settings.figure(plan, name)
    for which in ("tables", "all"):
        planned["tables", which] = stage_settings.tables(plan, which)
    return planned


def of(planned: Settings, stage: str | None, path: str) -> dict[str, Any] | None:
    """The settings for the job of a file; None where the configuration has no such job. The owner is a folder of its
    path: results/{scale}/{kind}/{owner}/..., behind "reference" for what belongs to a dataset's real images, or
    resources/{owner}/...; images of a run are those of a milestone."""
    folders = path.split("/")
    owners = folders[1:2] if folders[0] == "resources" else folders[3:5]
    owners = [*owners, *(f"{folders[3]}/{milestone(weights)}" for weights in folders[5:6])]
    keys = [(str(stage), owner.removesuffix(".json")) for owner in owners]
    return next((planned[key] for key in keys if key in planned), None)
