"""The graph on a real SLURM, undisturbed and with faults; results equal those of the local run, byte for byte.

Faults are scenarios that run beside each other, each in a project of its own; a test waits for its scenario. Under
LCT_FAULT_TABLE=FILE the table of faults is written there.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from lct.cluster.forecast import costs
from lct.plan.plan import Plan
from tests.helpers.slurm import (
    RULE,
    STEPS,
    TARGET,
    TRAIN,
    Controller,
    accounted,
    environment,
    frozen,
    job,
    jobs,
    project,
    resume,
    saved,
    signalled,
    slurm,
    sums,
    thaw,
    trainers,
    until,
    untrained,
    wrapper,
)

pytestmark = pytest.mark.slurm
GRAPH = "graph"
AT_ONCE = 4  # scenarios beside each other: they wait more than they compute
REST = "--exclude=node[3-4] --signal=USR1@300"  # nodes 3 and 4 are for the scenarios that break nodes


@dataclass
class Outcome:
    """What a fault did, for its test and for the table."""

    fault: str
    happened: str
    times: int
    equal: bool
    folder: Path
    text: str  # of the last controller


def on(extra: str, runtime: str = "30") -> tuple[str, ...]:
    """Options that pin the training to nodes and limit its minutes."""
    return ("--set-resources", f"{RULE}:slurm_extra='{extra}'", f"{RULE}:runtime={runtime}")


def trained_equally(folder: Path, undisturbed: Path) -> bool:
    return sums(folder, f"{TRAIN}/*.safetensors") == sums(undisturbed, f"{TRAIN}/*.safetensors") and sums(
        folder, f"{TRAIN}/curves.json"
    ) == sums(undisturbed, f"{TRAIN}/curves.json")


def attempts_and_starts(folder: Path) -> str:
    """The attempts by the training's own record, and the starts by SLURM's accounting."""
    return f"{'; '.join(saved(folder))} ({', '.join(row[1].split()[0] for row in accounted(folder))})"


def lct(folder: Path, *words: str) -> dict:
    """The value of a verb of `lct`, as programs get it."""
    command = [sys.executable, "-m", "lct.cli.main", words[0], "--json", "--scale", "smoke", *words[1:]]
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    return json.loads(done.stdout) | {"code": done.returncode}


# --- faults ---------------------------------------------------------------------------------------------------------
def killed(folder: Path, undisturbed: Path) -> Outcome:
    controller = Controller(folder, TARGET, *on(REST))
    step, stopped = frozen(folder, controller)
    running = job(folder, controller, "RUNNING")
    (training,) = (entry for entry in lct(folder, "status")["trainings"] if entry["run"] == "digits-lct")
    assert training["state"] == "running" and training["total"] == STEPS and f"job {running}" in training["where"]
    slurm("scancel", running)
    thaw(stopped)
    assert controller.finish() == 0, controller.text()[-3000:]
    happened = f"scancel at step {step}; the profile's retry went on: {attempts_and_starts(folder)}"
    assert saved(folder)[0].startswith("SIGTERM at ") and saved(folder)[0] != "SIGTERM at 0"
    return Outcome("job killed", happened, 1, trained_equally(folder, undisturbed), folder, controller.text())


def preempted(folder: Path, undisturbed: Path) -> Outcome:
    preempt = (*on("--nodelist=node3 --signal=USR1@300"), f"{RULE}:slurm_partition=preempt")
    controller = Controller(folder, TARGET, *preempt)
    step, stopped = frozen(folder, controller)
    victim = job(folder, controller, "RUNNING")
    words = ("--partition=main", "--nodelist=node3", "--exclusive", "--time=1", "--output=/dev/null", "--wrap=sleep 5")
    slurm("sbatch", *words)
    until(
        "the preemption",
        lambda: (victim, "RUNNING") not in jobs(folder) or all(signalled(p, signal.SIGTERM) for p in stopped),
        controller,
    )
    thaw(stopped)
    until("the requeue", lambda: (victim, "RUNNING") not in jobs(folder), controller)
    assert controller.finish() == 0, controller.text()[-3000:]
    attempts = [row for row in accounted(folder) if row[0] == victim]
    happened = f"preempted at step {step}, {len(attempts)} starts of one job: {attempts_and_starts(folder)}"
    gpu_hours = sum(float(row[2]) for row in attempts) / 3600
    spent = costs(Plan(folder, {"scale": "smoke"}), folder, ["digits-lct"])["digits-lct"]
    assert len(attempts) >= 2 and spent.startswith(f"{gpu_hours:.3g} GPU h") and "SLURM's accounting" in spent
    return Outcome("preempted", happened, 1, trained_equally(folder, undisturbed), folder, controller.text())


def node_lost(folder: Path, undisturbed: Path) -> Outcome:
    slurm("scontrol", "update", "nodename=node4", "state=drain", "reason=test")
    controller = Controller(folder, TARGET, *on("--nodelist=node4 --signal=USR1@300"))
    job(folder, controller, "PENDING")
    resume("node4")
    step, stopped = frozen(folder, controller)
    slurm("scontrol", "update", "nodename=node4", "state=down", "reason=test")
    until("the node's job to leave it", lambda: "RUNNING" not in [s for _, s in jobs(folder)], controller)
    thaw(stopped)
    resume("node4")
    assert controller.finish() == 0, controller.text()[-3000:]
    happened = f"node drained: the job waited; node down at step {step}: requeued; {attempts_and_starts(folder)}"
    return Outcome(
        "node drained and down", happened, 2, trained_equally(folder, undisturbed), folder, controller.text()
    )


def out_of_time(folder: Path, undisturbed: Path) -> Outcome:
    """The training is stopped until its warning or its end comes, so that the minutes cost no computing."""
    limit = "3 if attempt == 1 else 30"
    controller = Controller(folder, TARGET, *on("--exclude=node[3-4] --signal=USR1@60", limit))
    step, stopped = frozen(folder, controller)
    until(
        "the warning or the end",
        lambda: [p for p in stopped if signalled(p, signal.SIGUSR1)] or not set(stopped) & set(trainers(folder)),
        controller,
    )
    thaw(stopped)
    assert controller.finish() == 0, controller.text()[-3000:]
    happened = f"limit near at step {step}: {attempts_and_starts(folder)}"
    return Outcome("time limit", happened, 1, trained_equally(folder, undisturbed), folder, controller.text())


def controller_killed(folder: Path, undisturbed: Path) -> Outcome:
    first = Controller(folder, TARGET, *on(REST))
    step, stopped = frozen(folder, first)
    first.kill()
    again = Controller(folder, TARGET, *on(REST))
    until("the job of the first", lambda: "Waiting for 1 jobs that an earlier run left" in again.text(), again)
    thaw(stopped)
    assert again.finish() == 0, again.text()[-3000:]
    started = {row[0] for row in accounted(folder)}
    happened = f"snakemake killed at step {step}; the same command waited for its job: {len(started)} job in all"
    assert len(started) == 1
    return Outcome("controller killed", happened, 1, trained_equally(folder, undisturbed), folder, again.text())


def copy_started(folder: Path, undisturbed: Path) -> Outcome:
    """As before, but the second controller does not see the queue: it submits a copy, which the lock keeps waiting."""
    first = Controller(folder, TARGET, *on(REST))
    step, stopped = frozen(folder, first)
    first.kill()
    blind = wrapper(folder / "bin", "squeue", "exit 0\n")
    again = Controller(folder, TARGET, *on(REST), env=environment(folder, blind))
    log = folder / "logs/smoke/train/digits-lct/s0.log"
    until("the copy to wait", lambda: log.exists() and "waiting: " in log.read_text(), again)
    thaw(stopped)
    assert again.finish() == 0, again.text()[-3000:]
    happened = f"snakemake killed at step {step}, queue hidden: a copy started, waited, and took what was published"
    assert len({row[0] for row in accounted(folder)}) == 2 and f"total={STEPS}" not in log.read_text()
    return Outcome("copy of a training", happened, 1, trained_equally(folder, undisturbed), folder, again.text())


def refused(folder: Path, undisturbed: Path) -> Outcome:
    """sbatch fails twice, which the profile's retries survive; then for a whole run, after which the command is given
    again."""
    refusals = folder / "refusals"
    refuse = f'[ -s {refusals} ] && sed -i 1d {refusals} && echo "Socket timed out" >&2 && exit 1\n'
    body = f'{refuse}exec {{real}} "$@"\n'
    env = environment(folder, wrapper(folder / "bin", "sbatch", body))
    refusals.write_text("no\n" * 4)
    first = Controller(folder, TARGET, *on(REST), env=env)
    assert first.finish() != 0 and "Socket timed out" in first.text()
    again = Controller(folder, TARGET, *on(REST), env=env)
    assert again.finish() == 0, again.text()[-3000:]
    assert refusals.read_text() == ""
    happened = "sbatch refused 4 times: the first command ended with one error, the same command went on"
    return Outcome("sbatch refused", happened, 4, trained_equally(folder, undisturbed), folder, again.text())


def late_files(folder: Path, undisturbed: Path) -> Outcome:
    """The controller sees results/ as a copy that lags 8 s behind the nodes', as a slow shared file system would."""
    lagging, ended = folder / "lagging", threading.Event()
    shutil.copytree(folder / "results", lagging, symlinks=True)

    def follow() -> None:
        first_seen: dict[Path, float] = {}
        while not ended.wait(0.5):
            for path in (p for p in (folder / "results").rglob("*") if p.is_file() and p.suffix != ".partial"):
                late = lagging / path.relative_to(folder / "results")
                if not late.exists() and time.monotonic() - first_seen.setdefault(path, time.monotonic()) > 8:
                    late.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(path, f"{late}.partial")
                    os.replace(f"{late}.partial", late)

    inside = f'mount --bind {lagging} {folder / "results"} && exec "$@"'
    follower = threading.Thread(target=follow)
    follower.start()
    try:
        wrap = ("unshare", "--mount", "sh", "-c", inside, "sh")
        controller = Controller(folder, TARGET, *on(REST), wrap=wrap)
        code = controller.finish()
    finally:
        ended.set()
        follower.join()
    assert code == 0, controller.text()[-3000:]
    assert len(accounted(folder)) == 1
    happened = "outputs seen 8 s late on the submitting host: latency-wait covered it, one job"
    return Outcome(
        "slow shared file system", happened, 1, trained_equally(folder, undisturbed), folder, controller.text()
    )


def state_full(folder: Path, undisturbed: Path) -> Outcome:
    """The folder of states is filled in the middle of the training, which is then asked to save its state."""
    (folder / "work").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder / "work"], check=True)
    try:
        first = Controller(folder, TARGET, *on(REST), "--retries", "0")
        step, stopped = frozen(folder, first)
        subprocess.run(["dd", "if=/dev/zero", f"of={folder}/work/filler", "bs=64k"], capture_output=True, check=False)
        for process in stopped:
            os.kill(process, signal.SIGUSR1)
        thaw(stopped)
        assert first.finish() != 0
        line = next(line for line in first.text().splitlines() if "No space left on device" in line)
        assert "free space" in line
        (folder / "work/filler").unlink()
        again = Controller(folder, TARGET, *on(REST))
        assert again.finish() == 0, again.text()[-3000:]
        ended = attempts_and_starts(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder / "work"], check=True)
    happened = f"full at step {step}: one line named the state; after space was freed the same command went on; {ended}"
    return Outcome("state directory full", happened, 1, trained_equally(folder, undisturbed), folder, again.text())


def two_tasks(folder: Path, undisturbed: Path) -> Outcome:
    """No fault: one training by two processes, one on each of two nodes, against two without SLURM."""
    alone = untrained(undisturbed, folder.with_name("two-tasks-alone"))
    local = Controller(alone, TARGET, "--set-resources", f"{RULE}:gpu=2", slurm=False)
    several = ("gpu=2", "nodes=2", "tasks=2", "mpi=srun", "tasks_per_gpu=0")  # as docs/cluster.md says
    controller = Controller(folder, TARGET, *on(REST), *(f"{RULE}:{value}" for value in several))
    for run in (local, controller):
        assert run.finish() == 0, run.text()[-3000:]
    (row,) = accounted(folder)
    assert "gres/gpu=2" in row[3] and "node=2" in row[3] and saved(folder) == [f"finished at {STEPS}"]
    assert "attempt 1 on 2 x cpu" in (folder / "logs/smoke/train/digits-lct/s0.log").read_text()
    equal = trained_equally(folder, alone)
    return Outcome("none: two tasks", "one training by two tasks on two nodes", 1, equal, folder, "")


FAULTS: dict[str, Callable[[Path, Path], Outcome]] = {
    "out of time": out_of_time,  # the longest first
    "node lost": node_lost,
    "preempted": preempted,
    "two tasks": two_tasks,
    "killed": killed,
    "controller killed": controller_killed,
    "copy started": copy_started,
    "refused": refused,
    "late files": late_files,
    "state full": state_full,
}


def graph(folder: Path) -> tuple[Path, str]:
    """The smoke graph submitted to SLURM, away from the nodes that break: folder and terminal output."""
    profile = folder / "profiles" / "slurm" / "config.yaml"
    line = "  longest: 1440"
    assert line in profile.read_text()
    profile.write_text(profile.read_text().replace(line, f"  slurm_extra: \"'--exclude=node[3-4]'\"\n{line}"))
    controller = Controller(folder)
    assert controller.finish() == 0, controller.text()[-4000:]
    return folder, controller.text()


@pytest.fixture(scope="session")
def scenarios(cluster, request, tmp_path_factory) -> dict[str, Future]:
    """The graph and, once the local run has finished, every fault, started; AT_ONCE of them at a time."""
    folder = tmp_path_factory.mktemp("slurm")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        started = {GRAPH: pool.submit(graph, project(folder / "graph"))}
        undisturbed = request.getfixturevalue("undisturbed")
        for name, fault in FAULTS.items():
            copy = untrained(undisturbed, folder / name.replace(" ", "-"))
            started[name] = pool.submit(fault, copy, undisturbed)
        yield started
    if table := os.environ.get("LCT_FAULT_TABLE"):
        Path(table).write_text(fault_table([started[name] for name in FAULTS]) + graph_table(folder / "graph"))


@pytest.fixture(scope="session")
def on_slurm(scenarios) -> tuple[Path, str]:
    return scenarios[GRAPH].result()


def fault_table(outcomes) -> str:
    lines = ["| fault | what happened | times | equal to the undisturbed run |", "|---|---|---|---|"]
    for outcome in (future.result() for future in outcomes if future.exception() is None):
        equal = "yes" if outcome.equal else "no"
        lines.append(f"| {outcome.fault} | {outcome.happened} | {outcome.times} | {equal} |")
    return "\n".join(lines) + "\n"


def graph_table(folder: Path) -> str:
    lines = ["", "| job | state | seconds | allocation | rule and wildcards |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in accounted(folder))]) + "\n"


# --- tests ----------------------------------------------------------------------------------------------------------
def test_the_graph_on_slurm_gives_the_bytes_of_the_local_run(on_slurm, undisturbed):
    folder, _ = on_slurm
    assert sums(folder, "results/smoke/tables/tables.json") == sums(undisturbed, "results/smoke/tables/tables.json")
    weights = sums(undisturbed, "results/smoke/train/*/s0/*.safetensors")
    assert len(weights) == 3 and sums(folder, "results/smoke/train/*/s0/*.safetensors") == weights


def test_the_doctor_finds_this_cluster_fit(on_slurm):
    found = lct(on_slurm[0], "doctor", "--profile", "profiles/slurm")
    checks = {check["what"]: check for check in found["checks"]}
    failed = {check["what"] for check in checks.values() if check["level"] == "fail"}
    assert failed <= {"recording"}, [check for check in checks.values() if check["level"] == "fail"]  # a copy, no clone
    assert (
        checks["shared file system"]["level"]
        == checks["environment"]["level"]
        == checks["account main"]["level"]
        == "ok"
    )
    assert checks["GPU"]["level"] == "warn" and "LCT_DEVICE" in checks["GPU"]["found"], "the fake card was given"


def test_accounting_has_a_row_with_a_gpu_for_every_training(on_slurm):
    rows = accounted(on_slurm[0])
    assert {row[1] for row in rows} == {"COMPLETED"}
    trained = [row for row in rows if row[4].startswith("rule_train_")]
    assert len(trained) == 3 and all("gres/gpu=1" in row[3] for row in trained)
    assert any(row[4].startswith("rule_evaluate_sample_digits_lct") for row in rows), "sampling and scoring: one job"


def test_tables_and_report_stayed_on_the_submitting_host(on_slurm):
    folder, text = on_slurm
    assert not [row for row in accounted(folder) if "tables" in row[4] or "report" in row[4]]
    for name in ("results/smoke/tables/tables.json", "reports/smoke/index.html"):
        assert json.loads((folder / f"{name}.run.json").read_text())["slurm"] is None
    assert "report reports/smoke/index.html" in text


def test_every_record_of_a_submitted_job_names_it(on_slurm):
    ids = {row[0] for row in accounted(on_slurm[0])}
    for record in on_slurm[0].glob("results/smoke/train/*/s0/*.run.json"):
        assert json.loads(record.read_text())["slurm"]["SLURM_JOB_ID"] in ids


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_changes_no_byte(scenarios, fault):
    outcome = scenarios[fault].result()
    assert outcome.equal, outcome.happened


@pytest.mark.parametrize("fault", ["controller killed", "copy started", "killed"])
def test_after_a_fault_there_is_nothing_left_to_do_and_a_changed_setting_is_seen(scenarios, fault):
    folder = scenarios[fault].result().folder
    done = Controller(folder, TARGET, slurm=False)
    assert done.finish() == 0 and "Nothing to be done" in done.text()
    scale = folder / "config/scales/smoke.yaml"
    scale.write_text(scale.read_text().replace("lr: 1.0e-3", "lr: 2.0e-3"))
    plan = Controller(folder, TARGET, "-n", slurm=False)
    assert plan.finish() == 0 and RULE in plan.text().split("Job stats:")[1]
