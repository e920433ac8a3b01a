"""Pages behind rows, what a row says that is missing, failed or half-finished, and all pages in a real browser."""

import copy
import functools
import http.server
import json
import re
import threading
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from lct.files.atomic import write_json
from lct.plan import files as stage_files
from lct.plan.paths import REPORT_FILES, page_name
from lct.plan.plan import Plan
from lct.report.collect import collect
from lct.report.render import pictures, render
from lct.report.tables import dumps, loads
from tests.helpers.browser import Browser
from tests.helpers.fake_tables import NASTY, ROOT, fake_tables, loaded, poisoned, rendered, row, rows_of, write_files
from tests.helpers.pages import Page, broken_links

NEAR = "results/mini/neighbours/{}.png"


def with_pages(tables):
    """Fake tables whose measured rows have pages, and one of them its nearest training images."""
    tables = copy.deepcopy(tables)
    for table in tables["tables"]:
        for subtable in table["subtables"]:
            for one in [*subtable["rows"], *subtable["floors"]]:
                if one["status"] != "quoted":
                    one["page"] = page_name(table["id"], subtable["id"], one["id"])
    first = row(tables, "a", "lct-1")
    near = [{"image": 41, "distance": 2.0, "radius": 4.0, "same pixels": False}] * 3
    shown = [{"image": i, "neighbours": near} for i in range(8)]
    shown[3] = {"image": 3, "neighbours": [near[0] | {"distance": 0.0, "same pixels": True}, *near[1:]]}
    numbers = {"extractor": "cnn64", "k": 3, "reference": 6000, "images": shown}
    first["neighbours"] = [{"seed": 0, "numbers": numbers, "picture": NEAR.format("one")}]
    first |= {"weights": "step5000-ema0.995", "weights_files": ["results/mini/train/x.safetensors"]}
    return tables


def many(tables, copies):
    """The same tables several times under other names: a report of hundreds of cells."""
    tables, first = copy.deepcopy(tables), tables["tables"][0]
    for i in range(1, copies):
        table = json.loads(
            json.dumps(first).replace('"table1', f'"again{i}').replace("cells/table1", f"cells/again{i}")
        )
        tables["tables"].append(table)
    return tables


def write_report(tables, root, **options):
    """The report as `lct report` lays it out, with an audit page that has the anchors which the others name."""
    out = root / "reports/mini"
    contents = rendered(tables, root, **options)
    for name, content in contents.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(content, encoding="utf-8")
    anchors = {fragment for text in contents.values() for fragment in re.findall(r'audit\.html#([^"]+)"', text)}
    targets = "".join(f'<p id="{unquote(anchor)}">x</p>' for anchor in sorted(anchors))
    (out / "audit.html").write_text(f'<!DOCTYPE html><title>audit</title><link rel="icon" href="data:,">{targets}')
    return out


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    tables = fake_tables()
    write_files(tables, folder)
    for _, one in rows_of(tables):
        for cell in one["cells"].values():
            for value in cell["values"]:
                for name in (value["metrics"], f"{value['metrics']}.run.json", f"{value['metrics']}.settings.json"):
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).write_text("{}")
    counts = {"not_taken": {".gif": 3, "in <b>": 2}, "duplicates": {"train": 4, "heldout": 0, "across": 1}}
    write_json(folder / "results/mini/images/digits/train.manifest.json", counts)
    (folder / NEAR.format("one")).parent.mkdir(parents=True)
    Image.fromarray(np.zeros((40, 80, 3), np.uint8)).save(folder / NEAR.format("one"))
    return folder


@pytest.fixture(scope="module")
def report(root):
    return write_report(with_pages(fake_tables()), root)


def test_every_link_of_every_page_leads_somewhere(report):
    assert len(list(report.rglob("*.html"))) == 3 * 7 + 7
    assert broken_links(report) == []


def test_a_number_is_one_click_from_everything_behind_it(report):
    index = (report / "index.html").read_text()
    assert 'href="cells/table1.a.lct-1.html#fd"' in index and 'href="cells/table1.a.heldout.html#recall"' in index
    page = Page((report / "cells/table1.a.lct-1.html").read_text())
    assert page.open == [] and len(page.ids) == len(set(page.ids)) and {"fd", "recall", "samples"} <= set(page.ids)
    for word in ("Published", "7.27", "Nearest training images", "1 of 8 have the pixels of a training image"):
        assert word in page.text, word
    assert "3 .gif, 2 in <b>." in page.text and "4 of training images, 0 of held-out images, 1 held-out" in page.text
    for name in ("iLCT, 1 NFE", "LDM-8, 35 NFE", "Ours (LCT), 2 NFE"):  # samples of the other methods, linked
        assert name in page.text
    assert "config/methods/lct.yaml" in page.text and "objective.diffusion.threshold" in page.text
    assert "lct verify --recompute table1.a.lct-1" in page.text and "lct audit table1.a.lct-1" in page.text
    assert "audit.html#row-table1.a.lct-1" in " ".join(page.links) and "Training loss" in page.text
    assert "5000 steps of 64: 320 000 latents seen" in page.text
    metrics = row(fake_tables(curves=False), "a", "lct-1")["cells"]["fd"]["values"][0]["metrics"]
    assert f"../../../{metrics}.run.json" in page.links and "Measured at step 5000 only" in page.text
    floor = Page((report / "cells/table1.a.heldout.html").read_text())
    assert "Settings" not in floor.text and "By training step" not in floor.text and "1.31" in floor.text
    assert "A reference row: real images, and no model." in floor.text
    assert "training seed" in page.text and "training seed" not in floor.text  # nothing is trained for it


def test_metrics_stand_against_the_step_where_a_run_is_measured_at_several(root):
    tables = with_pages(fake_tables(curves=False))
    for name, step in (("lct-1", 5000), ("lct-2", 2500)):
        one = row(tables, "a", name)
        one |= {"sampler": "one", "weights": f"step{step}-ema0.995", "steps": step}
    pages = rendered(tables, root)
    page = pages["cells/table1.a.lct-1.html"]
    assert "Measured at step 2500, step 5000." in Page(page).text and page.count("<svg") == 1
    assert "FD(cnn64) by step" in pages["explore.html"], "two points of one run"
    one["weights"] = "step2500-ema0.9"  # another EMA is another curve
    assert "Measured at step 5000 only" in Page(rendered(tables, root)["cells/table1.a.lct-1.html"]).text


def test_drawn_figures_are_vector_files_with_the_same_bytes(root):
    tables = with_pages(fake_tables(curves=False))
    tables["schedules"] = [
        {"run": "x", "stages": [{"step": 0, "intervals": 10, "c": 0.03}, {"step": 9, "intervals": 20, "c": 0.01}]}
    ]
    logged = [
        {"label": "adaptive $x$", "epoch": 175, "fid": 80.0},
        {"label": "adaptive $x$", "epoch": 375, "fid": None},
    ]
    shared = {"title": "T", "caption": "C", "datasets": []}
    tables["figures"] = [
        shared | {"id": "figure4", "kind": "schedules", "logged": logged},
        shared | {"id": "figure5", "kind": "samples", "rows": ["table1.a.lct-1"]},
        shared | {"id": "figure8", "kind": "samples", "rows": ["table1.a.gone"]},
    ]
    made = pictures(loaded(tables), root)
    assert made == pictures(loaded(tables), root)
    assert set(made) == {f"figures/figure{i}.{kind}" for i in (4, 5, 8) for kind in ("svg", "pdf")}
    assert made["figures/figure4.pdf"].startswith(b"%PDF") and b"<image" in made["figures/figure5.svg"]
    assert b"not run" in made["figures/figure8.svg"] and b"CreationDate" not in made["figures/figure4.pdf"]
    first = row(tables, "a", "lct-1")  # a run measured at two steps: its own panels follow
    second = row(tables, "a", "lct-2")
    first |= {"sampler": "one", "weights": "step5000-ema0.9"}
    second |= {"sampler": "one", "weights": "step2500-ema0.9", "steps": 2500}
    assert b"Ours: FD(cnn64) by step" not in made["figures/figure4.svg"]
    assert b"Ours: FD(cnn64) by step" in pictures(loaded(tables), root)["figures/figure4.svg"]
    out = rendered(tables, root)
    assert out["figures.html"].count('id="figure-figure') > 3 and "missing" in out["figures.html"]
    assert "Samples: Ours (LCT), 1 NFE" in out["report.md"]


# --- missing, failed, half-finished -------------------------------------------------------------------------------
@pytest.fixture
def project(tmp_path):
    (tmp_path / "config").symlink_to(ROOT / "config")
    return tmp_path


def collected(project):
    tables = collect(Plan(project, {"scale": "smoke"}), project)
    assert loads(dumps(tables)) == tables
    return {row.id: row for _, subtable, row in tables.rows if subtable.id == "a"}, render(tables, project)


def test_a_failed_job_and_a_half_finished_training_are_shown_as_such(project):
    log = project / "logs/smoke/train/digits-lct/s0.log"
    log.parent.mkdir(parents=True)
    log.write_text("10:00 INFO train step=5\n10:01 ERROR error: step 7: expected a finite loss, found nan <b>\n")
    done = {"step": 15, "total": 40, "loss": 1.0, "eta_seconds": 3}
    write_json(project / "work/smoke/digits-ilct/s0/abc/progress.json", done)
    made, out = collected(project)
    assert made["lct-1"].status == "failed" and "step 7: expected a finite loss" in made["lct-1"].why
    assert made["ilct-1"].status == "half-finished" and "15 of 40 steps" in made["ilct-1"].why
    assert made["ldm-8"].status == "not run"
    for name in ("index.html", "report.md"):
        plain = Page(out[name]).text if name == "index.html" else out[name]
        assert "expected a finite loss, found nan" in plain and "15 of 40 steps" in plain, name
    page = Page(out["cells/table1.a.lct-1.html"])
    assert "failed" in page.text and "found nan <b>" in page.text and "snakemake --config scale=smoke" in page.text


def test_a_job_that_went_well_after_a_failure_is_no_failure(project):
    log = project / "logs/smoke/train/digits-lct/s0.log"
    log.parent.mkdir(parents=True)
    log.write_text("10:01 ERROR error: no memory\n10:09 INFO train step=40\n")
    made, _ = collected(project)
    assert made["lct-1"].status == "not run"


def test_the_graph_declares_what_the_report_writes(project):
    plan = Plan(project, {"scale": "smoke"})
    tables = collect(plan, project)
    written = {*render(tables, project), *pictures(tables, project), "audit.html"}
    assert written == {*REPORT_FILES, *stage_files.row_pages(plan, "tables"), *stage_files.report_figures(plan)}
    for scale in ("mini", "paper"):
        plan = Plan(project, {"scale": scale})
        for which in ("tables", "all"):
            pages = [row.page for _, _, row in collect(plan, project, which).rows if row.page]
            assert sorted(pages) == sorted(stage_files.row_pages(plan, which)) and len(pages) > 20, (scale, which)


def test_names_are_escaped_on_every_page(root):
    tables = with_pages(poisoned(fake_tables(curves=False)))
    for _, one in rows_of(tables):
        one["neighbours"] = []
    out = rendered(tables, root)
    for name, content in out.items():
        if name.startswith("cells/"):
            page = Page(content)
            assert page.open == [] and "<script" not in content and len(page.ids) == len(set(page.ids)), name
    assert NASTY.split("\n")[0] in Page(out["cells/table1.a.lct-1.html"]).text
    lines = [line for line in out["numbers.tex"].splitlines() if line.startswith("\\@namedef")]
    assert all(re.fullmatch(r"\\@namedef\{lctval@[A-Za-z0-9_.-]+\}\{.*\}", line) for line in lines) and len(lines) > 100
    assert out["numbers.tex"].isascii()


@pytest.mark.parametrize("page", ["../index.html", "cells/../../x.html", "cells/a b.html", "/etc/passwd"])
def test_a_page_outside_the_report_is_refused(root, page):
    tables = with_pages(fake_tables(curves=False))
    row(tables, "a", "lct-1")["page"] = page
    with pytest.raises(ValueError, match="page"):
        rendered(tables, root)


# --- in a browser -------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A report of 300 cells without its pictures' files."""
    folder = tmp_path_factory.mktemp("large")
    tables = many(with_pages(fake_tables(curves=False)), 4)
    cells = sum(len(one["cells"]) for _, one in rows_of(tables))
    assert cells >= 300
    return write_report(tables, folder)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(root, report):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(root))
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}/reports/mini"
        served.shutdown()


PAGES = [
    "index.html",
    "figures.html",
    "numbers.html",
    "evidence.html",
    "cells/table1.a.lct-1.html",
    "cells/table1.a.heldout.html",
]


@pytest.mark.browser
@pytest.mark.parametrize("page", PAGES)
def test_pages_open_from_disk_and_over_http_without_a_complaint(browser, report, server, page):
    for address in ((report / page).as_uri(), f"{server}/{page}"):
        browser.open(address)
        assert browser.complaints == [], address
        assert browser.evaluate("document.images.length === [...document.images].filter(i => i.naturalWidth).length")


@pytest.mark.browser
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("width", [400, 1600])
def test_pages_are_no_wider_than_the_window_and_their_text_can_be_read(browser, report, page, width):
    browser.open((report / page).as_uri(), width=width)
    assert browser.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    small = """[...document.querySelectorAll("body *")].filter(e => [...e.childNodes].some(n => n.nodeType === 3 &&
        n.textContent.trim()) && !e.closest("svg, sup, .hidden") && e.checkVisibility() &&
        parseFloat(getComputedStyle(e).fontSize) < 10.5).map(e => e.outerHTML.slice(0, 90)).slice(0, 3)"""
    assert browser.evaluate(small) == []


CONTRAST = """(() => {
  const parse = text => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.9) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("body *")].filter(e => !e.closest("svg, script, style") && e.checkVisibility() &&
      [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())).map(e => {
    const style = getComputedStyle(e), [a, b] = [light(parse(style.color)), light(ground(e))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    return [(a + 0.05) / (b + 0.05) / (large ? 3 : 4.5), e.outerHTML.slice(0, 100)];
  }).filter(([share]) => share < 1).slice(0, 5);
})()"""


@pytest.mark.browser
@pytest.mark.parametrize("page", PAGES)
def test_every_text_has_the_contrast_that_wcag_aa_asks_for(browser, report, page):
    browser.open((report / page).as_uri())
    browser.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert browser.evaluate(CONTRAST) == []
    assert browser.evaluate("document.querySelectorAll('body *').length") > 60


ORDER = """[...document.querySelector("table[data-sortable]").querySelectorAll("tr:not(.group) td[data-col='2']")]
    .map(cell => cell.dataset.sort)"""


@pytest.mark.browser
def test_tables_sort_by_any_column_and_come_back_to_the_order_of_print(browser, report):
    browser.open((report / "index.html").as_uri())
    printed = browser.evaluate(ORDER)
    button = "document.querySelector('table[data-sortable] th[data-key=\"2\"] button')"
    browser.evaluate(f"{button}.click()")
    values = [float(v) for v in browser.evaluate(ORDER)]
    assert values == sorted(values) and len(values) == len(printed) == 16
    head = "document.querySelector('th[data-key=\"2\"]').getAttribute('aria-sort')"
    assert browser.evaluate(head) == "ascending"
    assert "sorted by published FID" in browser.evaluate("document.querySelector('[data-said]').textContent")
    browser.evaluate(f"{button}.click()")
    assert [float(v) for v in browser.evaluate(ORDER)] == sorted(values, reverse=True)
    browser.evaluate(f"{button}.click()")
    assert browser.evaluate(ORDER) == printed and browser.evaluate(head) == "none"


@pytest.mark.browser
def test_tables_filter_by_words_and_by_verdict(browser, report):
    browser.open((report / "index.html").as_uri())
    shown = (
        "[...document.querySelector('table[data-sortable]').querySelectorAll('tbody tr:not(.group)')]"
        ".filter(r => r.checkVisibility()).map(r => r.cells[0].firstChild.textContent.trim())"
    )
    browser.evaluate("document.querySelector('.tools input').focus()")
    browser.type("ilct song")
    assert browser.evaluate(shown) == ["iLCT", "iLCT"]
    said = "document.querySelector('[data-count]').textContent"
    assert browser.evaluate(said) == "2 of 18 rows"
    groups = """[...document.querySelector("table[data-sortable]").querySelectorAll("tr.group")]
        .filter(row => row.checkVisibility()).length"""
    assert browser.evaluate(groups) == 1, "headings without rows are hidden too"
    choose = (
        """(s => {{ s.value = "{}"; s.dispatchEvent(new Event("change")) }})(document.querySelector(".tools select"))"""
    )
    browser.evaluate(
        '(f => { f.value = ""; f.dispatchEvent(new Event("input")) })(document.querySelector(".tools input"))'
    )
    browser.evaluate(choose.format("not comparable"))
    assert browser.evaluate(shown) == ["LDM-8", "iLCT", "iLCT", "Ours (LCT)", "Ours (LCT)"]
    browser.evaluate(choose.format("failed"))
    assert browser.evaluate(shown) == [] and browser.evaluate(said) == "0 of 18 rows"


@pytest.mark.browser
def test_curves_of_chosen_trainings_lie_over_each_other_and_pictures_enlarge(browser, report):
    browser.open((report / "explore.html").as_uri())
    lines = "[...document.querySelectorAll('#panels figure')].map(f => f.querySelectorAll('polyline').length)"
    titles = "[...document.querySelectorAll('#panels figcaption')].map(f => f.textContent)"
    drawn, names = browser.evaluate(lines), browser.evaluate(titles)
    assert names[:2] == ["Training loss", "Robustness constant c"]
    assert not any("by step" in name for name in names), "one step is no curve"
    assert drawn[0] == 4
    browser.evaluate("[...document.querySelectorAll('#choice input')][4].click()")
    assert browser.evaluate(lines)[0] == 5
    browser.evaluate("document.querySelectorAll('#choice input:checked').forEach(box => box.click())")
    assert browser.evaluate(lines) == [] and browser.complaints == []
    browser.open((report / "figures.html").as_uri())
    browser.evaluate("document.querySelector('.gallery img').click()")
    assert browser.evaluate("document.querySelector('dialog.enlarged').open")


@pytest.mark.browser
def test_the_first_screen_holds_the_result_in_six_sizes_and_both_themes(browser, report):
    browser.open((report / "index.html").as_uri(), width=1400, height=1000)
    assert browser.evaluate("document.querySelector('.trust').getBoundingClientRect().bottom") < 1000
    assert browser.evaluate("document.documentElement.scrollHeight") < 12_000
    sizes = """new Set([...document.querySelectorAll("body *")].filter(e => e.checkVisibility() &&
        !e.closest("svg") && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
        .map(e => getComputedStyle(e).fontSize))"""
    assert browser.evaluate(f"{sizes}.size") <= 6
    calm = {"name": "prefers-reduced-motion", "value": "reduce"}
    browser.call("Emulation.setEmulatedMedia", features=[calm, {"name": "prefers-color-scheme", "value": "dark"}])
    try:
        assert browser.evaluate(CONTRAST) == []
    finally:
        browser.call("Emulation.setEmulatedMedia", features=[calm])


@pytest.mark.browser
def test_a_link_to_a_cell_shows_that_cell(browser, report):
    browser.open(f"{(report / 'numbers.html').as_uri()}#cell-table1.b.lct-2.recall", height=700)
    place = "(r => r.top >= 0 && r.bottom <= innerHeight)(document.querySelector(':target').getBoundingClientRect())"
    assert browser.evaluate("document.querySelector(':target').textContent").count("0.") >= 2
    assert browser.evaluate(place)
    browser.open(f"{(report / 'cells/table1.b.lct-2.html').as_uri()}#recall")
    assert "Recall" in browser.evaluate("document.querySelector(':target').textContent")


@pytest.mark.browser
def test_a_keyboard_reaches_numbers_sorts_and_filters(browser, report):
    browser.open((report / "index.html").as_uri())
    seen = []
    for _ in range(90):
        browser.press("Tab")
        seen.append(
            browser.evaluate(
                "(e => `${e.dataset.name ?? e.id} ${e.getAttribute('href') ?? ''}`)(document.activeElement)"
            )
        )
        if seen[-1].startswith("published FID"):
            break
    assert seen[0].endswith("#main"), "the first stop skips to the tables"
    assert any(one.startswith("filter-") for one in seen) and seen[-1].startswith("published FID"), seen[-5:]
    assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter")
    values = [float(v) for v in browser.evaluate(ORDER)]
    assert values == sorted(values)
    for _ in range(40):
        browser.press("Tab")
        if browser.evaluate("document.activeElement.getAttribute('href') ?? ''").startswith("cells/"):
            break
    target = browser.evaluate("document.activeElement.getAttribute('href')")
    browser.press("Enter")
    for _ in range(100):
        if browser.evaluate("location.href").endswith(target):
            break
    assert browser.evaluate("location.href").endswith(target)


@pytest.mark.browser
def test_a_large_report_stays_small_and_every_page_prints(browser, report, large):
    index = large / "index.html"
    assert index.stat().st_size < 5_000_000
    browser.open(index.as_uri())
    assert browser.complaints == []
    assert browser.evaluate("document.querySelectorAll('td.ours a[href^=\"cells/\"]').length") >= 300
    for page in PAGES[5:]:
        browser.open((report / page).as_uri())
        assert browser.pdf().startswith(b"%PDF")
    browser.open((report / "index.html").as_uri())
    printed = browser.pdf()
    assert printed.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", printed)) >= 5


@pytest.mark.browser
def test_without_its_script_the_page_is_whole(browser, report, tmp_path):
    html = (report / "index.html").read_text()
    path = Path(tmp_path) / "index.html"
    path.write_text(re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL), encoding="utf-8")
    browser.open(path.as_uri())
    assert browser.evaluate("[...document.querySelectorAll('.tools')].every(t => !t.checkVisibility())")
    assert len(browser.evaluate(ORDER)) == 16 and browser.evaluate("document.querySelectorAll('button').length") == 0
