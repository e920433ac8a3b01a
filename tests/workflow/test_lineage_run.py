"""From a run to a clone and back, at smoke scale: what lineage promises, shown once on the real graph."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lct.files.hashing import sha256_file
from lct.lineage import registry
from lct.lineage.record import unrecorded
from lct.lineage.snakemake_adapter import plan_jobs
from lct.lineage.stages import stages
from tests.helpers.copies import SMOKE, checkout, snakemake

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm_programs")]
WEIGHTS = "results/smoke/train/digits-lct/s0/step40-ema0.9.safetensors"
OTHER = "results/smoke/train/digits-ilct/s0/step40-ema0.9.safetensors"
METRICS = "results/smoke/metrics/digits-lct/s0/step40-ema0.9/one/d0/fd-train.json"
NUMBERS = "lineage/smoke/digits-lct/s0/step40-ema0.9/one/d0.json"
AFFECTED = {f"{stage}_digits_lct" for stage in ("train", "sample", "score", "neighbours")}
AFFECTED |= {"tables_tables", "report_tables"}


def call(folder: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


def lct(folder: Path, *words: str) -> subprocess.CompletedProcess:
    return call(folder, sys.executable, "-m", "lct.cli.main", *words)


def dvc(folder: Path, *words: str) -> str:
    done = call(folder, sys.executable, "-m", "dvc", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def git(folder: Path, *words: str) -> str:
    done = call(folder, "git", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def plans_nothing(folder: Path) -> bool:
    return "Nothing to be done" in snakemake(folder, "-n", *SMOKE).stdout


def is_clean(folder: Path) -> bool:
    return "up to date" in dvc(folder, "status")


def planned(folder: Path) -> set[str]:
    stats = snakemake(folder, "-n", *SMOKE).stdout.split("Job stats:")[1].split("Reasons:")[0]
    rules = {line.split()[0] for line in stats.splitlines() if line[:1].isalpha() and line.split()[-1].isdigit()}
    return rules - {"job", "total", "all"}


def set_rate(folder: Path, rate: str) -> None:
    runs = folder / "config/runs/digits.yaml"
    edit = f"digits-lct: {{dataset: digits, method: lct, training: {{optimiser: {{learning_rate: {{lr: {rate}}}}}}}}}"
    text = runs.read_text()
    assert "digits-lct: {dataset: digits, method: lct}" in text
    runs.write_text(text.replace("digits-lct: {dataset: digits, method: lct}", edit))


def flip(path: Path) -> None:
    """One byte, in place, size and time kept."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-9] ^= 1
    path.chmod(0o644)
    with open(path, "r+b") as handle:
        handle.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def distance(folder: Path) -> float:
    return json.loads((folder / METRICS).read_text())["values"]["fd"]


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Path:
    """The smoke scale computed once in a git repository, recorded by the run itself, committed and pushed.
    Every program is started as people start it, none forked."""
    folder = checkout(tmp_path_factory.mktemp("lineage") / "origin")
    run = snakemake(folder, *SMOKE)
    assert run.returncode == 0, run.stdout[-4000:]
    recorded = [line for line in run.stdout.splitlines() if line.startswith("Lineage: ")]
    assert len(recorded) == 1 and "jobs recorded, 0 were already" in recorded[0], run.stdout[-3000:]
    assert "left out" not in run.stdout.partition("Lineage: ")[2]
    done = lct(folder, "record", "--scale", "smoke", "--commit")
    assert done.returncode == 0 and "0 jobs recorded" in done.stdout, done.stderr
    dvc(folder, "remote", "add", "-d", "store", str(folder.parent / "store"))
    git(folder, "commit", "-q", "-am", "A remote")
    dvc(folder, "push")
    return folder


def clone(origin: Path, to: Path) -> Path:
    git(origin, "clone", "-q", str(origin), str(to))
    for words in (["config", "user.name", "t"], ["config", "user.email", "t@t"]):
        git(to, *words)
    return to


def test_a_run_records_itself_and_nothing_is_left_to_do(origin):
    assert plans_nothing(origin) and is_clean(origin) and git(origin, "status", "--porcelain") == ""
    assert unrecorded(origin, "smoke") == []
    assert "not recorded" not in lct(origin, "status", "--scale", "smoke").stdout
    entries, jobs = registry.read(origin, "smoke"), plan_jobs(origin, {"scale": "smoke"})
    made = {path for job in jobs for path in job.outputs if (origin / path).exists()}
    assert set(entries) == made and len(made) > 50
    finished = {tuple(sorted(job.outputs)) for job in jobs if (origin / job.outputs[0]).exists()}
    assert {stage.outs for stage in stages({"smoke": entries}).values()} == finished
    shown = json.loads(dvc(origin, "metrics", "show", "--json"))[""]["data"]
    assert shown[NUMBERS]["data"]["fd"] == distance(origin)
    assert len(dvc(origin, "metrics", "show").splitlines()[0]) <= 110
    edges = [line.strip(' ;"').split('" -> "') for line in dvc(origin, "dag", "--dot").splitlines() if "->" in line]
    reached, before = {name for name, _ in edges if name.startswith("images-")}, set()
    while reached != before:
        before, reached = reached, reached | {to for start, to in edges if start in reached}
    assert reached == stages({"smoke": entries}).keys(), "one chain, images to report"
    assert str(origin) not in (origin / "lineage/smoke.jsonl").read_text()


def test_a_clone_restores_sees_a_change_refuses_guards_and_goes_back(origin, tmp_path):
    folder = clone(origin, tmp_path / "clone")
    done = lct(folder, "restore", "--pull")
    assert done.returncode == 0, done.stdout + done.stderr
    assert plans_nothing(folder) and is_clean(folder)
    again = lct(folder, "record", "--scale", "smoke")
    assert again.returncode == 0 and "0 jobs recorded" in again.stdout
    assert git(folder, "status", "--porcelain") == "", "recording what was restored changes nothing"

    set_rate(folder, "0.002")
    git(folder, "commit", "-q", "-am", "Another learning rate")
    assert planned(folder) == AFFECTED
    assert "training.optimiser.learning_rate.lr: 0.001 -> 0.002" in lct(
        folder, "why", "table1.a.lct-1.fd", "--scale", "smoke"
    ).stdout  # fmt: skip
    assert "would not run again" in lct(folder, "why", "table1.a.ilct-1.fd", "--scale", "smoke").stdout
    refused = lct(folder, "record", "--scale", "smoke")
    assert refused.returncode == 1 and f"{WEIGHTS}: its settings changed" in refused.stdout
    assert git(folder, "status", "--porcelain") == ""

    before = sha256_file(folder / WEIGHTS)
    stopped = snakemake(folder, *SMOKE)
    assert stopped.returncode != 0 and "Traceback" not in stopped.stdout
    assert "table1.a.lct-1, table1.a.lct-2 (run digits-lct, seed 0): setting changed: " in stopped.stdout
    assert "snakemake --config allow_retrain=table1.a.lct-1 scale=smoke\n" in stopped.stdout
    warned = snakemake(folder, *SMOKE, "-n")
    assert warned.returncode == 0 and "Without -n this stops: recorded results would be replaced" in warned.stdout
    assert "`lct why table1.a.lct-1 --scale smoke`" in stopped.stdout
    assert sha256_file(folder / WEIGHTS) == before and planned(folder) == AFFECTED, "nothing was deleted"

    old = distance(folder)
    allowed = snakemake(folder, *SMOKE, "allow_retrain=table1.a.lct-1.fd")
    assert allowed.returncode == 0
    said = re.search(r"Lineage: smoke: (\d+) jobs recorded, (\d+) were already", allowed.stdout)
    renewed, kept = int(said[1]), int(said[2])
    assert renewed + kept == len(stages({"smoke": registry.read(folder, "smoke")})) and renewed == 6 and kept > 10
    assert plans_nothing(folder) and is_clean(folder) and distance(folder) != old
    done = lct(folder, "record", "--scale", "smoke", "--commit")
    assert done.returncode == 0 and git(folder, "status", "--porcelain") == ""
    new = distance(folder)
    changed = json.loads(dvc(folder, "metrics", "diff", "HEAD~1", "--json"))[NUMBERS]["fd"]
    assert (changed["old"], changed["new"]) == (old, new)

    flip(folder / WEIGHTS)
    deep = lct(folder, "verify", "--deep", "--scale", "smoke")
    assert deep.returncode == 1 and WEIGHTS in deep.stdout
    flip(folder / WEIGHTS)

    for revision, expected in (("HEAD~2", old), ("main", new)):
        git(folder, "checkout", "-q", revision)
        done = lct(folder, "restore", "--scale", "smoke")
        assert done.returncode == 0, done.stdout + done.stderr
        assert plans_nothing(folder) and is_clean(folder) and distance(folder) == expected


def test_one_cell_is_fetched_and_the_guard_knows_what_is_merely_elsewhere(origin, tmp_path):
    folder = clone(origin, tmp_path / "clone")
    done = lct(folder, "restore", "--pull", "--scale", "smoke", "table1.a.lct-1.fd")
    assert done.returncode == 0, done.stdout + done.stderr
    assert distance(folder) == distance(origin) and (folder / WEIGHTS).exists() and not (folder / OTHER).exists()
    assert "Nothing to be done" in snakemake(folder, "-n", METRICS, *SMOKE).stdout
    stopped = snakemake(folder, *SMOKE)
    assert stopped.returncode != 0 and f"recorded, but not here: {OTHER}" in stopped.stdout
    assert "`lct restore --pull` brings it back" in stopped.stdout


def test_a_moved_project_a_switch_and_a_failed_run(origin, tmp_path):
    folder = clone(origin, tmp_path / "clone")
    assert lct(folder, "restore", "--pull").returncode == 0
    folder = folder.rename(tmp_path / "moved")
    lost = snakemake(folder, "-n", *SMOKE)
    assert lost.returncode != 0 and "the project was moved" in lost.stdout and "Traceback" not in lost.stdout
    assert lct(folder, "restore").returncode == 0
    assert plans_nothing(folder) and is_clean(folder)

    (folder / "reports/smoke/report.md").unlink()
    run = snakemake(folder, *SMOKE, "record=false")
    assert run.returncode == 0 and "Lineage" not in run.stdout
    new = unrecorded(folder, "smoke")
    assert "reports/smoke/report.md" in new and all(path.startswith("reports/smoke/") for path in new)
    assert f"{len(new)} outputs are not recorded: lct record" in lct(folder, "status", "--scale", "smoke").stdout

    (folder / METRICS).unlink()
    (reference,) = (folder / "results/smoke/features/reference/digits").glob("*.safetensors")
    content = reference.read_bytes()
    reference.unlink()
    reference.write_bytes(content[:1000])
    failed = snakemake(folder, *SMOKE)
    assert failed.returncode != 0
    said = failed.stdout.partition("Lineage: smoke: ")[2]
    assert "left out" in said and "is not what its job wrote" in said and "Traceback" not in failed.stdout
    assert registry.read(folder, "smoke")[METRICS] == registry.read(origin, "smoke")[METRICS]
    assert lct(folder, "restore").returncode == 1, "a truncated file that is nowhere else is left alone"
    reference.unlink()
    assert lct(folder, "restore").returncode == 0 and reference.read_bytes() == content
