"""Claims of config/claims/, judged on every body of evidence: the paper's numbers, the authors' log, measurements.

The rules are those of lct.claims.judge; this module gathers what is known of each row.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lct.claims.judge import Body, ClaimVerdict, judge
from lct.claims.noise import Noise, pooled, scaled, spread
from lct.config.claims import FOLDER, Claim, PublishedRows, read_claims, read_repeats
from lct.config.folder import ConfigFolder
from lct.config.model import REHEARSAL
from lct.config.published import PublishedRow
from lct.files.atomic import read_json
from lct.report.tables import PAIRS, Tables, place
from lct.report.verdicts import measured_spreads

FEWEST = 5  # logged points of a stage that give a spread
JudgedClaim = tuple[Claim, tuple[ClaimVerdict, ...]]  # with the verdict of each body of evidence, in their order


def bodies(root: Path, claims: Sequence[Claim], measured: Iterable[Tables], rows: PublishedRows) -> list[Body]:
    """The paper's table, the authors' log, and each report's measurements. root: the project's folder."""
    names = sorted({name for claim in claims for part in claim.parts for name in part.rows})
    published = {name: rows.row(name, str(FOLDER)) for name in names}
    prior = {"fid": prior_noise(ConfigFolder(root), rows)}
    printed = {name: row for name, row in published.items() if row.origin.kind == "published table"}
    log = {name: row for name, row in published.items() if row.origin.kind != "not published"}
    return [
        Body("paper-table", "the paper's Table 1", _published_cells(printed), prior=prior),
        Body("authors-log", "the authors' log, with Table 1", _published_cells(log), prior=prior),
        *(measured_body(tables, root) for tables in measured),
    ]


def prior_noise(config: ConfigFolder, rows: PublishedRows) -> Noise:
    """Noise of log FID between trainings, from the authors' runs that were trained alike (repeats.yaml)."""
    repeats = read_repeats(config, rows)
    pairs = [[scaled("fid", rows.row(name, str(FOLDER)).fid) for name in repeat.rows] for repeat in repeats]
    return pooled([spread(pair) for pair in pairs], source="the authors' repeated runs")


def _published_cells(rows: dict[str, PublishedRow]) -> dict[tuple[str, str], tuple[float, ...]]:
    values = {(name, metric): getattr(row, metric) for name, row in rows.items() for metric in PAIRS}
    return {key: (value,) for key, value in values.items() if value is not None}


def measured_body(tables: Tables, root: Path) -> Body:
    """What a report's cells, figures and training curves say; runs of two seeds or more give the noise. A rehearsal
    says nothing."""
    cells, protocols = {}, {}
    if tables.watermark == REHEARSAL:
        return Body(tables.scale, f"{tables.scale} scale: a rehearsal, no result", {}, {})
    for table, subtable, row in tables.rows:
        for metric, ours in PAIRS.items():
            cell = row.cells.get(ours)
            if cell is not None and cell.values and row.run is not None:
                name = (place(table, subtable, row), metric)
                cells[name] = tuple(cell.by_seed.values())
                protocols[name] = f"{cell.protocol}, {table.note or 'the whole budget'}"
    spreads = measured_spreads(tables)
    command = f"snakemake claims --config scale={tables.scale}"
    scale = f"{tables.scale} scale"
    title = f"measured here, {scale}" if tables.comparable else f"measured here, {scale} alone"
    return Body(tables.scale, title, cells, protocols, spreads, {}, _measures(tables, root), command)


def _measures(tables: Tables, root: Path) -> dict[tuple[str, str, str], dict[str, float]]:
    """Numbers of figure 1 by dataset, and of training curves by seed."""
    measures: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for figure in tables.figures:
        for entry in figure.datasets if figure.kind == "box-plots" else ():
            for box in entry.numbers["boxes"] if entry.numbers else ():
                for quantity in ("beyond_outer", "excess_kurtosis"):
                    measures["figure1", quantity, box["id"]][entry.dataset] = box[quantity]
    for table, subtable, row in tables.rows:
        for curve in subtable.curves:
            if curve.run == row.run and (value := relative_spread(root / curve.path)) is not None:
                measures["curves", "relative_sd", place(table, subtable, row)][f"seed {curve.seed}"] = value
    return dict(measures)


def relative_spread(path: Path) -> float | None:
    """Standard deviation of the logged loss over its mean, in the last stage of the curriculum.

    path: a curves.json. None where it is absent, or its last stage has fewer than 5 points."""
    if not path.exists():
        return None
    curve = read_json(path)
    points = zip(curve["loss"], curve["intervals"], strict=True)
    losses = [loss for loss, intervals in points if intervals == curve["intervals"][-1]]
    if len(losses) < FEWEST or not statistics.fmean(losses) > 0:
        return None
    return statistics.stdev(losses) / statistics.fmean(losses)


def judged(root: Path, measured: Iterable[Tables]) -> tuple[list[Body], list[JudgedClaim]]:
    """The bodies of evidence, and every claim of the project at `root` with their verdicts."""
    config = ConfigFolder(root)
    rows = PublishedRows(config)
    claims = read_claims(config, rows)
    evidence = bodies(root, claims, measured, rows)
    return evidence, [(claim, tuple(judge(claim, body) for body in evidence)) for claim in claims]


@dataclass(frozen=True)
class ClaimsPage:
    """What the page of claims shows."""

    judgements: tuple[JudgedClaim, ...]
    titles: dict[str, str]  # of each body of evidence, by id
    measured: Body  # what was measured here
    source: str  # report that shows the measured rows, from the project's folder; empty for the one that is shown


def page(root: Path, tables: Tables, claimed: Tables | None = None, source: str = "") -> ClaimsPage:
    """Every claim of the project at `root`, with the measurements of `tables` as evidence, or those of `claimed`, the
    tables of the report `source`."""
    evidence, judgements = judged(root, [claimed or tables])
    titles, measured = {body.id: body.title for body in evidence}, evidence[-1]
    return ClaimsPage(tuple(judgements), titles, measured, source if claimed else "")
