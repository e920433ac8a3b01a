"""Results in the terminal."""

from lct.report.terminal import BEST, results
from lct.report.view import cell_text
from tests.helpers.fake_tables import fake_tables, loaded


def test_measured_rows_stand_in_aligned_columns_with_the_best_of_each_sub_table_marked():
    tables = loaded(fake_tables(seeds=2, curves=False))
    lines, (first, *_) = results(tables), tables.metrics
    for table in tables.tables:
        for subtable in table.subtables:
            rows = [row for row in subtable.rows if row.measured]
            best = min(rows, key=lambda row: row.cells[first.id].shown, default=None)
            for row in rows:
                name = f"{table.id}.{subtable.id}.{row.id} "
                (line,) = [line for line in lines if line.startswith(name)]
                assert cell_text(first, row) in line
                assert (f"{cell_text(first, row)}{BEST}" in line) == (row is best)
            assert not any(line.startswith(f"{table.id}.{subtable.id}.{row.id} ") for line in lines for row in subtable.rows
                           if row.quoted)  # fmt: skip
    table, subtable, row = next(at for at in tables.rows if at[2].status != "quoted")
    name = f"{table.id}.{subtable.id}.{row.id}"
    assert [
        line
        for line in results(tables, {name})
        if line.startswith(f"{table.id}.{subtable.id}.") and "floor" not in line
    ]
