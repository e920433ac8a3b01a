"""Claims of the paper: their rows exist, the authors' log decides what it can, a claim of one's own is one entry."""

import json
import math
import shutil
from pathlib import Path

import pytest

from lct.claims.judge import judge_part
from lct.cli.main import main
from lct.config.claims import Comparison, PublishedRows
from lct.config.folder import ConfigFolder
from lct.config.model import REHEARSAL
from lct.files.atomic import write_text
from lct.plan import files as stage_files
from lct.plan import settings
from lct.plan.plan import Plan
from lct.report.claims import judged, page, prior_noise
from lct.report.collect import collect
from lct.report.paper_figures import schedules
from lct.report.render import render
from tests.helpers import ROOT
from tests.helpers.fake_tables import fake_tables, loaded

OWN = """
claims:
  - id: two-steps-of-lct
    statement: Two steps of LCT beat one on digits.
    place: a table of my own
    parts: [{kind: beats, better: table1.a.lct-2, worse: table1.a.lct-1}]
"""


@pytest.fixture
def project(tmp_path):
    """A folder with the project's configuration, in which files may be added."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path


def verdicts(root, tables=()):
    _, judgements = judged(root, tables)
    return {claim.id: {verdict.body: verdict for verdict in of} for claim, of in judgements}


def test_the_prior_is_the_spread_of_the_authors_repeated_runs():
    pairs = [(8.195, 7.8302), (7.4179, 7.2677), (7.9984, 7.8099), (9.686, 9.4132)]
    expected = math.sqrt(sum(math.log(a / b) ** 2 / 2 for a, b in pairs) / 4)
    config = ConfigFolder(ROOT)
    noise = prior_noise(config, PublishedRows(config))
    assert noise.df == 4 and noise.sd == pytest.approx(expected)


def test_the_authors_log_alone_supports_some_claims_and_leaves_others_open():
    judgements = verdicts(ROOT)
    log = {claim: of["authors-log"].verdict for claim, of in judgements.items()}
    assert log["cauchy-beats-other-losses"] == log["lct-beats-ilct"] == log["c-explains-the-gap"] == "supported"
    assert log["transport-lowers-fid"] == log["diffusion-loss-helps"] == log["two-steps-beat-one"] == "undecided"
    assert log["latents-have-heavier-tails"] == "not measured"
    transport = judgements["transport-lowers-fid"]["authors-log"]
    assert transport.parts[0].estimate == pytest.approx(9.5348 / 9.4132) and transport.seeds > 20
    assert judgements["lct-beats-ilct"]["paper-table"].verdict == "supported"


def test_measured_cells_are_a_body_of_evidence_of_their_own():
    tables = fake_tables(seeds=3, curves=False)
    judgement = verdicts(ROOT, [loaded(tables)])["lct-beats-ilct"]["mini"]
    assert judgement.verdict in ("supported", "contradicted", "undecided")
    assert {part.n for part in judgement.parts if part.n} == {(3, 3)}
    assert verdicts(ROOT, [loaded(tables)])["cauchy-beats-other-losses"]["mini"].command.startswith("snakemake")


def test_a_rehearsal_is_no_evidence(tmp_path):
    tables = loaded(fake_tables(seeds=3, curves=False) | {"watermark": REHEARSAL})
    assert all(of["mini"].verdict == "not measured" for of in verdicts(ROOT, [tables]).values())
    top = render(tables, tmp_path)["index.html"]
    assert "A rehearsal: " in top and "LCT is ahead on" not in top and f'class="flag">{REHEARSAL}<' in top


def test_every_report_judges_claims_by_the_rows_of_snakemake_claims_and_says_so(tmp_path):
    source = "reports/mini/only-claims/claims.html"
    shown, claimed = loaded(fake_tables(seeds=1, curves=False)), loaded(fake_tables(seeds=3, curves=False))
    alone, pages = render(shown, tmp_path), render(shown, tmp_path, claimed=(claimed, source))
    for name in ("index.html", "claims.html"):
        assert source not in alone[name] and f'<a href="../../{source}">' in pages[name]
    assert "training seeds of each method" not in alone["index.html"]
    evidence = page(ROOT, shown, claimed, source)
    part = judge_part(Comparison(better="table1.a.lct-1", worse="table1.a.ilct-1"), evidence.measured)
    assert part.n == (3, 3) and part.verdict == "contradicted"  # 26 against 17
    interval = f"{part.estimate:.2f} on Digits (95 % interval {part.low:.2f} to {part.high:.2f})"
    top = pages["index.html"]
    assert f"Over 3 training seeds of each method, LCT&#39;s FD(cnn64) divided by iLCT&#39;s is {interval}" in top
    assert "The claim that LCT is ahead is contradicted on Digits, China and Flower" in top
    (tails,) = (of for claim, of in evidence.judgements if claim.id == "lct-reaches-ldm")
    assert tails[-1].summary == "3 contradicted of 3 parts" and tails[-1].summary in pages["claims.html"]


def test_the_tables_of_claims_are_an_input_of_every_other_report(project):
    path = Path("results/mini/tables/only-claims/tables.json")
    assert stage_files.claimed_tables(Plan(project, {"scale": "mini"})) == []
    write_text(project / path, "{}")
    assert stage_files.claimed_tables(Plan(project, {"scale": "mini"})) == [str(path)]
    for only in ("claims", "table1.a"):
        assert stage_files.claimed_tables(Plan(project, {"scale": "mini", "only": only})) == []


def test_a_claim_of_ones_own_is_one_entry(project):
    (project / "config" / "claims" / "mine.yaml").write_text(OWN)
    assert "two-steps-of-lct" in verdicts(project)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("table1.a.lct-2", "table1.a.lct-3", "table1.a.lct-3"),
        ("table1.a.lct-2", "tabel1.a.lct-2", "tabel1"),
        ("table1.a.lct-2", "lct-2", "TABLE.SUBTABLE.ROW"),
        ("table1.a.lct-2", "table1.b.lct-2", "one sub-table"),
        ("worse: table1.a.lct-1", "worse: table1.a.lct-1, metric: precision", "metric"),
        ("worse: table1.a.lct-1", "worse: table1.a.lct-1, factor: .nan", "factor"),
        ("worse: table1.a.lct-1", "worse: table1.a.lct-1, factor: .inf", "factor"),
        ("kind: beats, better: table1.a.lct-2", "kind: trend, trend: [table1.a.lct-1]", "trend"),
        (
            "kind: beats, better: table1.a.lct-2, worse: table1.a.lct-1",
            "kind: measured, source: figure1, quantity: beyond_outer, larger: latents, smaller: pixels",
            "td-latents",
        ),
        ("id: two-steps-of-lct", "id: Two steps", "a name of a-z"),
        ("table1.a.lct-1", "ablation-a.a.ot", "protocol"),
        ("id: two-steps-of-lct", "id: lct-beats-ilct", "lct-beats-ilct"),
    ],
)
def test_a_claim_that_cannot_be_judged_stops_the_plan_with_one_line(project, old, new, message):
    if message == "protocol":  # measured on another number of images than Table 1
        published = project / "config" / "published" / "ablation-a.yaml"
        published.write_text(published.read_text().replace("generated: 50176", "generated: 10000"))
    (project / "config" / "claims" / "mine.yaml").write_text(OWN.replace(old, new))
    with pytest.raises(ValueError) as error:
        Plan(project, {"scale": "smoke"})
    assert "config/claims/" in str(error.value) and message in str(error.value) and "\n" not in str(error.value)


def test_the_plan_of_claims_holds_their_rows_with_three_seeds_and_leaves_the_default_alone():
    plain, claimed = (Plan(ROOT, {"scale": "mini"} | more) for more in ({}, {"only": "claims"}))
    named = {row for claim in plain.claims for part in claim.parts for row in part.rows}
    cells = claimed.cells_of("tables")
    assert {cell.name for cell in cells} == named & {cell.name for cell in plain.cells}
    assert {len({s.seed for s in cell.sets}) for cell in cells} == {3}
    assert claimed.seeds_of("digits-lct") == claimed.seeds_of("china-lct") == claimed.seeds_of("digits-lct-short")
    assert plain.seeds_of("digits-lct") == (0, 1) and "only-claims" in claimed.paths.tables()
    assert {"figure1", "figure4"} <= set(claimed.figures) and "figure5" not in claimed.figures
    inputs = stage_files.report_inputs(claimed, "tables")
    assert not any("/neighbours/" in path for path in inputs) and any("/s2/curves.json" in path for path in inputs)
    assert settings.train(plain, "digits-lct") == settings.train(claimed, "digits-lct")
    assert settings.sample(plain, "digits-lct") == settings.sample(claimed, "digits-lct")


def test_claims_about_existing_weights_alone_are_refused_before_any_job(project):
    (project / "config/claims/paper.yaml").write_text(OWN.replace("lct-2", "ilct-1"))
    runs, text = project / "config/runs/digits.yaml", ""
    for method, digit in (("ldm", "0"), ("ilct", "1"), ("lct", "2")):
        weights = f"{{path: w.safetensors, sha256: '{64 * digit}'}}"
        text += f"digits-{method}: {{dataset: digits, method: {method}, weights: {weights}}}\n"
    runs.write_text(text)
    assert Plan(project, {"scale": "smoke"}).cells
    with pytest.raises(ValueError, match="two-steps-of-lct: expected two training seeds or more.*one each") as error:
        Plan(project, {"scale": "smoke", "only": "claims"})
    assert "\n" not in str(error.value)


def test_the_verbs_answer_people_and_programs_where_nothing_was_run(project, monkeypatch, capsys):
    shutil.copy(ROOT / "Snakefile", project / "Snakefile")
    monkeypatch.chdir(project)
    assert main(["claims", "--scale", "smoke", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer["evidence"]) == {"paper-table", "authors-log"} and len(answer["claims"]) >= 12
    assert main(["claims", "transport-lowers-fid", "--scale", "smoke"]) == 0
    text = capsys.readouterr().out
    assert "undecided" in text and "seeds" in text and "snakemake" in text
    assert main(["claims", "lct-beats-ilctt", "--scale", "smoke"]) == 1
    assert "did you mean 'lct-beats-ilct'?" in capsys.readouterr().err
    assert main(["power", "--difference", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seeds"] == 4
    assert main(["power", "--difference", "0"]) == 1


@pytest.mark.parametrize("fid", [".nan", ".inf", "0.0"])
def test_a_published_number_that_cannot_be_compared_stops_the_plan(project, fid):
    published = project / "config" / "published" / "table1.yaml"
    published.write_text(published.read_text().replace("fid: 7.27,", f"fid: {fid},"))
    with pytest.raises(ValueError, match=r"\.fid: expected a finite number|FID of table1.a.lct-1") as error:
        Plan(project, {"scale": "smoke"})
    assert "\n" not in str(error.value)


def test_stages_hold_the_residual_that_the_trainings_measured(tmp_path):
    plan = Plan(ROOT, {"scale": "mini"})
    for seed, rms in ((0, 0.3), (1, 0.4)):
        path = tmp_path / plan.paths.train("digits-lct", seed) / "curves.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"intervals": [10, 10, 20], "residual_rms": [rms, rms, None]}))
    tables = collect(plan, tmp_path)
    (schedule,) = (schedule for schedule in tables.schedules if schedule.run == "digits-lct")
    assert schedule.stages[0].residual == pytest.approx(math.sqrt(0.125)) and schedule.stages[1].residual is None
    (figure,) = (f for f in tables.figures if f.kind == "schedules")
    picture = schedules(figure, tables)
    titles = [axes.get_title(loc="left") for axes in picture.axes]
    assert titles[1] == "RMS of the residual, measured" and len(titles) == 3


def test_figure_4_holds_every_logged_point_of_the_runs_that_differ_in_c_alone(tmp_path):
    plan = Plan(ROOT, {"scale": "smoke"})
    (figure,) = (f for f in collect(plan, tmp_path).figures if f.kind == "schedules")
    points = {(point.label, point.epoch): point.fid for point in figure.logged}
    assert points["0.3 c0", 1375] == 8.7124 and points["3 c0", 1375] == 11.3469 and points["adaptive", 1400] == 7.2677
    alike = [r for r in plan.published_rows.table("ablation-d", "here").rows_of("a").values() if r.fid is not None]
    assert len(points) == len(figure.logged) == sum(not row.group.startswith("As logged") for row in alike)
