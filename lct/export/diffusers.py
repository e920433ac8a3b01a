"""A run as a folder that `DiffusionPipeline.from_pretrained` loads without this project, with its model card.

The folder holds a stock AutoencoderKL, the network with its module, safetensors and a model card. Its code is copied
from this project, so that the same seeds give the same images.
"""

import ast
import inspect
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from safetensors.torch import save_file

from lct import checks, schedules, streams
from lct.config.model import Run
from lct.data import autoencoder
from lct.data.latents import LatentStatistics
from lct.files.atomic import atomic, atomic_folder, copy, read_json, write_json, write_text
from lct.files.hashing import sha256_file
from lct.files.tensors import read_metadata, read_tensors
from lct.networks import settings as network_settings
from lct.networks import unet
from lct.plan import files as stage_files
from lct.plan import settings as stage_settings
from lct.plan.paths import AUTOENCODER_FILES, milestone
from lct.plan.plan import Cell, Plan
from lct.sampling import samplers
from lct.sampling import settings as sampling_settings

HERE = Path(__file__).parent
MODEL, PIPELINE = "consistency_model", "pipeline"
MARK = f"generator/{MODEL}.py"  # what no other folder of diffusers has


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


def generator_files(plan: Plan, root: Path, cell: Cell, seed: int) -> GeneratorFiles:
    """The files behind a row and a training seed. ValueError that names the first missing one."""
    dataset = plan.runs[cell.run].dataset
    files = GeneratorFiles(
        weights=root / plan.paths.weights(cell.run, seed, cell.weights),
        statistics=root / stage_files.latents(plan, dataset, "statistics.safetensors"),
        vae=root / plan.paths.autoencoder(dataset),
        settings=stage_settings.sample(plan, cell.run, milestone(cell.weights)),
    )
    missing = next((path.relative_to(root) for path in files.paths if not path.exists()), None)
    expected, command = f"the file that {cell.name} is made from", f"snakemake {missing} {plan.snakemake_options}"
    checks.require(missing is None, missing, expected, "nothing", command)
    return files


def licence_text(plan: Plan, run: Run) -> str:
    """Under which terms weights and images may be used, as far as the configuration says it."""
    dataset = plan.datasets[run.dataset]
    stated = f"{dataset.licence} for the images of {dataset.title}"
    if not dataset.licence:
        key = f"`licence` in config/datasets/{run.dataset}.yaml"
        stated = f"no licence is stated for the images of {dataset.title} ({key})"
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


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier export."""
    ours = not folder.exists() or folder.is_dir() and ((folder / MARK).exists() or not any(folder.iterdir()))
    checks.require(ours, folder, f"nothing or an earlier export with {MARK}", "other files", "choose another --out")


def write(folder: Path, files: GeneratorFiles, sampler: str, card: dict[str, Any]) -> list[Path]:
    """Write the folder and return its files. It appears when it is complete, and then replaces an earlier export.

    sampler: name of one of the settings' samplers. card: values of the model card."""
    check_folder(folder)
    with atomic_folder(folder) as partial:
        _write(partial, files, sampler, card)
        if folder.exists():
            shutil.rmtree(folder)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _write(folder: Path, files: GeneratorFiles, sampler: str, card: dict[str, Any]) -> None:
    settings = files.settings
    statistics = LatentStatistics.from_tensors(read_tensors(files.statistics))
    shape = list(read_metadata(files.weights)["latent_shape"])
    sampling_code = (checks, streams, schedules, sampling_settings, samplers, autoencoder.to_uint8)
    write_text(folder / f"{PIPELINE}.py", _joined(PIPELINE, *sampling_code))
    write_text(folder / MARK, _joined(MODEL, checks, network_settings, unet))
    tensors = {f"net.{name}": tensor for name, tensor in read_tensors(files.weights).items()}
    with atomic(folder / "generator" / "diffusion_pytorch_model.safetensors") as partial:
        save_file(tensors, partial, metadata={"format": "pt"})
    config = {"_class_name": "ConsistencyModel", "network": settings["network"], "scaling": settings["scaling"]}
    config |= {"latent_shape": shape, "mean": statistics.mean.tolist(), "std": statistics.std.tolist()}
    write_json(folder / "generator" / "config.json", config | {"sigma_data": statistics.sigma_data})
    for name in (autoencoder.CONFIG_NAME, autoencoder.WEIGHTS_NAME):
        copy(files.vae / name, folder / "vae" / name)
    sampling = {"sampler": settings["samplers"][sampler], "grid": settings["grid"], "shape": shape}
    sampling |= {name: settings["sampling"][name] for name in ("batch", "rounding")}
    sampling["decode_batch"] = settings["encoding"]["batch"]
    index = {
        "_class_name": [PIPELINE, "LatentConsistencyPipeline"],
        "vae": ["diffusers", "AutoencoderKL"],
        "generator": [MODEL, "ConsistencyModel"],
        "settings": sampling,
    }
    write_json(folder / "model_index.json", index)
    write_text(folder / "README.md", model_card(card))


def model_card(card: dict[str, Any]) -> str:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=True)  # YAML reads JSON's strings
    text = (HERE / "model_card.md.jinja").read_text(encoding="utf-8")
    return environment.from_string(text).render(card=card)


def _joined(name: str, *parts: Any) -> str:
    """One module of parts of this project and the module `name` of this folder: the docstring of the last, the imports
    of other packages, the code of all."""
    sources = [*map(inspect.getsource, parts), (HERE / f"{name}.py").read_text(encoding="utf-8")]
    imports: dict[str, None] = {"import torch": None, "from torch import Tensor": None}
    bodies, title = [], ""
    for source in sources:
        lines, tree = source.splitlines(), ast.parse(source)
        title = (ast.get_docstring(tree) or "").partition(". `lct")[0]
        for node in tree.body:
            is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            is_import = isinstance(node, ast.Import | ast.ImportFrom)
            if is_import and not (getattr(node, "module", None) or "").startswith("lct"):
                imports[ast.unparse(node)] = None
            if is_docstring or is_import:
                lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
        bodies.append(re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines).strip()))
    head = "\n".join(sorted(imports, key=lambda line: (not line.startswith("import"), line)))
    docstring = f'"""{title}.\n\nWritten by `lct export`; needs safetensors and the packages imported here alone."""'
    return "\n\n".join([docstring, head, "\n\n\n".join(["", *bodies]).strip("\n")]) + "\n"
