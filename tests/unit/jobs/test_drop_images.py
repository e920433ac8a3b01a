"""Image sets go once all that reads them is computed, and no earlier."""

from pathlib import Path

import pytest

from lct.cluster.cost_model import CostModel, PlannedJob
from lct.cluster.rates import CORE
from lct.files.records import is_dropped
from lct.jobs.drop_images import drop_images, keeps_images
from lct.plan import files
from lct.plan.plan import Plan
from tests.helpers import ROOT


def touch(root: Path, paths: list[str]) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_a_set_goes_when_its_last_reader_is_computed(tmp_path):
    plan = Plan(ROOT, {"scale": "smoke"})
    run = "digits-lct"
    (at,) = plan.sampled_milestones(run)
    sets, readers = files.samples(plan, run, 0, at), files.image_readers(plan, run, 0, at)
    touch(tmp_path, [*sets, *readers[:-1]])
    assert drop_images(tmp_path, plan, set()) == []
    touch(tmp_path, readers)
    assert drop_images(tmp_path, plan, {readers[0]}) == [], "it is there, but about to be made again"
    pilot = files.distances(plan, run, 0, at)
    assert drop_images(tmp_path, plan, {pilot[-1]}) == [], "the pilot is about to read it"
    assert drop_images(tmp_path, plan, set()) == sets
    assert all(is_dropped(tmp_path / path) for path in sets) and drop_images(tmp_path, plan, set()) == []


def test_the_plan_counts_a_disk_without_them():
    keeping, dropping = (Plan(ROOT, {"scale": "paper"} | more) for more in ({}, {"keep_images": "false"}))
    disks = [CostModel(plan, CORE).of(PlannedJob("sample", "church-lct", 0)).disk for plan in (keeping, dropping)]
    assert disks[0] > 1e9 and disks[1] == 0


def test_the_readers_are_the_jobs_that_the_graph_gives_the_images_to():
    text = (ROOT / "workflow/rules/metrics.smk").read_text()
    rules = [part for part in text.split("rule_name(")[1:] if "samples=[" in part]
    assert [part.split('"')[1] for part in rules] == ["distance", "score", "neighbours"]


@pytest.mark.parametrize(
    ("setting", "profile", "expected"),
    [(None, {}, True), (None, {"keep_images": False}, False), (None, {"keep_images": "False"}, False),
     (True, {"keep_images": False}, True), (False, {}, False)],
)  # fmt: skip
def test_the_configuration_goes_before_the_profile(setting, profile, expected):
    assert keeps_images(setting, profile) is expected


def test_another_value_of_the_profile_is_one_line():
    with pytest.raises(ValueError, match="keep_images: expected true or false, found 'no way'; correct it"):
        keeps_images(None, {"keep_images": "no way"})
