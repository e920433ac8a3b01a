"""The page that sorts all measured rows and lays curves of runs over each other.

Its tables hold the data that its script draws, so that it is whole without the script, and works from disk."""

from dataclasses import dataclass
from pathlib import Path

from lct.report.images import curve
from lct.report.tables import by_step
from lct.report.text import thinned
from lct.report.view import Report, RowView, SubtableView, TableView

QUANTITIES = {  # key in curves.json -> title
    "loss": "Training loss",
    "c": "Robustness constant c",
    "residual_rms": "Residual, RMS",
    "intervals": "Discretisation intervals",
    "gradient_norm": "Gradient norm",
}
POINTS = 120  # of a curve, at most


@dataclass(frozen=True)
class Series:
    """Numbers of one training, or of one run's metrics, against the step."""

    name: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]  # step, then a number or nothing for each column


@dataclass(frozen=True)
class ExplorePage:
    rows: tuple[tuple[TableView, SubtableView, RowView], ...]  # measured, a measurement once
    series: tuple[Series, ...]


def page(shown: Report, root: Path) -> ExplorePage:
    """What the page shows: every measured row, every training curve, metrics by step where there are several."""
    rows: dict[tuple[str, ...], tuple[TableView, SubtableView, RowView]] = {}
    files: dict[str, str] = {}
    for table in shown.tables:
        for subtable in table.subtables:
            files |= {entry.path: f"{entry.run}, seed {entry.seed}" for entry in subtable.data.curves}
            for row in subtable.ours:
                if row.measured:
                    rows.setdefault(tuple(value.metrics for value in row.files), (table, subtable, row))
    series = [_curves(name, curve(root, path)) for path, name in files.items()]
    return ExplorePage(
        tuple(rows.values()), (*filter(None, series), *_by_step(shown, [row for *_, row in rows.values()]))
    )


def _curves(name: str, lists: dict[str, list] | str) -> Series | None:
    if isinstance(lists, str):
        return None
    keys = [key for key in QUANTITIES if key in lists]
    lines = [
        (_text(lists["step"][i]), *(_text(lists[key][i]) for key in keys)) for i in thinned(len(lists["step"]), POINTS)
    ]
    return Series(name, tuple(QUANTITIES[key] for key in keys), tuple(lines))


def _by_step(shown: Report, rows: list[RowView]) -> list[Series]:
    """Metrics of every run, sampler and EMA against the step of the weights."""
    columns = tuple(f"{metric.label} by step" for metric in shown.data.metrics)
    series = []
    for (run, sampler, ema), points in by_step(row.data for row in rows).items():
        means = [(step, points[step].means) for step in sorted(points)]
        lines = tuple((str(step), *(_text(of.get(metric.id)) for metric in shown.data.metrics)) for step, of in means)
        if len(lines) > 1:
            series.append(Series(f"{run}, {sampler}, EMA {ema}", columns, lines))
    return series


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else ""
