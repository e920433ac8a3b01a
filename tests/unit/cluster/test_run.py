"""What the terminal shows while the graph runs."""

import time
from types import SimpleNamespace

import pytest

from lct.cluster.resources import Cluster, Requests
from lct.cluster.run import ReportSoFar, RunProgress, planned_seconds
from lct.files.atomic import write_text
from lct.plan.plan import Plan
from tests.helpers import ROOT


def test_jobs_and_the_time_left_scale_with_the_estimates():
    clock, lines = [0.0], []
    progress = RunProgress({1: 10.0, 2: 30.0, 3: 60.0, 4: 20.0}, lines.append, lambda: clock[0])
    for now, job in ((5.0, 1), (60.0, 2), (61.0, 99), (300.0, 3), (400.0, 4)):
        clock[0] = now
        progress(job)
    # after 60 s a third of the estimated 120 s is done, after 300 s five sixths; the last job ends the run itself
    assert lines == ["2 of 4 jobs, about 2 min left", "3 of 4 jobs, about a minute left"]


def test_every_job_has_an_estimate_and_a_training_the_longest():
    plan = Plan(ROOT, {"scale": "mini"})
    names = ["train_digits_lct", "score_digits_lct", "images", "figures_figure1", "reference_digits", "tables_tables"]
    names += ["train_digits_ilct", "train_digits_ilct_step100"]  # the second is a milestone of the first
    jobs = [
        SimpleNamespace(jobid=i, rule=SimpleNamespace(name=name), wildcards={"dataset": "digits"})
        for i, name in enumerate(names)
    ]
    seconds = planned_seconds(Requests(plan, Cluster()), jobs)
    assert max(seconds, key=seconds.get) == 0 and seconds[5] == 1.0
    assert all(seconds[i] > 1.0 for i in range(5)), seconds
    assert seconds[6] == seconds[7] == pytest.approx(seconds[0] / 2, rel=0.1)


def test_a_report_so_far_when_a_sub_table_is_complete_and_none_at_the_end(tmp_path):
    plan, lines = Plan(ROOT, {"scale": "mini"}), []
    so_far = ReportSoFar(tmp_path, plan, lines.append)
    so_far.command = ["sh", "-c", 'mkdir -p "$0" && touch "$0/index.html"', str(tmp_path / "reports/mini/so-far")]
    assert list(so_far.parts) == [name for part in "abc" for name in (f"{part}, first seed", part)]
    assert all("/digits-" in path for path in so_far.parts["a"])
    first = so_far.parts["a, first seed"]
    assert {path for path in so_far.parts["a"] if "/s0/" in path} == set(first) < set(so_far.parts["a"])
    so_far(1)
    assert so_far._thread is None  # nothing is complete
    index = tmp_path / "reports/mini/so-far/index.html"
    for part in ("a, first seed", "a"):
        for path in so_far.parts[part]:
            write_text(tmp_path / path, "{}")
        so_far(2)
        so_far(3)  # the same part is not reported twice
        so_far._thread.join()
    assert lines == 2 * [f"Report so far: {index.as_uri()}"] and index.exists()
    for part in "bc":
        for path in so_far.parts[part]:
            write_text(tmp_path / path, "{}")
    so_far(4)  # the graph's own report follows
    assert len(lines) == 2
    so_far.close()
    assert not index.parent.exists()


def test_a_rendering_that_fails_or_lasts_is_no_trouble(tmp_path):
    plan, lines = Plan(ROOT, {"scale": "mini"}), []
    for command in (["sh", "-c", "exit 1"], ["sleep", "60"], ["/no/such/program"]):
        so_far = ReportSoFar(tmp_path / command[0].strip("/"), plan, lines.append)
        so_far.command = command
        for path in so_far.parts["a"]:
            write_text(so_far.root / path, "{}")
        so_far(1)
        started = time.monotonic()
        so_far.close()
        assert time.monotonic() - started < 10
    assert lines == []
