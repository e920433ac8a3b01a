"""Status, doctor, waiting for earlier jobs: with made-up heartbeats, and SLURM commands that are small scripts."""

import asyncio
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from lct.cli.main import main
from lct.cluster import doctor, run, slurm
from lct.cluster.checks import (
    check_clock,
    check_device,
    check_disk,
    check_driver,
    check_folders,
    check_packages,
    check_skew,
    check_torch,
    driver_version,
    quota_left,
)
from lct.cluster.doctor import minutes_of
from lct.cluster.forecast import costs
from lct.cluster.resources import Cluster
from lct.cluster.run import correct_slurm_plugin, failure, quieter, set_job_environment
from lct.cluster.status import statuses
from lct.files.atomic import write_json
from lct.files.lock import hold
from lct.files.records import run_path
from lct.lineage import hooks
from lct.plan import files as stage_files
from lct.plan.plan import Plan
from tests.helpers import ROOT

NOW = 1_800_000_000.0


@pytest.fixture
def root(tmp_path) -> Path:
    """A project whose code and configuration are this one's, without results."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("config", "lct", "profiles", "requirements.lock"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A function that puts SLURM commands into the PATH: name -> body of a shell script. None is there at first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "cat", "env", "git", "sed", "sleep", "touch"):
        (folder / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(folder))

    def make(**bodies: str) -> Path:
        for name, body in bodies.items():
            (folder / name).write_text(f"#!/bin/sh\n{body}\n")
            (folder / name).chmod(0o755)
        return folder

    return make


def queue_line(root: Path, job: int, state: str, comment: str, name: str = "lct_1f", reason: str = "node1") -> str:
    return "\x1f".join((str(job), state, reason, name, comment, str(root)))


def says(*lines: str) -> str:
    return "cat <<'END'\n" + "\n".join(lines) + "\nEND"


# --- SLURM's answers ------------------------------------------------------------------------------------------------
def test_the_queue_holds_only_this_projects_jobs_and_odd_lines_are_passed_over(root, tools):
    mine = queue_line(root, 7, "RUNNING", "rule_train_digits_lct_wildcards_0")
    others = [
        queue_line(root.parent, 8, "RUNNING", "rule_train_digits_lct_wildcards_0"),
        queue_line(root, 9, "RUNNING", "rule_x", name="somebody"),
        queue_line(root, 10, "RUNNING", "rule_x").replace("10", "; rm -rf /", 1),
        "slurm_load_jobs warning",
        "",
    ]
    tools(squeue=says(mine, *others))
    assert [(job.id, job.state, job.comment) for job in slurm.queued_jobs(root)] == [
        ("7", "RUNNING", "rule_train_digits_lct_wildcards_0")
    ]


def test_every_start_of_a_job_counts_in_its_gpu_hours(tools):
    rows = [
        "7|PREEMPTED|3600|billing=2,cpu=2,gres/gpu=2,mem=4G,node=1|rule_a",
        "7|COMPLETED|1800|cpu=2,gres/gpu=2|rule_a",
    ]
    tools(sacct=says(*rows, "7.batch|COMPLETED|9||", "junk", "8|CANCELLED by 0|60|cpu=1|x|y"))
    found = slurm.job_starts(["7", "8", "not a job; true"])
    assert [(a.job, a.state, a.gpus) for a in found] == [
        ("7", "PREEMPTED", 2),
        ("7", "COMPLETED", 2),
        ("8", "CANCELLED", 0),
    ]
    assert sum(a.gpu_hours for a in found) == 3.0


@pytest.mark.parametrize(
    ("body", "said"), [("echo Unable to contact >&2; exit 1", "Unable to contact"), ("exit 3", "exit code 3")]
)
def test_a_command_that_fails_is_reported_with_its_words(tools, body, said):
    tools(squeue=body)
    with pytest.raises(slurm.UnansweredError, match=said):
        slurm.query(["squeue"])


def test_a_missing_or_silent_command_is_reported(tools):
    with pytest.raises(slurm.UnansweredError, match="not found"):
        slurm.query(["squeue"])
    tools(squeue="sleep 60")
    with pytest.raises(slurm.UnansweredError, match="no answer"):
        slurm.query(["squeue"], timeout=0.2)


@pytest.mark.parametrize("name", ["a {x}", "a}", "a\nb"])
def test_a_path_that_snakemake_cannot_work_in_is_refused_at_the_start(tmp_path, name):
    run.check_project(tmp_path / 'it\'s 100% "ü" #1')
    with pytest.raises(ValueError, match="expected a path without braces and line breaks, found some") as caught:
        run.check_project(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_device_that_is_none_is_refused_at_the_start():
    for name in (None, "", "auto", "cpu", "cuda:1"):
        run.check_device(name)
    for name in ("tpu", "CPU", "cuda:", "cpu\n"):
        with pytest.raises(ValueError, match="LCT_DEVICE: expected auto, cpu, cuda or mps, found "):
            run.check_device(name)


@pytest.mark.parametrize("name", ["", "a b", "$(x)", "-A", "a;b", "x" * 65, "a\n"])
def test_names_that_do_not_belong_on_a_command_line_are_refused(name):
    (finding, *_) = doctor.check_names(Cluster(partition="main", gpu_partition="main", gpu_type="a100"), name)
    assert finding.level == "fail" and "slurm_account: expected letters" in finding.observation


# --- a restarted run ------------------------------------------------------------------------------------------------
def test_a_restarted_run_waits_for_the_jobs_of_the_earlier_one(root, tools, tmp_path):
    lines = tmp_path / "queue"
    lines.write_text(queue_line(root, 7, "RUNNING", "rule_a") + "\n" + queue_line(root, 8, "PENDING", "rule_b") + "\n")
    # the first look fails, then one job less at each look
    tools(squeue=f"[ -e {tmp_path}/asked ] || {{ touch {tmp_path}/asked; exit 1; }}; cat {lines}; sed -i 1d {lines}")
    said = []
    assert run.wait_for_earlier_jobs(root, said.append, True, every_seconds=0.01)
    assert "Waiting for 2 jobs" in said[0] and "`scancel 7 8`" in said[0] and "1 jobs" in said[1] and len(said) == 2


def test_the_printed_command_ends_the_jobs_that_are_waited_for(root, tools, tmp_path):
    lines = tmp_path / "queue"
    lines.write_text("".join(queue_line(root, job, "PENDING", "rule_a") + "\n" for job in range(7, 16)))
    tools(squeue=f"cat {lines}", scancel=f'for job; do sed -i "/^$job\\b/d" {lines}; done')

    def do_as_printed(line: str) -> None:
        subprocess.run(line.split("`")[1], shell=True, check=True)

    assert run.wait_for_earlier_jobs(root, do_as_printed, True, every_seconds=0.01)
    assert lines.read_text() == "", "nine jobs: the first line names eight of them, the next one the last"


def test_without_earlier_jobs_nothing_is_waited_for(root, tools):
    said = []
    assert not run.wait_for_earlier_jobs(root, said.append, True)
    tools(squeue="exit 0")
    assert not run.wait_for_earlier_jobs(root, said.append, True) and said == []


def test_a_queue_that_stays_unseen_stops_the_run(root, tools):
    tools(squeue="echo down >&2; exit 1")
    with pytest.raises(slurm.UnansweredError, match="down"):
        run.wait_for_earlier_jobs(root, lambda line: None, True, every_seconds=40, sleep=lambda seconds: None)
    assert not run.wait_for_earlier_jobs(root, lambda line: None, False), "a machine whose SLURM does not run"


def finished_job(folder: Path, recorded: dict, settings: dict, **changes):
    output = folder / "x.safetensors"
    output.write_bytes(b"")
    write_json(Path(f"{output}.settings.json"), {"settings": recorded})
    reason = SimpleNamespace(no_metadata=changes.get("no_metadata", True))
    job = SimpleNamespace(params={"settings": json.dumps(settings)}, output=[str(output)], is_local=False)
    return SimpleNamespace(jobs=[job], needrun=lambda _: changes.get("needrun", False), reason=lambda _: reason), job


def test_outputs_that_no_snakemake_saw_are_adopted_if_they_have_todays_settings(tmp_path):
    dag, job = finished_job(tmp_path, {"a": 1}, {"a": 1})
    assert run.unrecorded(dag) == [job]
    for change in ({"no_metadata": False}, {"needrun": True}):
        assert run.unrecorded(finished_job(tmp_path, {"a": 1}, {"a": 1}, **change)[0]) == []
    with pytest.raises(ValueError, match="x.safetensors: expected an output of today's settings"):
        run.unrecorded(finished_job(tmp_path, {"a": 1}, {"a": 2})[0])


def test_a_job_that_failed_on_the_cluster_gets_one_line(tmp_path):
    log = tmp_path / "7.log"
    said = "many lines\n2026-01-01 ERROR error: x.png: expected an image\nsrun: error: node1: task 0: Exited\nExiting\n"
    log.write_text(said)
    assert failure({"rule_msg": None}) is None
    error = {"rule_name": "images", "rule_msg": "SLURM-job '7' failed", "log": [str(log)]}
    line = failure(error)
    assert line.startswith("failed on the cluster: images: error: x.png: expected an image") and str(log) in line
    group = {"aux_logs": ["none.log"], "job_error_info": [{"rule_name": "sample_a", "log": []}]}
    assert failure(group) == "failed on the cluster: sample_a: the job failed (logs: none.log)"


@pytest.mark.parametrize(("on_cluster", "shown"), [(False, []), (True, ["Finished jobid: 3"])])
def test_finished_jobs_are_said_once(monkeypatch, on_cluster, shown, capsys):
    logger = logging.Logger("snakemake.logging", logging.INFO)
    handler = logging.StreamHandler(sys.stdout)
    logger.addHandler(handler)
    only_this = SimpleNamespace(getLogger=lambda name: logger, LogRecord=logging.LogRecord)
    monkeypatch.setattr("lct.cluster.run.logging", only_this)
    quieter(on_cluster)
    logger.info("Finished jobid: 3", extra={"event": SimpleNamespace(name="JOB_FINISHED")})
    logger.info("Select jobs to execute...")
    error = {"event": SimpleNamespace(name="JOB_ERROR"), "rule_msg": "refused", "rule_name": "images", "log": []}
    logger.info("", extra=error)
    captured = capsys.readouterr()
    assert [line for line in captured.out.splitlines() if line] == shown
    assert captured.err == "failed on the cluster: images: refused\n"


@pytest.mark.parametrize("setting, expected", [(None, str(2**28)), ("131072", "131072")])
def test_jobs_inherit_python_and_the_limits_of_malloc(monkeypatch, setting, expected):
    monkeypatch.setattr(os, "environ", {"PATH": "/bin"} | ({"MALLOC_TRIM_THRESHOLD_": setting} if setting else {}))
    set_job_environment()
    assert os.environ["PATH"] == f"{Path(sys.executable).parent}:/bin"
    assert os.environ["MALLOC_TRIM_THRESHOLD_"] == expected and os.environ["MALLOC_MMAP_THRESHOLD_"] == str(2**28)


def test_a_cancelled_job_is_seen_by_the_executor(monkeypatch):
    """sacct: `CANCELLED by 0`."""
    import snakemake_executor_plugin_slurm as plugin

    async def answer(command, logger):
        return ({"7": "CANCELLED by 0", "8": "RUNNING"} if command == "sacct" else None), 0.1

    monkeypatch.setattr(plugin, "query_job_status", answer)
    monkeypatch.setattr(plugin, "get_submit_command", plugin.get_submit_command)
    correct_slurm_plugin()
    correct_slurm_plugin()
    assert asyncio.run(plugin.query_job_status("sacct", None)) == ({"7": "CANCELLED", "8": "RUNNING"}, 0.1)
    assert asyncio.run(plugin.query_job_status("none", None)) == (None, 0.1)


@pytest.mark.parametrize(
    "failed, excluded", [({"None assigned"}, ""), ({"None assigned", "node[3-4]"}, " --exclude=node[3-4]"), (set(), "")]
)
def test_only_nodes_are_excluded_after_a_failure(monkeypatch, failed, excluded):
    """sacct: the node of a job that waits after its node failed is `None assigned`."""
    import snakemake_executor_plugin_slurm as plugin

    def command(job, params, settings=None, failed_nodes=None, array_job=False):
        return "sbatch" + (f" --exclude={','.join(failed_nodes)}" if failed_nodes else "")

    monkeypatch.setattr(plugin, "get_submit_command", command)
    monkeypatch.setattr(plugin, "query_job_status", lambda command, logger: None)  # not corrected yet
    correct_slurm_plugin()
    assert plugin.get_submit_command("job", {}, settings=None, failed_nodes=failed) == f"sbatch{excluded}"
    assert "None assigned" not in failed, "what the executor prints at the end"


# --- status ---------------------------------------------------------------------------------------------------------
def beat(root: Path, run: str = "digits-lct", **changes) -> Path:
    path = root / f"work/smoke/{run}/s0/0123456789abcdef/progress.json"
    values = {"step": 10, "total": 40, "loss": 1.5, "steps_per_second": 2.0, "eta_seconds": 15, "updated": NOW - 5}
    values |= {"host": platform.node(), "pid": 1, "slurm_job_id": None, "attempt": 2, "gpu_seconds": 7200.0}
    write_json(path, {key: value for key, value in (values | changes).items() if value is not ...})
    return path


def status_of(root: Path, run: str = "digits-lct", outdated=()):
    found, unseen = statuses(Plan(root, {"scale": "smoke"}), root, 600.0, lambda path: list(outdated), now=NOW)
    assert len(found) == 3
    return next(status for status in found if status.run == run), unseen


def test_a_training_that_holds_its_lock_runs_until_it_falls_silent(root, tools):
    path = beat(root)
    with hold(path.parent.with_name("0123456789abcdef.lock"), "training"):
        status, _ = status_of(root)
        assert (status.state, status.step, status.total, status.attempt) == ("running", 10, 40, 2)
        assert status.gpu_hours == 2.0 and "15" in status.line() and "2 steps/s" in status.line()
        beat(root, updated=NOW - 700)
        status, _ = status_of(root)
        assert status.state == "hung?" and "silent for 11:40" in status.line()
    status, _ = status_of(root)
    assert status.state == "interrupted" and status.eta_seconds is None


def test_a_heartbeat_from_another_host_counts_for_its_unseen_lock(root, tools):
    beat(root, host="node17")
    assert status_of(root)[0].state == "running"
    beat(root, host="node17", updated=NOW - 300)
    assert status_of(root)[0].state == "interrupted"


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"step": "x", "loss": [], "updated": "never"}', '{"step": 3}', "\x00\xff"]
)
def test_odd_heartbeats_are_tolerated(root, tools, content):
    beat(root).write_text(content)
    assert status_of(root)[0].line()


@pytest.mark.parametrize(
    ("state", "comment", "expected"),
    [
        ("RUNNING", "rule_train_digits_lct_wildcards_0", "running"),
        ("PENDING", "rule_train_digits_lct_wildcards_0", "queued"),
        ("PENDING", "rule_train_digits_lct_wildcards_1", "waiting"),
        ("RUNNING", "rule_train_digits_ilct_wildcards_0", "waiting"),
    ],
)
def test_the_queue_tells_queued_from_waiting(root, tools, state, comment, expected):
    tools(squeue=says(queue_line(root, 7, state, comment, reason="(Resources)")))
    status, _ = status_of(root)
    assert status.state == expected and ("Resources" in status.line()) == (expected == "queued")


@pytest.mark.parametrize(
    "comment", ["rule_sample_digits_lct_wildcards_0", "rule_evaluate_sample_digits_lct_score_digits_lct"]
)
def test_a_trained_run_is_evaluated_and_then_done(root, tools, comment):
    plan = Plan(root, {"scale": "smoke"})
    for name in plan.sampled_weights("digits-lct"):
        path = root / plan.paths.weights("digits-lct", 0, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    write_json(run_path(root / plan.paths.train("digits-lct", 0) / "curves.json"), {"cost": {"gpu_seconds": 3600}})
    tools(squeue=says(queue_line(root, 7, "RUNNING", comment)))
    status, _ = status_of(root)
    assert status.state == "evaluating" and status.gpu_hours == 1.0 and "job 7" in status.line()
    for path in stage_files.metrics(plan, "digits-lct", 0):
        write_json(root / path, {})
    assert status_of(root)[0].state == "done"
    status, _ = status_of(root, outdated=["other settings; run `snakemake`"])
    assert status.state == "outdated" and "other settings; run `snakemake`" in status.line()


def test_a_run_is_done_when_the_last_milestone_that_is_shown_is_scored(tmp_path):
    plan, run = Plan(ROOT, {"scale": "paper"}), "celebahq-lct-c3"
    *needed, last = plan.milestones(run)
    assert plan.sampled_milestones(run)[-1] == needed[-1], "no row shows the end of its training"
    paths = [plan.paths.weights(run, 0, name) for at in needed for name in plan.weights_at(run, at)]
    for path in (*paths, *stage_files.metrics(plan, run, 0)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (status,) = (one for one in statuses(plan, tmp_path, 60.0, lambda path: [])[0] if one.run == run)
    assert (status.state, status.step, status.total) == ("done", *2 * [plan.steps_of(run) - plan.steps_of(run, last)])


def test_failures_and_stuck_trainings_are_named(root, tools):
    log = root / "logs/smoke/train/digits-lct/s0.log"
    log.parent.mkdir(parents=True)
    log.write_text("2026-01-01 00:00:00 ERROR error: step 7: expected a finite loss\n")
    status, _ = status_of(root)
    assert status.state == "failed" and "expected a finite loss" in status.line() and "s0.log" in status.line()
    (beat(root, updated=NOW - 900).parent / "stuck").write_text("2 attempts in a row that saved no step")
    status, _ = status_of(root)
    assert status.state == "stuck" and "2 attempts" in status.line()


def test_a_queue_that_cannot_be_seen_is_said(root, tools):
    tools(squeue="echo slurmctld is down >&2; exit 1")
    status, unseen = status_of(root)
    assert status.state == "waiting" and "slurmctld is down" in unseen


def test_status_answers_people_and_programs_and_watches_until_all_is_done(root, tools, monkeypatch, capsys):
    monkeypatch.chdir(root)
    beat(root)
    assert main(["status", "--scale", "smoke"]) == 0
    assert "0 of 7 metrics files computed" in capsys.readouterr().out
    assert main(["status", "--scale", "smoke", "--json"]) == 0
    assert {entry["run"] for entry in json.loads(capsys.readouterr().out)["trainings"]} == {
        "digits-lct",
        "digits-ilct",
        "digits-ldm",
    }
    plan, looks = Plan(root, {"scale": "smoke"}), []

    def finish(seconds):
        looks.append(seconds)
        for path in stage_files.report_metrics(plan, "tables")[: 4 * len(looks)]:
            write_json(root / path, {})

    monkeypatch.setattr("lct.cli.runs.time.sleep", finish)
    assert main(["status", "--scale", "smoke", "--watch"]) == 0 and len(looks) == 2
    shown = capsys.readouterr().out
    assert [f"{n} of 7" in shown for n in (0, 4, 7)] == [True] * 3


# --- costs ----------------------------------------------------------------------------------------------------------
def recorded(root: Path, output: str, **values) -> None:
    write_json(run_path(root / output), {"started": "2026-01-01", "seconds": 1800, "host": "node1"} | values)


def made(root: Path, device: str, job: str | None) -> Plan:
    plan = Plan(root, {"scale": "smoke"})
    shared = {"device": device, "slurm": {"SLURM_JOB_ID": job} if job else None}
    cost = {"cost": {"attempts": 2, "seconds": 7200, "gpu_seconds": 7200 if device == "cuda" else 0}}
    recorded(root, f"{plan.paths.train('digits-lct', 0)}/curves.json", **shared, **cost)
    for output in stage_files.samples(plan, "digits-lct", 0):
        recorded(root, output, **shared, started=output)
    return plan


def test_costs_come_from_the_jobs_own_records(root, tools):
    plan = made(root, "cuda", None)
    words = costs(plan, root, ["digits-lct", "digits-ldm"])
    assert list(words) == ["digits-lct"], "nothing is recorded of the other"
    assert words["digits-lct"].startswith("3 GPU h (3 starts of jobs, 1 training seed; the jobs' own records)")
    assert "estimated beforehand" in words["digits-lct"]
    assert costs(made(root, "cpu", None), root, ["digits-lct"])["digits-lct"].startswith("3 h without a GPU")


def test_costs_come_from_accounting_where_there_is_some(root, tools):
    plan = made(root, "cuda", "7")
    rows = [f"7|{state}|5400|cpu=2,gres/gpu=2|rule_train" for state in ("PREEMPTED", "COMPLETED")]
    tools(sacct=says(*rows))
    assert costs(plan, root, ["digits-lct"])["digits-lct"].startswith(
        "6 GPU h (2 starts of jobs, 1 training seed; SLURM"
    )
    tools(sacct="exit 1")
    assert "own records" in costs(plan, root, ["digits-lct"])["digits-lct"]


# --- doctor ---------------------------------------------------------------------------------------------------------
SINFO = "main|up|1-00:00:00|gpu:a100:4(S:0-1)|8\nlong|down|infinite|(null)|2"
PROFILE = {
    "executor": "slurm",
    "default-resources": {
        "slurm_account": "proj",
        "slurm_partition": "main",
        "gpu_partition": "main",
        "gpu_type": "a100",
        "nodes": 1,
    },
}


def cluster_tools(tools, tmp_path, sinfo: str = SINFO, node: str = "", **bodies: str) -> None:
    """A cluster whose one node is this machine: sbatch runs the script, changed by `node`, and says where."""
    (tmp_path / "sinfo").write_text(sinfo + "\n")
    run = (
        'for last; do :; done; out=$(printf "%s\\n" "$@" | sed -n s/--output=//p); gpus=; '
        'case "$*" in *--gpus=*) gpus=0;; esac; '
        f'printf "%s\\n" "$@" > {tmp_path}/sbatch-words; '
        f'env PYTHONPATH={ROOT} CUDA_VISIBLE_DEVICES=$gpus {node} sh "$last" > "$out" 2>&1; echo "42;cluster"'
    )
    tools(
        **{
            "sbatch": run,
            "squeue": "exit 0",
            "scancel": "exit 0",
            "srun": "exit 0",
            "sinfo": f'[ "$1" = --version ] && echo slurm 23.11.4 || cat {tmp_path}/sinfo',
            "sacctmgr": "printf 'proj\\nother\\n'",
            "sacct": "exit 0",
        }
        | bodies
    )


def examined(root: Path, profile: dict = PROFILE, patience: float = 60.0) -> dict[str, str]:
    """Lines of the doctor by what they are about."""
    folder = root.parent / "profile"
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(profile))
    found = doctor.examine(Plan(root, {"scale": "smoke"}), root, folder, patience)
    assert all(finding.remedy for finding in found if finding.level != "ok"), "every finding says what to do"
    return {finding.subject: f"{finding.level} {finding.line()}" for finding in found}


@pytest.fixture
def unanswered(monkeypatch) -> dict[str, str]:
    """The probe job without its answer, which takes two starts of torch: for tests of what comes before it."""
    monkeypatch.setattr("lct.cluster.doctor._wait_and_compare", lambda *_: [])
    return {"node": "true"}


def changed(**resources) -> dict:
    return PROFILE | {"default-resources": PROFILE["default-resources"] | resources}


@pytest.mark.parametrize("device", ["cpu", None])
def test_a_fit_cluster_is_found_fit_but_for_the_gpu_that_is_not_there(root, tools, tmp_path, monkeypatch, device):
    monkeypatch.setenv("LCT_DEVICE", device) if device else monkeypatch.delenv("LCT_DEVICE", raising=False)
    cluster_tools(tools, tmp_path)
    lines = examined(root)
    assert lines.pop("GPU").startswith("warn" if device else "fail")
    assert lines["shared file system"].startswith("ok") and lines["environment"].startswith("ok")
    assert not [line for line in lines.values() if line.startswith("fail")]
    words = (tmp_path / "sbatch-words").read_text().splitlines()
    assert {"--account=proj", "--partition=main", "--gpus=a100:1", "--nodes=1"} <= set(words)
    assert list((root / "work").glob("doctor-*")) == []


@pytest.mark.parametrize(
    ("profile", "what", "said"),
    [
        (changed(slurm_partition="nowhere"), "partition nowhere", "not among this cluster's (long, main)"),
        (changed(gpu_partition="long"), "partition long", "it is down"),
        (changed(gpu_type="h100"), "partition main", "1 GPUs of type h100 on one node are asked for"),
        (changed(slurm_account="guess"), "account guess", "yours are other, proj"),
        (changed(slurm_account="a; rm -rf /"), "profile", "expected letters"),
        (changed(gpu_type="nvidia_a100-sxm4-80gb"), "profile", "say the memory of a GPU in `gpu_memory`"),
    ],
)
def test_what_the_user_filled_in_wrongly_is_named_before_anything_is_submitted(
    root, tools, tmp_path, profile, what, said
):
    cluster_tools(tools, tmp_path)
    lines = examined(root, profile)
    assert lines[what].startswith("fail") and said in lines[what]
    assert not (tmp_path / "sbatch-words").exists()


def test_the_probe_job_asks_for_what_all_jobs_ask_for(root, tools, tmp_path, unanswered):
    cluster_tools(tools, tmp_path, **unanswered)
    examined(
        root,
        changed(
            qos="high", constraint="a100&[rack1|rack2]", gres="tmpdisk:100", slurm_extra="--exclude=node7 --comment=a"
        ),
    )
    words = set((tmp_path / "sbatch-words").read_text().splitlines())
    assert {"--qos=high", "--constraint=a100&[rack1|rack2]", "--gres=tmpdisk:100", "--account=proj"} <= words
    assert {"--exclude=node7", "--comment=a"} <= words
    examined(root, PROFILE | {"slurm-qos": "low"})
    words = set((tmp_path / "sbatch-words").read_text().splitlines())
    assert "--qos=low" in words and not any(word.startswith(("--constraint", "--gres")) for word in words)
    assert "expected names with" in examined(root, changed(constraint="a; rm"))["profile"]
    as_list = [
        f"{name}={value}" for name, value in changed(slurm_extra="'--comment=\"a b\"'")["default-resources"].items()
    ]
    examined(root, PROFILE | {"default-resources": as_list})
    assert "--comment=a b" in (tmp_path / "sbatch-words").read_text().splitlines()
    with pytest.raises(ValueError, match="slurm_extra: expected options of sbatch, with quotes in pairs"):
        examined(root, changed(slurm_extra="--comment='a"))


def test_a_partition_with_short_jobs_says_which_line_to_change(root, tools, tmp_path, unanswered):
    cluster_tools(tools, tmp_path, sinfo="main|up|30:00|gpu:a100:4|8", **unanswered)
    assert "set `longest: 30`" in examined(root)["partition main"]
    assert examined(root, changed(longest=30))["partition main"].startswith("ok")


def test_a_host_without_slurm_and_a_cluster_without_accounting(root, tools, tmp_path, unanswered):
    assert "load SLURM's module" in examined(root)["SLURM's commands"]
    cluster_tools(tools, tmp_path, sacct="echo Slurm accounting storage is disabled >&2; exit 1", **unanswered)
    assert "`slurm-status-command: squeue`" in examined(root)["accounting"]
    doctor.require_accounting("squeue")
    with pytest.raises(ValueError, match="storage is disabled; put `slurm-status-command: squeue` into the profile"):
        doctor.require_accounting("sacct")
    lines = examined(root, PROFILE | {"slurm-status-command": "squeue"})
    assert lines["accounting"].startswith("ok")


@pytest.mark.parametrize(
    ("bodies", "what", "said"),
    [
        ({"sbatch": "echo sbatch: error: invalid account >&2; exit 1"}, "probe job", "invalid account"),
        ({"sbatch": "echo hello"}, "probe job", "sbatch said 'hello"),
        ({"sbatch": "echo 42", "squeue": "echo 'PENDING|Resources'"}, "probe job", "not started within 0 minutes"),
    ],
)
def test_a_probe_that_is_refused_or_does_not_start_is_reported(root, tools, tmp_path, bodies, what, said):
    cluster_tools(tools, tmp_path, **bodies)
    line = examined(root, patience=0.1)[what]
    assert said in line and not line.startswith("ok")


def test_a_node_that_sees_other_files_or_packages_is_reported(root, tools, tmp_path):
    cluster_tools(
        tools,
        tmp_path,
        sbatch='d=$(printf "%s\\n" "$@" | sed -n "s/--output=//;s,/log$,,p"); '
        """echo '{"token": "x", "host": "node9"}' > "$d/answer.json"; echo 42""",
    )
    assert "node9 does not see a file written here" in examined(root)["shared file system"]


def test_a_probe_that_leaves_nothing_is_no_shared_file_system(root, tools, tmp_path, monkeypatch):
    cluster_tools(tools, tmp_path, sbatch="echo 42")
    monkeypatch.setattr("lct.cluster.doctor.GONE_SECONDS", 0.0)
    assert "nothing it wrote is seen here" in examined(root)["shared file system"]


def test_the_doctor_of_a_machine_and_its_exit_code(root, tools, monkeypatch, capsys):
    monkeypatch.chdir(root)
    monkeypatch.setattr("lct.cli.machines.place_fault", lambda _: None)  # this copy is no git checkout
    assert main(["doctor", "--scale", "smoke"]) == 0
    assert "ok    folders" in capsys.readouterr().out
    assert main(["doctor", "--scale", "smoke", "--profile", "profiles/slurm", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False
    assert main(["doctor", "--profile", "profiles/none"]) == 1
    assert "expected a profile, found nothing" in capsys.readouterr().err


def test_checks_of_the_machine(root, monkeypatch):
    plan = Plan(root, {"scale": "smoke"})
    assert check_disk(plan, root).level == "ok" and check_clock(root).level == "ok"
    assert check_packages(root).level == "ok"
    monkeypatch.setattr("lct.cluster.checks.shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    assert check_disk(plan, root).level == "fail"
    assert [check_skew("clock", seconds).level for seconds in (0.5, -5.0, 100.0)] == ["ok", "warn", "fail"]
    monkeypatch.setattr(
        "lct.cluster.checks.acquire", lambda *_: (_ for _ in ()).throw(OSError(37, "No locks available"))
    )
    assert {finding.level for finding in check_folders(root)} == {"fail"}


@pytest.mark.parametrize(
    ("driver", "cuda", "level", "remedy"),
    [
        ("580.65.06", "13.2", "ok", ""),
        ("570.86.15", "13.2", "fail", "`make install CUDA=12`"),
        ("570.86.15", "12.8", "ok", ""),
        ("535.104.05", "12.8", "ok", ""),
        ("470.82.01", "12.8", "fail", "have the driver updated to 525 or newer"),
        (
            "470.82.01",
            "13.2",
            "fail",
            "have the driver updated to 580 or newer, or to 525 or newer with `make install CUDA=12`",
        ),
        ("570.86.15", None, "fail", "`make install` installs the locked packages"),
    ],
)
def test_a_driver_says_which_lock_it_can_run(tools, driver, cuda, level, remedy):
    assert driver_version() is None
    tools(**{"nvidia-smi": f"echo {driver}; echo {driver}"})
    finding = check_driver(driver_version(), cuda, "node7")
    assert (finding.level, finding.remedy) == (level, remedy) and f"{driver} on node7" in finding.observation


def test_a_gpu_that_torch_does_not_see_or_that_computes_nothing_is_named(root, tools, monkeypatch):
    plan, facts = Plan(root, {"scale": "smoke"}), {"version": "2.15.0", "cuda": "13.2", "available": False}
    monkeypatch.setattr("lct.cluster.checks.torch_facts", lambda: facts)
    monkeypatch.delenv("LCT_DEVICE", raising=False)
    tools(**{"nvidia-smi": "echo 535.104.05"})
    assert "which needs 580 or newer; `make install CUDA=12`" in check_torch(plan).line()
    tools(**{"nvidia-smi": "echo 590.44"})
    assert "sees no GPU, though nvidia-smi is there" in check_torch(plan).line()
    facts |= {"available": True, "names": ["A"], "fault": "CUDA error: no kernel image is available"}
    assert "a GPU computes nothing: CUDA error: no kernel image is available" in check_torch(plan).line()


def test_the_device_file_says_which_switches_are_on_and_one_of_another_card_is_refused(tmp_path):
    root = tmp_path
    shutil.copytree(ROOT / "config", root / "config")
    plan, path = Plan(root, {"scale": "smoke"}), root / "config/devices/a100.yaml"
    assert check_device(plan, root, None) == []
    (finding,) = check_device(plan, root, "NVIDIA A100-SXM4-80GB")
    assert finding.level == "warn" and "`lct measure` on that GPU writes it in 8 minutes" in finding.line()
    switches = [
        {"name": "as it is", "training": {}, "milliseconds": 300.0},
        {"name": "tf32", "training": {"matmul": "tf32"}, "milliseconds": 150.0},
        {"name": "float32", "training": {"matmul": "float32"}, "milliseconds": 300.0},
        {"name": "compiled", "training": {"compile": True}, "note": "no compiler"},
    ]
    content = {"title": "NVIDIA A100", "gpu": True, "measured": "x", "rates": [], "switches": switches}
    path.write_text(yaml.safe_dump(content | {"card": "NVIDIA A100-SXM4-40GB"}))
    (finding,) = check_device(plan, root, "nvidia_a100-sxm4-80gb")
    words = "switches of the smoke scale: tf32 off (2.00 times as fast), float32 on (1.00 times as fast)"
    assert finding.level == "ok" and finding.observation.endswith(words)
    for rate, level in ((1e-3, "ok"), (1e-9, "warn")):
        path.write_text(yaml.safe_dump(content | {"write_gb_per_second": rate}))
        _, writing = check_device(plan, root, "a100")
        assert writing.level == level and "GB a second, so that a state of" in writing.line()
    assert "--config save_minutes=" in writing.remedy
    path.write_text(yaml.safe_dump(content | {"card": "NVIDIA H100 80GB HBM3"}))
    (finding,) = check_device(plan, root, "a100")
    assert finding.level == "fail" and "expected measurements of a100, found those of NVIDIA H100" in finding.line()


LUSTRE = "/lustre 900* 0 1000 - 12 0 0 -"
NFS = "Disk quotas for user u (uid 7): \n  Filesystem blocks quota limit grace files quota limit grace\n"


@pytest.mark.parametrize(
    ("bodies", "left"),
    [
        ({}, None),
        ({"lfs": f"echo '{LUSTRE}'"}, 100 * 1024),
        ({"quota": f"printf '{NFS}  nfs:/home 400 500 0 12 0 0\n'"}, 100 * 1024),
        ({"quota": f"printf '{NFS}  nfs:/home 600* 500 0 6days 12 0 0\n'; exit 1"}, -100 * 1024),
        ({"quota": f"printf '{NFS}  nfs:/home 400 0 0 12 0 0\n'"}, None),
        ({"lfs": "echo not Lustre >&2; exit 1", "quota": "echo 'Disk quotas for user u (uid 7): none'"}, None),
    ],
)
def test_a_quota_counts_as_the_disk(root, tools, bodies, left):
    tools(**bodies)
    assert quota_left(root) == left
    finding = check_disk(Plan(root, {"scale": "smoke"}), root)
    assert (finding.level, "of your quota" in finding.observation) == ("fail" if left else "ok", bool(left))


def test_times_and_gpus_as_slurm_writes_them():
    written = {"1-00:00:00": 1440, "30:00": 30, "2:30:00": 150, "infinite": None, "n/a": None, "UNLIMITED": None}
    assert {text: minutes_of(text) for text in written} == written
    gres = {"gpu:a100:4(S:0-1),gpu:v100:2": 4, "gpu:4": 0, "(null)": 0, "gpu:A100:2": 2, "shard:8": 0}
    assert {text: doctor.gpus_of(text, "a100") for text in gres} == gres
    assert doctor.gpus_of("gpu:4", None) == 4 and doctor.gpus_of("gpu:a100:4,gpu:2", "unspecified") == 6
    assert Cluster().has_gpus is False


def test_the_snakemake_inside_a_job_survives_the_warning_of_time(tmp_path):
    """SIGUSR1 reaches the Snakemake in a job: reading the Snakefile makes it deaf."""
    program = (
        "import os, signal; from lct.cluster.run import ignore_time_warnings; ignore_time_warnings(); "
        "os.kill(os.getpid(), signal.SIGUSR1); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "alive\n"
    assert "ignore_time_warnings()" in (ROOT / "workflow/rules/common.smk").read_text()


def test_recording_goes_to_a_node_where_the_profile_says_so(tmp_path, monkeypatch):
    defaults = {"slurm_account": "proj", "slurm_partition": "cpu", "record": "job", "qos": "long"}
    step = slurm.recording_step(defaults)
    assert step[0] == "srun" and {"--account=proj", "--partition=cpu", "--qos=long", "--nodes=1"} <= set(step)
    assert slurm.recording_step({"slurm_account": "proj"}) == slurm.recording_step({"record": "here"}) == []
    with pytest.raises(ValueError, match="record: expected here or job, found 'node'"):
        slurm.recording_step({"record": "node"})
    monkeypatch.setattr(hooks.dvc, "check", lambda _: None)
    said = hooks.record_run(tmp_path, {"scale": "smoke"}, "smoke", ["sh", "-c", 'echo "$@"', "srun"])
    assert said.startswith("Lineage: ") and "lct.cli.main record --in-run --scale smoke" in said
    refused = hooks.record_run(tmp_path, {}, "smoke", ["sh", "-c", "echo srun: error: no such partition >&2; exit 1"])
    assert refused == "Lineage not recorded: srun: error: no such partition"
    assert (tmp_path / hooks.PENDING).exists(), "the next run records it"
