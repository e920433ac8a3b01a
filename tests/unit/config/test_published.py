"""The printed numbers of Table 1, restated from the paper independently of the file that the report reads."""

import csv
import re

import pytest

from lct.config.folder import load_yaml
from lct.config.published import PublishedRow, PublishedTable, TableSpec
from lct.config.schema import build
from tests.helpers.fake_tables import ROOT, published

PIXEL, LATENT, CONSISTENCY = "Pixel Diffusion Model", "Latent Diffusion Model", "Latent Consistency Model"
SONG = "Song & Dhariwal, 2023"
# group, model, citation, NFE, FID, recall, epochs, as printed, batch, dagger, trained by the authors
TABLE_1 = {
    ("a", "CelebA-HQ"): [
        (PIXEL, "WaveDiff", "Phung et al., 2023", 2, 5.94, 0.37, 500, "500", 64, False, False),
        (PIXEL, "Score SDE", "Song et al., 2020", 4000, 7.23, None, 6200, "6.2K", None, False, False),
        (PIXEL, "DDGAN", "Xiao et al., 2021", 2, 7.64, 0.36, 800, "800", 32, False, False),
        (PIXEL, "RDUOT", "Dao et al., 2023b", 2, 5.60, 0.38, 600, "600", 24, False, False),
        (PIXEL, "RDM", "Teng et al., 2023", 270, 3.15, 0.55, 4000, "4K", None, False, False),
        (PIXEL, "UNCSN++", "Kim et al., 2021", 2000, 7.16, None, None, None, None, False, False),
        (LATENT, "LFM-8", "Dao et al., 2023a", 85, 5.82, 0.41, 500, "500", 112, False, False),
        (LATENT, "LDM-4", "Rombach et al., 2021", 200, 5.11, 0.49, 600, "600", 48, False, False),
        (LATENT, "LSGM", "Vahdat et al., 2021", 23, 7.22, None, 1000, "1K", None, False, False),
        (LATENT, "DDMI", "Park et al., 2024", 1000, 7.25, None, None, None, None, False, False),
        (LATENT, "DIMSUM", "Phung et al., 2024", 73, 3.76, 0.56, 395, "395", 32, False, False),
        (LATENT, "LDM-8", None, 250, 8.85, None, 1400, "1.4K", 128, True, True),
        (CONSISTENCY, "iLCT", SONG, 1, 37.15, 0.12, 1400, "1.4K", 128, False, True),
        (CONSISTENCY, "iLCT", SONG, 2, 16.84, 0.24, 1400, "1.4K", 128, False, True),
        (CONSISTENCY, "Ours", None, 1, 7.27, 0.50, 1400, "1.4K", 128, False, True),
        (CONSISTENCY, "Ours", None, 2, 6.93, 0.52, 1400, "1.4K", 128, False, True),
    ],
    ("b", "LSUN Church"): [
        (PIXEL, "WaveDiff", "Phung et al., 2023", 2, 5.94, 0.37, 500, "500", 64, False, False),
        (PIXEL, "Score SDE", "Song et al., 2020", 4000, 7.23, None, 6200, "6.2K", None, False, False),
        (PIXEL, "DDGAN", "Xiao et al., 2021", 2, 5.25, 0.36, 500, "500", 32, False, False),
        (LATENT, "LFM-8", "Dao et al., 2023a", 90, 7.70, 0.39, 90, "90", 112, False, False),
        (LATENT, "LDM-8", "Rombach et al., 2021", 400, 4.02, 0.52, 400, "400", 96, False, False),
        (LATENT, "LDM-8", None, 250, 10.81, None, 1800, "1.8K", 256, True, True),
        (CONSISTENCY, "iLCT", SONG, 1, 52.45, 0.11, 1800, "1.8K", 256, False, True),
        (CONSISTENCY, "iLCT", SONG, 2, 24.67, 0.17, 1800, "1.8K", 256, False, True),
        (CONSISTENCY, "Ours", None, 1, 8.87, 0.47, 1800, "1.8K", 256, False, True),
        (CONSISTENCY, "Ours", None, 2, 7.71, 0.48, 1800, "1.8K", 256, False, True),
    ],
    ("c", "FFHQ"): [
        (LATENT, "LFM-8", "Dao et al., 2023a", 84, 8.07, 0.40, 700, "700", 128, False, False),
        (LATENT, "LDM-4", "Rombach et al., 2021", 200, 4.98, 0.50, 400, "400", 42, False, False),
        (LATENT, "LDM-8", None, 250, 10.23, None, 1400, "1.4K", 128, True, True),
        (CONSISTENCY, "iLCT", SONG, 1, 48.82, 0.15, 1400, "1.4K", 128, False, True),
        (CONSISTENCY, "iLCT", SONG, 2, 21.15, 0.19, 1400, "1.4K", 128, False, True),
        (CONSISTENCY, "Ours", None, 1, 8.72, 0.42, 1400, "1.4K", 128, False, True),
        (CONSISTENCY, "Ours", None, 2, 8.29, 0.43, 1400, "1.4K", 128, False, True),
    ],
}
FIELDS = ("group", "model", "citation", "nfe", "fid", "recall", "epochs", "epochs_as_printed", "batch_size", "dagger")


def test_every_printed_row_is_in_the_file_and_no_other():
    found = {
        (sub.id, sub.dataset): [(*(getattr(row, f) for f in FIELDS), row.retrained_by_authors) for row in sub.rows]
        for sub in published().subtables
    }
    assert found == TABLE_1
    assert sum(len(rows) for rows in TABLE_1.values()) == 33


def test_retrained_rows_have_the_ids_that_our_tables_answer():
    path = ROOT / "config/tables/table1.yaml"
    spec, table = build(TableSpec, load_yaml(path), str(path)), published()
    for sub in table.subtables:
        retrained = {row.id for row in sub.rows if not row.quoted}
        assert retrained == set(spec.rows) == {"ldm-8", "ilct-1", "ilct-2", "lct-1", "lct-2"}
        for name, row in table.rows_of(sub.id).items():
            if name in ("ilct-1", "ilct-2", "lct-1", "lct-2"):
                assert row.nfe == int(name[-1])
    assert all(set(row.sampler) == {"paper", "mini", "smoke"} for row in spec.rows.values())


def test_every_note_says_where_it_is_known_from():
    table = published()
    assert all(note.provenance and note.text for note in (*table.remarks, *table.cross_checks))
    assert any("b.wavediff" in note.rows for note in table.remarks)  # the copied Church rows


ROW = {"id": "x", "group": "g", "model": "m", "nfe": 1, "retrained_by_authors": False}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"nfe": 0}, "nfe >= 1"),
        ({"fid": -1.0}, "fid >= 0"),
        ({"fid": float("nan")}, "fid >= 0"),
        ({"recall": 1.5}, "recall within 0..1"),
        ({"epochs": 3}, "epochs_as_printed"),
        ({"dagger": True}, "retrained_by_authors"),
    ],
)
def test_impossible_rows_are_refused_in_one_line(wrong, says):
    with pytest.raises(ValueError, match=says) as error:
        PublishedRow(**(ROW | wrong))
    assert "\n" not in str(error.value) and "'x'" in str(error.value)


def test_unknown_keys_twice_used_ids_and_unknown_rows_are_refused():
    path = ROOT / "config/published/table1.yaml"
    values = load_yaml(path)
    values["subtables"][0]["rows"][0]["fidd"] = 1.0
    with pytest.raises(ValueError, match="unknown key 'fidd'"):
        build(PublishedTable, values, "t.yaml")
    values = load_yaml(path)
    values["subtables"][0]["rows"][1]["id"] = "wavediff"
    with pytest.raises(ValueError, match="every id once, found \\['wavediff'\\]"):
        build(PublishedTable, values, "t.yaml")
    values = load_yaml(path)
    values["remarks"][0]["rows"] = ["a.nobody"]
    with pytest.raises(ValueError, match="found \\['a.nobody'\\]"):
        build(PublishedTable, values, "t.yaml")


def log_rows() -> list[tuple[str, PublishedRow]]:
    """Every row of config/published/ that quotes the authors' log."""
    tables = [
        build(PublishedTable, load_yaml(p), str(p)) for p in sorted((ROOT / "config" / "published").glob("*.yaml"))
    ]
    rows = [(f"{table.id}.{sub.id}.{row.id}", row) for table in tables for sub in table.subtables for row in sub.rows]
    return [(place, row) for place, row in rows if row.origin.kind == "authors' log"]


def test_every_quoted_log_value_stands_at_the_commit_and_epoch_that_it_cites():
    (path,) = (ROOT / "config").glob("*/authors_runs.csv")
    with path.open(newline="") as file:
        log = list(csv.DictReader(file))
    assert len(log_rows()) > 90
    for place, row in log_rows():
        commit, _, name = row.origin.place.partition(":")
        decimals = len(str(row.fid).partition(".")[2])
        lines = [
            line for line in log if round(float(line["fid"]), decimals) == row.fid and line["source_commit"] == commit
        ]
        assert name == "fid.txt" and lines, f"{place}: {row.fid} is not logged at {commit}"
        epochs = {line["epoch"] for line in lines}
        assert str(row.epochs) in epochs or "content.pth (last save)" in epochs, (
            f"{place}: epoch {row.epochs}, {epochs}"
        )
        emas = {line["ema"] for line in lines} - {""}
        rate = re.search(r"EMA (0\.\d+)", row.origin.line)
        assert not emas or rate is None or rate[1] in emas, f"{place}: {row.origin.line}, but {emas}"
        assert row.origin.status != "L" or all(line["experiment"] for line in lines if line["ema"]), place
