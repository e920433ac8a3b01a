"""What today's configuration says each file should be made with: file -> settings of its stage."""

from typing import Any

from lct.config.paths import AUTOENCODER_FILES, FLOORS, IMAGE_SPLITS, LATENT_FILES, RECONSTRUCTIONS
from lct.config.plan import Plan
from lct.config.recipes import RECIPES


def settings(plan: Plan) -> dict[str, dict[str, Any]]:
    """Path of every file with records -> the settings that the graph would give its job now."""
    paths, found = plan.paths, {}
    for dataset in plan.datasets:
        extractor = plan.extractor_of(dataset)
        stages = [
            (plan.images_settings, [paths.images(dataset, split) for split in IMAGE_SPLITS]),
            (plan.autoencoder_settings, [f"{paths.autoencoder(dataset)}/{name}" for name in AUTOENCODER_FILES]),
            (plan.encoding_settings, [plan.latents_of(dataset, name) for name in LATENT_FILES]),
            (plan.encoding_settings, [plan.latents_of(dataset, f"{name}.zip") for name in RECONSTRUCTIONS]),
            (plan.extractor_settings, [extractor, extractor.replace(".safetensors", ".summary.json")]),
            (plan.scoring_settings, [plan.reference_of(dataset)]),
            (plan.scoring_settings, [paths.floor_metrics(dataset, floor, plan.protocol) for floor in FLOORS]),
        ]
        found |= {path: of(dataset) for of, made in stages for path in made}
    for name, run in plan.runs.items():
        trained = plan.training_settings if run.weights is None else plan.given_settings
        for seed in plan.seeds_of(name):
            weights = [paths.weights(name, seed, one) for one in plan.weights_names(run)]
            weights += [f"{paths.train(name, seed)}/curves.json"] if run.weights is None else []
            scored = plan.features_of(name, seed) + plan.metrics_of(name, seed)
            found |= dict.fromkeys(weights, trained(name))
            found |= dict.fromkeys(plan.samples_of(name, seed), plan.sampling_settings(name))
            found |= dict.fromkeys(scored, plan.scoring_settings(run.dataset))
    for which in ("tables", "all"):
        found[paths.tables(which)] = {"recipe": RECIPES["tables"], **plan.tables_settings(which)}
    return found
