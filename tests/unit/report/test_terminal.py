"""Results in the terminal."""

from lct.report.tables import place
from lct.report.terminal import BEST, results
from lct.report.view import cell_text
from tests.helpers.fake_tables import fake_tables, loaded


def test_measured_rows_stand_in_aligned_columns_with_the_best_of_each_sub_table_marked():
    tables = loaded(fake_tables(seeds=2, curves=False))
    lines, first = {line.split(" ")[0]: line for line in results(tables)}, tables.metrics[0]
    for table in tables.tables:
        for subtable in table.subtables:
            rows = [row for row in subtable.rows if row.measured]
            best = min(rows, key=lambda row: row.cells[first.id].shown, default=None)
            for row in rows:
                line = lines[place(table, subtable, row)]
                assert cell_text(first, row) in line
                assert (f"{cell_text(first, row)}{BEST}" in line) == (row is best)
            assert not {place(table, subtable, row) for row in subtable.rows if row.quoted} & lines.keys()
    name = next(place(*at) for at in tables.rows if at[2].status != "quoted")
    assert any(line.startswith(f"{name} ") for line in results(tables, {name}))
