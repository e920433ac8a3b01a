"""What today's configuration says each job should be given: (stage, dataset or run) -> settings."""

from typing import Any

from lct.config.figures import MEASURED
from lct.plan.plan import Plan
from lct.plan.recipes import RECIPES

Settings = dict[tuple[str, str], dict[str, Any]]


def settings(plan: Plan) -> Settings:
    """(stage, owner) -> the settings that the graph would give that job now. All seeds of a run share theirs."""
    found: Settings = {}
    for dataset in plan.datasets:
        found["images", dataset] = plan.images_settings(dataset)
        found["autoencoder", dataset] = plan.autoencoder_settings(dataset)
        found["encode", dataset] = plan.encoding_settings(dataset)
        found["extractor", dataset] = plan.extractor_settings(dataset)
        found["reference", dataset] = plan.scoring_settings(dataset)
    for name, run in plan.runs.items():
        if run.weights is None:
            found["train", name] = plan.training_settings(name)
        else:
            found["take", name] = plan.given_settings(name)
        found["sample", name] = plan.sampling_settings(name)
        found["score", name] = plan.scoring_settings(run.dataset)
        found["neighbours", name] = plan.neighbours_settings(run.dataset)
    for name, wanted in plan.downloads().items():
        found["download", name] = wanted
    for name in plan.figures_of(*MEASURED):
        found["figure", name] = plan.figure_settings(name)
    for which in ("tables", "all"):
        found["tables", which] = {"recipe": RECIPES["tables"], **plan.tables_settings(which)}
    return found


def of(found: Settings, stage: str | None, path: str) -> dict[str, Any] | None:
    """The settings for the job of a file; None where the configuration has no such job. The owner is a folder of its
    path: results/{scale}/{kind}/{owner}/..., behind "reference" for what belongs to a dataset's real images, or
    resources/{owner}/..."""
    folders = path.split("/")
    owners = folders[1:2] if folders[0] == "resources" else folders[3:5]
    keys = [(str(stage), owner.removesuffix(".json")) for owner in owners]
    return next((found[key] for key in keys if key in found), None)
