"""`lct plan`: work counted from settings, rates with their sources, shared jobs, wall time, planned against actual."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from contest.rates import meter_of, network_rates
from contest.training import Size

from lct.cli.main import main
from lct.cluster.checks import check_disk
from lct.cluster.cost_model import CostModel, PlannedJob, minutes_between_states, minutes_for_states, state_bytes
from lct.cluster.forecast import recorded_outputs, states_per_hour
from lct.cluster.rates import BENCH, Machine, Work, card, machine, this_machine
from lct.cluster.resources import Cluster, Requests
from lct.config.devices import Device, Measured
from lct.config.schema import build
from lct.files.atomic import write_json
from lct.files.formatting import format_size
from lct.files.records import run_path
from lct.plan.plan import Plan
from tests.helpers import ROOT
from tests.helpers.fake_recorded import Project

WORKS = (
    Measured(work="start", per_second=0.5, unit="jobs", what="Python"),
    Measured(work="train", per_second=1e10, unit="FLOPs", what="small", macs=2_000_000),
    Measured(work="train", per_second=4e10, unit="FLOPs", what="large", macs=9 * 10**9),
    Measured(work="evaluate", per_second=2e10, unit="FLOPs", what="small", macs=2_000_000),
    Measured(work="decode", per_second=1000, unit="images", what="vae", side=16, kind="trained"),
    Measured(work="encode", per_second=2000, unit="images", what="vae", side=16, kind="trained"),
    Measured(work="score", per_second=500, unit="images", what="cnn64", side=16, kind="trained"),
    Measured(work="autoencoder", per_second=200, unit="samples", what="vae", side=16),
    Measured(work="extractor", per_second=600, unit="samples", what="cnn64", side=16),
)
CPU = Machine("a core", gpu=False, rates=WORKS, source="x.json")


@pytest.fixture(scope="module")
def mini():
    return CostModel(Plan(ROOT, {"scale": "mini"}), CPU)


def lct(capsys, root: Path, *words: str, code: int = 0) -> str:
    """What a verb says, run in `root`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert main(["plan", *words]) == code
    said = capsys.readouterr()
    return said.out if code == 0 else said.err


def test_a_trainings_hours_follow_from_its_operations(mini):
    plan = mini.plan
    run = plan.runs["digits-lct"].training
    macs, _ = plan.macs_and_activations_of("digits-lct")
    expected = run.steps * run.batch * 4 * 2 * macs / 1e10 + 2
    cost = mini.of(("train", "digits-lct", 0))
    assert cost.seconds == pytest.approx(expected) and cost.estimated == 0 and not cost.unknown
    assert cost.sources["train"] == "measured: x.json: small"
    denoising = mini.of(("train", "digits-ldm", 0)).seconds
    steps, ldm = plan.runs["digits-ldm"].training.steps, plan.macs_and_activations_of("digits-ldm")[0]
    assert denoising == pytest.approx(steps * run.batch * 3 * 2 * ldm / 1e10 + 2), "no target pass"


def test_sampling_counts_evaluations_and_decoding(mini):
    plan = mini.plan
    sets = plan.sample_sets("digits-lct")
    evaluations = sum(plan.runs["digits-lct"].samplers[sampler].nfe for _, sampler, _ in sets)
    macs, _ = plan.macs_and_activations_of("digits-lct")
    expected = 2000 * evaluations * 2 * macs / 2e10 + 2000 * len(sets) / 1000 + 2
    assert mini.of(("sample", "digits-lct", 0)).seconds == pytest.approx(expected)
    assert mini.of(("score", "digits-lct", 0)).seconds == pytest.approx(2000 * len(sets) / 500 + 2)


def test_cells_share_jobs_so_they_do_not_add_up(mini):
    cells = mini.plan.cells_of("tables")
    alone = [mini.total(mini.needed([cell])) for cell in cells]
    together = mini.total(mini.needed(cells))
    assert max(one.seconds for one in alone) < together.seconds < sum(one.seconds for one in alone)
    assert max(one.disk for one in alone) < together.disk < sum(one.disk for one in alone)
    one, two = (
        mini.needed([cell for cell in cells if cell.row == row and cell.subtable == "a"]) for row in ("lct-1", "lct-2")
    )
    assert one == two, "both samplers are one job's"
    assert {PlannedJob("train", "digits-lct", 1), PlannedJob("reference", "digits")} <= one


def test_wall_time_is_that_of_the_work_or_of_its_longest_chain(mini):
    jobs = mini.needed(mini.plan.cells_of("tables"))
    total = mini.total(jobs).seconds
    assert mini.wall(jobs, 1) == pytest.approx(total)
    longest = max(
        mini.total(mini.preparation("digits")).seconds + mini.total(mini.chain("digits-lct", seed)).seconds
        for seed in (0, 1)
    )
    assert mini.wall(jobs, 100) >= longest
    taken = [mini.wall(jobs, devices) for devices in (1, 2, 4, 100)]
    assert taken == sorted(taken, reverse=True) and taken[1] >= total / 2
    train = {("train", "digits-lct", 0), ("train", "digits-ilct", 0), ("train", "china-lct", 0)}
    assert mini.wall(train, 3) == max(mini.of(job).seconds for job in train)


def test_a_rate_of_another_size_is_an_estimate_and_says_so():
    exact = CPU.speed(Work("train", 1, macs=2_000_000))
    assert (exact.basis, exact.per_second) == ("measured", 1e10)
    far = CPU.speed(Work("train", 1, macs=40_000_000_000))
    assert far.basis == "estimate" and far.per_second == 4e10 and "0.225 times the operations" in far.source
    pixels = CPU.speed(Work("decode", 1, side=32, network="trained"))
    assert pixels.basis == "estimate" and pixels.per_second == 250 and "at 16 pixels" in pixels.source
    assert CPU.speed(Work("decode", 1, side=256, network="pretrained")) is None, "another network altogether"
    assert CPU.speed(Work("start", 1)).basis == "measured"


def test_what_nobody_measured_is_left_out_and_named():
    paper = CostModel(Plan(ROOT, {"scale": "paper"}), machine(ROOT, "h100"))
    cost = paper.total(paper.chain("celebahq-lct", 0))
    assert cost.unknown == {"start"} and cost.estimated == cost.seconds > 3600
    images = paper.plan.scale.sampling.count * len(paper.plan.sample_sets("celebahq-lct"))
    scored = sum(paper.of(job).seconds for job in paper.chain("celebahq-lct", 0) if job.stage == "score")
    assert scored == pytest.approx(images * 2 * (11.4e9 + 31e9) / (0.25 * 67e12)), "two Inception and two VGG16"
    assert "data sheet" in cost.sources["train"] and "not measured" in cost.sources["decode (pretrained)"]
    faster, slower = (
        CostModel(paper.plan, machine(ROOT, name)).total(paper.chain("celebahq-lct", 0)).seconds
        for name in ("h100", "a100")
    )
    assert faster < slower


def test_a_rule_asks_for_the_seconds_that_the_plan_counts():
    plan = Plan(ROOT, {"scale": "paper"})
    model, requests = (
        CostModel(plan, machine(ROOT, "a100")),
        Requests(plan, Cluster(gpu_partition="g", gpu_type="a100")),
    )
    for run in ("celebahq-lct", "celebahq-ldm"):
        train, sample = PlannedJob("train", run, 0), PlannedJob("sample", run, 0)
        gpus = requests.of("gpu_train", "train", run)["gpu"]
        assert requests.seconds(train) == pytest.approx((model.of(train).seconds + model.of(train).assumed) / gpus)
        cost = model.of(sample)
        assert requests.seconds(sample) == pytest.approx(cost.seconds + cost.assumed)
        assert cost.unknown == {"start"} and cost.assumed < 60, "what has no speed is assumed, and little"
        minutes = requests.of("gpu_small", "sample", run)["runtime"]
        assert minutes == min(1440, max(30, -(-2 * requests.seconds(sample) // 60)))


def test_images_of_a_folder_of_unknown_size_are_estimated():
    plan = Plan(ROOT, {"scale": "paper"})
    counted = CostModel(plan, card("a100")).of(("encode", "celebahq", None))
    plan.datasets["celebahq"] = replace(plan.datasets["celebahq"], train=None)
    estimated = CostModel(plan, card("a100")).of(("encode", "celebahq", None))
    assert estimated.disk > counted.disk and "100000 images" in estimated.sources["images of celebahq"]
    assert estimated.estimated == estimated.seconds and "images of celebahq" not in counted.sources


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_doctor_and_plan_agree_on_the_disk(scale, tmp_path, monkeypatch):
    plan = Plan(ROOT, {"scale": scale})
    model = CostModel(plan, machine(ROOT, "h100"))
    needed = model.total(model.needed(plan.cells_of("tables"))).disk
    for free, level in ((needed + 1, "ok"), (needed - 1, "fail")):
        monkeypatch.setattr("lct.cluster.checks.shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        finding = check_disk(plan, tmp_path)
        assert finding.level == level and f"{format_size(needed)} for the {scale} scale" in finding.observation


def test_the_verb_prints_cells_tables_and_total_with_their_sources(capsys):
    text = lct(capsys, ROOT, "--scale", "paper", "--device", "a100", "--gpus", "8", "--price", "2")
    for part in ("paper on 8 x a100", "GPU h", "price", "table1.a.lct-1", "all of paper", "not measured", "~ holds"):
        assert part in text
    value = json.loads(lct(capsys, ROOT, "--scale", "paper", "--device", "a100", "--price", "2", "--json"))
    total = value["total"]
    assert total["price"] == pytest.approx(2 * total["hours"]) and total["share_estimated"] == 1
    assert value["cells"]["table1.a.lct-1"]["hours"] < value["tables"]["table1"]["hours"] < total["hours"]
    assert total["disk_bytes"] > 10**11 and value["actual"] == {}
    more = json.loads(lct(capsys, ROOT, "--scale", "paper", "--all", "--device", "a100", "--json"))
    assert more["total"]["hours"] > total["hours"] or more["tables"].keys() == value["tables"].keys()


def test_an_unknown_device_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="--device: expected one of.*did you mean 'h100'"):
        machine(ROOT, "h10")


def test_the_papers_hours_are_those_of_a_named_gpu_where_no_device_is_given(capsys):
    first = lct(capsys, ROOT, "--scale", "paper").splitlines()[0]
    assert first == "paper on 1 x a100 (no GPU is measured here; --device names another)"
    assert "a100" not in lct(capsys, ROOT, "--scale", "smoke")
    assert "paper on 1 x nvidia_h100_80gb_hbm3" in lct(
        capsys, ROOT, "--scale", "paper", "--device", "nvidia_h100_80gb_hbm3"
    )


def test_the_plan_says_what_states_write_in_an_hour(capsys):
    plan = Plan(ROOT, {"scale": "paper"})
    largest = max(state_bytes(plan, run) for run in plan.runs_of("tables"))
    assert largest > 6e9
    written, minutes = states_per_hour(plan, "tables")  # the states are large: every 5 or 30 minutes is too often
    assert written == pytest.approx(5e9) and minutes == pytest.approx(60 * largest / 5e9)
    assert f"up to 5 GB an hour, one every {minutes:.3g} minutes" in lct(capsys, ROOT, "--scale", "paper")
    assert states_per_hour(Plan(ROOT, {"scale": "paper", "save_minutes": 30}), "tables") == (2 * largest, 30)
    small = Plan(ROOT, {"scale": "smoke"})
    assert states_per_hour(small, "tables")[1] == 5 and minutes_between_states(small, "digits-lct", 30) == 30
    assert [minutes_for_states(size, 5) for size in (1e6, 6e9)] == [5, 72]
    assert minutes_for_states(6e9, 30, math.inf) == 30
    with pytest.raises(ValueError, match="save_minutes: expected above 0, found 0"):
        Plan(ROOT, {"scale": "paper", "save_minutes": 0})


@pytest.mark.parametrize(
    ("profiles", "setting", "minutes"),
    [
        ((), (), None),
        ((), ("save_minutes=7",), "7"),
        (("--profile", "profiles/default", "--workflow-profile", "profiles/slurm"), (), "30"),
    ],
)
@pytest.mark.usefixtures("warm_programs")
def test_another_save_interval_reaches_the_jobs_and_reruns_nothing(profiles, setting, minutes, tmp_path):
    for name in ("Snakefile", "workflow", "config", "lct", "profiles", "reports"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "show.smk").write_text(
        'include: "Snakefile"\nprint("MINUTES", os.environ.get("LCT_SAVE_MINUTES"), '
        'os.environ.get("LCT_STATE_GB_PER_HOUR"), '
        '[*next(r for r in workflow.rules if r.name == "train_digits_lct").params.keys()])\n'
    )
    command = [sys.executable, "-m", "snakemake", "-s", "show.smk", "--list-target-rules", *profiles]
    environment = {
        key: value for key, value in os.environ.items() if key not in ("LCT_SAVE_MINUTES", "LCT_STATE_GB_PER_HOUR")
    }
    done = subprocess.run(
        [*command, "--config", "scale=smoke", *setting], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    line = next(line for line in (done.stdout + done.stderr).splitlines() if line.startswith("MINUTES"))
    _, value, most, params = line.split(maxsplit=3)
    assert most == ("inf" if setting else "None")  # what a command sets is not made less often
    assert value in (str(minutes), f"{minutes}.0") and params == "['settings', 'state', 'folder']"


def test_too_many_hours_are_a_warning_and_nothing_is_refused(capsys):
    words = ("--scale", "paper", "--device", "h100", "--max-gpu-hours")
    assert "warning: " in lct(capsys, ROOT, *words, "10") and "warning" not in lct(capsys, ROOT, *words, "1e9")
    assert "10 wanted at most" in json.loads(lct(capsys, ROOT, *words, "10", "--json"))["warning"]


def test_after_a_run_planned_and_actual_stand_side_by_side(tmp_path, capsys):
    project = Project(tmp_path / "project", "smoke", big=False)
    project.compute()
    curves = "results/smoke/train/digits-lct/s0/curves.json"
    (project.root / curves).write_text("{}")
    project.records(curves, {}, project._run(curves, "train", "0" * 40, "0" * 64))
    write_bench(project.root)
    value = json.loads(lct(capsys, project.root, "--scale", "smoke", "--json"))
    run = value["actual"]["digits-lct"]
    assert run["jobs"] == run["of"] == 3
    assert run["stages"]["train"]["actual_seconds"] == 60
    assert run["stages"]["score"]["actual_seconds"] == 0.4, "two metrics files of two commands"
    plan = Plan(project.root, {"scale": "smoke"})
    macs, training = plan.macs_and_activations_of("digits-lct")[0], plan.runs["digits-lct"].training
    operations = training.steps * training.batch * 4 * 2 * macs
    assert run["stages"]["train"]["planned_seconds"] == pytest.approx(operations / 1e10), "records begin after imports"
    assert run["planned_seconds"] == pytest.approx(sum(one["planned_seconds"] for one in run["stages"].values()))
    text = lct(capsys, project.root, "--scale", "smoke")
    assert "planned against actual" in text and "3 of 3 jobs" in text


def test_the_timeline_says_when_each_table_appeared(tmp_path, capsys):
    project = Project(tmp_path / "project", "smoke", big=False)
    project.compute()
    write_bench(project.root)
    plan = Plan(project.root, {"scale": "smoke"})
    for run in plan.runs_of("tables"):
        for job, paths in recorded_outputs(plan, run).items():
            for path in paths:
                seconds = {"train": 30, "sample": 40, "score": 50}[job.stage] + 10 * (run == "digits-lct")
                times = {"started": "2026-01-01T00:00:10+00:00", "finished": f"2026-01-01T00:01:{seconds - 10}+00:00"}
                write_json(run_path(project.root / path), times | {"seconds": seconds + 40.0})
    words = ("--scale", "smoke", "--timeline", "--queue", "0", "--chart", "t.svg")
    text = lct(capsys, project.root, *words)
    assert "table1" in text and "taken: " in text and "drawn: t.svg" in text
    value = json.loads(lct(capsys, project.root, *words, "--json"))["timeline"]
    assert value["taken_seconds"] == {"the first number": 90.0, "table1": 100.0}
    assert 0 < value["appears_seconds"]["the first number"] <= value["appears_seconds"]["table1"]
    run_path(project.root / recorded_outputs(plan, "digits-lct")[PlannedJob("score", "digits-lct", 0)][0]).unlink()
    taken = json.loads(lct(capsys, project.root, *words, "--json"))["timeline"]["taken_seconds"]
    assert taken == {"the first number": 90.0}, "the table is not complete"
    assert "expected minutes" in lct(capsys, project.root, "--timeline", "--longest", "0", code=1)


def write_bench(root: Path, **changes) -> None:
    about = {"cpu": "x", "model": "Some CPU", "cores": 2, "threads": 1, "gpu": "none"} | changes
    rates = [{k: v for k, v in vars(one).items() if v is not None} for one in WORKS]
    write_json(root / BENCH, {"machine": about, "rates": rates, "rows": []})


def test_this_machines_own_measurements_come_first(tmp_path):
    (tmp_path / "config" / "devices").mkdir(parents=True)
    with pytest.raises(ValueError, match="work/bench/speed.json: expected measurements of this machine, found none"):
        this_machine(tmp_path)
    one = {
        "title": "Another",
        "gpu": False,
        "measured": "by hand",
        "rates": [{"work": "start", "per_second": 1, "unit": "jobs", "what": "x"}],
    }
    (tmp_path / "config" / "devices" / "another.yaml").write_text(yaml.safe_dump(one))
    assert this_machine(tmp_path).name == "Another (this machine is not measured: make bench)"
    write_bench(tmp_path)
    assert this_machine(tmp_path).name == "Some CPU, 1 thread" and not this_machine(tmp_path).gpu
    write_bench(tmp_path, gpu="H100")
    assert this_machine(tmp_path).name == "H100" and this_machine(tmp_path).gpu
    assert machine(tmp_path, "another").source == "config/devices/another.yaml"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--device", "abacus"), "--device: expected one of"),
        (("--gpus", "0"), "--gpus: expected 1 or more, found 0"),
        (("--scale", "huge"), "huge"),
    ],
)
def test_wrong_arguments_end_in_one_line(capsys, words, message):
    said = lct(capsys, ROOT, *words, code=1)
    assert message in said and len(said.splitlines()) == 1


def test_a_damaged_measurement_ends_in_one_line(tmp_path, capsys):
    project = Project(tmp_path / "project", "smoke", big=False)
    write_bench(project.root)
    content = json.loads((project.root / BENCH).read_text())
    content["rates"][1]["per_second"] = 0
    write_json(project.root / BENCH, content)
    assert "per_second: expected above 0, found 0" in lct(capsys, project.root, "--scale", "smoke", code=1)
    (project.root / BENCH).write_text("{")
    assert len(lct(capsys, project.root, "--scale", "smoke", code=1).splitlines()) == 1


def test_shipped_devices_are_measurements():
    names = [path.stem for path in (ROOT / "config" / "devices").glob("*.yaml")]
    assert names, "at least the machine that the project was measured on"
    for name in names:
        found = build(Device, yaml.safe_load((ROOT / "config" / "devices" / f"{name}.yaml").read_text()), name)
        assert found.measured and {one.work for one in found.rates} >= {"start", "train", "evaluate", "decode", "score"}


def test_the_benchmark_writes_rates_that_the_plan_reads():
    calls, meter = [], meter_of(torch.device("cpu"), 4)
    meter.rate("start", 3, lambda: calls.append(1), "jobs", what="x")
    assert len(calls) == 5 and meter.rates[0].per_second > 0
    network_rates(Size.of("smoke", "digits-lct", 64), meter := meter_of(torch.device("cpu"), 1))
    assert [rate.work for rate in meter.rates] == ["train", "evaluate"]
    for rate in meter.rates:
        assert rate.macs == CostModel(Plan(ROOT, {"scale": "smoke"}), CPU).plan.macs_and_activations_of("digits-lct")[0]
