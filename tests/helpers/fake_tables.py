"""A tables dict of realistic shape and size, with the files it names: what the report's tests render."""

import copy
import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lct.claims.noise import Noise
from lct.config.folder import load_yaml
from lct.config.published import PublishedRow, PublishedTable
from lct.config.schema import build, plain
from lct.report.render import render
from lct.report.tables import Tables, loads
from lct.report.verdicts import judge
from tests.helpers import ROOT

METRICS = [
    {"id": name, "label": label, "better": better, "definition": definition}
    for name, label, better, definition in (
        ("fd", "FD(cnn64)", "lower", "Frechet distance to the training images in the features of cnn64."),
        (
            "fdr",
            "FD(cnn64) to reconstructions",
            "lower",
            "The same against autoencoder reconstructions of the training images.",
        ),
        ("precision", "Precision", "higher", "Share of samples inside the training images' manifold, k = 3."),
        ("recall", "Recall", "higher", "Share of training images inside the samples' manifold, k = 3."),
    )
]
STAND_INS = {
    "a": ("digits", "handwritten digits of scikit-learn"),
    "b": ("china", "patches of the photograph china.jpg"),
    "c": ("flower", "patches of the photograph flower.jpg"),
}
OURS = {
    "ldm-8": ("ldm", "heun-18", 35),
    "ilct-1": ("ilct", "one", 1),
    "ilct-2": ("ilct", "two-440", 2),
    "lct-1": ("lct", "one", 1),
    "lct-2": ("lct", "two-440", 2),
}
PROTOCOL_SETTINGS = {
    "implementation": "torch-fidelity 0.4.0",
    "extractor": {"id": "cnn64", "sha256": "c5" * 32, "features": 64},
    "k": 3,
    "num_images": 2000,
    "reference": {"side": "train", "count": 6485},
    "image_format": "PNG",
}
BANNER = [
    "Mini scale shows that the whole pipeline works, from images to this page. "
    "It says nothing about the paper's claims.",
    "Small real images stand in for the paper's datasets, a small U-Net for its network, minutes on a CPU for "
    "GPU-days. FD is measured with our own feature extractor: it is not FID.",
    "Measured so far at this size, LCT does not beat iLCT, and the page reports whatever came out.",
]
CAPTION = (
    "The paper's main result: one- and two-step latent consistency models beside diffusion models, "
    "one sub-table per dataset."
)
PROTOCOL = "3f9a1c07be52"


def published() -> PublishedTable:
    path = ROOT / "config/published/table1.yaml"
    return build(PublishedTable, load_yaml(path), str(path))


def cell(place: str, metric: str, values: list[float], file: str) -> dict[str, Any]:
    entries = []
    for seed, value in enumerate(values):
        path = file.format(seed=seed)
        digest = hashlib.sha256(path.encode()).hexdigest()
        entries.append({"seed": seed, "draw": 0, "value": value, "metrics": path, "sha256": digest})
    mean, n = math.fsum(values) / len(values), len(values)
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1)) if n > 2 else None
    identity = {"id": f"{place}.{metric}", "axis": "training seed", "protocol": PROTOCOL}
    return identity | {"values": entries, "n": n, "mean": mean, "sd": sd}


def quoted_row(row: PublishedRow) -> dict[str, Any]:
    entry = {key: getattr(row, key) for key in ("id", "group", "model", "citation", "dagger", "quoted")}
    entry["published"] = plain(row)
    entry |= dict.fromkeys(("run", "sampler", "nfe", "steps", "batch", "why"))
    return entry | {"status": "quoted", "cells": {}, "extra": {}, "samples": []}


def measured(row: PublishedRow, subtable: str, dataset: str, seeds: int, rng: np.random.Generator) -> dict[str, Any]:
    method, sampler, nfe = OURS[row.id]
    run, weights = f"{dataset}-{method}", "step5000-ema0.995"
    level = {"ldm": 8.0, "ilct": 17.0, "lct": 26.0}[method]
    about = {"fd": (level, 0.8), "fdr": (level - 4, 0.8), "precision": (0.8, 0.02), "recall": (0.9, 0.02)}
    file = f"results/mini/metrics/{run}/s{{seed}}/{weights}/{sampler}/d0/fidelity.json"
    place = f"table1.{subtable}.{row.id}"
    cells = {
        name: cell(place, name, (at + rng.normal(0, by, seeds)).tolist(), file) for name, (at, by) in about.items()
    }
    grid = f"results/mini/sample/{run}/s{{}}/{weights}/{sampler}/d0.grid.png"
    samples = [{"seed": seed, "draw": 0, "grid": grid.format(seed)} for seed in range(seeds)]
    ours = {"run": run, "sampler": sampler, "nfe": nfe, "steps": 5000, "batch": 64, "status": "complete"}
    extra = {"classifier confidence": 0.973} if subtable == "a" else {}
    return quoted_row(row) | ours | {"cells": cells, "samples": samples, "extra": extra}


def floor(subtable: str, dataset: str, name: str, model: str, values: tuple[float, ...]) -> dict[str, Any]:
    file = f"results/mini/metrics/reference/{dataset}/{name}/fidelity.json"
    place = f"table1.{subtable}.floor-{name}"
    cells = {m["id"]: cell(place, m["id"], [value], file) for m, value in zip(METRICS, values, strict=True)}
    entry = dict.fromkeys(("citation", "published", "run", "sampler", "nfe", "steps", "batch", "why"))
    entry |= {"id": name, "group": "Floors", "model": model, "dagger": False, "quoted": False, "status": "complete"}
    return entry | {"cells": cells, "extra": {}, "samples": [], "explanation": "real images, and no model"}


def run_entry(dataset: str, method: str, seeds: int) -> dict[str, Any]:
    settings = {
        "steps": 5000,
        "network": {"channels": 32, "channel_mult": [1, 2]},
        "objective": {"loss": "cauchy", "diffusion": {"threshold": 0.75}},
        "betas": [0.9, 0.999],
    }
    sources = {
        "steps": "config/scales/mini.yaml",
        "network.channels": "config/scales/mini.yaml",
        "network.channel_mult": "default",
        "objective.loss": f"config/methods/{method}.yaml",
        "objective.diffusion.threshold": "default",
        "betas": "default",
    }
    weights = [f"results/mini/train/{dataset}-{method}/s{s}/step5000-ema0.995.safetensors" for s in range(seeds)]
    entry = {"method": method, "dataset": dataset, "parameters": 571_268, "settings": settings}
    return entry | {"sources": sources, "weights": weights}


def fake_tables(seeds: int = 2, curves: bool = True) -> dict[str, Any]:
    """Complete mini tables: every retrained row measured with `seeds` training seeds. Drawing curves takes a while."""
    rng = np.random.default_rng(0)
    table = published()
    subtables, runs = [], {}
    for sub in table.subtables:
        dataset, title = STAND_INS[sub.id]
        methods = ("ldm", "ilct", "lct")
        runs |= {f"{dataset}-{method}": run_entry(dataset, method, seeds) for method in methods}
        folder = f"results/mini/train/{dataset}-{{}}/s{{}}/curves.json"
        pairs = [(method, seed) for method in methods for seed in range(seeds) if curves]
        entry = {"id": sub.id, "paper_dataset": sub.dataset, "dataset": dataset, "dataset_title": title}
        entry["resolution"] = 16
        entry["protocols"] = [{"hash": PROTOCOL, "settings": PROTOCOL_SETTINGS}]
        entry["rows"] = [
            measured(row, sub.id, dataset, seeds, rng) if row.id in OURS else quoted_row(row) for row in sub.rows
        ]
        entry["floors"] = [
            floor(sub.id, dataset, "heldout", "Held-out images", (1.31, 1.47, 0.93, 0.92)),
            floor(sub.id, dataset, "reconstruction", "Autoencoder reconstructions", (1.39, 0.031, 0.9, 0.88)),
        ]
        entry["reconstructions"] = {"grid": f"results/mini/latents/{dataset}/mode/reconstructed-heldout.grid.png"}
        entry["curves"] = [{"run": f"{dataset}-{m}", "seed": s, "path": folder.format(m, s)} for m, s in pairs]
        entry["outside"] = {"classifier accuracy on held-out images": 0.994} if sub.id == "a" else {}
        subtables.append(entry)
    made = {"id": "table1", "title": "Table 1. Image generation on three datasets", "caption": CAPTION}
    made |= {"published": "table1", "subtables": subtables}
    made |= {"remarks": plain(table.remarks), "cross_checks": plain(table.cross_checks)}
    head = {"format": 1, "scale": "mini", "comparable": False, "banner": list(BANNER), "watermark": None}
    return copy.deepcopy(head | {"metrics": METRICS, "tables": [made], "runs": runs})


PRIOR = {"fid": Noise(0.022, 4, "repeated runs")}  # of log FID


def loaded(tables: dict[str, Any]) -> Tables:
    """The typed content of a dict as `fake_tables` returns it, its verdicts judged anew."""
    content = loads(json.dumps(tables))
    return dataclasses.replace(content, verdicts=judge(content, PRIOR))


def fake_curves(run: str, rng: np.random.Generator) -> dict[str, list[Any]]:
    """What a training writes into curves.json; the name of the run tells the method."""
    steps = list(range(0, 5000, 25))
    stages = [min(10 * 2 ** (k // 1000), 160) for k in steps]
    ldm, start = run.endswith("ldm"), 40 if run.endswith("-lct") else 3
    loss = [float(start / (1 + k / 400) * math.exp(rng.normal(0, 0.15))) for k in steps]
    return {
        "step": steps,
        "loss": loss,
        "consistency": loss,
        "diffusion": [None] * len(steps),
        "lr": [1e-3] * len(steps),
        "c": [None if ldm else 0.1 / s for s in stages],
        "intervals": [None if ldm else s for s in stages],
        "gradient_norm": [float(math.exp(rng.normal(0, 0.3))) for _ in steps],
    }


def write_files(tables: dict[str, Any], root: Path) -> None:
    """The pictures and curves that `tables` names."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:16, 0:16] / 15 - 0.5
    for table in tables["tables"]:
        for sub in table["subtables"]:
            names = [sample["grid"] for row in sub["rows"] for sample in row["samples"]] + [
                sub["reconstructions"]["grid"]
            ]
            for name in names:
                tiles = [
                    np.exp(-(((x * a + y * b) / 0.2) ** 2) - ((x - c) / 0.35) ** 2)
                    for a, b, c in rng.uniform(-1, 1, (64, 3))
                ]
                grid = np.block([[tiles[8 * i + j] for j in range(8)] for i in range(8)])
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((255 * grid / grid.max()).astype(np.uint8)).convert("RGB").save(path)
            for entry in sub["curves"]:
                curves = fake_curves(entry["run"], rng)
                path = root / entry["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(curves))


def rows_of(tables):
    return [(s, row) for t in tables["tables"] for s in t["subtables"] for row in [*s["rows"], *s["floors"]]]


def row(tables, subtable, name):
    return next(r for s, r in rows_of(tables) if s["id"] == subtable and r["id"] == name)


NASTY = "<script>&\"' `x|y` $(rm) \\end{table} %_#^~{} **[a](b)** --- é中\n| z"


def poisoned(tables):
    """Every text of the dict that a user chooses, replaced."""
    tables = copy.deepcopy(tables)
    tables |= {"banner": [NASTY], "watermark": NASTY}
    tables["metrics"][0] |= {"label": NASTY, "definition": NASTY}
    tables["tables"][0] |= {"title": NASTY, "caption": NASTY}
    tables["tables"][0]["remarks"] = [{"text": NASTY, "rows": [NASTY], "provenance": NASTY}]
    sub = tables["tables"][0]["subtables"][0]
    sub |= {"paper_dataset": NASTY, "dataset_title": NASTY, "outside": {NASTY: NASTY}}
    sub["protocols"][0] = {"hash": NASTY, "settings": {NASTY: [NASTY]}}
    for entry, key in zip(sub["curves"], ("run", "path"), strict=False):
        entry[key] = NASTY
    for r in [*sub["rows"], *sub["floors"]]:
        r |= {
            "group": NASTY,
            "model": NASTY,
            "citation": NASTY,
            "why": NASTY,
            "extra": {NASTY: NASTY},
            "sampler": NASTY,
        }
        if r["run"]:
            r["run"] = NASTY
        for sample in r["samples"]:
            sample["grid"] = NASTY
        for c in r["cells"].values():
            c |= {"id": c["id"] + NASTY, "axis": NASTY, "protocol": NASTY}
            for v in c["values"]:
                v |= {"metrics": NASTY, "sha256": NASTY}
    values = tables["runs"].pop("digits-lct")
    tables["runs"][NASTY] = values | {"settings": {NASTY: {NASTY: NASTY}}, "sources": {}, "weights": [NASTY]}
    return tables


def rendered(tables: dict[str, Any], root: Path, **options: Any) -> dict[str, str]:
    """The report of a dict as `fake_tables` returns it: file name -> content."""
    return render(loaded(tables), root, **options)
