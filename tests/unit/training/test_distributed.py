"""Several processes (gloo, on CPUs) against one: the same training up to the rounding of the summed gradient."""

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import distributed

from lct.cluster.attempts import UNPRODUCTIVE, StuckError, begin, cost, ended
from lct.cluster.launch import Allocation, first_host, job_id, rank_environments, requeue, step_command
from lct.files.hashing import sha256_file
from lct.jobs.train import Heartbeat
from lct.losses.settings import Objective, Transport
from lct.schedules import Curriculum, IndexDistribution
from lct.training.loop import train
from lct.training.ranks import ALONE, World, process_group
from lct.training.settings import Training
from lct.training.state import StateFolder, TrainingProgress
from lct.training.trainer import Trainer
from tests.helpers.tiny_training import CPU, LCT, LDM, TINY, command, latents, settings

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["lct.training.loop", "ot", "tests.helpers.tiny_training"])
DENOISING = {
    "objective": LDM,
    "curriculum": Curriculum(kind="constant", s0=99, s1=99),
    "index": IndexDistribution(kind="uniform"),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One training on several ranks, for a process of its own."""

    made: Training
    double: bool = False
    folder: Path | None = None  # where rank 0 saves and finds states
    stop_at: tuple[int, int] | None = None  # (rank, step) that asks for the end
    spoiled: int | None = None  # row of the latents that is NaN


@dataclasses.dataclass(frozen=True)
class Outcome:
    curve: dict
    step: int
    weights: dict  # of the network
    averages: dict  # of the first rate, on rank 0
    digest: str  # of the network's bytes
    error: str


def take_part(case: Case, world: World) -> Outcome:
    torch.set_num_threads(1)
    data = latents().double() if case.double else latents()
    trainer = Trainer(case.made, data, 0, CPU, world)
    if case.spoiled is not None:
        trainer.latents[case.spoiled] = float("nan")
    state = StateFolder(case.folder, {}) if case.folder is not None and world.is_main else None
    done: list[int] = []
    rank, step = case.stop_at or (-1, -1)
    curve, error = {}, ""
    try:
        progress = train(
            trainer, state, lambda p: done.append(p.step), lambda: world.rank == rank and done[-1] >= step, 1e9
        )
        curve = progress.curve
    except FloatingPointError as raised:
        error = str(raised)
    weights = {name: t.detach().clone() for name, t in trainer.network.state_dict().items()}
    digest = hashlib.sha256(b"".join(t.numpy().tobytes() for t in weights.values())).hexdigest()
    if not error:
        assert len(set(world.gather(digest))) == 1, "every rank holds the same bits"
    averages = trainer.ema.weights(case.made.emas[0]) if world.is_main else {}
    return Outcome(curve, done[-1], weights, averages, digest, error)


def _rank(case: Case, rank: int, size: int, port: int, results) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with process_group(CPU) as world:
        outcome = take_part(case, world)
    arrays = {name: {k: t.numpy() for k, t in getattr(outcome, name).items()} for name in ("weights", "averages")}
    results.put((rank, dataclasses.replace(outcome, **arrays)))


def together(case: Case, size: int) -> list[Outcome]:
    """The outcome of every rank."""
    port = rank_environments(Allocation(processes=2), "train", {})[0]["MASTER_PORT"]
    results = CONTEXT.Queue()
    processes = [CONTEXT.Process(target=_rank, args=(case, r, size, int(port), results)) for r in range(size)]
    for process in processes:
        process.start()
    found = dict(results.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    as_tensors = []
    for _, outcome in sorted(found.items()):
        parts = {n: {k: torch.from_numpy(a) for k, a in getattr(outcome, n).items()} for n in ("weights", "averages")}
        as_tensors.append(dataclasses.replace(outcome, **parts))
    return as_tensors


def close(a: Outcome, b: Outcome, rtol: float, atol: float) -> None:
    for column, values in a.curve.items():
        numbers = [(x, y) for x, y in zip(values, b.curve[column], strict=True) if x is not None]
        assert all(abs(x - y) <= rtol * abs(x) for x, y in numbers), column
    for part in ("weights", "averages"):
        for name, tensor in getattr(a, part).items():
            torch.testing.assert_close(getattr(b, part)[name], tensor, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"batch": 16}, 2),
        pytest.param({"batch": 16, "micro_batch": 3}, 2, marks=pytest.mark.slow),
        ({"batch": 8, "objective": dataclasses.replace(LCT, transport=Transport(kind="exact", group=4))}, 3),
        pytest.param({"batch": 8, "objective": Objective(target_ema=0.9)}, 2, marks=pytest.mark.slow),
        ({"batch": 7, **DENOISING}, 2),
    ],
    ids=["lct", "micro-batches", "uneven shares across groups", "ema target", "ldm"],
)
def test_several_ranks_train_as_one_up_to_rounding(changes, size):
    made = settings(**changes)
    one = take_part(Case(made, double=True), ALONE)
    first, *others = together(Case(made, double=True), size)
    close(one, first, rtol=1e-9, atol=1e-12)
    assert {other.digest for other in others} == {first.digest}
    assert all(other.curve == first.curve for other in others)


def test_in_single_precision_too():
    made = settings(batch=16)
    first, _ = together(Case(made), 2)
    close(take_part(Case(made), ALONE), first, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("objective", [LCT, Objective(target_ema=0.9)], ids=["lct", "ema-target"])
@pytest.mark.slow
def test_a_stop_on_any_rank_stops_all_and_they_go_on_to_the_same_bytes(tmp_path, objective):
    made = settings(batch=16, objective=objective)
    whole, _ = together(Case(made, folder=tmp_path / "a"), 2)
    stopped = together(Case(made, folder=tmp_path / "b", stop_at=(1, 5)), 2)
    assert [outcome.step for outcome in stopped] == [5, 5]
    resumed, other = together(Case(made, folder=tmp_path / "b"), 2)
    assert resumed.digest == whole.digest == other.digest and resumed.curve == whole.curve
    assert all(torch.equal(resumed.averages[name], t) for name, t in whole.averages.items())


def test_a_state_of_one_process_goes_on_in_two(tmp_path):
    made = settings(batch=16)
    one = take_part(Case(made, double=True), ALONE)
    take_part(Case(made, double=True, folder=tmp_path, stop_at=(0, 5)), ALONE)
    close(one, together(Case(made, double=True, folder=tmp_path), 2)[0], rtol=1e-9, atol=1e-12)


def test_a_loss_that_is_not_finite_on_one_rank_stops_all_with_one_reason():
    made = settings(batch=16, objective=Objective())
    outcomes = together(Case(made, spoiled=3), 2)
    assert outcomes[0].error == outcomes[1].error
    assert "expected a finite loss, found none in 1 of 16 samples (latents 3; t from" in outcomes[0].error


def test_shares_are_contiguous_and_differ_by_one_at_most():
    for count, size in ((8, 3), (128, 8), (7, 7), (1536, 5)):
        shares = [World(rank, size).part(count) for rank in range(size)]
        assert [s.start for s in shares] == [0, *(s.stop for s in shares[:-1])] and shares[-1].stop == count
        sizes = {s.stop - s.start for s in shares}
        assert max(sizes) - min(sizes) <= 1


# --- the job, started as the graph starts it --------------------------------------------------------------------------


def launched(words: list[str], *options: str) -> list[str]:
    """The command of a training, started by the launcher."""
    return [words[0], "-m", "lct.jobs.launch", *options, "train", *words[3:]]


TWO = ("--processes", "2")
MADE = settings(batch=16, steps=300, log_every=10)


def wait_for(folder: Path, pattern: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not list(folder.rglob(pattern)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, f"it ended before {pattern} appeared"


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """A training of two processes, undisturbed."""
    from lct.data.settings import Encoding
    from lct.files.tensors import write_tensors
    from tests.helpers.latents import statistics

    folder = tmp_path_factory.mktemp("two")
    z = 3.0 * latents(64) + 1.0
    write_tensors(folder / "latents.safetensors", {"latents": z})
    write_tensors(folder / "statistics.safetensors", statistics(z, Encoding()).tensors())
    done = subprocess.run(launched(command(folder, "whole", MADE), *TWO), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("train ") and len(done.stdout.splitlines()) == 1
    return folder


def same_outputs(folder: Path, out: str) -> bool:
    names = [*(path.name for path in (folder / "whole").glob("step*.safetensors")), "curves.json"]
    assert len(names) == 3
    return all(sha256_file(folder / "whole" / name) == sha256_file(folder / out / name) for name in names)


@pytest.mark.parametrize(("error", "calls"), [(None, 1), (FloatingPointError, 1), (ValueError, 0)])
def test_ranks_that_leave_together_end_their_connection(monkeypatch, error, calls):
    """Without that, the end of the interpreter now and then aborts: its exit code would be a failure's, not 75."""
    ended = []
    monkeypatch.setattr(distributed, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(distributed, "new_group", lambda **_: None)
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: ended.append(True))
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1")):
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(error) if error else contextlib.nullcontext(),
        process_group(CPU, (FloatingPointError,)) as world,
    ):
        assert (world.rank, world.size) == (1, 2)
        if error:
            raise error
    assert len(ended) == calls


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
@pytest.mark.slow
def test_a_signal_to_the_starter_reaches_every_process(two, number):
    out = f"parts-{number.name}"
    words = launched(command(two, out, MADE), *TWO)
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    wait_for(two / f"work-{out}", "progress.json", process)
    time.sleep(0.2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    assert output.startswith("interrupted: state saved at step ") and f"({number.name})" in output
    assert len(output.splitlines()) == 1 and not (two / out).exists()
    subprocess.run(words, capture_output=True, text=True, check=True)
    assert same_outputs(two, out)
    (attempts,) = (two / f"work-{out}").rglob("attempts.jsonl")
    lines = [json.loads(line) for line in attempts.read_text().splitlines()]
    assert [line["reason"] for line in lines] == [number.name, "finished"]
    assert lines[0]["to_step"] == lines[1]["from_step"] > 0 and lines[1]["to_step"] == 300
    assert [line["processes"] for line in lines] == [2, 2]
    record = json.loads((two / out / "curves.json.run.json").read_text())
    assert record["cost"]["attempts"] == 2 and record["cost"]["gpu_seconds"] == 0 < record["cost"]["seconds"]
    (log,) = (two / f"work-{out}").rglob("train.log")
    assert "attempt 1 on 2 x cpu" in log.read_text() and "attempt 2 on 2 x cpu" in log.read_text()


@pytest.mark.slow
def test_a_killed_process_ends_all_with_one_line(two):
    process = subprocess.Popen(
        launched(command(two, "killed", MADE), *TWO), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(two / "work-killed", "progress.json", process)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
    output, log = process.communicate(timeout=60)
    assert process.returncode == 1 and output == "error: process 1 of 2 was killed by signal 9\n", log
    subprocess.run(launched(command(two, "killed", MADE), *TWO), capture_output=True, check=True)
    assert same_outputs(two, "killed")


@pytest.mark.slow
def test_what_several_processes_cannot_train_is_refused_in_one_line(two):
    made = settings(batch=16, network=dataclasses.replace(TINY, block_norm="batch"))
    done = subprocess.run(launched(command(two, "no", made), *TWO), capture_output=True, text=True, check=False)
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 1
    assert done.stdout.startswith("error: 2 processes: expected a norm of single samples, found batch norm")


@pytest.mark.slow
def test_torchrun_starts_it_too(two):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    words = [*torchrun, "lct.jobs.train", *command(two, "torchrun", MADE)[3:]]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 and same_outputs(two, "torchrun")


# --- SLURM, with small programs in the place of its own ---------------------------------------------------------------


def program(folder: Path, name: str, body: str) -> dict[str, str]:
    """A shell script called `name`; gives the PATH that finds it first."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_inside_a_slurm_job_a_job_becomes_a_step_and_outside_it_does_not(tmp_path):
    tools = program(tmp_path, "srun", "exit 0")
    inside, shape = tools | {"SLURM_JOB_ID": "71"}, Allocation(nodes=2, gpus=4, cpus=8)
    assert step_command(shape, inside, ["x"]) == [
        *("srun", "--overlap", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--cpus-per-task=8"),
        *("--kill-on-bad-exit=0", "x"),
    ]
    assert step_command(shape, tools, ["x"]) is None
    assert step_command(shape, inside | {"LCT_STEP": "1"}, ["x"]) is None
    with pytest.raises(ValueError, match="SLURM_JOB_ID: expected a number, found '7; rm'"):
        step_command(shape, inside | {"SLURM_JOB_ID": "7; rm"}, ["x"])
    without = {"PATH": str(tmp_path / "empty"), "SLURM_JOB_ID": "71"}
    assert step_command(Allocation(), without, ["x"]) is None
    with pytest.raises(ValueError, match="srun: expected it on the PATH for 2 nodes"):
        step_command(shape, without, ["x"])


def test_every_process_learns_its_place(tmp_path, monkeypatch):
    assert rank_environments(Allocation(), "train", {}) == rank_environments(Allocation(gpus=4), "sample", {}) == [{}]
    one = rank_environments(Allocation(gpus=4), "train", {})
    assert [(e["RANK"], e["LOCAL_RANK"], e["WORLD_SIZE"]) for e in one] == [(str(r), str(r), "4") for r in range(4)]
    assert {e["MASTER_ADDR"] for e in one} == {"127.0.0.1"} and len({e["MASTER_PORT"] for e in one}) == 1
    tools = program(tmp_path, "scontrol", 'test "$1 $2 $3" = "show hostnames n[3-4]" && printf "n3\\nn4\\n"')
    monkeypatch.setenv("PATH", tools["PATH"])
    inside = {"SLURM_JOB_ID": "71", "SLURM_NODEID": "1", "SLURM_STEP_NODELIST": "n[3-4]"}
    two = rank_environments(Allocation(nodes=2, gpus=2), "train", inside)
    assert [(e["RANK"], e["LOCAL_RANK"], e["WORLD_SIZE"]) for e in two] == [("2", "0", "4"), ("3", "1", "4")]
    assert {(e["MASTER_ADDR"], e["MASTER_PORT"]) for e in two} == {("n3", "10071")}
    with pytest.raises(ValueError, match="SLURM_STEP_NODELIST: expected the nodes"):
        first_host({})


@pytest.mark.parametrize(("code", "asked"), [(0, True), (1, False)])
def test_requeue_asks_slurm_once_and_says_whether_it_agreed(tmp_path, code, asked):
    tools = program(tmp_path, "scontrol", f'echo "$@" >> {tmp_path}/asked; exit {code}')
    assert requeue(tools | {"SLURM_JOB_ID": "71"}) is asked
    assert (tmp_path / "asked").read_text() == "requeue 71\n"
    assert requeue(tools) is False and job_id(tools) is None


def in_slurm(folder: Path, monkeypatch, **more: str) -> None:
    """A SLURM job whose srun runs the step here, and whose scontrol notes what it is asked and ends the asker."""
    words = 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"'
    tools = program(folder, "srun", f'echo "$@" >> {folder}/srun.said; {words}')
    program(folder, "scontrol", f'echo "$@" >> {folder}/scontrol.said; kill -TERM $PPID')
    for name, value in (tools | {"SLURM_JOB_ID": "71"} | more).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("why", ["wall time nearly over", pytest.param("SIGUSR1", marks=pytest.mark.slow)])
def test_near_its_wall_time_a_training_saves_and_is_queued_again(encoded, monkeypatch, why):
    made = settings(steps=100_000, log_every=10)
    folder = encoded / "tools"
    in_slurm(folder, monkeypatch)
    words = launched(command(encoded, "out", made), "--minutes", "60", "--cpus", "2")
    if why == "wall time nearly over":
        monkeypatch.setenv("LCT_DEADLINE", str(time.time() + 6))
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    if why.startswith("SIG"):
        wait_for(encoded, "progress.json", process)
        process.send_signal(signal.Signals[why])
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 75 and f"({why})" in output, output
    assert output.startswith("interrupted: state saved at step ") and len(output.splitlines()) == 1
    assert (folder / "scontrol.said").read_text() == "requeue 71\n"
    step = "--overlap --nodes=1 --ntasks=1 --ntasks-per-node=1 --cpus-per-task=2 --kill-on-bad-exit=0"
    assert (folder / "srun.said").read_text().startswith(step)
    (line,) = (json.loads(line) for line in next(encoded.rglob("attempts.jsonl")).read_text().splitlines())
    assert (line["slurm_job_id"], line["reason"], line["from_step"]) == ("71", why, 0)
    assert line["to_step"] > 0


def test_after_sigterm_a_training_saves_and_leaves_its_end_to_slurm(encoded, monkeypatch):
    """SLURM puts a preempted job back into the queue, but not one that has ended by itself."""
    folder = encoded / "tools"
    in_slurm(folder, monkeypatch)
    process = subprocess.Popen(launched(command(encoded, "out", settings(steps=100_000, log_every=10))))
    wait_for(encoded, "progress.json", process)
    process.send_signal(signal.SIGTERM)
    wait_for(encoded, "attempts.jsonl", process)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    process.kill()
    assert process.wait() == -signal.SIGKILL and not (folder / "scontrol.said").exists()
    (line,) = (json.loads(line) for line in next(encoded.rglob("attempts.jsonl")).read_text().splitlines())
    assert (line["slurm_job_id"], line["reason"]) == ("71", "SIGTERM")
    assert list(encoded.rglob(f"state-{line['to_step']:09}.json")) and line["to_step"] > 0


@pytest.mark.slow
def test_fewer_gpus_than_asked_for_are_refused_before_any_work(encoded, monkeypatch):
    in_slurm(encoded / "tools", monkeypatch, CUDA_VISIBLE_DEVICES="0", LCT_DEVICE="cpu")
    words = [word for word in command(encoded, "out", settings()) if word not in ("--device", "cpu")]
    done = subprocess.run(launched(words, "--gpus", "2"), capture_output=True, text=True, check=False)
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 1, done.stdout
    assert "error: GPUs: expected the 2 asked for on " in done.stdout
    assert "found 1 (CUDA_VISIBLE_DEVICES=0)" in done.stdout
    assert not list(encoded.rglob("attempts.jsonl"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    done = subprocess.run(launched(words, "--gpus", "2"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cost_of = json.loads((encoded / "out" / "curves.json.run.json").read_text())["cost"]
    assert cost_of["gpu_seconds"] == pytest.approx(2 * cost_of["seconds"], abs=0.2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nodes", "2", "train"], "--nodes 2: expected a SLURM job, found none"),
        (["--nodes", "0", "train"], "expected 1 node and cpu or more"),
        (["--nodes", "2", "--gpus", "3", "train"], "--gpus: expected as many on each of 2 nodes, found 3"),
        (["no-such-job"], "job: expected a module of lct.jobs, such as train, found 'no-such-job'"),
    ],
)
def test_impossible_launches_are_refused_in_one_line(words, message):
    done = subprocess.run(
        [sys.executable, "-m", "lct.jobs.launch", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and message in done.stdout and len(done.stdout.splitlines()) == 1


# --- attempts ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_attempts_without_progress_under_slurm_are_enough(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    begin(tmp_path, 0, 1, "cpu", 1).end(40, "SIGTERM")
    begin(tmp_path, 40, 1, "cpu", 1).end(40, "failed: out of memory")
    begin(tmp_path, 40, 1, "cpu", 1)  # killed: it does not say how it ended
    with pytest.raises(
        StuckError, match=r"2 attempts in a row that saved no step after 40 \(failed: out of memory; killed\)"
    ):
        begin(tmp_path, 40, 1, "cpu", 1)
    with pytest.raises(StuckError, match="then remove this marker and run the same command again"):
        begin(tmp_path, 40, 1, "cpu", 1)
    assert UNPRODUCTIVE == 2 and len(ended(tmp_path)) == 3
    (tmp_path / "stuck").unlink()
    begin(tmp_path, 40, 1, "cpu", 1).end(40, "failed: again")
    assert not (tmp_path / "stuck").exists(), "counting starts anew"
    begin(tmp_path, 40, 1, "cpu", 1).end(50, "finished")
    assert cost(tmp_path)["attempts"] == 5


def test_attempts_that_somebody_starts_by_hand_are_never_stuck(tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    for number in range(1, 5):
        attempt = begin(tmp_path, 0, 1, "cpu", 1)
        assert attempt.number == number
        attempt.end(0, "failed")
    assert not (tmp_path / "stuck").exists()


def test_the_job_of_the_next_milestone_counts_its_attempts_and_gpu_seconds_anew(tmp_path):
    hour = {"started": 0, "ended": 3600, "gpus": 1, "from_step": 0, "to_step": 10, "slurm_job_id": None}
    lines = [json.dumps(hour | {"reason": reason}) + "\n" for reason in ("SIGTERM", "finished", "SIGTERM")]
    (tmp_path / "attempts.jsonl").write_text("".join(lines[:2]))
    attempt = begin(tmp_path, 10, 1, "cuda", 1)
    assert attempt.number == 1 and attempt.gpu_seconds() < 60
    (tmp_path / "attempts.jsonl").write_text("".join(lines))
    assert attempt.gpu_seconds() >= 3600
    attempt.start["started"] = time.time() + 60  # as it is rounded upwards, or where a clock was set back
    assert attempt.gpu_seconds() == 3600


def test_a_killed_attempt_lasted_until_its_last_heartbeat(tmp_path):
    attempt = begin(tmp_path, 0, 2, "cuda", 2)
    (tmp_path / "progress.json").write_text(json.dumps({"updated": attempt.start["started"] + 30}))
    (tmp_path / "attempts.jsonl").write_text('{"cut short by a cra')  # what a crash leaves
    begin(tmp_path, 10, 2, "cuda", 2).end(20, "finished")
    assert [line["reason"] for line in ended(tmp_path)] == ["killed", "finished"]
    assert cost(tmp_path)["gpu_seconds"] >= 60


@pytest.mark.slow
def test_a_stuck_training_ends_at_once_with_the_log_of_the_earlier_attempts(encoded, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    words = command(encoded, "out", settings(steps=400))
    first = subprocess.run([*words, "--minutes", "0.000001"], capture_output=True, text=True, check=False)
    assert first.returncode == 75
    work = next(encoded.rglob("attempts.jsonl")).parent
    (work / "stuck").write_text(f"{work / 'stuck'}: expected progress, found 2 attempts")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stdout.startswith("error: ") and "expected progress" in done.stdout
    assert "earlier: " in done.stderr and "interrupted: state saved at step 1 of 400" in done.stderr
    (work / "stuck").unlink()
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0


def test_a_training_that_is_asked_for_again_costs_anew(tmp_path):
    begin(tmp_path, 0, 1, "cpu", 0).end(10, "SIGTERM")
    begin(tmp_path, 10, 1, "cpu", 0).end(20, "finished")
    assert cost(tmp_path)["attempts"] == 2
    begin(tmp_path, 0, 1, "cpu", 0).end(20, "finished")
    assert cost(tmp_path)["attempts"] == 1


def test_a_heartbeat_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    attempt = begin(tmp_path, 3, 1, "cpu", 0)
    heart = Heartbeat(tmp_path / "progress.json", 9, attempt)
    told = json.loads((tmp_path / "progress.json").read_text())
    assert told.keys() == {
        *("step", "total", "loss", "steps_per_second", "eta_seconds", "updated"),
        *("host", "pid", "slurm_job_id", "attempt", "gpu_seconds"),
    }
    assert (told["step"], told["total"], told["loss"], told["pid"]) == (3, 9, None, os.getpid())
    heart.path = tmp_path / "attempts.jsonl" / "progress.json"
    (tmp_path / "attempts.jsonl").write_text("")  # a file where a folder is needed
    heart(TrainingProgress(step=9))
    assert "attempts.jsonl" in caplog.text
