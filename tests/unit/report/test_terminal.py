"""Results in the terminal."""

from lct.report.tables import place
from lct.report.terminal import BEST, results
from lct.report.view import cell_text
from tests.helpers.fake_tables import fake_tables, loaded, rendered


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


def test_a_sub_table_is_in_place_of_the_papers_dataset_where_the_paper_has_numbers_for_it(tmp_path):
    tables = fake_tables(seeds=1, curves=False)
    assert "in place of CelebA-HQ" in "\n".join(results(loaded(tables)))
    assert results(loaded(tables))[-1].endswith("the paper's numbers are of other images, by another metric")
    assert "in place of CelebA-HQ" in rendered(tables, tmp_path / "a")["index.html"]
    for row in tables["tables"][0]["subtables"][0]["rows"]:
        published = {key: row["published"][key] for key in ("id", "group", "model", "nfe")}
        row["published"] = published | {"retrained_by_authors": True, "origin": {"kind": "not published"}}
    tables["tables"][0] |= {"remarks": [], "cross_checks": []}
    assert "in place of CelebA-HQ" not in "\n".join(results(loaded(tables)))
    assert "in place of CelebA-HQ" not in rendered(tables, tmp_path / "b")["index.html"]
