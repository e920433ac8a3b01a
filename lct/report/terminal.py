"""Results for a terminal: each sub-table as aligned columns, the best value of each metric marked."""

from lct.report import tables as model
from lct.report.text import printed
from lct.report.view import best_cells, cell_text

BEST = "*"
_MISSING = "-"


def results(tables: model.Tables, names: set[str] | None = None) -> list[str]:
    """Lines of the rows with numbers, or of those that `names` (table.sub-table.row) gives; of quoted rows none."""
    lines: list[str] = []
    printed_beside = False
    for table in tables.tables:
        for subtable in table.subtables:
            own = {model.place(table, subtable, row): row for row in subtable.rows if row.status != "quoted"}
            rows = [row for name, row in own.items() if (row.measured if names is None else name in names)]
            if not rows:
                continue
            floors = [row for row in subtable.floors if row.measured]
            title = subtable.dataset_title or subtable.paper_dataset
            is_other = subtable.dataset and not (tables.comparable or tables.own) and subtable.paper_dataset != title
            stands = f", in place of {subtable.paper_dataset}" if is_other and subtable.has_print else ""
            lines += ["", f"{table.title} ({subtable.id}) {title}{stands}"]
            lines += aligned(_lines(tables, table, subtable, rows, floors))
            printed_beside = printed_beside or bool(stands)
    if lines:
        lines += ["", f"{BEST} the best of its column; in brackets both seeds, after ± the standard deviation of more"]
        lines[-1] += "; the paper's numbers are of other images, by another metric" if printed_beside else ""
    return lines[1:]


def _lines(
    tables: model.Tables, table: model.Table, subtable: model.Subtable, rows: list[model.Row], floors: list[model.Row]
) -> list[list[str]]:
    """Head and rows: name, NFE, every metric, number of trainings, the paper's numbers, what is wrong."""
    best = best_cells(rows, tables.metrics)
    labels = [metric.label.replace(" to reconstructions", ", rec.") for metric in tables.metrics]
    lines = [["", "NFE", *labels, "n", "paper FID", "recall", ""]]
    for row in [*rows, *floors]:
        cells = [_text(metric, row, best) for metric in tables.metrics]
        count = max((cell.n for cell in row.cells.values()), default=0)
        paper = [
            printed(v) if (v := getattr(row.published, key, None)) is not None else "" for key in ("fid", "recall")
        ]
        why = "" if row.status == "complete" else f"{row.status}: {row.why}" if row.why else row.status
        nfe = "" if row.nfe is None else str(row.nfe)
        lines.append([model.place(table, subtable, row), nfe, *cells, str(count or ""), *paper, why])
    return lines


def _text(metric: model.Metric, row: model.Row, best: frozenset[str]) -> str:
    cell = row.cells.get(metric.id)
    if cell is None or not cell.values:
        return _MISSING
    return cell_text(metric, row) + (BEST if cell.id in best else " ")


def aligned(lines: list[list[str]]) -> list[str]:
    """Columns of one width, the first and the last to the left; columns without a word are left out."""
    columns = [column for column in zip(*lines, strict=True) if any(column[1:])]
    left, padded = {0, len(columns) - 1} - {1}, []
    for i, column in enumerate(columns):
        width = max(map(len, column))
        padded.append([word.ljust(width) if i in left else word.rjust(width) for word in column])
    return ["  ".join(line).rstrip() for line in zip(*padded, strict=True)]
