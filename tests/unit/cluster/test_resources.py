"""What jobs ask for: from the settings of their cell to the sbatch command line; GPUs of a workstation."""

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import AutoencoderKL
from snakemake.resources import Resources
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lct.cluster import cost_model
from lct.cluster.cost_model import CostModel, PlannedJob, state_bytes
from lct.cluster.doctor import check_names
from lct.cluster.launch import lease, visible_gpus
from lct.cluster.rates import AUTOENCODER_FLOPS, EXTRACTOR_FLOPS, card, card_name
from lct.cluster.resources import Cluster, Requests
from lct.cluster.run import plain_defaults
from lct.metrics.distances import BLOCK
from lct.networks.settings import Network, macs_and_activations
from lct.networks.unet import UNet
from lct.plan import files as stage_files
from lct.plan.plan import Plan
from lct.training.trainer import Trainer
from tests.helpers import ROOT

A100 = Cluster(partition="cpu", gpu_partition="gpu", gpu_type="a100")
NONE = Cluster(partition="cpu", gpu_partition="none")
SMALL = {"channels": 32, "channel_mult": (1, 2), "blocks": 1, "attention_resolutions": (4,)}


@pytest.fixture(scope="module")
def paper() -> Plan:
    return Plan(ROOT, {"scale": "paper"})


def requested(plan: Plan, kind: str, stage: str, owner: str, cluster: Cluster = A100, attempt: int = 1) -> dict:
    request = Requests(plan, cluster).of(kind, stage, owner)
    return {key: value(None, attempt) if callable(value) else value for key, value in request.items()}


@pytest.mark.parametrize(("settings", "side"), [(SMALL, 8), ({}, 32), ({"block_norm": "non-scaling-layer"}, 32)])
def test_macs_and_activations_are_what_torch_counts_and_autograd_keeps(settings, side):
    network, batch = UNet(Network(**settings), 4, side), 2
    own = {p.untyped_storage()._cdata for p in network.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept.update({} if storage._cdata in own else {storage._cdata: (storage.nbytes() // 4, tensor)})
        return tensor

    x, label = torch.empty(batch, 4, side, side, device="meta"), torch.empty(batch, device="meta")
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with FlopCounterMode(display=False) as counter, hooks:
        network(x, label)
    macs, activations = macs_and_activations(Network(**settings), 4, side)
    assert macs == pytest.approx(counter.get_total_flops() / 2 / batch, rel=0.05)
    assert activations == pytest.approx(sum(size for size, _ in kept.values()) / batch, rel=0.1)


@pytest.mark.parametrize("rate", [0.0, 0.95])
def test_a_state_is_as_large_as_what_a_trainer_saves(rate):
    plan = Plan(ROOT, {"scale": "smoke"})
    run = plan.runs["digits-lct"]
    settings = dataclasses.replace(
        run.training, objective=dataclasses.replace(run.training.objective, target_ema=rate), steps=9
    )
    plan.runs["digits-lct"] = dataclasses.replace(run, training=settings)
    trainer = Trainer(settings, torch.randn(64, *plan.datasets["digits"].latent_shape), 0, torch.device("cpu"))
    trainer.step(0, measure_gradient=False)
    saved = sum(tensor.numel() * tensor.element_size() for tensor in trainer.tensors().values())
    assert saved == pytest.approx(state_bytes(plan, "digits-lct"), rel=1e-3), "beside them, step counts only"


@pytest.mark.parametrize("extra, options", [("", "--signal"), ("--exclude=node7", "--exclude=node7 --signal")])
def test_options_for_all_jobs_are_those_of_trainings_too(extra, options):
    requests = Requests(Plan(ROOT, {"scale": "smoke"}), Cluster(slurm_extra=extra))
    assert requests.of("gpu_train", "train", "digits-lct")["slurm_extra"] == f"{options}=USR1@300"
    assert "slurm_extra" not in requests.of("cpu", "score", "digits-lct"), "these have the profile's"


def test_a_larger_batch_and_network_need_more(paper):
    small = requested(paper, "gpu_train", "train", "celebahq-ilct")
    norm = requested(paper, "gpu_train", "train", "celebahq-lct")
    large_plan = Plan(ROOT, {"scale": "paper"})
    script = next(run for run in paper.runs.values() if run.id.startswith("church") and run.training.batch >= 1536)
    large = requested(large_plan, "gpu_train", "train", script.id)
    assert small["mem_mb"] < norm["mem_mb"] < large["mem_mb"] and small["gpu"] == norm["gpu"] == 1 < large["gpu"]
    assert (
        requested(paper, "gpu_train", "train", "celebahq-lct", Cluster(gpu_partition="g", gpu_type="nvidia_a10"))["gpu"]
        > 1
    )


@pytest.mark.parametrize(
    ("kind", "memory", "like"),
    [
        ("nvidia_h100_80gb_hbm3", 80, "h100"),
        ("nvidia_a100-sxm4-80gb", 80, "a100"),
        ("a100", 40, "a100"),
        ("A100-PCIE-40GB", 40, "a100"),
        ("a100_80g", 80, "a100"),
        ("nvidia_gh200_480gb", 96, "gh200"),
        ("NVIDIA L40S", 48, "l40s"),
        ("h100nvl", 80, "h100"),
        ("rtx_6000_48gb", 48, None),
        ("unspecified", 40, None),
    ],
)
def test_gpu_types_are_read_as_clusters_spell_them(kind, memory, like):
    assert card(kind).memory == memory * 1e9 and card(kind).flops == card(like).flops
    assert (card_name(kind) or None) == like and card(kind, 94).memory == 94e9


def test_a_slice_of_a_gpu_counts_as_one_and_a_gpu_without_code_is_refused(paper):
    part = card("a100_3g.20gb")
    assert part.memory == 20e9 and part.flops == pytest.approx(3 / 7 * card("a100").flops)
    for kind in ("v100", "tesla_v100-sxm2-32gb", "nvidia_p100"):
        with pytest.raises(ValueError, match="compute capability 7.5 or newer, found"):
            card(kind)
    spelt, short = (
        requested(paper, "gpu_train", "train", "church-lct", Cluster(gpu_partition="g", gpu_type=kind))
        for kind in ("nvidia_h100_80gb_hbm3", "h100")
    )
    assert (spelt["gpu"], spelt["runtime"], spelt["mem_mb"]) == (short["gpu"], short["runtime"], short["mem_mb"])
    assert Cluster.of({"gpu_partition": "g", "gpu_type": "unspecified", "gpu_memory": 80}).machine().memory == 80e9


def test_the_autoencoders_operations_are_what_torch_counts():
    blocks = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 4}
    blocks |= {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    with torch.device("meta"), torch.no_grad():
        vae, image, latent = AutoencoderKL(**blocks), torch.empty(1, 3, 256, 256), torch.empty(1, 4, 32, 32)
        for work, call in (("encode", lambda: vae.encode(image)), ("decode", lambda: vae.decode(latent))):
            with FlopCounterMode(display=False) as counter:
                call()
            assert counter.get_total_flops() == pytest.approx(AUTOENCODER_FLOPS[work], rel=0.02)


def test_the_operations_of_vgg16_are_what_torch_counts():
    layers, width = [], 3
    for channels in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        layers += [nn.Conv2d(width, channels, 3, padding=1)] if channels else [nn.MaxPool2d(2)]
        width = channels or width
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        nn.Sequential(*layers, nn.Flatten(), nn.Linear(25088, 4096), nn.Linear(4096, 4096)).to("meta")(
            torch.empty(1, 3, 224, 224)
        )
    assert counter.get_total_flops() == pytest.approx(EXTRACTOR_FLOPS["vgg16"], rel=0.02)


def test_mixed_precision_asks_for_as_many_gpus(paper):
    run = paper.runs["celebahq-lct"]
    mixed = dataclasses.replace(run, training=dataclasses.replace(run.training, mixed_precision="bfloat16"))
    plan, small = Plan(ROOT, {"scale": "paper"}), Cluster(gpu_partition="g", gpu_type="nvidia_a10")
    plan.runs["celebahq-lct"] = mixed
    counts = [requested(one, "gpu_train", "train", "celebahq-lct", small)["gpu"] for one in (paper, plan)]
    assert counts[0] == counts[1] > 1


def test_no_job_asks_for_more_time_than_the_partitions_allow(paper):
    short = Cluster(partition="cpu", gpu_partition="gpu", gpu_type="a100", longest=240)
    for run in paper.runs:
        for kind, stage in (("gpu_train", "train"), ("gpu_small", "sample"), ("gpu_small", "score")):
            assert requested(paper, kind, stage, run)["runtime"] <= 1440
            assert requested(paper, kind, stage, run, short)["runtime"] <= 240
    assert Requests(paper, A100).seconds(PlannedJob("train", "celebahq-lct")) > 10 * 3600, (
        "a training of a day or so is not minutes"
    )


@pytest.mark.parametrize("scale", ["smoke", "mini"])
def test_small_scales_ask_for_little(scale):
    plan = Plan(ROOT, {"scale": scale})
    for run in plan.runs:
        found = requested(plan, "gpu_train", "train", run)
        assert (
            found["mem_mb"] < 5000
            and found["runtime"] == 60
            and found["gpu"] == 1
            and Requests(plan, A100).sampled_and_scored_together(run)
        )


def test_a_figure_asks_for_one_gpu_and_reading_files_for_threads(paper):
    assert requested(paper, "gpu_train", "figure", "figure1")["gpu"] == 1
    assert Requests(paper, A100).seconds(PlannedJob("figure", "figure1")) > 600
    assert requested(paper, "cpu", "images", "celebahq")["cpus_per_task"] == 9
    assert requested(Plan(ROOT, {"scale": "mini"}), "cpu", "images", "digits")["cpus_per_task"] == 2


def test_neighbours_ask_for_the_features_of_all_training_images(paper):
    needs = {run: requested(paper, "gpu_small", "neighbours", run)["mem_mb"] for run in ("celebahq-lct", "church-lct")}
    for run, images in (("celebahq-lct", 27_000), ("church-lct", 200_000)):
        assert needs[run] >= 4000 + 2 * images * 4096 * 4 / 1e6, run
    assert CostModel(paper, A100.machine()).memory(PlannedJob("neighbours", "church-lct")) < 9e9
    assert BLOCK == cost_model._BLOCK


def test_copying_an_autoencoder_asks_for_no_gpu_and_training_it_for_one(paper):
    copied = requested(paper, "gpu_small", "autoencoder", "celebahq")
    assert copied["gpu"] == 0 and not {"gpu_model", "slurm_partition"} & copied.keys()
    assert requested(Plan(ROOT, {"scale": "mini"}), "gpu_small", "autoencoder", "digits")["gpu"] == 1


def test_figures_of_latents_ask_for_the_memory_of_their_latents_and_pairs(paper):
    couplings, losses = (requested(paper, "cpu", "figure", name) for name in ("figure3", "figure2"))
    latents, pairs = 27_000 * 4096 * 4, 4096**2 * 8
    assert couplings["mem_mb"] >= losses["mem_mb"] + (2 * latents + 3 * pairs) / 1e6
    assert "gpu" not in couplings and couplings["cpus_per_task"] == 2


def test_sampling_that_takes_hours_is_no_group(paper):
    assert not Requests(paper, A100).sampled_and_scored_together("celebahq-ldm")


def test_memory_grows_with_the_attempt_and_never_below_what_the_executor_needs():
    plan = Plan(ROOT, {"scale": "smoke"})
    amounts = [requested(plan, "cpu", "images", "digits", attempt=n)["mem_mb"] for n in (1, 2, 3)]
    assert amounts == sorted(set(amounts)) and amounts[0] >= 400
    assert requested(plan, "local", None, None)["mem_mb"] >= 400


def test_a_cluster_without_gpus_and_a_machine_without_a_profile_are_asked_for_none():
    plan = Plan(ROOT, {"scale": "smoke"})
    for cluster in (NONE, Cluster()):
        found = requested(plan, "gpu_train", "train", "digits-lct", cluster)
        assert found["gpu"] == 0 and not {"gpu_model", "slurm_partition"} & found.keys()
    with_type = requested(plan, "gpu_small", "sample", "digits-lct")
    assert (with_type["gpu"], with_type["gpu_model"], with_type["slurm_partition"]) == (1, "a100", "gpu")
    assert with_type["nodes"] == 1


def test_the_slurm_profile_says_everything_in_one_place():
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    assert profile["executor"] == "slurm" and profile["slurm-requeue"] is True and profile["retries"] == 2
    edited = {"slurm_account", "slurm_partition", "gpu_partition", "gpu_type"}
    assert edited | {"longest", "nodes", "save_minutes"} == profile["default-resources"].keys()
    assert not {"slurm-array-jobs", "slurm-no-requeue", "set-resources", "groups"} & profile.keys()
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    assert "retries:" not in rules, "retries of a rule multiply with the profile's"


def test_the_profiles_examples_are_read_as_they_stand():
    text = (ROOT / "profiles/slurm/config.yaml").read_text()
    profile = yaml.safe_load(re.sub(r"^  # (\w+: )", r"  \1", text, flags=re.MULTILINE))
    assert {"gpu_memory", "qos", "constraint", "gres", "slurm_extra"} <= profile["default-resources"].keys()
    words = [f"{key}={value}" for key, value in profile["default-resources"].items()]
    cluster = Cluster.of(plain_defaults(Resources.parse(words, allow_expressions=True)))
    assert (cluster.qos, cluster.constraint, cluster.gres) == ("normal", "a100&ib", "tmpdisk:100")
    assert cluster.slurm_extra == "--exclude=node7"
    assert cluster.machine().memory == 80e9 and [finding.level for finding in check_names(cluster, "main")] == ["ok"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("slurm_extra", "--comment='a", 'options of sbatch, with quotes in pairs, found "--comment=\'a"'),
        ("slurm_extra", "--comment=a\\", "options of sbatch"),
        ("gpu_memory", "80GB", "GB of a GPU, as a number, found '80GB'"),
        ("gpu_memory", float("nan"), "GB of a GPU"),
        ("gpu_memory", [80], "GB of a GPU"),
        ("longest", "1-00:00:00", "whole minutes, 1 or more, found '1-00:00:00'"),
        ("longest", 0, "whole minutes, 1 or more, found 0"),
    ],
)
def test_values_of_a_profile_that_are_none_are_named_at_the_start(key, value, message):
    with pytest.raises(ValueError, match=rf"^default-resources: {key}: expected {re.escape(message)}") as caught:
        Cluster.of({"slurm_partition": "main", key: value})
    assert str(caught.value).endswith("; correct it in the profile") and "\n" not in str(caught.value)


def test_one_pair_of_quotes_of_a_profiles_value_is_snakemakes():
    extra = '--comment="a b" --exclude="node 7"'
    words = [f"slurm_extra='{extra}'", "longest=60", "constraint='a|b'"]
    defaults = plain_defaults(Resources.parse(words, allow_expressions=True))
    assert defaults["slurm_extra"] == extra and defaults["constraint"] == "a|b"
    assert Cluster.of(defaults).slurm_extra == extra and Cluster.of(defaults).longest == 60


def submitted(tmp_path: Path, scale: str, rule: str, target: str, inputs: list[str], *words: str) -> list[str]:
    """The sbatch command line of a rule, from an sbatch that writes it down and refuses."""
    project = tmp_path / "project"
    project.mkdir()
    for name in ("Snakefile", "workflow", "config", "lct", "profiles", "reports"):
        (project / name).symlink_to(ROOT / name)
    for name in inputs:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("")
    tools = tmp_path / "bin"
    tools.mkdir()
    program = "import json, sys; print(json.dumps(sys.argv[1:]), file=open({!r}, 'a')); sys.exit('refused')"
    script = f'#!/bin/sh\nexec {sys.executable} -c {shlex.quote(program.format(str(tmp_path / "calls")))} "$@"\n'
    for name in ("sbatch", "sinfo", "squeue", "sacct", "scontrol", "sacctmgr"):
        answers = {"sbatch": script, "sacctmgr": "#!/bin/sh\necho main\n"}
        (tools / name).write_text(answers.get(name, "#!/bin/sh\nexit 0\n"))
        (tools / name).chmod(0o755)
    command = [sys.executable, "-m", "snakemake", target, "--allowed-rules", rule]
    command += ["--profile", "profiles/default", "--workflow-profile", "profiles/slurm", "--retries", "0"]
    command += ["--slurm-init-seconds-before-status-checks", "1"]
    environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [*command, *words, "--config", f"scale={scale}"], cwd=project, env=environment, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert f"failed on the cluster: {rule}: SLURM sbatch failed. The error message was 'refused'" in done.stderr
    (call,) = (tmp_path / "calls").read_text().splitlines()
    return json.loads(call)


@pytest.mark.usefixtures("warm_programs")
def test_the_command_line_of_a_training_on_the_papers_scale(tmp_path, paper):
    run = "celebahq-lct"
    inputs = [
        stage_files.latents(paper, "celebahq", name) for name in ("latents.safetensors", "statistics.safetensors")
    ]
    first = paper.milestones(run)[0]
    target = paper.paths.weights(run, 0, paper.weights_at(run, first)[0])
    line = submitted(tmp_path, "paper", f"train_celebahq_lct_{first}", target, inputs)
    expected = ["--nodes=1", "--requeue", "--gpus=1", "--signal=USR1@300", "--cpus-per-task=2"]
    assert set(expected) <= set(line), line
    assert line[line.index("-p") + 1] == "main" and line[line.index("-A") + 1] == "main"
    assert 60 < int(line[line.index("-t") + 1]) < 720, "a milestone is a share of the training"
    assert int(line[line.index("--mem") + 1]) > 8000
    assert line[line.index("--job-name") + 1].startswith("lct_")
    assert not any("B:" in word for word in line if word.startswith("--signal")) and "--array" not in line


@pytest.mark.usefixtures("warm_programs")
def test_the_command_line_of_a_job_without_a_gpu(tmp_path):
    plan = Plan(ROOT, {"scale": "smoke"})
    line = submitted(tmp_path, "smoke", "images", plan.paths.images("digits", "train"), [])
    assert not any(word.startswith(("--gpus", "--gres", "--signal")) for word in line)


def test_default_resources_are_read_as_plain_values():
    given = Resources.parse(["slurm_partition=gpu-a", "longest=600", "gpu_type='a100'"], allow_expressions=True)
    assert plain_defaults(given) == {"slurm_partition": "gpu-a", "longest": 600, "gpu_type": "a100"}
    assert plain_defaults(None) == {}


# --- GPUs of a workstation ------------------------------------------------------------------------------------------
HOLDER = """
import sys, time
from pathlib import Path
from lct.cluster.launch import lease
import os
gpus = [str(n) for n in range(int(sys.argv[2]))]
lease(int(sys.argv[1]), gpus, Path(sys.argv[3]), lambda _: time.sleep(0.05))
log = open(sys.argv[4], "a")
log.write(f"{os.getpid()} + {os.environ['CUDA_VISIBLE_DEVICES']}\\n"); log.flush()
time.sleep(0.3)
log.write(f"{os.getpid()} - {os.environ['CUDA_VISIBLE_DEVICES']}\\n"); log.flush()
"""


def test_two_jobs_never_share_a_gpu(tmp_path):
    words = [str(tmp_path / "locks"), str(tmp_path / "log")]
    counts = ["1", "2", "1", "2", "1", "1"]
    jobs = [subprocess.Popen([sys.executable, "-c", HOLDER, count, "3", *words], cwd=ROOT) for count in counts]
    assert [job.wait(timeout=120) for job in jobs] == [0] * len(jobs)
    used: set[str] = set()
    events = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert len(events) == 2 * len(jobs)
    for _, sign, names in events:
        gpus = set(names.split(","))
        assert not (gpus & used) if sign == "+" else gpus <= used
        used = used | gpus if sign == "+" else used - gpus


def test_a_lock_goes_on_when_the_process_becomes_another_program_and_ends_with_it(tmp_path, monkeypatch):
    program = (
        "import os, sys; from pathlib import Path; from lct.cluster.launch import lease; "
        f"lease(1, ['0'], Path({str(tmp_path)!r})); os.execvp('sleep', ['sleep', '60'])"
    )
    other = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    deadline = time.monotonic() + 60
    while b"sleep" not in Path(f"/proc/{other.pid}/cmdline").read_bytes()[:6] and time.monotonic() < deadline:
        time.sleep(0.05)
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 3:
            other.kill()
            other.wait()

    assert lease(1, ["0"], tmp_path, sleep) == ["0"] and len(waited) == 3


@pytest.mark.usefixtures("warm_programs")
def test_a_job_without_a_scheduler_sees_the_gpu_it_has_leased_and_no_other(tmp_path):
    (tmp_path / "token").write_text("x")
    words = ["probe", "--token", str(tmp_path / "token"), "--out", str(tmp_path / "answer.json")]
    environment = {name: value for name, value in os.environ.items() if name not in ("LCT_DEVICE", "SLURM_JOB_ID")}
    environment |= {"CUDA_VISIBLE_DEVICES": "0,1,2", "TMPDIR": str(tmp_path)}
    for gpus, given in ((2, 2), (0, 3)):
        command = [sys.executable, "-m", "lct.jobs.launch", "--gpus", str(gpus), *words]
        subprocess.run(command, env=environment, check=True)
        assert json.loads((tmp_path / "answer.json").read_text())["given_gpus"] == given
    done = subprocess.run([*command[:3], "--gpus", "4", *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout.startswith("error: launch: GPUs: expected 4 or more, found 3")


@pytest.mark.usefixtures("warm_programs")
def test_the_workstations_profile_gives_every_job_of_the_gpu_classes_a_gpu(tmp_path):
    for name in ("Snakefile", "workflow", "config", "lct", "profiles", "reports"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "snakemake", "-n", "-p", "--quiet", "progress", "--config", "scale=smoke"]
    command += ["--profile", "profiles/default", "--workflow-profile", "profiles/workstation"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    started = [line for line in (done.stdout + done.stderr).splitlines() if "lct.jobs.launch" in line]
    assert len(started) == 18 and all(" --gpus 1 " in line for line in started)
    profile = yaml.safe_load((ROOT / "profiles/workstation/config.yaml").read_text())
    assert profile["resources"]["gpu"] >= 2, "no more of them at a time than there are GPUs"


def test_every_job_that_may_use_a_gpu_is_started_on_those_it_asked_for():
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        rules = path.read_text().split("rule ")
        for text in (part for rule in rules for part in rule.split("\n    rule:")):
            assert ("gpu_" in text and "resource_class" in text) <= ("LAUNCH" in text), f"{path.name}: {text[:60]}"


def test_too_few_gpus_stop_with_one_line(tmp_path):
    with pytest.raises(ValueError, match="expected 2 or more, found 1"):
        lease(2, ["0"], tmp_path)


def test_gpus_are_those_of_the_environment_or_of_the_driver(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-1f,-1")
    assert visible_gpus() == ["3", "GPU-1f"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nprintf '0\\n1\\nNo devices\\n'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert visible_gpus() == ["0", "1"]
