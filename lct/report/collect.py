"""Metrics files and published values -> the one dict that every page and table is rendered from.

Nothing is computed here but means and standard deviations over training seeds. A cell whose metrics files are missing
is "not run"; a damaged one stops with its name.
"""

import math
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lct.config.figures import MEASURED
from lct.config.published import PublishedRow, TableSpec
from lct.config.resolve import published_table
from lct.config.schema import plain
from lct.files.atomic import read_json
from lct.files.hashing import sha256_file
from lct.plan import files as stage_files
from lct.plan import listing
from lct.plan.paths import FLOORS, METRICS, grid, page_name
from lct.plan.plan import Cell, Plan
from lct.report.verdicts import judge

FORMAT = 1
FLOOR_TITLES = {
    "heldout": ("Held-out images", "real images that no training saw"),
    "reconstruction": ("Held-out images through the VAE", "encoded and decoded, no generator in between"),
    "heldout-train": ("Held-out images", "none at this dataset: training images are all there are"),
    "reconstruction-train": (
        "Training images through the VAE",
        "encoded and decoded, no generator in between; nothing is held out, so these are compared with themselves",
    ),
}
SIDES = {"train": "training images", "heldout": "held-out images"}  # of a reference, in words
Protocols = dict[str, dict[str, Any]]  # first digits of the hash -> description


def collect(plan: Plan, root: Path, which: str = "tables") -> dict[str, Any]:
    """The content of tables.json: deterministic, no time or place in it. Paths in `plan` start at `root`.

    which: "tables", those that the scale lists, or "all", its further ones too."""
    found = {
        "format": FORMAT,
        "scale": plan.scale_name,
        "own": plan.main.dataset,
        "comparable": plan.scale.comparable,
        "banner": list(plan.scale.banner),
        "watermark": plan.scale.watermark,
        "metrics": _metrics(plan),
        "tables": [_table(plan, root, name, plan.tables[name]) for name in plan.tables_of(which)],
        "figures": [_figure(plan, root, name) for name in plan.figures],
        "schedules": [{"run": name, "stages": plan.c_stages(name)} for name in plan.runs_of(which)],
        "left_out": listing.left_out(plan, which),
        "runs": {name: _run(plan, name) for name in plan.runs_of(which)},
    }
    return found | {"verdicts": judge(found)}


def _metrics(plan: Plan) -> list[dict[str, str]]:
    first = plan.scale.protocols[0]
    extractors = {(e := plan.extractor(name, first.distance)).id: e for name in plan.datasets}
    distance, k = f"{plan.scale.distance}({', '.join(sorted(extractors))})", first.k
    if plan.scale.distance == "FID":  # the plan lets no other network than Inception have this name
        distance, space = "FID", "the Inception network, by the protocol under each table."
    elif all(extractor.kind == "trained" for extractor in extractors.values()):
        space = "a small network trained here on the same images. It is not FID."
    else:
        space = f"{', '.join(sorted(extractors))}, by the protocol under each table. It is not FID."
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
        "place": published.place,
        "protocol": published.protocol,
        "generated": published.generated,
        "note": plan.scale.short.note if plan.scale.short and name in plan.scale.more_tables else None,
        "subtables": [_subtable(plan, root, name, spec, printed) for printed in published.subtables],
        "remarks": plain(published.remarks),
        "cross_checks": plain(published.cross_checks),
    }


def _subtable(plan: Plan, root: Path, table: str, spec: TableSpec, printed: Any) -> dict[str, Any]:
    name = plan.scale.subtables.get(printed.id)
    cells = {cell.row: cell for cell in plan.cells if (cell.table, cell.subtable) == (table, printed.id)}
    protocols: Protocols = {}
    rows = [_row(plan, root, row, cells.get(row.id), spec, protocols) for row in printed.rows]
    floors, latents = [], None
    if name is not None:
        floors = [_floor(plan, root, table, printed.id, name, floor, protocols) for floor in FLOORS]
        latents = grid(stage_files.latents(plan, name, "reconstructions.zip"))
    dataset = plan.datasets[name] if name else None
    return {
        "id": printed.id,
        "paper_dataset": printed.dataset,
        "dataset": name,
        "dataset_title": dataset.title if dataset else None,
        "resolution": dataset.resolution if dataset else None,
        "dataset_note": dataset.note if dataset else None,
        "protocols": [
            {"hash": key, "line": protocol_line(value), "behind": value["id"] != plan.protocol.id, "settings": value}
            for key, value in sorted(protocols.items(), key=lambda item: _rank(plan, item))
        ],
        "rows": rows,
        "floors": floors,
        "reconstructions": {"grid": latents} if latents and (root / latents).exists() else None,
        "readings": _readings(plan, cells),
        "curves": _curves(plan, root, cells) if name else [],
        "outside": _outside(plan, root, name) if name else {},
    }


def _row(
    plan: Plan, root: Path, row: PublishedRow, cell: Cell | None, spec: TableSpec, protocols: Protocols
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
        "page": None,
        "weights": None,
        "weights_files": [],
        "cells": {},
        "extra": {},
        "samples": [],
        "neighbours": [],
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
        "page": page_name(cell.table, cell.subtable, cell.row),
        "weights": cell.weights,
        "weights_files": [plan.paths.weights(s.run, s.seed, s.weights) for s in cell.sets],
    }
    files = {
        protocol.id: [
            (s.seed, s.draw, plan.paths.metrics(s.run, s.seed, s.weights, s.sampler, s.draw, protocol.id))
            for s in cell.sets
        ]
        for protocol in plan.scale.protocols
    }
    _fill(made, root, files, cell.id, protocols, missing="not computed yet; run snakemake")
    if made["status"] in ("not run", "partial"):
        made |= _stopped(plan, root, cell, made)
    shown = min(plan.scale.sampling.draws)
    for s in (s for s in cell.sets if s.draw == shown):
        where = (s.run, s.seed, s.weights, s.sampler, s.draw)
        numbers, picture = (plan.paths.neighbours(*where, kind) for kind in ("json", "png"))
        if (root / numbers).exists() and (root / picture).exists():
            made["neighbours"].append({"seed": s.seed, "numbers": read_json(root / numbers), "picture": picture})
    images = [
        (s.seed, grid(plan.paths.samples(s.run, s.seed, s.weights, s.sampler, s.draw)))
        for s in cell.sets
        if s.draw == min(plan.scale.sampling.draws)
    ]
    made["samples"] = [{"seed": seed, "grid": path} for seed, path in images if (root / path).exists()]
    return made


def _stopped(plan: Plan, root: Path, cell: Cell, row: dict[str, Any]) -> dict[str, Any]:
    """Status and reason of a row with metrics files missing, where a job has left a trace: its last words, or how far
    a training has come. Nothing where there is none; a finished graph never gets here."""
    for s in cell.sets:
        if (root / plan.paths.metrics(s.run, s.seed, s.weights, s.sampler, s.draw, plan.protocol.id)).exists():
            continue
        for stage in ("score", "sample", "train"):
            said = _last_words(root / plan.paths.log(stage, s.run, f"s{s.seed}.log"))
            if said is not None:
                return {"status": "failed", "why": f"{stage} of seed {s.seed}: {said}"}
        for path in sorted((root / plan.paths.work(s.run, s.seed)).glob("*/progress.json")):
            progress = read_json(path)
            why = f"training of seed {s.seed} has done {progress.get('step')} of {progress.get('total')} steps"
            return {"status": "partial" if row["cells"] else "half-finished", "why": why}
    return {}


def _last_words(log: Path) -> str | None:
    """What a failed job said at the end of its log; None of one that did not fail, or left none."""
    if not log.exists():
        return None
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    before, found, said = (lines[-1] if lines else "").partition(" ERROR ")
    return " ".join(said.split()) if found else None


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
    plan: Plan, root: Path, table: str, subtable: str, dataset: str, floor: str, protocols: Protocols
) -> dict[str, Any]:
    page = page_name(table, subtable, f"floor-{floor}")
    title, explanation = FLOOR_TITLES[floor if plan.datasets[dataset].heldout else f"{floor}-train"]
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
        "page": None if plan.floor_missing(dataset, floor, plan.scale.protocols[0]) else page,
        "cells": {},
        "extra": {},
        "samples": [],
    }
    files = {
        protocol.id: [(0, 0, plan.paths.floor_metrics(dataset, floor, protocol.id))]
        for protocol in plan.scale.protocols
        if plan.floor_missing(dataset, floor, protocol) is None
    }
    why = plan.floor_missing(dataset, floor, plan.scale.protocols[0])

    def cell_id(metric: str) -> str:
        return f"{table}.{subtable}.floor-{floor}.{metric}"

    _fill(made, root, files, cell_id, protocols, missing=why or "not computed yet; run snakemake")
    return made


def _fill(
    row: dict[str, Any],
    root: Path,
    files: dict[str, list[tuple[int, int, str]]],
    cell_id: Callable[[str], str],
    protocols: Protocols,
    missing: str,
) -> None:
    """Put the values of the metrics files that exist into a row, and its status. files: by protocol, (seed, draw, path)
    each; the first protocol's go into the cells, those of the others behind the row."""
    (first, asked), *others = files.items() or [("", [])]
    found = _existing(root, asked)
    if not found:
        row["why"] = missing
        return
    row["status"] = "complete" if len(found) == len(asked) else "partial"
    if row["status"] == "partial":
        row["why"] = f"{len(found)} of {len(asked)} metrics files exist"
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
    row["extra"]["images"] = sorted({content["num_images"] for *_, content in found})
    for extra in ("confidence", "fd_cleanfid"):
        row["extra"][extra] = [content["values"].get(extra) for *_, content in found]
    for protocol, asked in others:
        further = _existing(root, asked)
        hashes = {content["protocol_hash"][:12]: content["protocol"] for *_, content in further}
        protocols |= hashes
        for metric in METRICS if further else ():
            values = [_json_number(content["values"][metric]) for *_, content in further]
            row["extra"][f"{metric} by protocol {protocol}"] = values
        if further:
            row["extra"][f"hash of protocol {protocol}"] = " ".join(sorted(hashes))


def _existing(root: Path, files: list[tuple[int, int, str]]) -> list[tuple[int, int, str, dict[str, Any]]]:
    return [(seed, draw, path, _metrics_file(root / path)) for seed, draw, path in files if (root / path).exists()]


def _rank(plan: Plan, item: tuple[str, dict[str, Any]]) -> tuple[int, int, str]:
    """Protocols in the scale's order; of one protocol, that of the most images first: a floor row may have fewer."""
    order = [protocol.id for protocol in plan.scale.protocols]
    name = item[1]["id"]
    return order.index(name) if name in order else len(order), -item[1]["generated"]["count"], item[0]


def protocol_line(described: dict[str, Any]) -> str:
    """A protocol in one line: what was compared with what, in which networks."""
    generated, real, recall = described["generated"], described["reference"], described["recall"]
    sides = " and ".join(f"{side['count']} {SIDES[side['name']]}" for side in real["sets"])
    return (
        f"{described['id']}: distance in {described['distance']['extractor']}, {generated['count']} images as "
        f"{generated['format']} against {sides} as {real['format']}; precision and recall in {recall['extractor']}, "
        f"{recall['generated']} against {recall['reference']} images, k = {recall['k']}, in {recall['distances']}"
    )


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
    for letter, dataset in plan.scale.subtables.items() if figure.kind in MEASURED else ():
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
    shared = {"id": name, "kind": figure.kind, "title": figure.title, "caption": figure.caption, "datasets": found}
    if figure.kind == "schedules":
        return shared | {"logged": _logged(plan)}
    return shared | ({"rows": list(figure.rows)} if figure.kind == "samples" else {})


def _logged(plan: Plan) -> list[dict[str, Any]]:
    """The authors' FID by epoch and c, from the rows that config/published/ has of them."""
    found = []
    for row in published_table(plan.config, "ablation-d", "figure 4").rows_of("a").values():
        label, by_epoch, epoch = row.model.partition(", epoch ")
        if by_epoch:
            found.append({"label": label, "epoch": int(epoch), "fid": row.fid})
    return found


def _outside(plan: Plan, root: Path, dataset: str) -> dict[str, Any]:
    """What else is measured about a dataset's autoencoder and extractor."""
    found: dict[str, Any] = {}
    latents = root / stage_files.latents(plan, dataset, "summary.json")
    if latents.exists():
        summary = read_json(latents)
        for side, words in (("heldout", "held-out"), ("train", "training")):
            if summary[f"psnr_{side}"] is not None:  # a dataset may hold no images out
                found[f"VAE PSNR, {words} [dB]"] = summary[f"psnr_{side}"]
        found |= {
            "latents: excess kurtosis": summary["tails"]["excess_kurtosis"],
            "latents: share beyond 3 IQR": summary["tails"]["outlier_share"],
        }
    extractor = stage_files.own_extractor(plan, dataset)
    if extractor is not None and (path := root / extractor.replace(".safetensors", ".summary.json")).exists():
        summary = read_json(path)
        found[f"extractor accuracy, {summary['images']} ({summary['task']})"] = summary["accuracy"]
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
            for weights in plan.kept_weights(name)
        ],
    }
