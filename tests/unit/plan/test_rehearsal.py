"""A scale that starts from another one, and the rehearsal: the paper's graph with few images and steps."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from lct.config.folder import ConfigFolder
from lct.config.model import REHEARSAL, Limit
from lct.config.resolve import run_settings, scale_settings
from lct.config.schema import plain
from lct.plan import files, settings
from lct.plan.plan import Plan
from lct.schedules import Curriculum
from lct.training.settings import Training
from tests.helpers import ROOT


@pytest.fixture(scope="module")
def paper() -> Plan:
    return Plan(ROOT, {"scale": "paper"})


@pytest.fixture(scope="module")
def rehearsal() -> Plan:
    return Plan(ROOT, {"scale": "rehearsal"})


def jobs(plan: Plan) -> list[tuple]:
    """Every job of a plan's report, milestones by their number; with the files that it writes, by their number."""
    every = [("reference", name, len(files.floors(plan, name))) for name in plan.shown_datasets]
    for run in plan.runs_of("tables"):
        for seed in plan.seeds_of(run):
            for number, at in enumerate(plan.milestones(run)):
                every.append(("train", run, seed, number, len(plan.weights_at(run, at))))
                sets = [(sampler, draw) for _, sampler, draw in plan.sample_sets(run, at)]
                every += [(stage, run, seed, number, *sets) for stage in ("sample", "score", "neighbours") if sets]
    every += [("figure", name, dataset) for name in plan.figures for dataset in plan.shown_datasets]
    return every


def test_it_has_every_job_of_the_paper(paper, rehearsal):
    assert jobs(rehearsal) == jobs(paper) and len(jobs(paper)) > 500
    for of in (files.report_metrics, files.report_inputs, files.row_pages):
        assert len(of(rehearsal, "tables")) == len(of(paper, "tables"))
    assert [cell.name for cell in rehearsal.cells] == [cell.name for cell in paper.cells]


def test_nothing_that_decides_the_memory_of_a_gpu_is_smaller(paper, rehearsal):
    length = {"steps_per_milestone", "log_every"}
    for name, run in paper.runs.items():
        ours = plain(rehearsal.runs[name].training)
        assert {key: value for key, value in ours.items() if key not in length} == {
            key: value for key, value in plain(run.training).items() if key not in length
        }
        assert ours["batch"] <= rehearsal.datasets[run.dataset].train
        assert rehearsal.runs[name].samplers == run.samplers
        assert rehearsal.steps_of(name) == 8 * len(paper.milestones(name))
    for name, dataset in paper.datasets.items():
        ours = rehearsal.datasets[name]
        assert ours == dataclasses.replace(dataset, train=2048, heldout=min(2048, dataset.heldout))
        assert rehearsal.dataset_sources[name]["train"] == "config/scales/rehearsal.yaml: limit"
    assert rehearsal.extractors == paper.extractors
    assert rehearsal.scale.sampling == dataclasses.replace(paper.scale.sampling, num_images=256)
    shorter = [dataclasses.replace(protocol, num_images=256) for protocol in paper.scale.protocols]
    assert list(rehearsal.scale.protocols) == shorter
    assert rehearsal.figures["figure1"][0].scales["rehearsal"].images == 2048
    assert rehearsal.figures["figure1"][1].total_steps(2048) == 8


def test_its_numbers_are_judged_by_nothing(rehearsal):
    scale = rehearsal.scale
    assert (scale.comparable, scale.watermark, scale.pilot) == (False, REHEARSAL, ()) and scale.needs_gpus
    with pytest.raises(ValueError, match="^claims: expected a scale that measures, found the rehearsal rehearsal"):
        Plan(ROOT, {"scale": "rehearsal", "only": "claims"})
    tables = settings.tables(rehearsal, "tables")
    assert tables["scale"]["base"] == "paper" and tables["scale"]["limit"] == {"images": 2048, "samples": 256}


def test_other_scales_write_none_of_the_new_keys(paper):
    assert not {"base", "limit"} & settings.tables(paper)["scale"].keys()
    assert "steps_per_milestone" not in settings.train(paper, "celebahq-lct")["training"]


def test_each_milestone_is_reached_in_so_many_steps():
    training = Training(batch=4, epochs=30, keep_epochs=(10, 20), inclusive_epochs=True, steps_per_milestone=8)
    assert training.kept_steps(40) == [24, 8, 16]
    assert [training.step_of(epoch, 40) for epoch in (10, 20, 30)] == [8, 16, 24]
    assert training.total_steps(40) == training.schedule_steps(40) == 24
    fixed = Training(batch=4, steps=500, keep_steps=(100,), steps_per_milestone=7, curriculum=Curriculum(s1=640))
    assert fixed.kept_steps(40) == [14, 7]
    with pytest.raises(ValueError, match="steps_per_milestone, threads and log_every: expected 1 or more"):
        Training(batch=4, steps=5, steps_per_milestone=0)


def test_a_value_names_the_file_that_sets_it():
    config = ConfigFolder(ROOT)
    _, layer = scale_settings(config, "rehearsal")
    sources = run_settings(config, "celebahq-lct", layer).sources
    assert sources["matmul"] == "config/scales/paper.yaml"
    assert sources["log_every"] == sources["steps_per_milestone"] == "config/scales/rehearsal.yaml"


def scale_of(root: Path, text: str) -> Path:
    """A copy of the configuration with a scale `mine`."""
    shutil.copytree(ROOT / "config", root / "config")
    (root / "config/scales/mine.yaml").write_text(text)
    return root


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "base: papre\n",
            r"^config/scales/mine.yaml: base: expected a scale .* 'papre'; did you mean 'paper'",
        ),
        ("base: mine\n", r"^config/scales/mine.yaml: base: expected no circle, found 'mine' again"),
        ("banner: [x]\n", r"^config/scales/mine.yaml: expected key 'tables' with a value, or `base`, found neither"),
        ("base: smoke\nlimit: {images: 1, samples: 8}\n", r"limit: expected 2 images and samples or more"),
        (
            "base: smoke\nlimit: {images: 16, samples: 8}\n",
            r"training.batch of run .* expected at most the 16 ",
        ),
        ("base: smoke\ntraining: {stepss: 1}\n", r"^config/scales/mine.yaml: training: unknown key 'stepss'"),
    ],
)
def test_a_bad_base_or_limit_is_one_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        Plan(scale_of(tmp_path, text), {"scale": "mine"})
    assert "\n" not in str(caught.value)


def test_a_scale_changes_its_base_and_keeps_the_rest(tmp_path):
    text = "base: smoke\nsubtables: {b: china}\nseeds: {china: [3]}\nsampling: {num_images: 96}\n"
    root = scale_of(tmp_path, text)
    base, mine = (Plan(root, {"scale": name}) for name in ("smoke", "mine"))
    assert mine.scale.subtables == {"a": "digits", "b": "china"} and mine.scale.sampling.batch == 32
    assert mine.scale.watermark == base.scale.watermark and mine.scale.sampling.num_images == 96
    rows = [cell.name for cell in mine.cells if cell.subtable == "a"]
    assert rows == [cell.name for cell in base.cells] and mine.seeds_of("china-lct") == (3,)


def test_a_limit_leaves_smaller_numbers_alone():
    limit, plan = Limit(images=100_000, samples=2), Plan(ROOT, {"scale": "smoke"})
    assert limit.dataset(plan.datasets["digits"]) == plan.datasets["digits"]
    assert limit.scale(plan.scale).sampling.num_images == plan.scale.sampling.batch  # a whole batch
