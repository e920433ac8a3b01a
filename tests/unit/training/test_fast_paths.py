"""Every fast path against the plain one: same bits, or the same up to rounding; and what happens where it cannot be."""

import dataclasses
import json
import subprocess
import sys
import threading
from itertools import chain

import numpy as np
import pytest
import torch
from contest.authors import AuthorsTraining, with_einsum
from contest.training import Copied, Separate
from contest.transport import FINEST, auction, costs
from contest.turns import Row, Turns, show
from scipy.optimize import linear_sum_assignment

from lct.data import latents as resident
from lct.data.imageset import ImageSet, write_imageset
from lct.data.latents import LatentStatistics, check_normalised
from lct.files.tensors import map_tensor, write_tensors
from lct.jobs.sample import encoded
from lct.losses.settings import DiffusionTerm, Objective, Transport
from lct.networks.settings import Network
from lct.networks.unet import UNet
from lct.plan import settings as stage_settings
from lct.plan.plan import Plan
from lct.schedules import Curriculum, LearningRate, RobustScale
from lct.streams import generator
from lct.training import flat
from lct.training.draws import Prefetcher
from lct.training.flat import EMA, Flat, RAdam, rectification
from lct.training.settings import Optimiser, Training
from lct.training.trainer import Trainer
from tests.helpers import ROOT

CPU = torch.device("cpu")
TINY = Network(channels=16, channel_mult=(1, 2), blocks=1, attention_resolutions=(4,), head_channels=8)
TINY = dataclasses.replace(TINY, block_norm="non-scaling-layer", output_norm="non-scaling-layer")
LCT = Objective(
    loss="cauchy",
    scale=RobustScale(law="adaptive"),
    diffusion=DiffusionTerm(),
    transport=Transport(kind="exact", group=8),
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings(**changes) -> Training:
    values = {
        "network": TINY,
        "curriculum": Curriculum(s0=10, s1=40),
        "objective": LCT,
        "optimiser": Optimiser(learning_rate=LearningRate(lr=1e-3)),
        "batch": 8,
        "steps": 12,
        "emas": (0.9, 0.5),
    }
    return Training(**values | changes)


def decoder_latents(count: int = 40) -> tuple[torch.Tensor, LatentStatistics]:
    z = 3 * torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(1)) + 1
    return z, LatentStatistics(z.double().mean(0), z.double().std(0), 0.5)


def latents() -> torch.Tensor:
    z, statistics = decoder_latents()
    return statistics.normalise(z)


def losses(trainer: Trainer, steps: int = 12) -> list[float]:
    return [float(trainer.step(step, False)[0].total) for step in range(steps)]


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return dict(trainer.network.state_dict())


# ---- one buffer, fewer passes -----------------------------------------------------------------------------------


def test_a_training_with_one_buffer_is_the_training_tensor_by_tensor():
    """Parameters, moments, averages: torch's optimiser over a list of tensors against ours, from the same start."""
    ours, plain = Trainer(settings(), latents(), 0, CPU), Separate(settings(), latents(), 0, CPU)
    np.testing.assert_allclose(losses(ours), losses(plain), rtol=1e-5)
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(ours)[name], value, rtol=1e-4, atol=1e-6)
    names = [name for name, _ in plain.network.named_parameters()]
    averaged = ours.ema.weights(0.9)
    for name, value in zip(names, plain.separate[0.9], strict=True):
        torch.testing.assert_close(averaged[name], value, rtol=1e-4, atol=1e-6)


def test_parameters_are_views_of_one_buffer_and_keep_their_values():
    network = UNet(TINY, 4, 8, generator(0, "initial-weights"))
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    made = Flat(network)
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, before[name]) and parameter.stride() == before[name].stride()
        inside = parameter.untyped_storage().data_ptr() == made.values.untyped_storage().data_ptr()
        assert inside == parameter.requires_grad
    assert {name for name in before if "norm" in name and name.endswith("weight")} == set(made.frozen())
    assert made.values.numel() >= sum(p.numel() for p in network.parameters() if p.requires_grad)
    with torch.no_grad():
        made.values.fill_(2.0)
    assert all((p == 2).all() for p in network.parameters() if p.requires_grad)
    network.load_state_dict(before)
    assert torch.equal(network.input_conv.weight, before["input_conv.weight"]) and made.values.std() > 0


def test_gradients_arrive_in_the_buffer_and_are_those_of_separate_tensors():
    network = UNet(TINY, 4, 8, generator(0, "initial-weights")).double()
    plain = UNet(TINY, 4, 8, generator(0, "initial-weights")).double()
    made = Flat(network)
    x, label = torch.randn(3, 4, 8, 8, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for one in (network, plain):
        with torch.no_grad():
            one.output_conv.weight.fill_(0.1)
    for _ in range(2):  # the second adds to the first
        for one in (network, plain):
            one(x, label).square().sum().backward()
    found = made.views(made.gradient)
    for name, parameter in plain.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-12, atol=1e-12)
    made.gradient.zero_()
    assert all((p.grad == 0).all() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_radam_is_torchs(weight_decay, monkeypatch):
    monkeypatch.setattr(flat, "PIECE", 64)  # several pieces, the last of them shorter
    draws = torch.Generator().manual_seed(0)
    start = torch.randn(1000, dtype=torch.float64, generator=draws)
    values = {"lr": 0.03, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": weight_decay}
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    rules = RAdam([ours], **values), torch.optim.RAdam([theirs], **values)
    for step in range(40):
        gradient = torch.randn(1000, dtype=torch.float64, generator=draws) * (1 + step)
        for parameter, rule in zip((ours, theirs), rules, strict=True):
            parameter.grad = gradient.clone()
            rule.param_groups[0]["lr"] = 0.03 / (1 + step)
            rule.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)
    assert not torch.equal(ours.detach(), start)


def test_radam_takes_up_its_state():
    values = {"lr": 0.03, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
    draws = torch.Generator().manual_seed(0)
    gradients = torch.randn(12, 50, generator=draws)

    def run(parameter, rule, steps):
        for step in steps:
            parameter.grad = gradients[step].clone()
            rule.step()

    whole, parts = (torch.nn.Parameter(torch.ones(50)) for _ in range(2))
    run(whole, RAdam([whole], **values), range(12))
    first, second = RAdam([parts], **values), RAdam([parts], **values)
    run(parts, first, range(7))
    second.load_state_dict(first.state_dict())
    run(parts, second, range(7, 12))
    assert torch.equal(whole, parts)


def test_a_training_starts_without_torchs_compiler():
    lines = (
        "import sys, torch, lct.jobs.train",
        "from lct.jobs.job import device",
        "from lct.training.flat import RAdam",
        "device('cpu', threads=1)",
        "RAdam([torch.nn.Parameter(torch.ones(2))], 0.1, (0.9, 0.99), 1e-8, 0.0).state_dict()",
        "sys.exit('torch._dynamo' in sys.modules or not torch.are_deterministic_algorithms_enabled())",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, cwd=ROOT)


def test_rectification_begins_at_step_six_and_tends_to_one():
    assert [rectification(t, 0.999) is None for t in range(1, 8)] == [True] * 5 + [False] * 2
    assert 0.99 < rectification(10_000, 0.999) < 1


def test_averages_do_not_depend_on_how_the_buffer_is_cut(monkeypatch):
    found = []
    for piece in (7, 1 << 17):
        monkeypatch.setattr(flat, "PIECE", piece)
        made = Flat(UNet(TINY, 4, 8, generator(0, "initial-weights")))
        averages = EMA(made, (0.9, 0.999))
        for step in range(3):
            with torch.no_grad():
                made.values.add_(0.1 * (step + 1))
            averages.update()
        found.append(averages.state())
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-6, atol=1e-7)


# ---- the step's draws, made ahead --------------------------------------------------------------------------------


def test_draws_made_ahead_give_the_same_bytes():
    ahead, plain = (Trainer(settings(), latents(), 0, CPU, ahead=which) for which in (True, False))
    assert losses(ahead) == losses(plain)
    assert all(torch.equal(value, weights(plain)[name]) for name, value in weights(ahead).items())


def test_on_a_cpu_draws_are_made_in_the_step():
    assert Trainer(settings(), latents(), 0, CPU)._prefetcher is None


def test_the_next_result_is_made_while_this_one_is_used():
    started, release, made = threading.Event(), threading.Event(), []

    def work(step: int) -> int:
        made.append((step, threading.current_thread() is threading.main_thread()))
        if step == 1:
            started.set()
            assert release.wait(10)
        return 10 * step

    ahead = Prefetcher(work, lambda result: [], stop=3, device=CPU)
    assert ahead.get(0) == 0 and started.wait(10), "the second is on its way before it is asked for"
    release.set()
    assert ahead.get(1) == 10 and ahead.get(2) == 20
    assert made == [(0, True), (1, False), (2, False)], "nothing is made beyond the last step"
    assert ahead.get(1) == 10, "a step out of order is made when asked for"


def test_an_error_ahead_appears_in_its_own_step():
    def work(step: int) -> int:
        if step == 1:
            raise ValueError("transport: expected finite latents")
        return step

    ahead = Prefetcher(work, lambda result: [], stop=5, device=CPU)
    assert ahead.get(0) == 0
    with pytest.raises(ValueError, match="expected finite latents"):
        ahead.get(1)
    assert ahead.get(2) == 2


# ---- latents in memory, or in their file -------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path):
    z, statistics = decoder_latents()
    write_tensors(tmp_path / "latents.safetensors", {"a": torch.ones(3, dtype=torch.uint8), "latents": z})
    return tmp_path / "latents.safetensors", statistics


def test_latents_in_their_file_train_to_the_same_bytes(stored):
    path, statistics = stored
    memory, file = (resident.load_latents(path, statistics, CPU, where) for where in ("memory", "file"))
    assert isinstance(memory, torch.Tensor) and isinstance(file, resident.MappedLatents)
    assert torch.equal(memory, torch.cat(list(resident.parts(file)))) and file.shape == memory.shape
    a, b = (Trainer(settings(), data, 0, CPU) for data in (memory, file))
    assert losses(a) == losses(b)
    assert all(torch.equal(value, weights(b)[name]) for name, value in weights(a).items())


def test_a_map_is_the_stored_tensor_and_writing_to_it_leaves_the_file_alone(stored):
    path, _ = stored
    before, z = path.read_bytes(), decoder_latents()[0]
    mapped = map_tensor(path, "latents")
    assert torch.equal(mapped, z)
    mapped[0] = 0
    assert path.read_bytes() == before
    path.write_bytes(before[:-8])
    with pytest.raises(ValueError, match="expected a whole safetensors file, found damage"):
        map_tensor(path, "latents")


@pytest.mark.parametrize("free", [10_000, None, 10**9])
def test_latents_that_do_not_fit_are_read_from_their_file_and_the_log_says_so(stored, monkeypatch, caplog, free):
    path, statistics = stored
    monkeypatch.setattr(resident, "free_memory", lambda device: free)
    found = resident.load_latents(path, statistics, CPU)
    assert isinstance(found, resident.MappedLatents) == (free == 10_000)
    assert ("each step reads its own from the file, which is slower" in caplog.text) == (free == 10_000)
    assert check_normalised(resident.parts(found), statistics, "x") == pytest.approx(0.5, rel=0.01)


def test_free_memory_is_what_the_machine_or_the_batch_job_leaves(tmp_path, monkeypatch):
    assert 10**6 < resident.free_memory(CPU) < 10**14
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("2000\n")
    assert resident._left_by_cgroup(tmp_path) == 3000
    (tmp_path / "memory.max").write_text("max\n")
    assert resident._left_by_cgroup(tmp_path) is None and resident._left_by_cgroup(tmp_path / "none") is None
    monkeypatch.setattr(resident, "_available", lambda: None)
    monkeypatch.setattr(resident, "_left_by_cgroup", lambda: None)
    assert resident.free_memory(CPU) is None, "nobody tells: then memory it is"


# ---- what a device cannot do ---------------------------------------------------------------------------------------


def test_without_a_compiler_a_compiled_training_ends_in_one_line(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        ValueError, match="expected a C.. compiler for torch.compile, found no no-such-compiler"
    ) as error:
        Trainer(settings(compile=True), latents(), 0, CPU)
    assert "\n" not in str(error.value)
    assert Trainer(settings(), latents(), 0, CPU).online_pass is not None


def test_a_gpu_without_bfloat16_ends_in_one_line(monkeypatch):
    from lct.training.trainer import check_device

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    check_device(settings(), torch.device("cuda"))
    with pytest.raises(ValueError, match="expected a GPU with bfloat16, found Tesla V100; set it to off"):
        check_device(settings(mixed_precision="bfloat16"), torch.device("cuda"))


def test_cuda_graphs_need_compilation():
    with pytest.raises(ValueError, match="cuda_graphs: expected compile: true"):
        settings(cuda_graphs=True)


# ---- the baseline computes the same -----------------------------------------------------------------------------


def test_the_baseline_trains_as_ours_does():
    """What `make bench` compares is the same mathematics: losses agree step by step, and so do the weights."""
    z, statistics = decoder_latents()
    made = settings(steps=30)
    ours = Trainer(made, statistics.normalise(z), 0, CPU)
    baseline = AuthorsTraining(made, z, statistics, 0, CPU)
    np.testing.assert_allclose([baseline.step(step) for step in range(30)], losses(ours, 30), rtol=2e-3)
    gaps = [
        (p - q).norm() / q.norm().clamp(min=1e-3)
        for p, q in zip(baseline.network.parameters(), ours.network.parameters(), strict=True)
    ]
    assert max(gaps) < 0.05
    assert baseline.averages.keys() == {0.9, 0.5}


def test_a_copied_target_and_the_network_itself_are_the_same_target():
    assert losses(Copied(settings(), latents(), 0, CPU)) == losses(Trainer(settings(), latents(), 0, CPU))


def test_attention_by_einsum_is_attention():
    network = UNet(TINY, 4, 8, generator(0, "initial-weights")).double()
    block = next(b for b in network.decoder.values() if b.heads > 1)
    x = torch.randn(3, block.attention_out.out_features, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        block.attention_out.weight.normal_(generator=torch.Generator().manual_seed(0))
        plain = block._attend(x)
        with_einsum(network)
        torch.testing.assert_close(block._attend(x), plain, rtol=1e-5, atol=1e-6)
    assert plain.std() > 0.1


@pytest.mark.parametrize("size", [2, 7, 64])
def test_the_auction_assigns_as_the_exact_solver_does(size):
    for seed in range(20):
        draws = torch.Generator().manual_seed(seed)
        cost = costs(*(torch.randn(size, 4, 4, 4, generator=draws) for _ in range(2)))
        found, (_, best) = auction(cost), linear_sum_assignment(cost.numpy())
        assert sorted(found.tolist()) == list(range(size))
        rows = torch.arange(size)
        assert -1e-9 <= cost[rows, found].sum() - cost[rows, torch.from_numpy(best)].sum() <= size * FINEST


# ---- images --------------------------------------------------------------------------------------------------------


def test_images_encoded_beside_the_sampler_give_the_same_file(tmp_path):
    pixels = torch.randint(256, (50, 16, 16, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8).numpy()
    batches = [list(pixels[start : start + 20]) for start in range(0, 50, 20)]
    described = write_imageset(tmp_path / "a.zip", chain.from_iterable(encoded(batches)), name="x.zip")
    assert described == write_imageset(tmp_path / "b.zip", pixels, name="x.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert np.array_equal(ImageSet(tmp_path / "a.zip").array(), pixels)


def test_the_next_batch_is_made_while_one_is_encoded(monkeypatch):
    from lct.jobs import sample

    made, encoding, go_on = [], threading.Event(), threading.Event()

    def encode(image):
        encoding.set()
        assert go_on.wait(10)
        return image

    def batches():
        for number in range(4):
            made.append(number)
            if number == 1:  # asked for before the first was encoded
                assert encoding.wait(10)
                go_on.set()
            yield [number]

    monkeypatch.setattr(sample.imageset, "encode", encode)
    assert list(chain.from_iterable(encoded(batches()))) == [0, 1, 2, 3] == made


def test_a_failing_sampler_stops_the_writing(tmp_path):
    def batches():
        yield [np.zeros((4, 4, 3), np.uint8)]
        raise FloatingPointError("image 1 of draw 0: expected finite latents")

    with pytest.raises(FloatingPointError, match="image 1 of draw 0"):
        write_imageset(tmp_path / "a.zip", chain.from_iterable(encoded(batches())))
    with pytest.raises(ValueError, match="expected uint8"):
        write_imageset(tmp_path / "b.zip", chain.from_iterable(encoded([[np.zeros((4, 4, 3))]])))


# ---- start-up, and the benchmark's own arithmetic -----------------------------------------------------------------


VERBS = "cli.main; lct.cli.main.parser()"  # which loads them all


@pytest.mark.parametrize("module", ["jobs.download", "jobs.tables", "jobs.report", VERBS, "jobs.launch"])
def test_jobs_without_tensors_start_without_torch(module):
    """Importing torch alone is most of a short job: 1.3 of 1.5 seconds."""
    program = f"import sys, lct.{module}; print(sorted({{'torch', 'diffusers', 'matplotlib'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("words", "spared"), [("report --help", "lct.plan.plan"), ("audit --help", "lct.cli.show")])
def test_a_verb_loads_what_it_needs(words, spared):
    program = f"import sys; from lct.cli.main import parser; parser({words.split()}); print({spared!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_rows_compare_turn_by_turn():
    turns = Turns()
    for mine, theirs in ((0.1, 0.2), (0.2, 0.6), (0.4, 0.4)):
        for name, seconds in (("ours", mine), ("other", theirs)):
            turns.wall[name].append(seconds)
            turns.cpu[name].append(2 * seconds)
    row = turns.row("training", "x", "ours", "other", per=10)
    assert row.wall == row.cpu == pytest.approx((2, 3, 1))
    assert (row.ours_ms, row.other_ms) == pytest.approx((40, 80)), "a CPU's own time"
    text = show([row, Row("training", "y", note="not measured: no GPU")])
    assert "2.00  1.00-3.00" in text and text.splitlines()[2].endswith("not measured: no GPU")
    assert len({line.index("x") for line in text.splitlines() if " x " in line}) == 1


def test_a_plan_of_the_paper_still_builds_with_the_new_keys():
    plan = Plan(ROOT, {"scale": "paper"})
    training = stage_settings.train(plan, "celebahq-lct")["training"]
    assert training["compile"] is False and training["cuda_graphs"] is False and json.dumps(training)
