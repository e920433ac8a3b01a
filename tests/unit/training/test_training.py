"""lct/training: the loop, resume to the same bytes, averages, refusals."""

import dataclasses
import itertools
import json
import math
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from lct.config.schema import plain
from lct.files.hashing import sha256_file
from lct.files.tensors import read_metadata, read_state_dict, read_tensors, stream_tensors, write_tensors
from lct.jobs.train import train_run
from lct.lineage.snakemake_adapter import is_record
from lct.losses.settings import Objective
from lct.schedules import Curriculum, IndexDistribution, LearningRate, residual_by_stage
from lct.training import draws
from lct.training.flat import EMA, Flat
from lct.training.loop import diverges, train
from lct.training.settings import Optimiser, Training
from lct.training.state import CURVE_COLUMNS, StateFolder, TrainingProgress
from lct.training.trainer import Trainer
from tests.helpers import ROOT
from tests.helpers.in_process import run_job
from tests.helpers.tiny_training import CPU, LCT, LDM, TINY, command, latents, settings


def run(
    tmp_path: Path,
    made: Training,
    seed: int = 0,
    stop_at: int | None = None,
    data: torch.Tensor | None = None,
    save_seconds: float = 1e9,
) -> tuple[Trainer, dict, object]:
    """Train, or stop after `stop_at` steps; returns the trainer, the kept averages and the progress."""
    trainer = Trainer(made, latents() if data is None else data, seed, CPU)
    state = StateFolder(tmp_path, {"settings": plain(made), "seed": seed})
    asked = itertools.count(1)

    def stop() -> bool:
        return stop_at is not None and next(asked) >= stop_at

    progress = train(trainer, state, lambda _: None, stop, save_seconds)
    finished = progress.step == trainer.total_steps
    return trainer, {rate: trainer.ema.weights(rate) for rate in made.emas if finished}, progress


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "objective", [LCT, Objective(), LDM, Objective(target_ema=0.9)], ids=["lct", "ilct", "ldm", "ema-target"]
)
def test_a_resumed_training_ends_in_the_same_bytes(tmp_path, objective):
    changes = {"objective": objective}
    if objective.kind == "denoising":
        changes |= {"curriculum": Curriculum(kind="constant", s0=99, s1=99), "index": IndexDistribution(kind="uniform")}
    made = settings(**changes)
    _, whole, undisturbed = run(tmp_path / "a", made)
    _, nothing, interrupted = run(tmp_path / "b", made, stop_at=5)
    assert interrupted.step < 12 and nothing == {}
    _, resumed, finished = run(tmp_path / "b", made)
    assert finished.step == 12
    assert all(equal(whole[rate], resumed[rate]) for rate in made.emas)
    assert finished.curve == undisturbed.curve


def test_the_seed_changes_the_result_and_nothing_else_does(tmp_path):
    made = settings()
    _, first, _ = run(tmp_path / "a", made)
    torch.manual_seed(1234)  # the global generator must not matter
    np.random.seed(99)
    _, second, _ = run(tmp_path / "b", made)
    _, other, _ = run(tmp_path / "c", made, seed=1)
    assert equal(first[0.9], second[0.9])
    assert not equal(first[0.9], other[0.9])


def stop_twice(folder: Path, made: Training) -> list[Path]:
    """A training with two saved states; gives their files, the newest first."""
    run(folder, made, stop_at=4)
    run(folder, made, stop_at=3)
    found = sorted(folder.glob("state-*.safetensors"), reverse=True)
    assert [path.name for path in found] == ["state-000000007.safetensors", "state-000000004.safetensors"]
    return found


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "truncated":
        del content[len(content) // 2 :]
    elif how == "bit flipped":
        content[len(content) // 2] ^= 1
    else:
        content.clear()
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "bit flipped", "empty"])
@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_a_damaged_state_is_not_trusted_and_the_result_is_the_same(tmp_path, caplog, how, suffix):
    made = settings()
    _, whole, undisturbed = run(tmp_path / "a", made)
    newest, _ = stop_twice(tmp_path / "b", made)
    damage(newest.with_suffix(suffix), how)
    _, resumed, finished = run(tmp_path / "b", made)
    assert "state-000000007.safetensors: damaged" in caplog.text and "trying the state before it" in caplog.text
    assert "starting again" not in caplog.text
    assert equal(whole[0.9], resumed[0.9]) and finished.curve == undisturbed.curve


def test_a_state_from_before_a_column_of_the_curve_is_read(tmp_path):
    curve = {name: [0.5] for name in CURVE_COLUMNS if name != "residual_rms"}
    states = StateFolder(tmp_path, {})
    states.save(TrainingProgress(step=3, curve=curve), {"x": torch.zeros(2)}, wait=True)
    progress, _ = states.load()
    assert progress.curve == curve | {"residual_rms": [None]}


def test_training_that_waits_for_a_slow_disk_says_so(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("lct.training.state.SLOW_SECONDS", 0.01)
    states, tensors = StateFolder(tmp_path, {}), {"x": torch.zeros(2)}
    states.save(TrainingProgress(step=3), tensors, wait=True)
    states.save(TrainingProgress(step=4), tensors, wait=False)
    assert "waited" not in caplog.text
    states._join()
    states._writer = threading.Thread(target=time.sleep, args=(0.1,))
    states._writer.start()
    states.save(TrainingProgress(step=5), tensors, wait=False)
    states.finish()
    assert "training waited 0 s for the state before, which the disk was still taking; more minutes" in caplog.text


def test_two_damaged_states_mean_a_new_start(tmp_path, caplog):
    made = settings()
    _, whole, _ = run(tmp_path / "a", made)
    for path in stop_twice(tmp_path / "b", made):
        damage(path, "truncated")
    _, resumed, _ = run(tmp_path / "b", made)
    assert "starting again from step 0" in caplog.text and equal(whole[0.9], resumed[0.9])


def test_a_state_without_its_json_was_never_whole(tmp_path):
    """As kill -9 leaves it between the two files, or within the first."""
    made = settings()
    _, whole, _ = run(tmp_path / "a", made)
    newest, older = stop_twice(tmp_path / "b", made)
    newest.with_suffix(".json").unlink()
    partial = newest.with_name(f".{newest.name}.elsewhere-1.partial")
    partial.write_bytes(newest.read_bytes()[:100])
    assert StateFolder(tmp_path / "b", {}).newest() == older
    _, resumed, _ = run(tmp_path / "b", made)
    assert equal(whole[0.9], resumed[0.9]) and not partial.exists() and not newest.exists()


def test_streamed_tensors_come_back_with_the_hash_of_their_file(tmp_path):
    tensors = {
        "odd": torch.arange(3, dtype=torch.uint8),
        "scalar": torch.tensor(7.0),
        "none": torch.empty(0, 4),
        "turned": torch.arange(6.0).view(2, 3).T,
        "count": torch.tensor(5),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "double": torch.ones(2, 2, dtype=torch.float64),
    }
    digest = stream_tensors(tmp_path / "x", tensors, {"step": 3})
    assert digest == sha256_file(tmp_path / "x") and read_metadata(tmp_path / "x") == {"step": 3}
    back = read_tensors(tmp_path / "x")
    assert back.keys() == tensors.keys()
    assert all(back[name].dtype == t.dtype and torch.equal(back[name], t) for name, t in tensors.items())


def test_two_states_are_kept_and_training_goes_on_while_one_is_written(tmp_path):
    made = settings()
    _, whole, _ = run(tmp_path / "a", made)
    _, saved, _ = run(tmp_path / "b", made, save_seconds=0.0)  # after every step
    names = sorted(path.name for path in (tmp_path / "b").iterdir())
    assert names == [f"state-{step:09}.{end}" for step in (11, 12) for end in ("json", "safetensors")]
    assert equal(whole[0.9], saved[0.9])


def test_a_save_that_fails_is_a_warning_and_the_last_one_an_error(tmp_path, caplog, monkeypatch):
    made = settings()
    _, whole, _ = run(tmp_path / "a", made)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lct.training.state.stream_tensors", full)
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path / "b", made, save_seconds=0.0)
    assert caplog.text.count("not saved, the states before it stay") >= 10
    monkeypatch.undo()
    assert equal(whole[0.9], run(tmp_path / "b", made)[1][0.9])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"batch": 16}, "settings.batch: 16 there, 8 here"),
        (
            {"optimiser": Optimiser(learning_rate=LearningRate(lr=1e-3))},
            'learning_rate.kind: "constant" there, "cosine"',
        ),
    ],
)
def test_a_foreign_state_is_refused_by_the_key_that_differs(tmp_path, other, message):
    run(tmp_path, settings(**other), stop_at=5)
    with pytest.raises(ValueError, match="expected a state of this training, found another one's") as caught:
        run(tmp_path, settings())
    assert message in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_state_of_another_network_is_refused_by_the_tensor_that_differs(tmp_path):
    made = settings()
    trainer = Trainer(made, latents(), 0, CPU)
    wider = Trainer(settings(network=dataclasses.replace(TINY, channels=16)), latents(), 0, CPU)
    with pytest.raises(ValueError, match=r"here: average/0.5/decoder.*expected \(16,\), found \(32,\)"):
        trainer.load(wider.tensors(), "here")
    tensors = trainer.tensors()
    del tensors["network/embed0.bias"]
    with pytest.raises(ValueError, match=r"network/embed0.bias: expected \(32,\), found no such tensor"):
        trainer.load(tensors, "here")


def test_the_curve_follows_the_curriculum_and_the_law_of_c(tmp_path):
    _, _, progress = run(tmp_path, settings())
    curve = progress.curve
    assert curve["step"] == [3, 6, 9, 12]
    assert curve["intervals"] == [10, 20, 40, 40]  # K' = floor(12 / 3) = 4 steps a stage
    c0 = 0.00054 * math.sqrt(2 * 4 * 4)
    laws = [c0, *(math.exp(-1.15 * math.log(s) - 0.85) for s in (20, 40, 40))]
    np.testing.assert_allclose(curve["c"], laws, rtol=1e-12)
    assert all(math.isfinite(v) and v > 0 for v in curve["loss"] + curve["gradient_norm"])
    trainer = Trainer(settings(), latents(), 0, CPU)
    for step in range(2):
        trainer.step(step, measure_gradient=False)
    rms = trainer.temporal_difference(2).square().mean().sqrt()  # of the third step's batch, before its update
    assert curve["residual_rms"][0] == pytest.approx(float(rms), rel=1e-5)
    assert residual_by_stage(curve).keys() == {10, 20, 40}
    assert all(
        math.isclose(a, b + 5 * d, rel_tol=1e-5)
        for a, b, d in zip(curve["loss"], curve["consistency"], curve["diffusion"], strict=True)
    )


def test_a_training_lowers_the_denoising_loss(tmp_path):
    made = settings(
        objective=LDM,
        curriculum=Curriculum(kind="constant", s0=99, s1=99),
        index=IndexDistribution(kind="uniform"),
        steps=250,
        batch=16,
        log_every=1,
        optimiser=Optimiser(name="adam", learning_rate=LearningRate(lr=3e-3)),
    )
    flat = latents()[:, :1, :1, :1].expand(-1, 2, 4, 4).contiguous()  # one value per sample: the neighbours tell it

    def loss(trainer: Trainer) -> float:
        with torch.no_grad():  # the same draws before and after
            return float(np.mean([float(trainer.terms(step).total) for step in range(20)]))

    before = loss(Trainer(made, flat, 0, CPU))
    trainer, _, _ = run(tmp_path, made, data=flat)
    assert loss(trainer) < 0.9 * before


def test_a_loss_that_is_not_finite_stops_with_step_images_and_noise_levels(tmp_path):
    trainer = Trainer(settings(objective=Objective(), steps=24), latents(), 0, CPU)
    step = next(step for step in range(24) if 3 in draws.rows(0, step, 40, 8))
    trainer.latents[3] = float("nan")
    state = StateFolder(tmp_path, {})
    with pytest.raises(
        FloatingPointError,
        match=rf"step {step}: expected a finite loss, found none in 1 of 8 samples \(latents 3; t from .*no state was",
    ):
        train(trainer, state, lambda _: None, lambda: False, 1e9)
    assert list(tmp_path.iterdir()) == []


def test_divergence_is_measured_against_the_same_stage():
    calm = [1.0 + 0.1 * (i % 3) for i in range(12)]
    assert not diverges(calm, [10] * 12, 10.0)
    assert not diverges([*calm, 200.0], [10] * 13, 50.0), "one outlier is not five"
    assert diverges([*calm, *[20.0] * 5], [10] * 17, 10.0)
    assert not diverges([*calm, *[20.0] * 5], [10] * 12 + [20] * 5, 10.0), "another stage, another scale"
    assert not diverges(calm[:3] + [50.0] * 5, [10] * 8, 10.0), "too early to say"


def test_a_diverging_training_stops_with_advice(tmp_path):
    learning = Optimiser(name="adam", learning_rate=LearningRate(lr=1e-3))
    changes = {"objective": LDM, "curriculum": Curriculum(kind="constant", s0=99, s1=99), "log_every": 1, "steps": 60}
    made = settings(**changes, index=IndexDistribution(kind="uniform"), optimiser=learning)
    trainer = Trainer(made, latents(), 0, CPU)

    def beat(progress) -> None:
        if progress.step == 20:
            with torch.no_grad():
                trainer.network.output_conv.weight.fill_(100.0)

    with pytest.raises(FloatingPointError, match=r"step 2\d: expected losses below 10 times the median.*learning_rate"):
        train(trainer, StateFolder(tmp_path, {}), beat, lambda: False, 1e9)
    assert train(Trainer(made, latents(), 0, CPU), None, lambda _: None, lambda: False, 1e9).step == 60


@pytest.mark.parametrize("objective", [LCT, LDM], ids=["lct", "ldm"])
def test_micro_batches_add_up_to_the_batch(objective):
    changes = {"objective": objective, "batch": 16}
    if objective.kind == "denoising":
        changes |= {"curriculum": Curriculum(kind="constant", s0=99, s1=99), "index": IndexDistribution(kind="uniform")}
    one, parts = (Trainer(settings(**changes, micro_batch=size), latents().double(), 0, CPU) for size in (None, 5))
    for step in range(6):
        a, b = one.step(step, False)[0], parts.step(step, False)[0]
        torch.testing.assert_close(b.total, a.total, rtol=1e-12, atol=0)
        torch.testing.assert_close(b.diffusion, a.diffusion, rtol=1e-12, atol=0)
    for p, q in zip(one.network.parameters(), parts.network.parameters(), strict=True):
        torch.testing.assert_close(q, p, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("network", "message"), [({"block_norm": "batch"}, "found batch norm"), ({"dropout": 0.1}, "network.dropout 0")]
)
def test_a_batch_is_not_cut_where_that_would_change_the_result(network, message):
    whole = settings(network=dataclasses.replace(TINY, **network))
    with pytest.raises(ValueError, match=f"micro_batch: expected .*{message}"):
        dataclasses.replace(whole, micro_batch=4)
    with pytest.raises(ValueError, match=f"2 processes: expected .*{message}"):
        whole.check_processes(2)
    assert dataclasses.replace(whole, micro_batch=8).batch == 8, "a micro-batch that holds the batch cuts nothing"


def test_an_epoch_visits_every_row_once_and_drops_the_incomplete_batch():
    seen = torch.cat([draws.rows(0, step, 43, 8) for step in range(5)])
    assert len(seen) == 40 == len(set(seen.tolist())) and int(seen.max()) < 43
    following = torch.cat([draws.rows(0, step, 43, 8) for step in range(5, 10)])
    assert not torch.equal(seen, following)


def test_indices_follow_their_probabilities():
    probabilities = np.array([0.1, 0.0, 0.6, 0.3])
    drawn = draws.indices(0, 0, probabilities, 20_000).numpy()
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    np.testing.assert_allclose(shares, probabilities, atol=0.015)
    assert shares[1] == 0


def test_noise_is_a_function_of_seed_and_step_alone():
    first = draws.noise(0, 7, (4, 2), CPU)
    draws.noise(0, 8, (4, 2), CPU)
    assert torch.equal(first, draws.noise(0, 7, (4, 2), CPU))
    assert not torch.equal(first, draws.noise(0, 8, (4, 2), CPU))
    assert not torch.equal(first, draws.noise(1, 7, (4, 2), CPU))


def test_averages_follow_their_formula_and_copy_buffers():
    network = torch.nn.BatchNorm1d(3).double()
    averages = EMA(Flat(network), (0.9,))
    expected = network.weight.detach().numpy().copy()
    for step in range(4):
        with torch.no_grad():
            network.weight += step + 1
        network(torch.randn(8, 3, dtype=torch.float64))
        averages.update()
        expected = 0.9 * expected + 0.1 * network.weight.detach().numpy()
    weights = averages.weights(0.9)
    np.testing.assert_allclose(weights["weight"].numpy(), expected, rtol=1e-12)
    assert torch.equal(weights["running_mean"], network.running_mean)


def test_frozen_scales_stay_one_and_their_biases_move(tmp_path):
    network = dataclasses.replace(TINY, block_norm="non-scaling-layer", output_norm="non-scaling-layer")
    trainer, kept, _ = run(tmp_path, settings(network=network))
    scales = {n: p for n, p in trainer.network.named_parameters() if "norm" in n and n.endswith("weight")}
    biases = {n: p for n, p in trainer.network.named_parameters() if "norm" in n and n.endswith("bias")}
    assert scales and all(torch.equal(p, torch.ones_like(p)) for p in scales.values())
    assert any(p.abs().max() > 0 for p in biases.values())
    assert all(torch.equal(kept[0.9][n], torch.ones_like(p)) for n, p in scales.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": None}, "expected epochs or steps"),
        ({"epochs": 3}, "expected epochs or steps"),
        ({"batch": 0}, "expected 1 or more"),
        ({"emas": (0.9, 0.9)}, "expected different rates"),
        ({"steps": 2}, "expected at least 3 steps"),
        ({"batch": 12}, "expected a divisor of the batch 12"),
    ],
)
def test_contradictory_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)


def test_a_batch_larger_than_the_data_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batch: expected at most the 40 training images, found 48"):
        Trainer(settings(batch=48), latents(), 0, CPU)


def test_epochs_count_as_the_schedule_says():
    made = Training(batch=128, epochs=1400)
    assert made.schedule_steps(27_000) == made.total_steps(27_000) == 294_000
    assert Training(batch=128, epochs=1400, inclusive_epochs=True).total_steps(27_000) == 294_210


def test_kept_epochs_are_the_checkpoints_of_those_names():
    made = Training(batch=128, epochs=1400, keep_epochs=(175, 1375), inclusive_epochs=True, keep_steps=(7,))
    assert made.kept_steps(27_000) == [
        294_210,
        7,
        176 * 210,
        1376 * 210,
    ]  # written after the pass of that number, from 0
    assert Training(batch=128, epochs=1400, keep_epochs=(175,)).kept_steps(27_000) == [294_000, 175 * 210]
    for changes in ({"steps": 12, "keep_epochs": (1,)}, {"steps": None, "epochs": 3, "keep_epochs": (3,)}):
        with pytest.raises(ValueError, match="keep_epochs: expected"):
            settings(**changes)
    with pytest.raises(ValueError, match="keep_steps: expected steps from 1 to 12"):
        settings(keep_steps=(13,)).kept_steps(40)


@pytest.mark.parametrize("objective", [LCT, LDM], ids=["lct", "ldm"])
def test_memory_format_leaves_the_mathematics_alone(tmp_path, objective):
    plain_run = run(tmp_path / "a", settings(objective=objective))[1]
    other_run = run(tmp_path / "b", settings(objective=objective, memory_format="channels-last"))[1]
    for name, tensor in plain_run[0.9].items():
        torch.testing.assert_close(other_run[0.9][name], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_mixed_precision_changes_products_only(tmp_path):
    exact = Trainer(settings(), latents(), 0, CPU)
    mixed = Trainer(settings(mixed_precision="bfloat16"), latents(), 0, CPU)
    for step in range(3):  # a network that answers zero would hide the difference
        exact.step(step, False)
    mixed.network.load_state_dict(exact.network.state_dict())
    a, b = exact.terms(5).total, mixed.terms(5).total
    assert b.dtype == torch.float32 and a != b
    torch.testing.assert_close(a, b, rtol=0.05, atol=0)
    assert {p.dtype for p in mixed.network.parameters()} == {torch.float32}


def test_compilation_wraps_what_a_step_calls_and_nothing_else(tmp_path, monkeypatch):
    compiled = []

    def compile(network, mode=None):
        compiled.append(network)
        return lambda *inputs: network(*inputs)

    monkeypatch.setattr(torch, "compile", compile)
    expected = run(tmp_path / "a", settings())[1]
    assert compiled == []
    trainer, kept, _ = run(tmp_path / "b", settings(compile=True))
    assert compiled == [trainer.network] and all(equal(kept[rate], expected[rate]) for rate in expected)
    run(tmp_path / "c", settings(compile=True, objective=dataclasses.replace(LCT, target_ema=0.9)))
    assert len(compiled) == 3


# --- the job ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_job_ended_by_a_signal_goes_on_to_the_same_bytes(encoded):
    made = settings(steps=400, log_every=10)
    whole = subprocess.run(command(encoded, "whole", made), capture_output=True, text=True, check=True)
    assert "train" in whole.stdout and "400 steps" in whole.stdout
    process = subprocess.Popen(command(encoded, "parts", made), stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list((encoded / "work-parts").rglob("progress.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    if process.returncode == 75:  # it was caught before its end
        assert "interrupted: state saved at step" in output
        assert not (encoded / "parts").exists(), "no output before the end"
        subprocess.run(command(encoded, "parts", made), capture_output=True, text=True, check=True)
    names = sorted(p.name for p in (encoded / "whole").glob("step*.safetensors"))
    assert names == ["step400-ema0.5.safetensors", "step400-ema0.9.safetensors"]
    for name in [*names, "curves.json"]:
        assert sha256_file(encoded / "whole" / name) == sha256_file(encoded / "parts" / name)
    assert not list((encoded / "work-parts").rglob("state-*")), "a finished training leaves no state"


@pytest.mark.slow
def test_killed_or_stopped_while_it_saves_a_training_ends_in_the_same_bytes(encoded):
    """With a state after every step, some signals come within a save."""
    made = settings(steps=200, log_every=10)
    subprocess.run(command(encoded, "whole", made), capture_output=True, check=True)
    words = [*command(encoded, "parts", made), "--save-seconds", "0"]
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        states = {path.name for path in (encoded / "work-parts").rglob("state-*.json")}
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            now = {path.name for path in (encoded / "work-parts").rglob("state-*.json")}
            if len(now - states) >= 2:
                break
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode in (-9, 75, 0)
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    for path in [*(encoded / "whole").glob("step*.safetensors"), encoded / "whole" / "curves.json"]:
        assert sha256_file(path) == sha256_file(encoded / "parts" / path.name), done.stderr
    (folder,) = (path.parent for path in encoded.rglob("work-parts/*/attempts.jsonl"))
    assert sorted(path.name for path in folder.iterdir()) == ["attempts.jsonl", "events", "train.log"]


def test_a_state_of_other_settings_is_not_resumed_and_the_log_says_what_differs(encoded):
    first = run_job([*command(encoded, "out", settings(steps=400)), "--minutes", "1e-6"])
    assert first.returncode == 75 and "state saved at step 1 of 400 (wall time nearly over)" in first.stdout
    changed = settings(optimiser=Optimiser(learning_rate=LearningRate(kind="cosine", lr=2e-3)))
    second = run_job(command(encoded, "out", changed))
    assert "a state at step 1 is not resumed: " in second.stderr
    assert "settings.training.optimiser.learning_rate.lr: 0.001 there, 0.002 here" in second.stderr
    assert "settings.training.steps: 400 there, 12 here" in second.stderr
    assert "12 steps" in second.stdout


@pytest.mark.parametrize("damage", ["truncated", "nan", "statistics"])
def test_bad_latents_end_in_one_line(encoded, damage):
    path = encoded / "latents.safetensors"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
        expected = "latents.safetensors: expected a whole safetensors file"
    elif damage == "nan":
        z = 3.0 * latents(64) + 1.0
        z[5, 0, 0, 0] = float("nan")
        write_tensors(path, {"latents": z})
        expected = "image 5: expected finite latents"
    else:
        write_tensors(path, {"latents": 0.18215 * (3.0 * latents(64) + 1.0)})
        expected = "expected normalised latents of standard deviation 0.5 within 2 %"
    done = run_job(command(encoded, "out", settings()))
    assert done.returncode == 1
    assert done.stdout.startswith("error: ") and expected in done.stdout and len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr and not (encoded / "out").exists()


@pytest.mark.slow
def test_a_second_copy_waits_and_takes_what_the_first_has_published(encoded):
    """As after kill -9 of the scheduler alone: its training lives on, and a new one is started beside it."""
    made = settings(steps=600, log_every=10)
    first, second = (
        subprocess.Popen(command(encoded, "out", made), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    )
    said = [process.communicate(timeout=120) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0)
    assert sum("another copy has finished it" in out for out, _ in said) == 1
    assert sum("600 steps, loss" in out for out, _ in said) == 1
    assert sum("waiting: " in log for _, log in said) == 1
    alone = subprocess.run(command(encoded, "alone", made), capture_output=True, check=True)
    assert alone.returncode == 0
    for path in (encoded / "alone").glob("*.safetensors"):
        assert sha256_file(path) == sha256_file(encoded / "out" / path.name)


def test_a_chain_of_milestones_ends_in_the_bytes_of_trainings_without_one_with_a_lost_state_too(encoded):
    def job(out: str, step: int) -> str:
        values = {"recipe": 1, "training": plain(settings(keep_steps=(3, 6)))}
        inputs = (encoded / "latents.safetensors", encoded / "statistics.safetensors")
        return train_run(values, "cpu", 0, *inputs, encoded / f"work-{out}", encoded / out, step=step)

    def outputs(out: str) -> dict[str, str]:
        return {p.name: sha256_file(p) for p in (encoded / out).iterdir() if not is_record(p.name)}

    for step in (3, 6, 12):
        assert f"{step} steps" in job("chain", step)
    names = ["curves.json", "step12-ema0.5.safetensors", "step12-ema0.9.safetensors", "step3-ema0.9.safetensors"]
    assert sorted(outputs("chain")) == [*names, "step6-ema0.9.safetensors"], "before the end, the first average alone"
    (work,) = (encoded / "work-chain").glob("*/")
    assert sorted(path.name for path in work.iterdir()) == ["attempts.jsonl", "events", "train.log"]
    for step in (12, 6, 3):  # the last one without any state before it
        job("alone", step)
        if step == 6:
            (state,) = encoded.rglob("work-alone/*/state-*.safetensors")
            assert state.name == "state-000000006.safetensors", "the next job goes on from here"
    assert outputs("alone") == outputs("chain")
    assert (encoded / "chain" / "step3-ema0.9.safetensors.settings.json").read_bytes().replace(b"alone", b"chain") == (
        encoded / "chain" / "curves.json.settings.json"
    ).read_bytes()
    costs = [json.loads((encoded / "chain" / f"{name}.run.json").read_text())["cost"]["attempts"] for name in names]
    assert costs == [1] * 4, "each job's own attempts"
    with pytest.raises(ValueError, match=r"--step: expected a step that the run keeps, \[3, 6, 12\], found 5"):
        job("chain", 5)


@pytest.mark.slow  # each start writes its files through to the disk
def test_kill_9_at_ten_moments_of_three_milestones_leaves_the_same_bytes(tmp_path):
    words = [sys.executable, "-m", "tests.helpers.milestone_kills", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.endswith("\n10 kills: 5 of 5 files equal\n"), done.stdout + done.stderr


def take(folder: Path, weights: Path, digest: str) -> subprocess.CompletedProcess:
    given = {"path": str(weights), "sha256": digest}
    values = {"recipe": 1, "weights": given, "network": plain(TINY), "latent_shape": [2, 4, 4]}
    words = [
        sys.executable,
        "-m",
        "lct.jobs.import_weights",
        "--settings",
        json.dumps(values),
        "--weights",
        str(weights),
    ]
    words += ["--out", str(folder / "taken.safetensors"), "--device", "cpu"]
    return run_job(words)


def test_existing_weights_are_taken_when_hash_and_network_agree(encoded, tmp_path):
    _, kept, _ = run(tmp_path, settings())
    write_tensors(tmp_path / "own.safetensors", kept[0.9])
    digest = sha256_file(tmp_path / "own.safetensors")
    assert take(tmp_path, tmp_path / "own.safetensors", digest).returncode == 0
    taken = tmp_path / "taken.safetensors"
    assert equal(read_tensors(taken), kept[0.9]) and read_metadata(taken) == {"latent_shape": [2, 4, 4]}
    torch.save({"state_dict": {f"module.{name}": t for name, t in kept[0.9].items()}}, tmp_path / "own.pt")
    assert equal(read_state_dict(tmp_path / "own.pt", sha256_file(tmp_path / "own.pt")), kept[0.9])
    torch.save({"state_dict": {"a": subprocess.run}}, tmp_path / "code.pt")
    with pytest.raises(ValueError, match="expected a state dict of tensors alone"):
        read_state_dict(tmp_path / "code.pt")
    taken.unlink()
    wrong = take(tmp_path, tmp_path / "own.safetensors", "0" * 64)
    assert wrong.returncode == 1 and "expected sha256 0000" in wrong.stdout and digest in wrong.stdout
    del kept[0.9][next(iter(kept[0.9]))]
    write_tensors(tmp_path / "less.safetensors", kept[0.9])
    wrong = take(tmp_path, tmp_path / "less.safetensors", sha256_file(tmp_path / "less.safetensors"))
    assert wrong.returncode == 1 and "found 1 missing" in wrong.stdout and not taken.exists()
    assert len(wrong.stdout.splitlines()) == 1


def test_a_training_may_start_from_given_weights(encoded, tmp_path):
    _, kept, _ = run(tmp_path, settings(objective=LDM))
    trainer = Trainer(settings(), latents(), 0, CPU, initial={name: t.clone() for name, t in kept[0.9].items()})
    assert equal(dict(trainer.network.state_dict()), kept[0.9]) and equal(trainer.ema.weights(0.5), kept[0.9])
    write_tensors(encoded / "ldm.safetensors", kept[0.9])
    words = command(encoded, "tuned", settings())
    values = json.loads(words[words.index("--settings") + 1]) | {"init": {"run": "ldm", "weights": "step12-ema0.9"}}
    words[words.index("--settings") + 1] = json.dumps(values)
    done = run_job([*words, "--init", str(encoded / "ldm.safetensors")])
    assert done.returncode == 0, done.stdout
    record = json.loads((encoded / "tuned/curves.json.settings.json").read_text())
    assert record["inputs"]["init"]["sha256"] == sha256_file(encoded / "ldm.safetensors")
    assert record["settings"]["init"]["run"] == "ldm"
