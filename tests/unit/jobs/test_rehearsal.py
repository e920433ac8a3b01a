"""What the jobs of a rehearsal ask for, and its page: peaks beside requests, and what to change."""

import json
from types import SimpleNamespace

import pytest
from snakemake.common.tbdstring import TBDString

from lct.cluster.cost_model import PlannedJob
from lct.cluster.resources import Cluster, Requests
from lct.files.atomic import write_text
from lct.jobs.rehearsal import numbers, rows, write_rehearsal
from lct.plan.plan import Plan
from lct.report.render import html
from tests.helpers import ROOT

A100 = Cluster(partition="c", gpu_partition="g", gpu_type="a100-80gb")


@pytest.fixture(scope="module")
def requests() -> Requests:
    return Requests(Plan(ROOT, {"scale": "rehearsal"}), A100)


def job(rule: str, output: str, mem_mb: int = 10_000, runtime: int = 60, gpu: int = 1, **wildcards: str):
    """A job of a Snakemake DAG."""
    resources = {"mem_mb": mem_mb, "runtime": runtime} | ({"gpu": gpu} if gpu else {})
    return SimpleNamespace(
        rule=SimpleNamespace(name=rule), wildcards=wildcards, output=[output, f"{output}.run.json"], resources=resources
    )


def record(root, output: str, memory: float, seconds: float = 90.0, **more) -> None:
    """What the job that wrote `output` has recorded."""
    values = {"peak_memory_bytes": memory, "seconds": seconds, "read_bytes": 3_000_000, "written_bytes": 2_000_000}
    write_text(root / f"{output}.run.json", json.dumps(values | more))


def test_memory_and_gpus_are_those_of_the_paper_and_time_is_its_own(requests):
    paper = Requests(Plan(ROOT, {"scale": "paper"}), A100)
    for kind, stage, owner in (
        ("gpu_train", "train", "church-lct"),
        ("gpu_small", "reference", "celebahq"),
        ("gpu_small", "score", "ffhq-ilct"),
        ("gpu_train", "figure", "figure1"),
        ("cpu", "images", "church"),
    ):
        ours, theirs = (of.of(kind, stage, owner) for of in (requests, paper))
        assert ours["mem_mb"](None, 1) == theirs["mem_mb"](None, 1) and ours.get("gpu") == theirs.get("gpu")
        assert ours["runtime"] <= theirs["runtime"]
    assert requests.of("gpu_train", "train", "church-lct")["runtime"] == 60
    assert paper.of("gpu_train", "train", "church-lct")["runtime"] == 1440


def test_what_snakemake_cannot_say_yet_counts_as_nothing(tmp_path, requests):
    waiting = job("score_celebahq_lct_step8", "m", mem_mb=TBDString(), runtime=TBDString())
    (row,) = rows(requests, [waiting], tmp_path)
    assert (row.request, row.minutes, row.gpus) == (0.0, 0.0, 1)


def test_a_peak_near_its_request_is_marked_with_lines_for_the_profile(tmp_path, requests):
    latents = (27000 - 2048) * 4 * 32 * 32 * 4  # that the whole scale holds more
    jobs = [job("images", "images.json", gpu=0, dataset="celebahq"), job("images", "far.json", gpu=0, dataset="church")]
    jobs += [job(f"train_celebahq_lct_step{step}", f"w{step}", seed="0") for step in (8, 16)]
    jobs += [job("score_celebahq_lct_step8", "m", mem_mb=40_000, runtime=1), job("tables_tables", "tables.json", gpu=0)]
    record(tmp_path, "images.json", 2e9)
    record(tmp_path, "w8", 6e9, peak_gpu_memory_bytes=10e9)
    record(tmp_path, "w16", 7.5e9, peak_gpu_memory_bytes=70e9)
    record(tmp_path, "m", 1e9, seconds=55)
    first, second, third, fourth = rows(requests, jobs, tmp_path)
    assert (first.stage, first.owner, first.jobs, first.measured, first.gpus) == ("train", "celebahq-lct", 2, 2, 1)
    assert (first.memory, first.more_memory, first.more_gpu_memory) == (7.5e9, 2 * latents, latents)
    assert first.tight == ("memory", "GPU memory") and first.share == pytest.approx((7.5e9 + 2 * latents) / 1e10)
    assert first.gpu_share == pytest.approx((70e9 + latents) / 80e9) and (first.read, first.written) == (6e6, 4e6)
    assert (second.stage, second.tight, second.seconds, second.minutes) == ("score", (), 55, 1)
    more = requests.sizes.memory(PlannedJob("score", "celebahq-lct")) - 1
    assert second.more_memory > more / 2 and second.gpu_share is None
    assert (third.stage, third.measured, third.tight) == ("images", 1, ()) and (fourth.jobs, fourth.measured) == (1, 0)
    result = numbers(requests, jobs, tmp_path)
    assert (result["whole"], result["jobs"], result["measured"]) == ("paper", 5, 4)
    assert result["gpu_hours"] == pytest.approx((90 + 90 + 55) / 3600) and result["device"] == "a100-80gb"
    lines = result["advice"].splitlines()
    assert lines[:2] == ["set-resources:", "  train_celebahq_lct_step36960: {mem_mb: 13000, gpu: 2}"]
    assert lines[-1] == "  train_celebahq_lct_step294210: {mem_mb: 13000, gpu: 2}" and len(lines) == 1 + 8
    text = html("rehearsal.html", rehearsal=result)
    assert "Rehearsal: not a result" in text and "4 of 5 jobs have run" in text and "not measured yet" in text
    assert lines[1] in text and ">memory, GPU memory</span>" in text


def test_a_rehearsal_inside_its_requests_says_so_and_a_page_is_written_whatever_failed(tmp_path, requests):
    jobs = [job("images", "images.json", gpu=0, dataset="celebahq")]
    record(tmp_path, "images.json", 1e9)
    assert "reports/rehearsal/rehearsal.html" in write_rehearsal(tmp_path, requests, jobs)
    text = (tmp_path / "reports/rehearsal/rehearsal.html").read_text()
    assert "jobs have run, all within what they ask for" in text and "Nothing, as far as jobs have run" in text
    assert json.loads((tmp_path / "reports/rehearsal/rehearsal.json").read_text())["advice"] == ""
    write_text(tmp_path / "images.json.run.json", "{")
    assert write_rehearsal(tmp_path, requests, jobs).startswith(("warning: ", "What the rehearsal took"))
