"""A run as a folder that `DiffusionPipeline.from_pretrained` loads without this project.

The folder holds a stock AutoencoderKL, the network with its module, safetensors and a model card. Its code is copied
from this project, so that the same seeds give the same images.
"""

import ast
import inspect
import json
import re
import shutil
from pathlib import Path
from typing import Any

import jinja2
from safetensors.torch import save_file

from lct import checks, schedules, streams
from lct.data import autoencoder
from lct.data.latents import LatentStatistics
from lct.export.generator import GeneratorFiles
from lct.files.atomic import atomic, atomic_folder, copy, write_json, write_text
from lct.files.tensors import read_metadata, read_tensors
from lct.networks import layout, norms, precondition, unet
from lct.networks import settings as network_settings
from lct.sampling import generate, samplers
from lct.sampling import settings as sampling_settings

HERE = Path(__file__).parent
MODEL, PIPELINE = "consistency_model", "pipeline"
MARK = f"generator/{MODEL}.py"  # what no other folder of diffusers has


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier export."""
    if folder.exists() and not (folder.is_dir() and ((folder / MARK).exists() or not any(folder.iterdir()))):
        raise ValueError(
            f"{folder}: expected nothing or an earlier export with {MARK}, found other files; choose another --out"
        )


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
    write_text(folder / f"{PIPELINE}.py", pipeline_source())
    write_text(folder / MARK, model_source())
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


def model_source() -> str:
    parts = [inspect.getsource(module) for module in (checks, network_settings, layout, norms, unet, precondition)]
    return _joined([*parts, (HERE / f"{MODEL}.py").read_text(encoding="utf-8")])


def pipeline_source() -> str:
    parts = [inspect.getsource(module) for module in (checks, streams, schedules, sampling_settings, samplers)]
    parts += [inspect.getsource(function) for function in (generate.image_noise, autoencoder.to_uint8)]
    return _joined([*parts, (HERE / f"{PIPELINE}.py").read_text(encoding="utf-8")])


def _joined(sources: list[str]) -> str:
    """One module of several: the docstring of the last, the imports of other packages, the code of all."""
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
    docstring = f'"""{title}.\n\nWritten by `lct export`; needs torch, diffusers and safetensors alone."""'
    return "\n\n".join([docstring, head, "\n\n\n".join(["", *bodies]).strip("\n")]) + "\n"
