"""What today's configuration says each job should be given: (stage, dataset or run) -> settings."""

from typing import Any

from lct.config.figures import MEASURED
from lct.plan import settings as stage_settings
from lct.plan.plan import Plan

Settings = dict[tuple[str, str], dict[str, Any]]


def settings(plan: Plan) -> Settings:
    """(stage, owner) -> the settings that the graph would give that job now. All seeds of a run share theirs."""
    found: Settings = {}
    for dataset in plan.datasets:
        found["images", dataset] = stage_settings.images(plan, dataset)
        found["autoencoder", dataset] = stage_settings.autoencoder(plan, dataset)
        found["encode", dataset] = stage_settings.encode(plan, dataset)
        found["extractor", dataset] = stage_settings.extractor(plan, dataset)
        found["reference", dataset] = stage_settings.score(plan, dataset)
    for name, run in plan.runs.items():
        if run.weights is None:
            found["train", name] = stage_settings.train(plan, name)
        else:
            found["take", name] = stage_settings.import_weights(plan, name)
        found["sample", name] = stage_settings.sample(plan, name)
        found["score", name] = stage_settings.score(plan, run.dataset)
        found["neighbours", name] = stage_settings.neighbours(plan, run.dataset)
    for name in plan.downloads:
        found["download", name] = stage_settings.download(plan, name)
    for name in plan.figures_of(*MEASURED):
        found["figure", name] = stage_settings.figure(plan, name)
    for which in ("tables", "all"):
        found["tables", which] = stage_settings.tables(plan, which)
    return found


def of(found: Settings, stage: str | None, path: str) -> dict[str, Any] | None:
    """The settings for the job of a file; None where the configuration has no such job. The owner is a folder of its
    path: results/{scale}/{kind}/{owner}/..., behind "reference" for what belongs to a dataset's real images, or
    resources/{owner}/..."""
    folders = path.split("/")
    owners = folders[1:2] if folders[0] == "resources" else folders[3:5]
    keys = [(str(stage), owner.removesuffix(".json")) for owner in owners]
    return next((found[key] for key in keys if key in found), None)
