"""Metrics files and published values -> the one dict that every page and table is rendered from.

Nothing is computed here but means and standard deviations over training seeds. A cell whose metrics files are missing
is "not run"; a damaged one stops with its name.
"""

import math
import re
import statistics
from pathlib import Path
from typing import Any

from lct.config.paths import FLOORS, grid
from lct.config.plan import Cell, Plan
from lct.config.schema import plain
from lct.files.atomic import read_json
from lct.files.hashing import sha256_file
from lct.report.settings import PublishedRow, TableSpec

FORMAT = 1
METRICS = ("fd", "fdr", "precision", "recall")
FLOOR_TITLES = {
    "heldout": ("Held-out images", "real images that no training saw"),
    "reconstruction": ("Held-out images through the VAE", "encoded and decoded, no generator in between"),
}


def collect(plan: Plan, root: Path, which: str = "tables") -> dict[str, Any]:
    """The content of tables.json: deterministic, no time or place in it. Paths in `plan` start at `root`.

    which: "tables", those that the scale lists, or "all", its further ones too."""
    return {
        "format": FORMAT,
        "scale": plan.scale_name,
        "banner": list(plan.scale.banner),
        "watermark": plan.scale.watermark,
        "metrics": _metrics(plan),
        "tables": [_table(plan, root, name, plan.tables[name]) for name in plan.tables_of(which)],
        "figures": [_figure(plan, root, name) for name in plan.figures],
        "left_out": plan.left_out(which),
        "runs": {name: _run(plan, name) for name in plan.runs_of(which)},
    }


def _metrics(plan: Plan) -> list[dict[str, str]]:
    extractors = sorted({dataset.extractor.id for dataset in plan.datasets.values()})
    distance = f"{plan.scale.distance}({', '.join(extractors)})"
    k = plan.scale.protocol.k
    inception = all(dataset.extractor.kind == "inception" for dataset in plan.datasets.values())
    small = "a small network trained here on the same images. It is not FID."
    space = "the Inception network: FID, by the protocol under each table." if inception else small
    return [
        {
            "id": "fd",
            "label": distance,
            "better": "lower",
            "definition": f"Frechet distance between generated and training images in the features of {space}",
        },
        {
            "id": "fdr",
            "label": f"{distance} to reconstructions",
            "better": "lower",
            "definition": "The same distance to the training images after the autoencoder: its blur does not count.",
        },
        {
            "id": "precision",
            "label": "Precision",
            "better": "higher",
            "definition": f"Share of generated images within the neighbourhoods (k = {k}) of training images.",
        },
        {
            "id": "recall",
            "label": "Recall",
            "better": "higher",
            "definition": f"Share of training images within the neighbourhoods (k = {k}) of generated images.",
        },
    ]


def _table(plan: Plan, root: Path, name: str, spec: TableSpec) -> dict[str, Any]:
    published = plan.published[spec.published]
    return {
        "id": name,
        "title": spec.title,
        "caption": spec.caption,
        "published": spec.published,
        "note": plan.scale.short.note if plan.scale.short and name in plan.scale.more_tables else None,
        "subtables": [_subtable(plan, root, name, spec, printed) for printed in published.subtables],
        "remarks": plain(published.remarks),
        "cross_checks": plain(published.cross_checks),
    }


def _subtable(plan: Plan, root: Path, table: str, spec: TableSpec, printed: Any) -> dict[str, Any]:
    name = plan.scale.subtables.get(printed.id)
    cells = {cell.row: cell for cell in plan.cells if (cell.table, cell.subtable) == (table, printed.id)}
    protocols: dict[str, dict[str, Any]] = {}
    rows = [_row(plan, root, row, cells.get(row.id), spec, protocols) for row in printed.rows]
    floors, latents = [], None
    if name is not None:
        floors = [_floor(plan, root, table, printed.id, name, floor, protocols) for floor in FLOORS]
        latents = grid(plan.latents_of(name, "reconstructions.zip"))
    dataset = plan.datasets[name] if name else None
    return {
        "id": printed.id,
        "paper_dataset": printed.dataset,
        "dataset": name,
        "dataset_title": dataset.title if dataset else None,
        "resolution": dataset.resolution if dataset else None,
        "dataset_note": dataset.note if dataset else None,
        "protocols": [{"hash": key, "settings": value} for key, value in sorted(protocols.items())],
        "rows": rows,
        "floors": floors,
        "reconstructions": {"grid": latents} if latents and (root / latents).exists() else None,
        "readings": _readings(plan, cells),
        "curves": _curves(plan, root, cells) if name else [],
        "outside": _outside(plan, root, name) if name else {},
    }


def _row(
    plan: Plan, root: Path, row: PublishedRow, cell: Cell | None, spec: TableSpec, protocols: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": row.id,
        "group": row.group,
        "model": row.model,
        "citation": row.citation,
        "dagger": row.dagger,
        "quoted": row.quoted,
        "published": plain(row),
        "run": None,
        "sampler": None,
        "nfe": None,
        "steps": None,
        "batch": None,
        "status": "quoted" if row.quoted else "not run",
        "why": None,
        "cells": {},
        "extra": {},
        "samples": [],
    }
    if row.quoted:
        return made
    if cell is None:
        in_table = row.id in spec.rows
        made["why"] = f"not part of the {plan.scale_name} scale" if in_table else "no run answers this row yet"
        return made
    run = plan.runs[cell.run]
    made |= {
        "run": cell.run,
        "sampler": cell.sampler,
        "nfe": run.samplers[cell.sampler].nfe,
        "steps": _steps(cell.weights),
        "batch": None if run.weights else run.training.batch,
    }
    files = [
        (s.seed, s.draw, plan.paths.metrics(s.run, s.seed, s.weights, s.sampler, s.draw, plan.protocol))
        for s in cell.sets
    ]
    _fill(made, root, files, cell.id, protocols, missing="not computed yet; run snakemake")
    images = [
        (s.seed, grid(plan.paths.samples(s.run, s.seed, s.weights, s.sampler, s.draw)))
        for s in cell.sets
        if s.draw == min(plan.scale.sampling.draws)
    ]
    made["samples"] = [{"seed": seed, "grid": path} for seed, path in images if (root / path).exists()]
    return made


def _steps(weights: str) -> int | None:
    """Training steps behind a (step, EMA) name; None for weights that were given."""
    found = re.match(r"step(\d+)-", weights)
    return int(found.group(1)) if found else None


def _readings(plan: Plan, cells: dict[str, Cell]) -> list[dict[str, Any]]:
    """Which reading of the sources each run is that says so, with the rows it answers."""
    rows: dict[str, list[str]] = {}
    for row, cell in cells.items():
        rows.setdefault(cell.run, []).append(row)
    return [
        {"run": run, "rows": found, "note": plan.runs[run].note} for run, found in rows.items() if plan.runs[run].note
    ]


def _floor(
    plan: Plan, root: Path, table: str, subtable: str, dataset: str, floor: str, protocols: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    title, explanation = FLOOR_TITLES[floor]
    made: dict[str, Any] = {
        "id": f"floor-{floor}",
        "group": "Floors",
        "model": title,
        "explanation": explanation,
        "citation": None,
        "dagger": False,
        "quoted": False,
        "published": None,
        "run": None,
        "sampler": None,
        "nfe": None,
        "steps": None,
        "batch": None,
        "status": "not run",
        "why": None,
        "cells": {},
        "extra": {},
        "samples": [],
    }
    files = [(0, 0, plan.paths.floor_metrics(dataset, floor, plan.protocol))]

    def cell_id(metric: str) -> str:
        return f"{table}.{subtable}.floor-{floor}.{metric}"

    _fill(made, root, files, cell_id, protocols, missing="not computed yet; run snakemake")
    return made


def _fill(
    row: dict[str, Any], root: Path, files: list, cell_id: Any, protocols: dict[str, dict[str, Any]], missing: str
) -> None:
    """Put the values of the metrics files that exist into a row, and its status."""
    found = [(seed, draw, path, _metrics_file(root / path)) for seed, draw, path in files if (root / path).exists()]
    if not found:
        row["why"] = missing
        return
    row["status"] = "complete" if len(found) == len(files) else "partial"
    if row["status"] == "partial":
        row["why"] = f"{len(found)} of {len(files)} metrics files exist"
    hashes = {content["protocol_hash"][:12]: content["protocol"] for *_, content in found}
    protocols |= hashes
    for metric in METRICS:
        values = [
            {
                "seed": seed,
                "draw": draw,
                "value": _json_number(content["values"][metric]),
                "metrics": path,
                "sha256": sha256_file(root / path),
            }
            for seed, draw, path, content in found
        ]
        numbers = [float(value["value"]) for value in values]
        row["cells"][metric] = {
            "id": cell_id(metric),
            "values": values,
            "n": len(numbers),
            "mean": _json_number(math.fsum(numbers) / len(numbers)),
            "sd": _json_number(statistics.stdev(numbers)) if len(numbers) > 2 else None,
            "axis": "training seed" if len({draw for _, draw, *_ in found}) == 1 else "training seed and draw",
            "protocol": " ".join(sorted(hashes)),
        }
    for extra in ("confidence", "fd_cleanfid"):
        row["extra"][extra] = [content["values"].get(extra) for *_, content in found]


def _metrics_file(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict) or not {"values", "protocol", "protocol_hash"} <= content.keys():
        raise ValueError(
            f"{path}: expected a metrics file, found something else; make it again: snakemake --force {path}"
        )
    if missing := sorted(set(METRICS) - content["values"].keys()):
        raise ValueError(
            f"{path}: expected the metrics {list(METRICS)}, found none of {missing}; "
            f"make it again: snakemake --force {path}"
        )
    return content


def _json_number(value: float | None) -> float | str:
    """Numbers as they are; NaN and infinity, which JSON lacks, as words."""
    if value is None:
        return "NaN"
    return (
        value
        if math.isfinite(float(value))
        else {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[repr(float(value))]
    )


def _curves(plan: Plan, root: Path, cells: dict[str, Cell]) -> list[dict[str, Any]]:
    wanted = sorted({(s.run, s.seed) for cell in cells.values() for s in cell.sets})
    paths = [(run, seed, f"{plan.paths.train(run, seed)}/curves.json") for run, seed in wanted]
    return [{"run": run, "seed": seed, "path": path} for run, seed, path in paths if (root / path).exists()]


def _figure(plan: Plan, root: Path, name: str) -> dict[str, Any]:
    """A figure with the numbers of every dataset; those of a dataset whose numbers are missing are null."""
    figure, _ = plan.figures[name]
    found = []
    for letter, dataset in plan.scale.subtables.items():
        path = plan.paths.figure(name, dataset, "json")
        found.append(
            {
                "subtable": letter,
                "dataset": dataset,
                "dataset_title": plan.datasets[dataset].title,
                "path": path,
                "numbers": read_json(root / path) if (root / path).exists() else None,
            }
        )
    return {"id": name, "title": figure.title, "caption": figure.caption, "datasets": found}


def _outside(plan: Plan, root: Path, dataset: str) -> dict[str, Any]:
    """What else is measured about a dataset's autoencoder and extractor."""
    found: dict[str, Any] = {}
    latents = root / plan.latents_of(dataset, "summary.json")
    if latents.exists():
        summary = read_json(latents)
        for side, words in (("heldout", "held-out"), ("train", "training")):
            if summary[f"psnr_{side}"] is not None:  # a dataset may hold no images out
                found[f"VAE PSNR, {words} [dB]"] = summary[f"psnr_{side}"]
        found |= {
            "latents: excess kurtosis": summary["tails"]["excess_kurtosis"],
            "latents: share beyond 3 IQR": summary["tails"]["outlier_share"],
        }
    extractor = root / plan.extractor_of(dataset).replace(".safetensors", ".summary.json")
    if extractor.exists():
        summary = read_json(extractor)
        found[f"extractor accuracy, held-out ({summary['task']})"] = summary["heldout_accuracy"]
    return {key: float(f"{value:.4g}") for key, value in found.items()}


def _run(plan: Plan, name: str) -> dict[str, Any]:
    run = plan.runs[name]
    return {
        "method": run.method,
        "dataset": run.dataset,
        "settings": plain(run.training),
        "sources": run.sources,
        "note": run.note,
        "parameters": plan.parameters_of(name)[0],
        "given": run.weights.path if run.weights else None,
        "weights": [
            plan.paths.weights(name, seed, weights)
            for seed in plan.seeds_of(name)
            for weights in plan.weights_names(run)
        ],
    }
