"""The timeline: order, GPUs, wall limits and the queue of a simulated graph."""

import math
import xml.etree.ElementTree
from itertools import pairwise

import pytest

from lct.cluster.cost_model import CostModel
from lct.cluster.rates import card
from lct.cluster.timeline import chart, predecessors, simulate, with_pilot
from lct.jobs.report import timelines
from lct.plan.plan import Plan
from lct.report import audit
from tests.helpers import ROOT

DAY = 86400.0


@pytest.fixture(scope="module")
def model():
    return CostModel(Plan(ROOT, {"scale": "paper"}), card("a100"))


@pytest.fixture(scope="module")
def cells(model):
    return model.plan.cells_of("tables")


@pytest.mark.parametrize("gpus", [1, 8])
def test_jobs_wait_for_what_they_need_and_never_take_more_gpus_than_there_are(model, cells, gpus):
    timeline = simulate(model, cells, gpus, queue=600.0, longest=DAY)
    ends = {entry.job: entry.end for entry in timeline.jobs}
    assert ends.keys() == model.needed(cells) and len(timeline.jobs) == len(ends)
    for entry in timeline.jobs:
        before = predecessors(model, ends)[entry.job]
        assert entry.start >= 600.0 + max((ends[job] for job in before), default=0.0)
    changes = sorted([(e.start, e.gpus) for e in timeline.jobs] + [(e.end, -e.gpus) for e in timeline.jobs])
    used = 0
    for _, count in changes:
        used += count
        assert 0 <= used <= gpus
    assert timeline.appears["table1"] <= timeline.end and timeline.appears["the first number"] < timeline.end


def test_more_gpus_are_faster_and_every_start_waits_in_the_queue(model, cells):
    one, eight = (simulate(model, cells, gpus, 300.0, DAY) for gpus in (1, 8))
    assert eight.end < one.end / 5 and one.end >= model.total(model.needed(cells)).seconds
    cell = [next(cell for cell in cells if cell.run == "celebahq-lct")]
    at_once, queued, split = (
        simulate(model, cell, 8, *limits) for limits in ((0.0, DAY), (300.0, DAY), (300.0, DAY / 8))
    )
    path = [entry for entry in at_once.jobs if entry.job.stage != "reference"]  # which is measured beside the training
    assert queued.end - at_once.end == pytest.approx(300.0 * sum(math.ceil((e.end - e.start) / DAY) for e in path))
    pieces = sum(math.ceil((entry.end - entry.start) / (DAY / 8)) for entry in path)
    assert split.end - at_once.end == pytest.approx(300.0 * pieces) and pieces > len(path)


def test_the_chart_is_a_drawing_of_all_jobs(model, cells):
    timeline = simulate(model, cells, 8, 300.0, DAY)
    drawing = xml.etree.ElementTree.fromstring(chart(timeline, "paper <8 x a100>"))
    titles = [element.text for element in drawing.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == len(timeline.jobs)
    texts = "".join(element.text or "" for element in drawing.iter("{http://www.w3.org/2000/svg}text"))
    assert "paper <8 x a100>" in texts and all(name in texts for name in timeline.appears)


def test_the_pilot_comes_first_and_alone_and_the_report_shows_it(model, cells):
    timeline = with_pilot(model, cells, 8, 300.0, DAY)
    of_pilot = CostModel(model.plan, model.machine, pilot=True)
    alone, first = simulate(of_pilot, model.plan.pilot, 8, 300.0, DAY), of_pilot.needed(model.plan.pilot)
    assert timeline.appears["the pilot"] == alone.end < timeline.appears["table1"]
    assert timeline.appears["the first number"] == alone.appears["the first number"] < alone.end
    starts = {entry.job: entry.start for entry in timeline.jobs}
    assert starts.keys() == model.needed(cells) | first and len(timeline.jobs) == len(starts)
    assert min(start for job, start in starts.items() if job not in first) > alone.end
    assert with_pilot(of_pilot, model.plan.pilot, 8, 300.0, DAY).jobs == alone.jobs
    assert first - model.needed(cells) == {job for job in first if job.stage == "distance"}
    assert {job.stage for job in first} == {"images", "autoencoder", "encode", "train", "sample", "distance"}
    a100, h100 = timelines(model.plan, ROOT)
    assert a100[0] == "paper scale on 8 x A100" and ">the pilot: " in a100[1] and a100[1] != h100[1]
    audited = {"scale": "paper", "cells": [], "notes": [], "not_run": []}
    assert ">the pilot: " in audit.page(audited, timelines=[a100]) and "Cost in time" not in audit.page(audited)
    assert timelines(Plan(ROOT, {"scale": "smoke"}), ROOT) == [], "a machine, not a cluster"


@pytest.mark.parametrize(("device", "most"), [("a100", 4.5), ("h100", 1.4)])
def test_the_first_number_of_the_pilot_costs_few_gpu_hours(model, device, most):
    pilot = CostModel(model.plan, card(device), pilot=True)
    first, second = (pilot.total(pilot.needed([cell])).seconds / 3600 for cell in model.plan.pilot)
    assert 0.9 * most < first < most < second, "close to it: what is counted twice or left out shows"
    text = (ROOT / "docs/cluster.md").read_text().replace("\n", " ")
    assert device != "a100" or f"{first:.2f} A100-hours of counted work to the first number" in text
    whole = CostModel(model.plan, card(device))
    assert whole.total(whole.needed(model.plan.pilot[:1])).seconds > 3600 * first


def test_a_chain_is_in_order(model):
    run = "celebahq-lct"
    waits = predecessors(model, model.chain(run, 0))
    assert set(waits) == set(model.chain(run, 0))
    trainings = [job for job in model.chain(run, 0) if job.stage == "train"]
    assert all(waits[later] == [earlier] for earlier, later in pairwise(trainings))


def test_a_run_that_starts_from_another_waits_for_it_and_its_row_costs_that_training_too():
    plan = Plan(ROOT, {"scale": "mini"})
    model, cells = CostModel(plan, card("a100")), [c for c in plan.cells_of("all") if c.name == "outside.a.tuned"]
    jobs, run = model.needed(cells), cells[0].run
    source = plan.runs[run].init.run
    before, tuned = ([job for job in model.chain(name, 0) if job.stage == "train"] for name in (source, run))
    assert set(before + tuned) <= jobs and before[-1] in predecessors(model, jobs)[tuned[0]]
    assert not any(job.owner == source for job in jobs - set(before)), "neither its samples nor its numbers"
    assert model.wall(jobs, 8) >= model.total({*before, *tuned}).seconds
