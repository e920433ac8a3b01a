"""The report about a dataset of the user's own: no columns of print, its rows against each other, damaged images."""

import re

import numpy as np
import pytest
from scipy import stats

from tests.helpers.fake_tables import fake_tables, rendered

DAMAGED = {"blur-strong": ("Gaussian blur, 2 pixels", 0.9), "noise-strong": ("Gaussian noise, 64 of 256", 0.1)}


def own_tables(seeds=2, damaged=None):
    """The fake tables as those of the dataset `mine`; damaged: id -> (text, precision)."""
    tables = fake_tables(seeds, curves=False) | {"own": "mine"}
    table, part = tables["tables"][0], tables["tables"][0]["subtables"][0]
    table |= {"subtables": [part], "id": "own", "title": "A dataset of your own", "published": "own"}
    table |= {"remarks": [], "cross_checks": []}
    part |= {"dataset": "mine", "dataset_title": "my photographs", "rows": [r for r in part["rows"] if r["run"]]}
    for row in part["rows"]:
        published = {key: row["published"][key] for key in ("id", "group", "model", "nfe")}
        row["published"] = published | {"retrained_by_authors": True, "origin": {"kind": "not published"}}
    if damaged:
        measured = [
            {"id": name, "text": text, "values": {"fd": 9.0, "fdr": 8.0, "precision": precision, "recall": 0.3}}
            for name, (text, precision) in damaged.items()
        ]
        about = {"images": "held-out images", "count": 400, "path": "results/mini/degraded/mine.json"}
        part["degraded"] = about | {"sha256": "ab" * 32, "rows": measured}
    return tables


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return rendered(own_tables(damaged=DAMAGED), tmp_path_factory.mktemp("own"))


def test_the_report_has_the_datasets_title_and_no_columns_of_print(out):
    page, text, latex = out["index.html"], out["report.md"], out["tables.tex"]
    assert "<h1>My photographs</h1>" in page and text.startswith("# My photographs\n")
    assert r"\caption{My photographs, (a) my photographs" in latex
    for content in (page, text, latex):
        assert "Published" not in content and "not comparable" not in content and "your own" not in content
    lines = [line for line in text.split("### (a) my photographs")[1].splitlines() if line.startswith("|")][:9]
    assert {line.count("|") for line in lines} == {10}, "Model, NFE, four metrics, against the best, n, status"
    assert {line.replace(r"\&", "").count("&") for line in latex.splitlines() if "& n=" in line} == {7}
    head = re.search(r"<table role=\"table\" data-sortable>.*?</thead>", page, re.S)[0]
    assert head.count('scope="col"') == 7, "Model, NFE, four metrics, against the best"


def test_rows_are_set_against_the_best_with_an_interval_where_seeds_allow(out, tmp_path):
    rows = {r["id"]: [v["value"] for v in r["cells"]["fd"]["values"]] for r in own_rows(own_tables())}
    logs = {name: np.log(values) for name, values in rows.items()}
    best = min(rows, key=lambda name: np.mean(rows[name]))
    sd, df = np.sqrt(np.mean([of.var(ddof=1) for of in logs.values()])), len(logs)
    for name, of in logs.items():
        difference = of.mean() - logs[best].mean()
        half = stats.t.ppf(0.975, df) * sd  # two seeds on either side: sqrt(1 / 2 + 1 / 2) = 1
        percents = [f"{100 * np.expm1(x):+.0f} %" for x in (difference, difference - half, difference + half)]
        shown = "best" if name == best else "{} ({} to {})".format(*percents)
        for content in (out["index.html"], out["report.md"], out["tables.tex"].replace(r"\%", "%")):
            assert shown.replace("-", "\N{MINUS SIGN}") in content or shown in content, (name, shown)
    single = rendered(own_tables(seeds=1), tmp_path)["report.md"]
    assert re.search(r"\| \+\d+ % \| n=1, no spread", single) and " to +" not in single


def own_rows(tables):
    return tables["tables"][0]["subtables"][0]["rows"]


def test_damaged_images_stand_behind_the_table_and_precision_that_does_not_see_them_is_a_caution(out):
    for name in ("index.html", "report.md"):
        assert "Held-out images, 400: Gaussian blur, 2 pixels" in out[name]
        caution = re.search(r"Caution: Precision does not see .*? whole ones have 0.93. Look at", out[name])[0]
        assert "blur, 2 pixels: 0.90" in caution and "noise" not in caution and "distance" not in caution
    assert "results/mini/degraded/mine.json --config scale=mini dataset=mine" in out["index.html"]


def test_the_page_of_claims_says_that_no_claim_is_about_the_dataset(out):
    page = out["claims.html"]
    assert "No claim of the paper is about this dataset" in page and "<details" not in page and "Supported" not in page


def test_the_page_of_what_is_known_leaves_the_papers_datasets_out(out):
    page = out["evidence.html"]
    assert "This page is about the datasets of the paper" in page
    assert not any(word in page for word in ("CelebA-HQ", "FFHQ", "<table", 'href="#facts"', "not in this report"))


def test_every_printed_command_names_the_dataset(out):
    for name in set(out) - {"claims.html", "evidence.html"}:
        commands = re.findall(r"(?:snakemake|lct) [^<`]*(?:--config|--scale) [^<`]*", out[name])
        assert all("dataset=mine" in command or "--dataset mine" in command for command in commands), (name, commands)
    assert "dataset=mine" in out["numbers.html"]
