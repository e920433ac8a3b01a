"""A tables dict of realistic shape and size, with the files it names: what the report's tests render."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lct.config import yaml
from lct.config.schema import build, plain
from lct.report.settings import PublishedTable

ROOT = Path(__file__).parents[1]
METRICS = [
    {"id": "fd", "label": "FD(cnn64)", "better": "lower", "definition": "Frechet distance to the training images in the features of cnn64."},
    {"id": "fdr", "label": "FDr(cnn64)", "better": "lower", "definition": "The same against autoencoder reconstructions of the training images."},
    {"id": "precision", "label": "Precision", "better": "higher", "definition": "Share of samples inside the training images' manifold, k = 3."},
    {"id": "recall", "label": "Recall", "better": "higher", "definition": "Share of training images inside the samples' manifold, k = 3."},
]  # fmt: skip
STAND_INS = {"a": ("digits", "handwritten digits of scikit-learn"), "b": ("china", "patches of the photograph china.jpg"), "c": ("flower", "patches of the photograph flower.jpg")}  # fmt: skip
OURS = {"ldm-8": ("ldm", "euler-50", 50), "ilct-1": ("ilct", "one", 1), "ilct-2": ("ilct", "two-440", 2), "lct-1": ("lct", "one", 1), "lct-2": ("lct", "two-440", 2)}  # fmt: skip
PROTOCOL = "3f9a1c07be52"


def published() -> PublishedTable:
    path = ROOT / "config/published/table1.yaml"
    return build(PublishedTable, yaml.load(path), str(path))


def cell(place: str, metric: str, values: list[float], file: str, protocol: str = PROTOCOL) -> dict[str, Any]:
    entries = [
        {"seed": i, "draw": 0, "value": v, "metrics": file.format(seed=i), "sha256": hashlib.sha256(file.format(seed=i).encode()).hexdigest()}
        for i, v in enumerate(values)
    ]
    mean = math.fsum(values) / len(values)
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 2 else None
    return {"id": f"{place}.{metric}", "values": entries, "n": len(values), "mean": mean, "sd": sd, "axis": "training seed", "protocol": protocol}


def fake_tables(seeds: int = 2) -> dict[str, Any]:
    """Complete mini tables: every retrained row measured with `seeds` training seeds."""
    rng = np.random.default_rng(0)
    table = published()
    subtables, runs = [], {}
    for sub in table.subtables:
        dataset, title = STAND_INS[sub.id]
        rows = []
        for row in sub.rows:
            entry = {key: getattr(row, key) for key in ("id", "group", "model", "citation", "dagger", "quoted")}
            entry["published"] = {key: getattr(row, key) for key in ("nfe", "fid", "recall", "epochs", "epochs_as_printed", "batch_size")}
            entry |= {"run": None, "sampler": None, "nfe": None, "steps": None, "batch": None, "status": "quoted", "why": None, "cells": {}, "extra": {}, "samples": []}
            if row.id in OURS:
                method, sampler, nfe = OURS[row.id]
                run = f"{dataset}-{method}"
                file = f"results/mini/metrics/{run}/s{{seed}}/step5000-ema0.995/{sampler}/d0/fidelity.json"
                place = f"table1.{sub.id}.{row.id}"
                level = {"ldm": 8.0, "ilct": 17.0, "lct": 26.0}[method]
                cells = {
                    "fd": cell(place, "fd", list(level + rng.normal(0, 0.8, seeds)), file),
                    "fdr": cell(place, "fdr", list(level - 4 + rng.normal(0, 0.8, seeds)), file),
                    "precision": cell(place, "precision", list(0.8 + rng.normal(0, 0.02, seeds)), file),
                    "recall": cell(place, "recall", list(0.9 + rng.normal(0, 0.02, seeds)), file),
                }
                samples = [{"seed": s, "draw": 0, "grid": f"results/mini/sample/{run}/s{s}/step5000-ema0.995/{sampler}/d0.grid.png"} for s in range(seeds)]
                entry |= {"run": run, "sampler": sampler, "nfe": nfe, "steps": 5000, "batch": 64, "status": "complete", "cells": cells, "samples": samples}
                entry["extra"] = {"classifier confidence": 0.973} if sub.id == "a" else {}
                runs[run] = {
                    "method": method, "dataset": dataset, "parameters": 571_268,
                    "settings": {"steps": 5000, "batch": 64, "network": {"channels": 32, "channel_mult": [1, 2]}, "objective": {"loss": "cauchy", "diffusion": {"threshold": 0.75}}, "betas": [0.9, 0.999]},
                    "sources": {"steps": "config/scales/mini.yaml", "batch": "config/scales/mini.yaml", "network.channels": "config/scales/mini.yaml", "network.channel_mult": "default", "objective.loss": f"config/methods/{method}.yaml", "objective.diffusion.threshold": "default", "betas": "default"},
                    "weights": [f"results/mini/train/{run}/s{s}/step5000-ema0.995.safetensors" for s in range(seeds)],
                }  # fmt: skip
            rows.append(entry)
        floors = []
        for name, model, values in (("heldout", "Held-out images", (1.31, 1.47, 0.93, 0.92)), ("reconstruction", "Autoencoder reconstructions", (1.39, 0.031, 0.9, 0.88))):
            file = f"results/mini/metrics/reference/{dataset}/{name}/fidelity.json"
            cells = {m["id"]: cell(f"table1.{sub.id}.floor-{name}", m["id"], [v], file) for m, v in zip(METRICS, values, strict=True)}
            floors.append({"id": name, "group": "Floors", "model": model, "citation": None, "dagger": False, "quoted": False, "published": None, "run": None, "sampler": None, "nfe": None, "steps": None, "batch": None, "status": "complete", "why": None, "cells": cells, "extra": {}, "samples": []})
        subtables.append({
            "id": sub.id, "paper_dataset": sub.dataset, "dataset": dataset, "dataset_title": title, "resolution": 16,
            "protocols": [{"hash": PROTOCOL, "settings": {"implementation": "torch-fidelity 0.4.0", "extractor": {"id": "cnn64", "sha256": "c5" * 32, "features": 64}, "k": 3, "num_images": 2000, "reference": {"side": "train", "count": 6485}, "image_format": "PNG"}}],
            "rows": rows, "floors": floors,
            "reconstructions": {"grid": f"results/mini/latents/{dataset}/mode/reconstructed-heldout.grid.png"},
            "curves": [{"run": f"{dataset}-{m}", "seed": s, "path": f"results/mini/train/{dataset}-{m}/s{s}/curves.json"} for m in ("ldm", "ilct", "lct") for s in range(seeds)],
            "outside": {"classifier accuracy on held-out images": 0.994} if sub.id == "a" else {},
        })  # fmt: skip
    return {
        "format": 1,
        "scale": "mini",
        "banner": [
            "Mini scale shows that the whole pipeline works, from images to this page. It says nothing about the paper's claims.",
            "Small real images stand in for the paper's datasets, a small U-Net for its network, minutes on a CPU for GPU-days. FD is measured with our own feature extractor: it is not FID.",
            "Measured so far at this size, LCT does not beat iLCT, and the page reports whatever came out.",
        ],
        "watermark": None,
        "metrics": METRICS,
        "tables": [{
            "id": "table1", "title": "Table 1. Image generation on three datasets", "published": "table1",
            "caption": "The paper's main result: one- and two-step latent consistency models beside diffusion models, one sub-table per dataset.",
            "remarks": plain(table.remarks), "cross_checks": plain(table.cross_checks), "subtables": subtables,
        }],
        "runs": runs,
    }  # fmt: skip


def write_files(tables: dict[str, Any], root: Path) -> None:
    """The pictures and curves that `tables` names."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:16, 0:16] / 15 - 0.5
    for table in tables["tables"]:
        for sub in table["subtables"]:
            names = [sample["grid"] for row in sub["rows"] for sample in row["samples"]] + [sub["reconstructions"]["grid"]]
            for name in names:
                tiles = [np.exp(-(((x * a + y * b) / 0.2) ** 2) - ((x - c) / 0.35) ** 2) for a, b, c in rng.uniform(-1, 1, (64, 3))]
                grid = np.block([[tiles[8 * i + j] for j in range(8)] for i in range(8)])
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((255 * grid / grid.max()).astype(np.uint8)).convert("RGB").save(path)
            for entry in sub["curves"]:
                steps = list(range(0, 5000, 25))
                stages = [min(10 * 2 ** (k // 1000), 160) for k in steps]
                ldm = entry["run"].endswith("ldm")
                loss = [float((40 if entry["run"].endswith("-lct") else 3) / (1 + k / 400) * math.exp(rng.normal(0, 0.15))) for k in steps]
                curves = {"step": steps, "loss": loss, "consistency": loss, "diffusion": [None] * 200, "lr": [1e-3] * 200}
                curves["c"] = [None if ldm else 0.1 / s for s in stages]
                curves["intervals"] = [None if ldm else s for s in stages]
                curves["gradient_norm"] = [float(math.exp(rng.normal(0, 0.3))) for _ in steps]
                path = root / entry["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(curves))
