"""The rendered report: true to its tables dict, whole when the results are not, and safe with any name."""

import base64
import copy
import dataclasses
import hashlib
import io
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest

from lct.files.atomic import write_json
from lct.metrics.evaluation import ExtractorIdentity, ReferenceImages, describe, digest
from lct.metrics.settings import TrainedExtractor
from lct.plan import files as stage_files
from lct.plan.plan import Plan
from lct.report import plotting, text
from lct.report.collect import collect
from lct.report.headline import trust
from lct.report.plotting import MARKERS, STYLES
from lct.report.render import render
from lct.report.tables import dump, dumps, loads, read
from tests.helpers.browser import chromium
from tests.helpers.fake_tables import (
    NASTY,
    ROOT,
    fake_curves,
    fake_tables,
    loaded,
    poisoned,
    rendered,
    row,
    rows_of,
    write_files,
)
from tests.helpers.pages import Page

NAMES = ("index.html", "report.md", "tables.tex", "tables.csv")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    write_files(fake_tables(), folder)
    return folder


@pytest.fixture(scope="module")
def complete(root):
    return rendered(fake_tables(), root)


def light(seeds=2):
    """The same without curves, which take most of the time."""
    return fake_tables(seeds, curves=False)


def shown(cell):
    """(mean, " (both values)" or nothing) as every format shows them."""
    texts = [f"{v:.2f}" if v >= 0.1 else f"{v:.3f}" for v in (cell["mean"], *(v["value"] for v in cell["values"]))]
    return texts[0], f" ({', '.join(texts[1:])})" if cell["n"] == 2 else ""


def in_span(spread):
    return f' <span class="spread">{spread[1:]}</span>' if spread else ""


# --- true to the dict ---------------------------------------------------------------------------------------------
def test_every_number_of_every_cell_is_in_every_format(complete):
    page = Page(complete["index.html"])
    assert page.open == []
    frame = pandas.read_csv(io.StringIO(complete["tables.csv"]), keep_default_na=False)
    for subtable, r in rows_of(light()):
        for name, c in r["cells"].items():
            mean, spread = shown(c)
            assert re.search(
                rf">{mean}</a>(<span class=\"hidden\"> \(best\)</span>)?{re.escape(in_span(spread))}",
                complete["index.html"],
            )
            assert f" {mean}{spread} |" in complete["report.md"]
            assert f"\\textit{{{mean}{spread}}}" in complete["tables.tex"]
            line = frame[frame.cell == c["id"]].iloc[0]
            assert float(line.value) == c["mean"] and int(line.n) == c["n"] and line.sd == ""
            assert [float(v) for v in line["values"].split(";")] == [v["value"] for v in c["values"]]
            assert line.protocol == c["protocol"] and line.axis == "training seed"
            for v in c["values"]:
                for where in (
                    "numbers.html",
                    "report.md",
                ):  # behind the number: all digits, its file, its hash, its command
                    assert (
                        repr(v["value"]) in complete[where]
                        and v["metrics"] in complete[where]
                        and v["sha256"] in complete[where]
                    )
                    assert f"snakemake {v['metrics']} --config scale=mini" in complete[where]
            assert name in ("fd", "fdr", "precision", "recall")
        if r["published"]:
            for key, label in (("fid", "FID"), ("recall", "Recall")):
                line = frame[
                    (frame.subtable == subtable["id"])
                    & (frame.row == r["id"])
                    & frame.source.str.startswith("published")
                    & (frame.metric == label)
                ]
                if r["published"][key] is None:
                    assert line.empty
                else:
                    assert float(line.iloc[0].value) == r["published"][key]
                    assert f"{r['published'][key]:.2f}" in page.text


def test_table_lines_hold_published_then_ours_in_the_order_of_print(complete):
    tables = light()
    expected = [(s["id"], r["id"]) for s, r in rows_of(tables)]
    frame = pandas.read_csv(io.StringIO(complete["tables.csv"]), keep_default_na=False)
    assert list(dict.fromkeys(zip(frame.subtable, frame.row, strict=True))) == expected
    r = row(tables, "a", "lct-1")
    ours = ["".join(shown(r["cells"][m])) for m in ("fd", "fdr", "precision", "recall")]
    assert (
        "| Ours (LCT) | 1 | 7.27 | 0.50 | 1.4K | 128 | 1 | " + " | ".join(ours) + " | n=2 | measured, not comparable |"
        in complete["report.md"]
    )
    assert (
        "Ours (LCT) & 1 & 7.27 & 0.50 & 1.4K & 128 & 1 & "
        + " & ".join(f"\\textit{{{v}}}" for v in ours)
        + " & n=2 \\\\"
        in complete["tables.tex"]
    )
    assert (
        "WaveDiff\\lctquoted{} (Phung et al., 2023) & 2 & 5.94 & 0.37 & 500 & 64 & & & & & & \\\\"
        in complete["tables.tex"]
    )
    assert (
        "| WaveDiff (Phung et al., 2023) | 2 | 5.94 | 0.37 | 500 | 64 |  | | | | | | quoted |" in complete["report.md"]
    )
    for part in ("\\toprule", "\\midrule", "\\bottomrule", "Pixel Diffusion Model", "LDM-8$^\\dagger$"):
        assert part in complete["tables.tex"]


def test_published_and_ours_are_never_subtracted_or_on_one_line_of_the_csv(complete):
    frame = pandas.read_csv(io.StringIO(complete["tables.csv"]), keep_default_na=False)
    assert set(frame.source) == {"published", "published, quoted there", "this project"}
    assert not set(frame[frame.source == "this project"].metric) & {"FID"}
    assert not set(frame[frame.source != "this project"].metric) & {"FD(cnn64)"}
    for _, r in rows_of(light()):
        if r["published"] and r["cells"]:
            for ours, theirs in (("fd", "fid"), ("fdr", "fid"), ("recall", "recall")):
                if r["published"][theirs] is None:
                    continue
                for v in [r["cells"][ours]["mean"], *(v["value"] for v in r["cells"][ours]["values"])]:
                    difference = f"{abs(v - r['published'][theirs]):.6f}"
                    assert all(difference not in content for content in complete.values())
    assert set(frame.difference) == {""} and set(frame[frame.verdict != ""].verdict) == {"not comparable"}
    for name in ("index.html", "report.md", "tables.tex"):
        assert ", band ±" not in complete[name] and "not comparable" in complete[name]


def test_spread_follows_n(root):
    for n in (1, 2, 3):
        tables = light(seeds=n)
        out = rendered(tables, root)
        c = row(tables, "a", "lct-1")["cells"]["fd"]
        spread = {1: "", 2: shown(c)[1], 3: f" ± {c['sd'] or 0:.2f}"}[n]
        text = f"{c['mean']:.2f}{spread}"
        assert f">{c['mean']:.2f}</a>{in_span(spread)}" in out["index.html"] and f" {text} |" in out["report.md"]
        assert f"\\textit{{{text.replace('±', '$' + chr(92) + 'pm$')}}}" in out["tables.tex"]
        if n == 2:  # even an SD in the dict is not shown for two values
            tables["tables"][0]["subtables"][0]["rows"][-1]["cells"]["fd"]["sd"] = 0.123456
            assert all("0.12345" not in content and "± 0" not in content for content in rendered(tables, root).values())
        assert ("n=1, no spread" if n == 1 else f"n={n}") in Page(out["index.html"]).text
    assert "training seed" in Page(out["index.html"]).text


def test_protocol_hash_settings_floors_and_banner(complete):
    tables, page = light(), Page(complete["index.html"])
    for name in ("index.html", "report.md"):
        plain = page.text if name == "index.html" else complete[name]
        assert (
            plain.count("Metric protocol") >= 3 and "torch-fidelity 0.4.0" in plain and "image_format" in complete[name]
        )
        for word in ("Held-out images", "Autoencoder reconstructions", "What this scale is and is not", "0.031"):
            assert word in plain
        assert all(line in plain for line in tables["banner"])
        assert plain.index(tables["banner"][0]) < plain.index("Table 1. Image")
    assert complete["tables.tex"].count("Metric protocol 3f9a1c07be52") == 3


def test_numbers_of_further_protocols_stand_behind_the_row_and_mark_nothing(tmp_path):
    """Two protocols, the second with another floor count: the table shows the first, and nothing is marked."""
    plan = Plan(ROOT, {"scale": "smoke"})
    (first,) = plan.scale.protocols
    second = dataclasses.replace(first, id="second", jpeg_quality=75)
    plan.scale = dataclasses.replace(plan.scale, protocols=(first, second))
    used = ExtractorIdentity(TrainedExtractor(), "a" * 64)
    for path in stage_files.report_metrics(plan):
        protocol = next(p for p in plan.scale.protocols if p.id == Path(path).stem)
        count = 40 if "/reference/" in path and protocol is second else 64
        described = describe(
            protocol,
            distance=used,
            recall=used,
            reference=[ReferenceImages("train", 256, "b" * 64)],
            resolution=16,
            generated=count,
            reconstructed=256,
        )
        value = 1.5 if protocol is first else 2.25
        values = {"fd": value, "fdr": 1.0, "precision": 0.5, "recall": 0.25, "confidence": None, "fd_cleanfid": value}
        content = {"format": 1, "values": values, "num_images": count, "protocol": described}
        write_json(tmp_path / path, content | {"protocol_hash": digest(described)})
    tables = collect(plan, tmp_path)
    assert loads(dumps(tables)) == tables
    subtable = tables.tables[0].subtables[0]
    assert [protocol.secondary for protocol in subtable.protocols] == [False, True, True]
    assert subtable.protocols[0].line == (
        "fd-train: distance in cnn64, 64 images as PNG against 256 training images as PNG; precision and recall in "
        "cnn64, 64 against 256 images, k = 3, in float64"
    )
    first_row = next(row for row in subtable.rows if row.id == "lct-1")
    assert first_row.cells["fd"].mean == 1.5 and first_row.extra["fd by protocol second"] == [2.25]
    assert subtable.floors[0].extra["images"] == [64]
    out = render(tables, tmp_path)
    assert "fd by protocol second" in out["numbers.html"] and "2.25" in out["numbers.html"]
    assert "fd by protocol second" in out["report.md"] and "2.25" in out["report.md"]
    for name in ("index.html", "report.md"):
        assert "64 images as JPEG 75 against 256 training images" in out[name], name
        assert out[name].count("Behind the numbers: metric protocol") == 2
        assert "Protocols differ" not in out[name] and "other protocol" not in out[name]
    assert "64 images as PNG against 256 training images" in out["tables.tex"] and "JPEG 75" not in out["tables.tex"]


def test_cells_whose_protocol_differs_are_marked(root):
    tables = light()
    sub = tables["tables"][0]["subtables"][0]
    sub["protocols"].append({"hash": "ffffffffffff", "settings": {"k": 5}})
    row(tables, "a", "lct-1")["cells"]["recall"]["protocol"] = "ffffffffffff"
    row(tables, "a", "lct-2")["cells"]["recall"]["protocol"] = "000000000000"
    out = rendered(tables, root)
    assert "Protocols differ" in out["index.html"]
    for name in ("index.html", "report.md", "tables.tex"):
        assert "p2" in out[name] and "other protocol" in out[name]


def test_latex_has_a_float_for_each_sub_table_and_macros_say_what_tables_show(complete):
    floats = complete["tables.tex"].split("\\begin{table}")[1:]
    assert len(floats) == 3 and all(part.count("\\begin{tabular}") == 1 for part in floats)
    assert "\\label{tab:lct-table1.b}" in floats[1]
    macros = dict(re.findall(r"\\@namedef\{lctval@([^}]+)\}\{(.*)\}", complete["numbers.tex"]))
    for _, r in rows_of(light()):
        for c in r["cells"].values():
            name, (mean, spread) = text.anchor(c["id"]), shown(c)
            assert macros[name] == mean + spread and macros[f"{name}.mean"] == mean


def test_same_dict_same_bytes(root, complete):
    """In another process too, whose sets have another order."""
    assert rendered(fake_tables(), root) == complete
    code = (
        "import sys, hashlib, pathlib; sys.path[:0] = ['.']\n"
        "from tests.helpers.fake_tables import fake_tables, rendered\n"
        "out = sorted(rendered(fake_tables(), pathlib.Path(sys.argv[1])).items())\n"
        "print(hashlib.sha256(repr(out).encode()).hexdigest())"
    )
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    run = [sys.executable, "-c", code, str(root)]
    environment = os.environ | {"PYTHONHASHSEED": seed}
    other = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    assert other == hashlib.sha256(repr(sorted(complete.items())).encode()).hexdigest()


def test_rendering_leaves_the_dict_alone_and_needs_no_torch(root):
    tables = loaded(light())
    before = copy.deepcopy(tables)
    render(tables, root)
    assert tables == before
    code = "import sys, lct.report.render, lct.report.plotting; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# --- the page -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["index.html", "figures.html", "numbers.html"])
def test_a_page_is_one_file_whose_links_all_lead_somewhere(complete, name):
    html = complete[name]
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    pages = {path: Page(content) for path, content in complete.items() if path.endswith(".html")}
    outside = {"https://arxiv.org/abs/2502.01441", "audit.html", *complete}
    for link in page.links:
        path, _, fragment = link.partition("#")
        if path == "audit.html" or link in outside:
            continue
        assert fragment in pages[path or name].ids, link
    assert page.resources and all(source.startswith(("data:", "#")) for source in page.resources)
    assert not re.search(r"@import|url\((?!#)", html) and html.count("<script>") == html.count("<script") == 1
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL)[1]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{allowed}'" in html, "the page's policy lets this script run, and no other"
    assert len(html) < 2_000_000


def test_every_number_leads_to_what_is_behind_it(complete):
    links, ids = Page(complete["index.html"]).links, Page(complete["numbers.html"]).ids
    cells = [f"cell-{text.anchor(c['id'])}" for _, r in rows_of(light()) for c in r["cells"].values()]
    assert all(f"numbers.html#{cell}" in links and cell in ids for cell in cells)


def test_page_can_be_read_without_seeing_it(complete):
    page = Page(complete["index.html"])
    assert ("html", {"lang": "en"}) in page.tags
    assert all(values.get("alt") for tag, values in page.tags if tag == "img")
    assert all(values.get("aria-label") or values.get("aria-hidden") for tag, values in page.tags if tag == "svg")
    assert all(values.get("scope") for tag, values in page.tags if tag == "th")
    count = [tag for tag, _ in page.tags].count
    assert count("table") == count("caption") and count("h1") == count("main") == count("nav") == 1
    scrolled = [v for tag, v in page.tags if tag == "div" and "results" in v.get("class", "")]
    assert len(scrolled) == 3 and all(v["tabindex"] == "0" and v["role"] == "region" for v in scrolled)
    assert page.links[0] == "#main"  # the first thing the keyboard reaches skips to the tables


def test_images_are_embedded_unchanged_and_small_ones_enlarged_without_smoothing(root, complete):
    grid = row(light(), "a", "lct-1")["samples"][0]["grid"]
    page = complete["figures.html"]
    assert base64.b64encode((root / grid).read_bytes()).decode() in page
    assert 'class="pixelated"' in page and "image-rendering: pixelated" in page
    assert page.count("data:image/png") == 3 * (5 + 1)  # galleries, reconstructions
    assert complete["numbers.html"].count("data:image/png") == 3 * 10  # all seeds of rows without a page
    assert complete["index.html"].count("data:image/png") == 1 + 5  # a strip: real images, then each row
    assert grid in complete["report.md"]


def test_curves_have_a_style_per_run_and_no_identity_of_the_moment(complete):
    svg = re.findall(r"<svg.*?</svg>", complete["figures.html"], re.DOTALL)
    assert len(svg) == 3
    assert all(f"digits-{method}, seed {seed}" in svg[0] for method in ("ldm", "ilct", "lct") for seed in (0, 1))
    assert all(
        title in svg[0]
        for title in ("Training loss", "Discretisation intervals", "Robustness constant c", "Gradient norm")
    )
    assert "<metadata" not in svg[0] and "<!DOCTYPE" not in svg[0]
    greys = sorted(luminance(colour) for colour, _ in STYLES[:4])
    assert min(b - a for a, b in zip(greys, greys[1:], strict=False)) > 0.01 and len(
        {str(dash) for _, dash in STYLES}
    ) == len(STYLES) == len(set(MARKERS))


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_text_contrast_is_at_least_aa():
    """In both themes, of scales that compare with the paper and of the others."""
    css = (ROOT / "reports/templates/_style.css").read_text()
    blocks = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r"(?::root|body\.comparable) \{(.*?)\}", css, re.DOTALL)
    ]
    assert len(blocks) == 4
    light, light_comparable, dark, dark_comparable = blocks
    for theme in (light, light | light_comparable, dark, dark | dark_comparable):
        for ground in ("paper", "faint", "ours"):
            for ink in ("ink", "soft", "link", "ours-ink"):
                assert contrast(theme[ink], theme[ground]) >= 4.5, (ink, ground)
        families = [name.removesuffix("-ground") for name in theme if name.endswith("-ground")]
        assert len(families) == 5
        assert all(contrast(theme[f"{of}-ink"], theme[f"{of}-ground"]) >= 4.5 for of in families)
    chips = re.findall(r"\.chip\.[\w-]+ \{ color: var\(--(\w+)-ink\);.*?background: var\(--(\w+)-ground\)", css)
    assert len(chips) >= 9 and all(ink == ground for ink, ground in chips)
    assert all(contrast(colour, "#ffffff") >= 3 for colour, _ in STYLES)


def test_the_first_page_opens_with_the_result(root):
    """One sentence for every state, and a table whose best means are marked."""
    fids = {"a": (26.9, 17.6), "b": (16.2, 17.1), "c": (26.0, 17.0)}
    tables = light()
    for letter, values in fids.items():
        for name, value in zip(("lct-1", "ilct-1"), values, strict=True):
            c = row(tables, letter, name)["cells"]["fd"]
            c["mean"] = value
            c["values"] = [v | {"value": value} for v in c["values"]]
    out = rendered(tables, root)["index.html"]
    assert (
        "In one network evaluation LCT reaches FD(cnn64) 26.90 on Digits, 16.20 on China and 26.00 on Flower (lower is "
        "better), where iLCT reaches 17.60, 17.10 and 17.00: LCT is ahead on 1 of 3 datasets; by FID in the paper on 3 "
        "of 3."
    ) in Page(out).text
    head = out[: out.index("</header>")]
    assert head.count('class="best"') == 3 and "Exports:" in head and head.count("<svg") == 15
    assert head.index("In one network evaluation") < head.index("What this scale is and is not")
    row(tables, "a", "lct-1").update(status="not run", cells={}, samples=[])
    text = Page(rendered(tables, root)["index.html"]).text
    assert "LCT is ahead on 1 of 2 datasets" in text and "14 of 15 rows of Table 1 are measured so far." in text
    for letter in "bc":
        row(tables, letter, "lct-1").update(status="not run", cells={}, samples=[])
    assert "so nothing is compared" in Page(rendered(tables, root)["index.html"]).text


def test_the_trust_line_says_what_the_numbers_rest_on():
    run = {"finished": "2026-01-02T03:04:05+00:00", "host": "h", "machine": "m, 2 cpus", "device": "cpu"}
    run |= {"git": {"revision": "abc" * 8}}
    links = {"m.json": {"run": run, "state": "ok"}, "w": {"run": None, "state": "stale"}}
    links["m2.json"] = {"run": run | {"finished": "2026-01-01T00:00:00+00:00"}, "state": "unchecked"}
    cells = [{"links": links, "values": [{"metrics": "m.json"}, {"metrics": "m2.json"}]}]
    cost = {"gpu_seconds": 0.0, "seconds": 5400.0}
    line = trust({"cells": cells, "cost": cost})
    facts = ["2026-01-02", ["abcabcabcabc"], ["h (m, 2 cpus, cpu)"], "1.5 h of jobs", 3, 1, 1]
    assert line == dict(
        zip(("newest", "commits", "machines", "cost", "files", "faults", "unchecked"), facts, strict=True)
    )
    assert trust({"cells": cells, "cost": cost | {"gpu_seconds": 7200.0}})["cost"] == "2 GPU h"
    assert trust({"cells": [], "cost": cost}) is None
    page = Page(rendered(light(), Path("nowhere"), trust=line)["index.html"]).text
    assert "Newest number 2026-01-02" in page and "3 files checked, 1 fault, 1 could not be checked" in page


def test_copies_and_files_that_were_not_taken_stand_on_the_first_page(tmp_path):
    counted = {"not_taken": {".gif": 2, ".zip": 1}, "duplicates": {"train": 3, "heldout": 1, "across": 2}}
    write_json(tmp_path / "results/mini/images/digits/train.manifest.json", counted)
    page = Page(rendered(light(), tmp_path)["index.html"]).text
    line = "Images of Digits: 3 files of the source not taken, 4 copies, 2 images on both sides."
    assert line in page and page.count("Images of") == 1


# --- incomplete and odd results -----------------------------------------------------------------------------------
def unfinished(tables):
    """Everything not run, as before the first result."""
    tables = copy.deepcopy(tables)
    for sub in tables["tables"][0]["subtables"]:
        sub |= {
            "dataset": None,
            "dataset_title": None,
            "resolution": None,
            "protocols": [],
            "floors": [],
            "reconstructions": None,
            "curves": [],
            "outside": {},
        }
        for r in sub["rows"]:
            if r["status"] != "quoted":
                r |= {
                    "status": "not run",
                    "why": "no dataset at this scale",
                    "cells": {},
                    "samples": [],
                    "run": None,
                    "extra": {},
                }
    return tables | {"runs": {}}


def test_nothing_run_yet_still_shows_every_published_row(tmp_path):
    tables = unfinished(light())
    out = rendered(tables, tmp_path)
    page = Page(out["index.html"])
    assert page.text.count("not run") >= 15 * 4 and page.text.count("no dataset at this scale") == 15
    assert "none recorded, nothing was measured" in page.text
    assert all(f"{r['published']['fid']:.2f}" in out[name] for _, r in rows_of(tables) for name in NAMES[:3])
    frame = pandas.read_csv(io.StringIO(out["tables.csv"]), keep_default_na=False)
    assert (frame[frame.source == "this project"].value == "").all() and (
        frame.status == "not run"
    ).sum() == 15 * 4 + 27


def test_partial_rows_say_so_and_why(root):
    tables = light()
    r = row(tables, "b", "lct-2")
    r |= {"status": "partial", "why": "seed 1 has not finished"}
    del r["cells"]["recall"]
    c = r["cells"]["fd"]
    c |= {"values": c["values"][:1], "n": 1, "mean": c["values"][0]["value"]}
    r["cells"]["fdr"] |= {"values": [], "n": 0, "mean": None}
    out = rendered(tables, root)
    for name in ("index.html", "report.md"):
        assert "seed 1 has not finished" in out[name] and "partial" in out[name]
    line = next(line for line in out["report.md"].splitlines() if "| 7.71 |" in line)
    assert f"| {c['mean']:.2f} | not run |" in line and "n=1, no spread / n=2 | partial, not comparable: seed 1" in line


@pytest.mark.parametrize("spelled", [float, str])
def test_nan_and_infinite_metrics_are_shown_as_such(root, spelled):
    tables = light()
    words = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    for name, wrong in zip(("fd", "fdr", "recall"), words, strict=True):
        c = row(tables, "a", "lct-1")["cells"][name]
        c["values"][1]["value"] = float(wrong) if spelled is float else words[wrong]
        c["mean"] = c["values"][1]["value"]
    out = rendered(tables, root)
    assert all(f", {odd})</span>" in out["index.html"] for odd in ("NaN", "∞", "−∞"))
    assert all(f", {odd})}}" in out["tables.tex"] for odd in ("NaN", "$\\infty$", "$-$$\\infty$"))
    assert all(f", {odd}) |" in out["report.md"] for odd in ("NaN", "∞", "−∞"))
    frame = pandas.read_csv(io.StringIO(out["tables.csv"]), keep_default_na=False)
    assert list(frame[(frame.row == "lct-1") & (frame.subtable == "a") & (frame.source == "this project")].value)[
        :2
    ] == ["NaN", "inf"]


def test_no_drawing_of_training_curves_depends_on_those_before_it():
    rng = np.random.default_rng(0)
    runs = [[(name, 0, fake_curves(name, rng))] for name in ("a-lct", "a-ldm")]
    runs.append([(name, seed, fake_curves(name, rng)) for name in ("b-lct", "b-ldm") for seed in (0, 1)])
    runs.append([("none", 0, {"step": []})])
    runs.append([("first", 0, {"step": [0], "loss": [1]})])
    runs.append([("words", 0, {"step": [0, 10, None, "x"], "loss": [1, 2, 3, "x"]})])
    runs.append([("gaps", 0, {"step": [0, 1_000_000], "loss": [1, 2], "c": [1, math.nan]})])

    def drawn(run):
        return plotting.training_curves(run, "curves", "Training curves")

    alone = []
    for run in runs:
        plotting._curve_panels.cache_clear()
        alone.append(drawn(run))
    assert len(set(alone)) == len(runs) and "1\N{NARROW NO-BREAK SPACE}000\N{NARROW NO-BREAK SPACE}000" in alone[-1]
    for before, after in itertools.permutations(range(len(runs)), 2):
        assert (drawn(runs[before]), drawn(runs[after])) == (alone[before], alone[after])


def test_links_into_a_cache_elsewhere_are_shown(root, complete, tmp_path):
    """What is recorded becomes a link; `dvc cache dir` may name a disk that several projects share."""
    linked = tmp_path / "project"
    for path in filter(Path.is_file, root.rglob("*")):
        link = linked / path.relative_to(root)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    assert rendered(fake_tables(), linked) == complete


def test_files_that_are_missing_or_broken_are_not_available(tmp_path):
    tables = fake_tables()
    write_files(tables, tmp_path)
    sub = tables["tables"][0]["subtables"][0]
    r = row(tables, "a", "lct-1")
    (tmp_path / sub["reconstructions"]["grid"]).unlink()
    (tmp_path / r["samples"][0]["grid"]).write_bytes(b"\x89PNG\r\n\x1a\nnot an image")
    whole = (tmp_path / r["samples"][1]["grid"]).read_bytes()
    (tmp_path / r["samples"][1]["grid"]).write_bytes(whole[: len(whole) // 2])
    row(tables, "a", "lct-2")["samples"][0]["grid"] = "/etc/passwd"
    row(tables, "a", "ilct-1")["samples"][0]["grid"] = "../outside.png"
    broken = ["[1, 2", "[]", '{"step": []}', '{"step": [0, 1], "loss": [1.0]}', '{"step": [0, 1], "loss": [null, NaN]}']
    for entry, content in zip(sub["curves"], broken, strict=False):
        (tmp_path / entry["path"]).write_text(content)
    out = rendered(tables, tmp_path)
    page = Page(out["figures.html"]).text + Page(out["numbers.html"]).text
    assert page.count("not available (no such file)") >= 1 and page.count("while reading it") >= 3
    assert page.count("outside the project") >= 2 and not any("root:" in content for content in out.values())
    for entry in sub["curves"][:3]:
        assert f"{entry['path']}: not available" in page
    assert rendered(tables, tmp_path / "nowhere")["report.md"].count("not available (no such file)") > 10


def test_large_pictures_become_previews(tmp_path):
    import numpy as np
    from PIL import Image

    tables = light()
    grid = tables["tables"][0]["subtables"][0]["reconstructions"]["grid"]
    (tmp_path / grid).parent.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (900, 1800, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / grid)
    out = rendered(tables, tmp_path)["figures.html"]
    assert "data:image/jpeg" in out and len(out) < 1_500_000


def test_smoke_scale_is_watermarked_everywhere(root):
    tables = light(seeds=1) | {"scale": "smoke", "watermark": "SMOKE TEST, NUMBERS MEAN NOTHING"}
    out = rendered(tables, root)
    counts = {name: out[name].count("SMOKE TEST, NUMBERS MEAN NOTHING") for name in NAMES}
    assert min(counts.values()) >= 3, counts  # tables.tex has it in each of its three captions
    assert 'data-watermark="SMOKE' in out["index.html"] and "smoke scale" in out["index.html"]


# --- names --------------------------------------------------------------------------------------------------------
def test_metacharacters_are_escaped_in_every_format(root):
    out, whole = rendered(poisoned(fake_tables()), root), rendered(fake_tables(), root)
    for name in ("index.html", "figures.html", "numbers.html"):
        page, clean = Page(out[name]), Page(whole[name])
        assert page.open == []
        assert re.sub(r"\s+", " ", NASTY) in page.text
        assert {tag for tag, _ in page.tags} <= {tag for tag, _ in clean.tags} | {"div", "br"}
        attributes = {key for _, values in clean.tags for key in values} | {"data-watermark"}
        assert {key for _, values in page.tags for key in values} <= attributes
        assert len(page.ids) == len(set(page.ids))
        assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
        assert out[name].count("<script") == 1
    assert "<script" not in out["report.md"]
    assert "\\end{table} %" not in out["tables.tex"] and "\\textbackslash{}end\\{table\\}" in out["tables.tex"]
    assert out["tables.tex"].count("\\begin{tabular}") == 3 == out["tables.tex"].count("\\end{tabular}")
    assert out["tables.tex"].isascii()
    assert "**[a](b)**" not in re.sub(r"`[^`]*`", "", out["report.md"]) and "\\*\\*\\[a\\](b)\\*\\*" in out["report.md"]
    assert "<script" not in out["report.md"]
    for block in re.findall(
        r"(?:^\|.*\n)+", out["report.md"], re.MULTILINE
    ):  # as many columns in every line of a table
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block[:400]
    frame = pandas.read_csv(io.StringIO(out["tables.csv"]), keep_default_na=False)
    assert set(frame[frame.subtable == "a"].model) == {NASTY}


def test_command_behind_a_number_is_safe_to_paste(root):
    tables = light()
    row(tables, "a", "lct-1")["cells"]["fd"]["values"][0]["metrics"] = "results/a b; rm -rf $HOME.json"
    assert (
        "snakemake 'results/a b; rm -rf $HOME.json' --config scale=mini"
        in Page(rendered(tables, root)["numbers.html"]).text
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (7.267, "7.27"),
        (0.0, "0.00"),
        (-0.5, "−0.50"),
        (0.0312, "0.031"),
        (0.00123, "0.0012"),
        (-1e-9, "−1.0e−09"),
        (12345.678, "12345.68"),
        (2.5e7, "2.500e+07"),
        (math.nan, "NaN"),
        ("Infinity", "∞"),
        ("-Infinity", "−∞"),
    ],
)
def test_numbers_as_words(value, shown):
    assert text.number(value) == shown


@pytest.mark.parametrize(
    ("plain", "latex"),
    [
        ("50% of $x_1$ & {y}", "50\\% of \\$x\\_1\\$ \\& \\{y\\}"),
        ("#~^\\", "\\#\\textasciitilde{}\\textasciicircum{}\\textbackslash{}"),
        ("a--b, it's", "a{-}{-}b, it's"),
        ('rows "quoted" by ö', "rows ``quoted'' by \\\"{o}"),
        ("[é] ø 中", "{[}\\'{e}{]} \\o{} {[}U+4E2D{]}"),
    ],
)
def test_latex_escapes(plain, latex):
    assert text.latex(plain) == latex


# --- foreign and truncated input ----------------------------------------------------------------------------------
def changed(path, value):
    tables = light()
    *parents, last = path
    place = tables
    for key in parents:
        place = place[key]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return tables


FIRST = ("tables", 0, "subtables", 0)


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ([], "tables: expected object, found \\[\\]"),
        ({"accuracy": 0.9}, "tables: expected key '[a-z]+', found \\['accuracy'\\]"),
        (changed(("format",), 2), "tables: format: expected 1, found 2"),
        (changed(("runs",), KeyError), "expected key 'runs'"),
        (changed(("tables",), []), "tables: tables: expected at least 1 entry, found 0"),
        (changed((*FIRST, "rows"), KeyError), "tables.0.subtables.0: expected key 'rows'"),
        (changed((*FIRST, "rows", 12, "status"), "done"), "rows.12.status: expected one of .*'quoted'.*, found 'done'"),
        (changed((*FIRST, "rows", 12, "cells", "fd", "mean"), "good"), "cells.fd.mean: expected .*, found 'good'"),
        (changed((*FIRST, "rows", 12, "cells", "fd", "n"), 3), "table1.a.ilct-1.fd: expected n = 3 values, found 2"),
        (
            changed(
                (*FIRST, "rows", 12, "cells", "fid"), light()["tables"][0]["subtables"][0]["rows"][12]["cells"]["fd"]
            ),
            "found 'fid'",
        ),
        (
            changed((*FIRST, "rows", 12, "cells", "fd", "id"), "table1.a.lct-1.fd"),
            "cell id of its own, found 'table1.a.lct-1.fd' again",
        ),
        (changed((*FIRST, "rows", 12, "run"), "gone"), "expected run 'gone' under runs"),
        (changed((*FIRST, "rows", 0, "quoted"), False), "expected quoted to agree with status 'quoted'"),
        (changed((*FIRST, "rows", 0, "published"), None), "expected published values in a row"),
    ],
)
def test_a_foreign_dict_is_one_clear_line(tables, says):
    with pytest.raises(ValueError, match=says) as error:
        loads(json.dumps(tables))
    assert "\n" not in str(error.value) and "snakemake" in str(error.value) and len(str(error.value)) < 400


def test_a_truncated_file_is_one_clear_line(tmp_path):
    path = tmp_path / "tables.json"
    whole = dumps(loaded(light()))
    path.write_text(whole)
    assert read(path) == loaded(light()) and dump(read(path)) == json.loads(whole)
    for content in (whole[: len(whole) // 2], "", "\x00\x01"):
        path.write_text(content)
        with pytest.raises(ValueError, match="tables.json: expected JSON, found") as error:
            read(path)
        assert "\n" not in str(error.value)
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match="expected JSON"):
        read(path)


# --- with the real programs ---------------------------------------------------------------------------------------
@pytest.mark.browser
@pytest.mark.parametrize("made", [lambda t: t, unfinished, poisoned])
def test_a_browser_opens_the_page_from_disk_without_a_complaint(root, tmp_path, made):
    path = tmp_path / "index.html"
    path.write_text(rendered(made(fake_tables()), root)["index.html"], encoding="utf-8")
    done = chromium("--window-size=1600,1200", "--dump-dom", path.as_uri(), folder=tmp_path)
    assert done.returncode == 0 and "What this scale is and is not" in done.stdout
    assert "CONSOLE" not in done.stderr, done.stderr


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 768, 1250, 1280, 1600])
def test_no_page_is_wider_than_its_window(root, tmp_path, width):
    """Each page in a frame of that width (a window cannot be narrower than about 500); a script outside it measures."""
    html = rendered(fake_tables(), root)["index.html"].replace(
        "default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'"
    )
    script = """<script>addEventListener("load", () => {
        const page = document.documentElement, cells = [...document.querySelectorAll(".results td, .results tbody th")];
        const cut = cells.filter(cell => cell.getBoundingClientRect().right > page.clientWidth + 1).length;
        parent.postMessage([innerWidth, page.scrollWidth - page.clientWidth, cut].join(" "), "*");
    })</script></body>"""
    (tmp_path / "index.html").write_text(html.replace("</body>", script), encoding="utf-8")
    frame = (
        '<script>addEventListener("message", event => document.title = event.data)</script>'
        f'<iframe src="index.html" width="{width}" height="900" style="border: 0"></iframe>'
    )
    (tmp_path / "frame.html").write_text(frame)
    done = chromium(
        "--window-size=1700,1000",
        "--virtual-time-budget=4000",
        "--dump-dom",
        (tmp_path / "frame.html").as_uri(),
        folder=tmp_path,
    )
    assert f"<title>{width} 0 0</title>" in done.stdout, done.stdout[:300]


@pytest.mark.browser
def test_the_page_prints_to_pdf(root, complete, tmp_path):
    (tmp_path / "index.html").write_text(complete["index.html"], encoding="utf-8")
    chromium(f"--print-to-pdf={tmp_path / 'out.pdf'}", (tmp_path / "index.html").as_uri(), folder=tmp_path)
    assert (tmp_path / "out.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.latex
@pytest.mark.parametrize("made", [lambda t: t, unfinished, poisoned])
def test_the_latex_compiles_with_booktabs_alone(root, tmp_path, made):
    assert shutil.which("pdflatex"), "expected pdflatex, found none; apt-get install texlive-latex-recommended"
    (tmp_path / "tables.tex").write_text(rendered(made(light()), root)["tables.tex"], encoding="utf-8")
    document = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\\input{tables}\\end{document}"
    (tmp_path / "paper.tex").write_text(document)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stdout[-1500:]
    assert "Overfull" not in done.stdout and "Float too large" not in done.stdout
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")
