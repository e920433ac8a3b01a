"""The files of a generator that is exported, and what its model card tells."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lct.config.model import Run
from lct.files.atomic import read_json
from lct.files.hashing import sha256_file
from lct.plan import files as stage_files
from lct.plan import settings as stage_settings
from lct.plan.paths import AUTOENCODER_FILES, milestone
from lct.plan.plan import Cell, Plan


@dataclass(frozen=True, kw_only=True)
class GeneratorFiles:
    """Files of a trained network and its autoencoder, and the settings of the job that samples from them."""

    weights: Path
    statistics: Path  # mean and standard deviation of the latents
    vae: Path  # diffusers folder of the autoencoder
    settings: dict[str, Any]  # of the sampling job: network, scaling, grid, sampling, samplers, encoding

    @property
    def paths(self) -> list[Path]:
        return [self.weights, self.statistics, *(self.vae / name for name in AUTOENCODER_FILES)]


def training_seed(plan: Plan, cell: Cell, seed: int | None) -> int:
    """A training seed of the cell's run: the first one if `seed` is None. ValueError if the run has no such seed."""
    seeds = plan.seeds_of(cell.run)
    if seed is not None and seed not in seeds:
        raise ValueError(f"--seed: expected one of {list(seeds)}, found {seed}; choose another")
    return seeds[0] if seed is None else seed


def generator_files(plan: Plan, root: Path, cell: Cell, seed: int) -> GeneratorFiles:
    """The files behind a row and a training seed. ValueError that names the first missing one."""
    dataset = plan.runs[cell.run].dataset
    files = GeneratorFiles(
        weights=root / plan.paths.weights(cell.run, seed, cell.weights),
        statistics=root / stage_files.latents(plan, dataset, "statistics.safetensors"),
        vae=root / plan.paths.autoencoder(dataset),
        settings=stage_settings.sample(plan, cell.run, milestone(cell.weights)),
    )
    for path in files.paths:
        if not path.exists():
            name = path.relative_to(root)
            command = f"snakemake {name} {plan.snakemake_options}"
            raise ValueError(f"{name}: expected the file that {cell.name} is made from, found nothing; {command}")
    return files


def licence_text(plan: Plan, run: Run) -> str:
    """Under which terms weights and images may be used, as far as the configuration says it."""
    dataset = plan.datasets[run.dataset]
    stated = (
        f"{dataset.licence} for the images of {dataset.title}"
        if dataset.licence
        else (
            f"no licence is stated for the images of {dataset.title} (`licence` in config/datasets/{run.dataset}.yaml)"
        )
    )
    taken = f"The weights were not trained here: the terms of {run.weights.path} hold. " if run.weights else ""
    return f"{taken}The code is under the MIT licence, which says nothing about weights and images; {stated}."


def card(plan: Plan, root: Path, cell: Cell, seed: int, files: GeneratorFiles) -> dict[str, Any]:
    """Values of the model card. Metrics are those of this seed's first draw, where they were measured."""
    run, draw = plan.runs[cell.run], min(plan.scale.sampling.draws)
    path = root / plan.paths.metrics(cell.run, seed, cell.weights, cell.sampler, draw, plan.protocol.id)
    metrics = read_json(path) if path.exists() else {"values": {}, "num_images": "no", "protocol_hash": "none"}
    label = f"{plan.scale.distance} ({plan.extractor(run.dataset, plan.scale.protocols[0].distance).id})"
    names = {"fd": label, "fdr": f"{label} to reconstructions", "precision": "precision", "recall": "recall"}
    return {
        "title": f"{run.id}, {cell.sampler}",
        "warning": "" if plan.scale.comparable else " ".join(plan.scale.banner),
        "run": run.id,
        "method": run.method,
        "seed": seed,
        "weights": cell.weights,
        "sampler": cell.sampler,
        "nfe": run.samplers[cell.sampler].nfe,
        "scale": plan.scale_name,
        "dataset": plan.datasets[run.dataset].title,
        "model": "consistency_model",
        "metrics": [(name, repr(metrics["values"][key])) for key, name in names.items() if key in metrics["values"]],
        "images": metrics["num_images"],
        "protocol_hash": metrics["protocol_hash"][:12],
        "protocol": json.dumps(metrics.get("protocol", {}), indent=1, sort_keys=True),
        "origin": [(str(source.relative_to(root)), sha256_file(source)) for source in files.paths],
        "cell": cell.name,
        "options": plan.lct_options,
        "licence": None if run.weights else plan.datasets[run.dataset].licence,
        "licence_text": licence_text(plan, run),
    }
