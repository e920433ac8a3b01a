"""The pilot: the first milestones of a run against the authors' log."""

import csv
import dataclasses
import shutil
from pathlib import Path

import pytest

from lct.cli.main import main
from lct.files.atomic import write_json
from lct.plan import files, listing, settings
from lct.plan.plan import Plan
from lct.report.pilot import GO, LOOK, UNLIKE, WAIT, judge, logged_fid
from lct.report.render import html

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan(ROOT, {"scale": "paper"})


def measure(plan: Plan, root: Path, *values: float) -> dict:
    """The verdict after the first rows of the pilot gave these FIDs."""
    (root / "config").symlink_to(ROOT / "config")
    for cell, value in zip(plan.pilot, values, strict=False):
        s = cell.sets[0]
        content = {"values": {"fd": value}, "protocol": {"id": "authors"}, "num_images": 50176}
        write_json(root / plan.paths.distance(*s, "authors"), content)
    return judge(plan, root, plan.pilot)


def test_the_logged_values_are_lines_of_the_authors_log(plan):
    with open(ROOT / "config/evidence/authors_runs.csv", newline="") as log:
        lines = list(csv.DictReader(log))
    assert [round(logged_fid(plan, cell, lines), 2) for cell in plan.pilot] == [83.31, 28.66]
    assert [cell.weights for cell in plan.pilot] == ["step36960-ema0.99993", "step78960-ema0.99993"]
    assert {cell.run for cell in plan.pilot} == {"celebahq-lct"}, "nothing is trained twice"
    without = [line for line in lines if line["epoch"] != "175"]
    with pytest.raises(ValueError, match="expected a line of authors_runs.csv with run .* epoch 175.* found 0"):
        logged_fid(plan, plan.pilot[0], without)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [((), WAIT), ((83.0,), WAIT), ((83.0, 28.9), GO), ((83.0, 40.0), LOOK), ((120.0,), LOOK)],
)
def test_it_goes_on_when_every_milestone_is_on_the_curve(plan, tmp_path, values, verdict):
    result = measure(plan, tmp_path, *values)
    assert result["verdict"] == verdict and f"Pilot: {verdict}" in html("pilot.html", pilot=result)
    assert ("Where to look" in html("pilot.html", pilot=result)) == (verdict == LOOK)


def test_it_waits_for_distances_alone_and_the_tables_for_all(plan):
    early = files.pilot_distances(plan)
    assert len(early) == 2 and all("/pilot/celebahq-lct/s0/step" in path for path in early)
    of_milestones = [path for run, at in plan.pilot_milestones for path in files.distances(plan, run, 0, at)]
    assert sorted(of_milestones) == early, "one file for each job"
    whole = {*files.report_metrics(plan, "tables"), *files.report_inputs(plan, "tables")}
    later = {*files.floors(plan, "celebahq"), *files.cell_metrics(plan, plan.pilot)}
    assert later < whole and whole.isdisjoint(early)
    ours, scored = settings.distance(plan, "celebahq"), settings.score(plan, "celebahq")
    assert ours["protocols"] == scored["protocols"][:1] and ours["extractors"] == scored["extractors"][:1]


def test_what_it_has_measured_is_recorded_with_the_rest(tmp_path):
    (tmp_path / "config").symlink_to(ROOT / "config")
    plan = Plan(tmp_path, {"scale": "paper"})
    early, page_path = files.pilot_distances(plan), plan.paths.report("pilot.html")
    assert listing.unlisted_files(plan) == []
    for path in (early[0], page_path):
        write_json(tmp_path / path, {})
    assert listing.unlisted_files(plan) == [early[0], page_path]


def test_a_row_that_its_table_has_not_ends_in_one_line(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    scale = tmp_path / "config/scales/paper.yaml"
    scale.write_text(scale.read_text().replace("adaptive-e175,", "adaptive-e180,"))
    with pytest.raises(ValueError, match=r"paper.yaml: pilot: expected rows of ablation-d .* did you mean 'ablation-d"):
        Plan(tmp_path, {"scale": "paper"})


def test_where_no_fid_is_measured_nothing_is_compared(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "scale", dataclasses.replace(plan.scale, distance="FD"))
    result = measure(plan, tmp_path, 83.0, 28.9)
    assert result["verdict"] == UNLIKE and "Pilot: not comparable" in html("pilot.html", pilot=result)


def test_a_scale_without_its_rows_has_no_pilot(capsys):
    assert Plan(ROOT, {"scale": "paper", "dataset": "celebahq"}).pilot == []
    assert main(["plan", "--scale", "smoke", "--target", "pilot"]) != 0
    assert "expected a scale whose tables have a pilot, found smoke" in capsys.readouterr().err
