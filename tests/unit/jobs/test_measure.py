"""`lct measure`: rehearsed on a CPU where only torch and a few packages exist; and who reads its file."""

import importlib.metadata
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from lct.cluster.rates import AUTOENCODER_FLOPS, EXTRACTOR_FLOPS, Work, card, machine, this_machine
from lct.cluster.resources import Cluster, Requests
from lct.config.devices import Device, Switch
from lct.config.schema import build
from lct.jobs import measure, measure_nodes
from lct.plan.plan import Plan
from tests.helpers import ROOT

ALLOWED = ("torch", "numpy", "scipy", "PyYAML", "safetensors")
BLOCKED = """
import runpy, sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {blocked} else self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Without, sys.meta_path)
sys.argv[0] = "measure"
runpy.run_module("lct.jobs.measure", run_name="__main__")
"""


def other_modules() -> set[str]:
    """Top-level modules of installed packages that are neither allowed nor needed by those that are."""
    needed, pending = set(), list(ALLOWED)
    while pending:
        name = re.sub(r"[-_.]+", "-", pending.pop()).lower()
        if name not in needed:
            needed.add(name)
            try:
                pending += [
                    re.split(r"[^A-Za-z0-9._-]", r)[0]
                    for r in importlib.metadata.requires(name) or []
                    if "extra" not in r
                ]
            except importlib.metadata.PackageNotFoundError:
                continue
    owners = importlib.metadata.packages_distributions()
    names = {module: {re.sub(r"[-_.]+", "-", name).lower() for name in of} for module, of in owners.items()}
    return {module for module, of in names.items() if not of & needed} - {"lct", "_pytest"}


@pytest.mark.slow
def test_it_is_rehearsed_on_a_cpu_where_only_a_few_packages_exist(tmp_path):
    blocked = other_modules()
    assert {"pydantic", "diffusers", "ot", "snakemake", "PIL", "torch_fidelity"} <= blocked and "torch" not in blocked
    words = [
        "--channels",
        "8",
        "--side",
        "32",
        "--batch",
        "2",
        "--minutes",
        "20",
        "--seconds",
        "0.1",
        "--write-gb",
        "0.01",
    ]
    words += ["--device", "cpu", "--out", str(tmp_path / "small.yaml")]
    command = [sys.executable, "-c", BLOCKED.format(blocked=blocked), *words]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "CXX": "no-compiler"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    device = build(Device, yaml.safe_load((tmp_path / "small.yaml").read_text()), "small")
    assert {rate.work for rate in device.rates} == {"start", "train", "evaluate"}
    assert "decode, encode, score: not measured, without diffusers and torchvision" in done.stderr
    switches = {switch.name: switch for switch in device.switches}
    assert switches["as it is"].loss_difference == 0 and switches["as it is"].milliseconds > 0
    assert switches["channels-last"].loss_difference < 1e-3 < 1 > switches["bfloat16"].loss_difference > 0
    assert "found no no-compiler" in switches["compiled"].note and switches["compiled, as CUDA graphs"].note == "no GPU"
    assert device.all_reduce_gb_per_second > 0 and device.write_gb_per_second > 0 and not device.gpu
    assert "a rehearsal, for no plan" in done.stdout and "written:" in done.stdout
    assert not list((tmp_path / "work").iterdir())


def test_the_networks_do_what_those_of_the_paper_do():
    run = Plan(ROOT, {"scale": "paper"}).runs["celebahq-lct"].training
    ours = replace(measure.celebahq_lct(), steps=None, epochs=run.epochs)
    length = {"epochs", "keep_epochs", "inclusive_epochs", "log_every"}
    assert [f.name for f in fields(run) if getattr(run, f.name) != getattr(ours, f.name) and f.name not in length] == []


def operations(network: torch.nn.Module, work: str, *shape: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        getattr(network, work)(torch.empty(shape, device="meta"))
    return counter.get_total_flops()


def test_the_networks_of_images_have_the_operations_that_plans_count():
    with torch.device("meta"):
        vae, inception = measure.autoencoder(), measure.inception().eval()
    for work, shape in (("encode", (1, 3, 256, 256)), ("decode", (1, 4, 32, 32))):
        assert operations(vae, work, *shape) == pytest.approx(AUTOENCODER_FLOPS[work], rel=0.02)
    assert operations(inception, "forward", 1, 3, 299, 299) == pytest.approx(EXTRACTOR_FLOPS["inception"], rel=0.01)
    assert sum(p.numel() for p in inception.parameters()) == 21_785_568  # 23.8 million with the classes' layer


def test_all_networks_of_a_run_are_measured():
    meter = measure.Meter(torch.device("cpu"), minutes=20, seconds=0.01, most=1)
    measure.measure_networks(measure.celebahq_lct(channels=8, batch=2), meter, side=32)
    rates = {rate.work: rate for rate in meter.rates}
    assert list(rates) == ["evaluate", "decode", "encode", "score"] and {r.side for r in meter.rates} == {None, 32}
    assert all(rate.per_second > 0 for rate in meter.rates) and rates["decode"].what.endswith("sd-vae-ft-ema, batch 1")


def test_a_lock_that_another_node_holds_is_seen(tmp_path, monkeypatch):
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda rank: measure_nodes.hold_or_look(tmp_path / "a.lock", rank), (0, 1)))
    assert answers == ["", "seen"]
    monkeypatch.setattr(measure_nodes, "acquire", lambda *_: open(tmp_path / "x", "a"))  # a file system without locks
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda rank: measure_nodes.hold_or_look(tmp_path / "b.lock", rank), (0, 1)))
    assert answers == ["", "unseen"]
    assert measure_nodes.lock_between_nodes(tmp_path) is None
    (tmp_path / "srun").write_text("#!/bin/sh\necho; echo seen\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    assert measure_nodes.lock_between_nodes(tmp_path) is True
    (tmp_path / "srun").write_text("#!/bin/sh\necho unseen\n")
    assert measure_nodes.lock_between_nodes(tmp_path) is False


def test_the_advice_names_the_fastest_exact_switch_and_leaves_the_numbers_alone():
    def switch(name: str, milliseconds: float | None) -> Switch:
        note = "" if milliseconds else "no compiler"
        changes = measure.SWITCHES[name]
        return Switch(name=name, training=changes, milliseconds=milliseconds, loss_difference=1e-3, note=note)

    plain = switch("as it is", 100.0)
    lines = measure.advice(
        [plain, switch("channels-last", 80.0), switch("bfloat16", 50.0), switch("compiled", None)], "h100"
    )
    text = "\n".join(lines)
    assert "`memory_format: channels-last` under `training:`" in text and "compiled: not measured (no compiler)" in text
    assert "`mixed_precision: bfloat16` is faster too, and changes the numbers" in text
    assert lines[-1] == "what it costs now: lct plan --scale paper --device h100"
    slower = [plain, switch("channels-last", 99.0), switch("float32", 300.0)]
    assert "leave the switches as they are" in "\n".join(measure.advice(slower, "h100"))


def test_files_are_named_as_clusters_spell_the_card():
    names = {"NVIDIA A100-SXM4-80GB": "a100", "NVIDIA H100 80GB HBM3": "h100", "NVIDIA GH200 480GB": "gh200"}
    names |= {"NVIDIA L40S": "l40s", "NVIDIA GeForce RTX 4090": "nvidia-geforce-rtx-4090"}
    assert {name: measure.file_name(name) for name in names} == names


@pytest.fixture
def project(tmp_path):
    """A project with a measured H100, ten times as fast as its data sheet lets expect."""
    for part in ("config", "lct"):
        (tmp_path / part).mkdir()
    for path in (ROOT / "config").iterdir():
        if path.name != "devices":
            (tmp_path / "config" / path.name).symlink_to(path)
    devices = tmp_path / "config" / "devices"
    devices.mkdir()
    (devices / "xeon.yaml").symlink_to(ROOT / "config" / "devices" / "xeon.yaml")
    macs = Plan(ROOT, {"scale": "paper"}).macs_and_activations_of("celebahq-lct")[0]
    rate = {"work": "train", "per_second": 10 * card("h100").flops, "unit": "FLOPs", "macs": macs, "what": "x"}
    content = {"title": "H100", "gpu": True, "card": "NVIDIA H100 80GB HBM3", "memory": 85.0, "measured": "x"}
    (devices / "h100.yaml").write_text(yaml.safe_dump(content | {"rates": [rate]}))
    return tmp_path


def test_plans_and_requests_read_the_file_of_their_card(project):
    work = Work("train", 1.0, macs=Plan(ROOT, {"scale": "paper"}).macs_and_activations_of("celebahq-lct")[0])
    named, typed = machine(project, "h100"), card("nvidia_h100_80gb_hbm3", None, project)
    assert named.speed(work).basis == typed.speed(work).basis == "measured" and named.memory == 85e9
    assert card("h100", None, ROOT).speed(work).basis == "estimate"
    assert typed.speed(Work("evaluate", 1.0, macs=work.macs)).basis == "estimate", (
        "the data sheet, where nothing is measured"
    )
    assert not card("h100_1g.12gb", None, project).rates and not this_machine(project).gpu
    cluster = Cluster(gpu_partition="g", gpu_type="h100")
    minutes = [
        Requests(Plan(root, {"scale": "paper"}), cluster).of("gpu_train", "train", "celebahq-lct")["runtime"]
        for root in (ROOT, project)
    ]
    assert minutes[1] < minutes[0] / 5


def test_a_file_of_another_card_ends_in_one_line(project):
    (project / "config/devices/h100.yaml").rename(project / "config/devices/a100.yaml")
    with pytest.raises(
        ValueError, match="expected measurements of a100, found those of NVIDIA H100 80GB HBM3; run lct"
    ):
        machine(project, "a100")
    with pytest.raises(ValueError, match="expected measurements of a100"):
        Requests(Plan(project, {"scale": "paper"}), Cluster(gpu_partition="g", gpu_type="a100"))
