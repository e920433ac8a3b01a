"""Metrics files and published values -> the content of tables.json, from which every page and table is rendered.

Only means and standard deviations over training seeds, and the verdicts, are computed here. A cell whose metrics files
are missing is "not run"; a damaged file stops with its name.
"""

import math
import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lct.config.model import MEASURED
from lct.config.published import PublishedRow, PublishedSubtable, PublishedTable, TableSpec
from lct.files.advice import make_again
from lct.files.atomic import read_json
from lct.files.formatting import plain_number
from lct.files.hashing import sha256_file
from lct.plan import files as stage_files
from lct.plan import listing
from lct.plan import settings as stage_settings
from lct.plan.paths import FLOORS, METRICS, grid, milestone, page_name
from lct.plan.plan import Cell, Plan
from lct.report import tables as model
from lct.report.claims import prior_noise
from lct.report.text import count
from lct.report.verdicts import judge
from lct.schedules import residual_by_stage

FLOOR_TITLES = {
    "heldout": ("Held-out images", "real images that no training saw"),
    "reconstruction": ("Held-out images through the VAE", "encoded and decoded, no generator in between"),
    "reconstruction-few": (
        "Training images through the VAE",
        "encoded and decoded, no generator in between; training images, because fewer are held out than generated",
    ),
    "heldout-train": ("Held-out images", "none at this dataset: training images are all there are"),
    "reconstruction-train": (
        "Training images through the VAE",
        "encoded and decoded, no generator in between; nothing is held out, so these are compared with themselves",
    ),
}
SIDES = {"train": "training images", "heldout": "held-out images"}  # of a reference
# c in the model of a row of ablation D; others name more
_LOGGED = re.compile(r"([^,=]+?)(?: = LCT)?(?:, (?:last logged )?epoch \d+)?")
STAGES = ("score", "sample", "train")  # whose logs tell why a row is missing, last one first
Protocols = dict[str, dict[str, Any]]  # first digits of the hash -> description


@dataclass(frozen=True)
class MetricsFile:
    """One file of numbers that a row is made of."""

    seed: int
    draw: int
    metrics: str  # path
    sha256: str
    content: dict[str, Any]

    @property
    def hash(self) -> str:
        return self.content["protocol_hash"][:12]

    def number(self, metric: str) -> float:
        """The metric's value; NaN where it could not be computed."""
        value = self.content["values"][metric]
        return math.nan if value is None else value


def collect(plan: Plan, root: Path, which: str = "tables") -> model.Tables:
    """The content of tables.json: deterministic, without times or places. Paths in `plan` start at `root`.

    which: "tables", those that the scale lists, or "all", its further ones too."""
    tables = model.Tables(
        format=model.FORMAT,
        scale=plan.scale_name,
        own=plan.main.dataset,
        comparable=plan.scale.comparable,
        banner=tuple(plan.scale.banner),
        watermark=plan.scale.watermark,
        metrics=_metrics(plan),
        tables=tuple(_table(plan, root, name, plan.tables[name]) for name in plan.tables_of(which)),
        figures=tuple(_figure(plan, root, name) for name in plan.figures),
        schedules=tuple(_schedule(plan, root, name) for name in plan.runs_of(which)),
        left_out=tuple(model.LeftOut(**table) for table in listing.left_out(plan, which)),
        runs={name: _run(plan, name) for name in plan.runs_of(which)},
    )
    return replace(tables, verdicts=judge(tables, {"fid": prior_noise(plan.config, plan.published_rows)}))


def _same(source: Any, *names: str) -> dict[str, Any]:
    """Fields that a part of tables.json has in common with what it is made from."""
    return {name: getattr(source, name) for name in names}


def _metrics(plan: Plan) -> tuple[model.Metric, ...]:
    first = plan.scale.protocols[0]
    extractors = {(e := plan.extractor(name, first.distance)).id: e for name in plan.datasets}
    names = ", ".join(sorted(extractors))
    label = "FID" if plan.scale.distance == "FID" else f"{plan.scale.distance}({names})"
    if plan.scale.distance == "FID":  # the plan lets no other network than Inception have this name
        space = "the Inception network, by the protocol under each table."
    elif all(extractor.kind == "trained" for extractor in extractors.values()):
        space = "a small network trained here on the same images. It is not FID."
    else:
        space = f"{names}, by the protocol under each table. It is not FID."
    neighbourhoods = f"within the neighbourhoods (k = {first.k}) of"
    texts = {
        "fd": (label, "lower", f"Frechet distance between generated and training images in the features of {space}"),
        "fdr": (
            f"{label} to reconstructions",
            "lower",
            "The same distance to the training images after the autoencoder: this removes the effect of its blur.",
        ),
        "precision": ("Precision", "higher", f"Share of generated images {neighbourhoods} training images."),
        "recall": ("Recall", "higher", f"Share of training images {neighbourhoods} generated images."),
    }
    return tuple(
        model.Metric(id=metric, label=label, better=better, definition=definition)
        for metric, (label, better, definition) in texts.items()
    )


def _table(plan: Plan, root: Path, name: str, spec: TableSpec) -> model.Table:
    published = plan.published[spec.published]
    return model.Table(
        id=name,
        **_same(spec, "title", "caption", "published"),
        **_same(published, "place", "protocol", "generated", "remarks", "cross_checks"),
        note=plan.scale.short.note if plan.scale.short and name in plan.scale.more_tables else None,
        subtables=tuple(
            _subtable(plan, root, name, spec, subtable)
            for subtable in published.subtables
            if not plan.only or subtable.id in plan.subtables
        ),
    )


def _subtable(plan: Plan, root: Path, table: str, spec: TableSpec, published: PublishedSubtable) -> model.Subtable:
    name = plan.subtables.get(published.id)
    dataset = plan.datasets[name] if name else None
    cells = {cell.row: cell for cell in plan.cells_of("all") if (cell.table, cell.subtable) == (table, published.id)}
    protocols: Protocols = {}
    latents = stage_files.latents(plan, name, "reconstructions.grid.png") if name else None
    return model.Subtable(
        id=published.id,
        paper_dataset=published.dataset,
        dataset=name,
        dataset_title=dataset.title if dataset else None,
        resolution=dataset.resolution if dataset else None,
        generated=published.generated,
        dataset_note=dataset.note if dataset else None,
        rows=tuple(_row(plan, root, row, cells.get(row.id), spec, protocols) for row in published.rows),
        floors=tuple(_floor(plan, root, (table, published.id), name, floor, protocols) for floor in FLOORS if name),
        degraded=_degraded(plan, root, name) if name else None,
        protocols=tuple(
            model.UsedProtocol(
                hash=key, line=protocol_line(value), secondary=value["id"] != plan.protocol.id, settings=value
            )
            for key, value in sorted(protocols.items(), key=lambda item: _rank(plan, item))
        ),
        reconstructions=model.Grid(grid=latents) if latents and (root / latents).exists() else None,
        readings=_readings(plan, cells),
        curves=_curves(plan, root, cells) if name else (),
        outside=_outside(plan, root, name) if name else {},
    )


def _row(
    plan: Plan, root: Path, published: PublishedRow, cell: Cell | None, spec: TableSpec, protocols: Protocols
) -> model.Row:
    row = model.Row(
        **_same(published, "id", "group", "model", "citation", "dagger", "quoted"),
        published=published,
        status="quoted" if published.quoted else "not run",
    )
    if published.quoted:
        return row
    if cell is None:
        in_table = published.id in spec.rows
        beyond = f"left out by only={','.join(plan.only)}" if plan.only else f"not part of the {plan.scale_name} scale"
        why = beyond if in_table else "no run answers this row yet"
        return replace(row, why=why)
    run, shown = plan.runs[cell.run], [s for s in cell.sets if s.draw == min(plan.scale.sampling.draws)]
    row = replace(
        row,
        run=cell.run,
        sampler=cell.sampler,
        nfe=run.samplers[cell.sampler].nfe,
        steps=int(steps[1]) if (steps := re.match(r"step(\d+)-", cell.weights)) else None,  # None: weights were given
        batch=run.training.batch if run.is_trained else None,
        page=page_name(cell.table, cell.subtable, cell.row),
        weights=cell.weights,
        weights_files=tuple(plan.paths.weights(s.run, s.seed, s.weights) for s in cell.sets if run.samples is None),
        samples=tuple(
            model.Grid(seed=s.seed, grid=path)
            for s in shown
            if (root / (path := grid(plan.paths.samples(*s)))).exists()
        ),
        neighbours=_neighbours(plan, root, shown),
        why="not computed yet; run snakemake",
    )
    files = {
        protocol.id: [(s.seed, s.draw, plan.paths.metrics(*s, protocol.id)) for s in cell.sets]
        for protocol in plan.scale.protocols
    }
    row = _filled(row, root, files, cell.name, protocols)
    return _stopped(plan, root, cell, row) if row.status in ("not run", "partial") else row


def _neighbours(plan: Plan, root: Path, sets: list[Any]) -> tuple[model.Nearest, ...]:
    entries = []
    for s in sets:
        numbers, picture = (plan.paths.neighbours(*s, kind) for kind in ("json", "png"))
        if (root / numbers).exists() and (root / picture).exists():
            entries.append(model.Nearest(seed=s.seed, numbers=read_json(root / numbers), picture=picture))
    return tuple(entries)


def _stopped(plan: Plan, root: Path, cell: Cell, row: model.Row) -> model.Row:
    """The row with the reason why metrics files are missing, where a job has left a trace: its error, or how far a
    training has come. A finished graph never gets here."""
    for s in cell.sets:
        if (root / plan.paths.metrics(*s, plan.protocol.id)).exists():
            continue
        milestones = plan.milestones(s.run)[: plan.milestones(s.run).index(milestone(s.weights)) + 1]
        for stage, at in [*((stage, milestones[-1]) for stage in STAGES), *(("train", at) for at in milestones[:-1])]:
            error = _logged_error(root / plan.paths.log(stage, s.run, f"s{s.seed}{plan.suffix(s.run, at)}.log"))
            if error is not None:
                return replace(row, status="failed", why=f"{stage} of seed {s.seed}: {error}")
        for path in sorted((root / plan.paths.work(s.run, f"s{s.seed}")).glob("*/progress.json")):
            progress = read_json(path)
            why = f"training of seed {s.seed} has done {progress.get('step')} of {progress.get('total')} steps"
            return replace(row, status="partial" if row.cells else "half-finished", why=why)
    return row


def _logged_error(log: Path) -> str | None:
    """The error in the last line of a job's log; None of a job that did not fail, or left no log."""
    if not log.exists():
        return None
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    _, failed, error = (lines[-1] if lines else "").partition(" ERROR ")
    return " ".join(error.split()) if failed else None


def _readings(plan: Plan, cells: dict[str, Cell]) -> tuple[model.RunReading, ...]:
    """Which reading of the sources each run with a note is, and the rows that it answers."""
    rows: dict[str, list[str]] = {}
    for row, cell in cells.items():
        if plan.runs[cell.run].note:
            rows.setdefault(cell.run, []).append(row)
    return tuple(model.RunReading(run=run, rows=tuple(of), note=plan.runs[run].note or "") for run, of in rows.items())


def _floor(plan: Plan, root: Path, at: tuple[str, str], dataset: str, floor: str, protocols: Protocols) -> model.Row:
    few = stage_settings.reference(plan, dataset).get("few")
    kind = "" if plan.datasets[dataset].heldout else "-train"
    title, explanation = FLOOR_TITLES[f"{floor}-few" if few and floor == "reconstruction" else f"{floor}{kind}"]
    missing = {protocol.id: plan.floor_missing(dataset, floor, protocol) for protocol in plan.scale.protocols}
    why = missing[plan.protocol.id]
    row = model.Row(
        id=f"floor-{floor}",
        group="Floors",
        model=title,
        explanation=explanation,
        status="not run",
        why=why or "not computed yet; run snakemake",
        page=None if why else page_name(*at, f"floor-{floor}"),
    )
    files = {
        protocol: [(0, 0, plan.paths.floor_metrics(dataset, floor, protocol))]
        for protocol, reason in missing.items()
        if reason is None
    }
    row = _filled(row, root, files, ".".join((*at, row.id)), protocols)
    if row.status == "complete":
        row = replace(row, model=f"{title}, {count(row.extra['images'][0])}")
    return row


def _degraded(plan: Plan, root: Path, dataset: str) -> model.Degraded | None:
    path = plan.paths.degraded(dataset)
    if not (root / path).exists():
        return None
    content = read_json(root / path)
    rows = [
        model.DegradedRow(id=name, text=row["text"], values={m: row["values"][plan.protocol.id][m] for m in METRICS})
        for name, row in sorted(
            content["rows"].items(), key=lambda item: (item[0].split("-")[0], item[0].endswith("strong"))
        )
    ]
    return model.Degraded(
        images=SIDES[content["side"]],
        count=content["count"],
        rows=tuple(rows),
        path=path,
        sha256=sha256_file(root / path),
    )


def _filled(
    row: model.Row, root: Path, paths: dict[str, list[tuple[int, int, str]]], name: str, protocols: Protocols
) -> model.Row:
    """The row with the values of the metrics files that exist, and its status.

    paths: by protocol, (seed, draw, path) each; the first protocol's values become cells, the others' further numbers.
    protocols: those of the files are added to it."""
    files = {
        protocol: [
            MetricsFile(seed, draw, path, sha256_file(root / path), _metrics_file(root / path))
            for seed, draw, path in of
            if (root / path).exists()
        ]
        for protocol, of in paths.items()
    }
    for file in (file for of in files.values() for file in of):
        protocols[file.hash] = file.content["protocol"]
    (first, present), *others = files.items() or [("", [])]
    if not present:
        return row
    extra: dict[str, Any] = {"images": sorted({file.content["num_images"] for file in present})}
    if any("training" in file.content for file in present):
        extra["distance of as many training images"] = [file.content["training"]["fd"] for file in present]
    extra |= {key: [f.content["values"].get(key) for f in present] for key in ("confidence", "fd_cleanfid")}
    for protocol, further in others:
        if further:
            values = {
                f"{metric} by protocol {protocol}": [plain_number(f.number(metric)) for f in further]
                for metric in METRICS
            }
            extra |= values | {f"hash of protocol {protocol}": " ".join(sorted({file.hash for file in further}))}
    cells = {metric: _cell(f"{name}.{metric}", metric, present) for metric in METRICS}
    row, expected = replace(row, status="complete", why=None, cells=cells, extra=extra), len(paths[first])
    why = f"{len(present)} of {expected} metrics files exist"
    return row if len(present) == expected else replace(row, status="partial", why=why)


def _cell(cell_id: str, metric: str, files: list[MetricsFile]) -> model.CellValues:
    numbers = [float(file.number(metric)) for file in files]
    return model.CellValues(
        id=cell_id,
        values=tuple(
            model.Value(**_same(file, "seed", "draw", "metrics", "sha256"), value=file.number(metric)) for file in files
        ),
        n=len(numbers),
        mean=math.fsum(numbers) / len(numbers),
        sd=statistics.stdev(numbers) if len(numbers) > 2 else None,
        axis="training seed" if len({file.draw for file in files}) == 1 else "training seed and draw",
        protocol=" ".join(sorted({file.hash for file in files})),
    )


def _rank(plan: Plan, item: tuple[str, dict[str, Any]]) -> tuple[int, int, str]:
    """Protocols in the scale's order; of one protocol, that of the most images first: a floor row may have fewer."""
    order = [protocol.id for protocol in plan.scale.protocols]
    name = item[1]["id"]
    return order.index(name) if name in order else len(order), -item[1]["generated"]["count"], item[0]


def protocol_line(described: dict[str, Any]) -> str:
    """A protocol in one line: what was compared with what, in which networks."""
    generated, real, recall = described["generated"], described["reference"], described["recall"]
    sides = " and ".join(f"{side['count']} {SIDES[side['name']]}" for side in real["sets"])
    compared = f"{generated['count']} images as {generated['format']} against {sides} as {real['format']}"
    counts = f"{recall['generated']} against {recall['reference']} images, k = {recall['k']}, in {recall['distances']}"
    networks = described["distance"]["extractor"], recall["extractor"]
    return f"{described['id']}: distance in {networks[0]}, {compared}; precision and recall in {networks[1]}, {counts}"


def _metrics_file(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict) or not {"values", "protocol", "protocol_hash"} <= content.keys():
        raise ValueError(f"{path}: expected a metrics file, found something else; {make_again(path)}")
    if missing := sorted(set(METRICS) - content["values"].keys()):
        raise ValueError(f"{path}: expected the metrics {list(METRICS)}, found none of {missing}; {make_again(path)}")
    return content


def _curves(plan: Plan, root: Path, cells: dict[str, Cell]) -> tuple[model.CurvesFile, ...]:
    trainings = sorted({(s.run, s.seed) for cell in cells.values() for s in cell.sets})
    paths = [(run, seed, f"{plan.paths.train(run, seed)}/curves.json") for run, seed in trainings]
    return tuple(model.CurvesFile(run=run, seed=seed, path=path) for run, seed, path in paths if (root / path).exists())


def _schedule(plan: Plan, root: Path, run: str) -> model.Schedule:
    """c of each stage of a run, and what its trainings measured of the residual that c follows."""
    measured = _residuals(root / plan.paths.train(run, seed) / "curves.json" for seed in plan.seeds_of(run))
    stages = [model.StageOfC(**stage, residual=measured.get(stage["intervals"])) for stage in plan.c_stages(run)]
    return model.Schedule(run=run, stages=tuple(stages))


def _residuals(paths: Iterable[Path]) -> dict[int, float]:
    """Intervals s -> RMS of an element of the residual in that stage, over the trainings whose curves.json exists."""
    squares: dict[int, list[float]] = {}
    for curve in (read_json(path) for path in paths if path.exists()):
        for s, rms in residual_by_stage(curve).items():
            squares.setdefault(s, []).append(rms**2)
    return {s: math.sqrt(statistics.fmean(values)) for s, values in squares.items()}


def _figure(plan: Plan, root: Path, name: str) -> model.FigureResult:
    """A figure with the numbers of every dataset; those of a dataset whose numbers are missing are null."""
    figure, _ = plan.figures[name]
    datasets = [
        model.FigureDataset(
            subtable=letter,
            dataset=dataset,
            dataset_title=plan.datasets[dataset].title,
            path=(path := plan.paths.figure(name, dataset, "json")),
            numbers=read_json(root / path) if (root / path).exists() else None,
        )
        for letter, dataset in (plan.scale.subtables.items() if figure.kind in MEASURED else ())
    ]
    return model.FigureResult(
        id=name,
        **_same(figure, "kind", "title", "caption"),
        datasets=tuple(datasets),
        rows=tuple(figure.rows) if figure.kind == "samples" else (),
        logged=_logged(plan) if figure.kind == "schedules" else (),
    )


def _logged(plan: Plan) -> tuple[model.LoggedFid, ...]:
    """The authors' FID by epoch and c, from the rows that config/published/ has of them."""
    rows = plan.config.read(PublishedTable, "published", "ablation-d", "figure 4").rows_of("a").values()
    names = [(row, _LOGGED.fullmatch(row.model)) for row in rows if row.fid is not None]
    return tuple(model.LoggedFid(label=name[1], epoch=row.epochs, fid=row.fid) for row, name in names if name)


def _outside(plan: Plan, root: Path, dataset: str) -> dict[str, float]:
    """What else is measured about a dataset's autoencoder and extractor."""
    values: dict[str, Any] = {}
    latents = root / stage_files.latents(plan, dataset, "summary.json")
    if latents.exists():
        summary = read_json(latents)
        for side, label in (("heldout", "held-out"), ("train", "training")):
            if summary[f"psnr_{side}"] is not None:  # a dataset may hold no images out
                values[f"VAE PSNR, {label} [dB]"] = summary[f"psnr_{side}"]
        values |= {
            "latents: excess kurtosis": summary["tails"]["excess_kurtosis"],
            "latents: share beyond 3 IQR": summary["tails"]["outlier_share"],
        }
    extractor = stage_files.own_extractor(plan, dataset)
    if extractor is not None and (path := root / extractor.replace(".safetensors", ".summary.json")).exists():
        summary = read_json(path)
        values[f"extractor accuracy, {summary['images']} ({summary['task']})"] = summary["accuracy"]
    return {key: plain_number(float(f"{float(value):.4g}")) for key, value in values.items()}


def _run(plan: Plan, name: str) -> model.RunSummary:
    run = plan.runs[name]
    return model.RunSummary(
        **_same(run, "method", "dataset", "sources", "note"),
        settings=run.applied,
        parameters=None if run.samples else plan.parameters_of(name)[0],
        given=(run.weights or run.samples).path if not run.is_trained else None,
        weights=tuple(
            plan.paths.weights(name, seed, weights)
            for seed in plan.seeds_of(name)
            for weights in plan.kept_weights(name)
            if run.samples is None
        ),
    )
