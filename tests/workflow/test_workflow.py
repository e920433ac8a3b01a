"""The whole graph at smoke scale, from nothing to the report; interruption; refusals; reruns."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from lct.cluster.resources import Cluster, Requests
from lct.files.atomic import write_json, write_text
from lct.files.hashing import sha256_file
from lct.files.records import settings_path
from lct.jobs.rehearsal import MOST
from lct.plan import files as stage_files
from lct.plan.plan import Plan
from tests.helpers.copies import ROOT, SMOKE, project, snakemake

pytestmark = pytest.mark.usefixtures("warm_programs")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory, warm_variables) -> tuple[Path, str, float]:
    """The smoke scale computed once, undisturbed: folder, terminal output, start time."""
    folder = project(tmp_path_factory.mktemp("smoke") / "project")
    started = time.time()
    done = snakemake(folder, *SMOKE, **warm_variables)
    assert done.returncode == 0, done.stdout[-4000:]
    return folder, done.stdout, started


def test_no_shell_command_holds_a_variable_of_a_loop():
    """Snakemake puts a command together when the job starts, when every loop over rules has come to its end."""
    commands = 0
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        for _, text in re.findall(r"^( *)shell:\n((?:\1 +.*\n)+)", path.read_text(), re.MULTILINE):
            commands += 1
            assert not re.search(r"\b_[a-z]+", text), (path.name, text)
    assert commands > 10


def tables(folder: Path) -> dict:
    return json.loads((folder / "results/smoke/tables/tables.json").read_text())


def cells(collected: dict) -> list[tuple[dict, dict]]:
    """(row, cell) of every cell that has values."""
    return [
        (row, cell)
        for table in collected["tables"]
        for subtable in table["subtables"]
        for row in subtable["rows"] + subtable["floors"]
        for cell in row["cells"].values()
    ]


def test_every_cell_traces_to_a_metrics_file_written_in_that_run(smoke):
    folder, _, started = smoke
    found = cells(tables(folder))
    assert len(found) == 4 * (5 + 2)  # metrics x (rows of sub-table a + floors)
    assert len(tables(folder)["tables"][0]["subtables"][0]["degraded"]["rows"]) == 4
    for _, cell in found:
        for value in cell["values"]:
            path = folder / value["metrics"]
            assert path.stat().st_mtime >= started
            assert sha256_file(path) == value["sha256"]
            metric = cell["id"].rpartition(".")[2]
            assert json.loads(path.read_text())["values"][metric] == value["value"]


def test_no_job_takes_more_than_four_fifths_of_the_memory_that_its_class_asks_for(smoke):
    classes = dict.fromkeys(("download", "tables", "report"), "local") | {"train": "gpu_train"}
    classes |= dict.fromkeys(("images", "figure1", "figure2", "figure3"), "cpu")
    requests, peaks = Requests(Plan(smoke[0], {"scale": "smoke"}), Cluster()), {}
    for path in smoke[0].glob("re*/smoke/**/*.run.json"):
        record = json.loads(path.read_text())
        stage = Path(record["command"][0]).stem
        peaks[stage] = max(record["peak_memory_bytes"], peaks.get(stage, 0))
    shares = {
        stage: peak / 1e6 / requests.of(classes.get(stage, "gpu_small"))["mem_mb"](None, 1)
        for stage, peak in peaks.items()
    }
    assert len(shares) > 12 and max(shares.values()) <= MOST, shares


def test_rows_outside_the_scale_are_not_run_and_quoted_rows_are_quoted(smoke):
    subtables = {s["id"]: s for s in tables(smoke[0])["tables"][0]["subtables"]}
    assert {row["status"] for row in subtables["a"]["rows"]} == {"complete", "quoted"}
    for letter in "bc":
        statuses = {row["status"] for row in subtables[letter]["rows"]}
        assert statuses == {"not run", "quoted"}
    assert sum(len(s["rows"]) for s in subtables.values()) == 33


def test_the_report_shows_every_value_and_its_watermark(smoke):
    folder, _, _ = smoke
    page = (folder / "reports/smoke/index.html").read_text()
    assert "SMOKE TEST" in page
    for _, cell in cells(tables(folder)):
        assert cell["id"] in page
    assert "http://" not in page.replace("http://www.w3.org", "") and 'src="http' not in page
    for name in ("report.md", "tables.tex", "tables.csv"):
        assert (folder / "reports/smoke" / name).stat().st_size > 1000


def test_each_job_prints_one_line_and_keeps_a_log_and_a_benchmark(smoke):
    folder, output, _ = smoke
    for line in (
        "images digits:",
        "autoencoder digits:",
        "train digits-lct s0: 40 steps",
        "score digits-ldm s0:",
        "report reports/",
    ):
        assert sum(found.startswith(line) for found in output.splitlines()) == 1, line
    logs = sorted(str(p.relative_to(folder / "logs/smoke")) for p in (folder / "logs/smoke").rglob("*.log"))
    timings = sorted(str(p.relative_to(folder / "logs/smoke")) for p in (folder / "logs/smoke").rglob("*.tsv"))
    assert [name.removesuffix(".log") for name in logs] == [name.removesuffix(".tsv") for name in timings]
    assert len(logs) == 23
    assert "eta=" in (folder / "logs/smoke/train/digits-lct/s0.log").read_text()


def test_every_output_agrees_with_the_records_beside_it(smoke):
    command = [sys.executable, "-m", "lct.cli.main", "verify", "--scale", "smoke", "--deep", "--json"]
    done = subprocess.run(command, cwd=smoke[0], capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["checked"] >= 30 and found["faults"] == []


def test_every_cell_of_the_run_passes_its_audit(smoke):
    command = [sys.executable, "-m", "lct.cli.main", "audit", "--all", "--scale", "smoke", "--json"]
    found = json.loads(subprocess.run(command, cwd=smoke[0], capture_output=True, text=True, check=False).stdout)
    assert len(found["cells"]) == 4 * (5 + 2)
    wrong = [one for cell in found["cells"] for one in cell["faults"] if one["state"] != "dirty"]
    assert wrong == [], "uncommitted code is no fault of a run that a developer tests"
    assert {link["stage"] for cell in found["cells"] for link in cell["links"].values()} >= {
        "train",
        "sample",
        "images",
    }


@pytest.mark.slow
def test_what_is_stored_can_be_computed_again_to_the_byte(smoke, tmp_path):
    """And a stored value that nothing computes is found out, even with records that agree with it."""
    folder = tmp_path / "project"
    shutil.copytree(smoke[0], folder, symlinks=True)
    command = [sys.executable, "-m", "lct.cli.main", "verify", "--recompute", "table1.a.lct-1", "--scale", "smoke"]
    for source, outputs in (("samples", 4), ("weights", 2)):
        done = subprocess.run([*command, "--from", source, "--json"], cwd=folder, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert [one["state"] for one in json.loads(done.stdout)] == ["equal"] * outputs
    metrics = next((folder / "results/smoke/metrics/digits-lct").rglob("one/d0/fd-train.json"))
    content = json.loads(metrics.read_text())
    content["values"]["fd"] = 7.27
    write_json(metrics, content)
    record = Path(f"{metrics}.run.json")
    output = {"bytes": metrics.stat().st_size, "sha256": sha256_file(metrics)}
    run = json.loads(record.read_text())
    write_json(record, run | {"output": run["output"] | output})
    before = {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*")}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "1 differ" in done.stdout and "largest relative difference" in done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*")}, "nothing is written"


def test_a_second_run_has_nothing_to_do(smoke):
    done = snakemake(smoke[0], *SMOKE)
    assert done.returncode == 0 and "Nothing to be done" in done.stdout


def test_touching_a_file_reruns_nothing_and_a_setting_reruns_exactly_what_follows(smoke, tmp_path):
    folder = smoke[0]
    weights = next((folder / "results/smoke/train/digits-lct/s0").glob("step*.safetensors"))
    os.utime(weights)
    assert "Nothing to be done" in snakemake(folder, "-n", *SMOKE).stdout
    changed = tmp_path / "project"
    shutil.copytree(folder, changed, symlinks=True)
    runs = changed / "config/runs/digits.yaml"
    text = runs.read_text()
    assert "digits-lct: {dataset: digits, method: lct}" in text
    edit = "digits-lct: {dataset: digits, method: lct, training: {optimiser: {weight_decay: 0.01}}}"
    runs.write_text(text.replace("digits-lct: {dataset: digits, method: lct}", edit))
    plan = snakemake(changed, "-n", *SMOKE).stdout.split("Job stats:")[1].split("Reasons:")[0]
    planned = {line.split()[0] for line in plan.splitlines() if line[:1].isalpha() and line.split()[-1].isdigit()}
    assert planned - {"job", "total"} == {
        "train_digits_lct",
        "sample_digits_lct",
        "score_digits_lct",
        "neighbours_digits_lct",
        "tables_tables",
        "report_tables",
        "all",
    }


@pytest.mark.slow
def test_killed_and_interrupted_runs_go_on_to_the_same_bytes(smoke, tmp_path, monkeypatch):
    """Snakemake alone killed with -9 while a training lives on, Ctrl-C later, then to the end: the same bytes."""
    monkeypatch.delenv("LCT_WARM")
    folder = project(tmp_path / "project")
    for kill, number, file in (
        (os.kill, signal.SIGKILL, "work/smoke/*/s0/*.lock"),
        (os.killpg, signal.SIGINT, "results/smoke/sample/*/s0/*/*/*.zip"),
    ):
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", *SMOKE],
            cwd=folder,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 240
        while not list(folder.glob(file)) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert process.poll() is None, f"the run ended before {file} appeared"
        kill(process.pid, number)
        process.wait(timeout=120)
        assert not (folder / "results/smoke/tables/tables.json").exists()
    done = snakemake(folder, *SMOKE)
    assert done.returncode == 0, done.stdout[-4000:]
    name = "results/smoke/tables/tables.json"
    assert (folder / name).read_bytes() == (smoke[0] / name).read_bytes()
    for path in (smoke[0] / "results/smoke/train").rglob("*.safetensors"):
        assert sha256_file(path) == sha256_file(folder / path.relative_to(smoke[0]))


def test_a_second_snakemake_is_refused_while_one_runs(tmp_path):
    from lct.cluster.run import take_lock

    folder = project(tmp_path / "project")
    with take_lock(folder):
        done = snakemake(folder, *SMOKE)
    assert done.returncode != 0
    assert f"expected no other running snakemake, found one (process {os.getpid()} on " in done.stdout
    assert not (folder / "results").exists()


def test_a_start_without_the_profile_stops_with_one_line(tmp_path):
    folder = project(tmp_path / "project")
    done = snakemake(folder, "--workflow-profile", "none", "--cores", "1", *SMOKE)
    assert done.returncode != 0
    line = next(line for line in done.stdout.splitlines() if "expected rerun-triggers" in line)
    assert "max-checksum-file-size: 100GB" in line and "profiles/default" in line
    assert not (folder / "results").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--config", "scale=huge"), "--config scale: expected a scale of ['mini', 'paper', 'rehearsal', 'smoke'"),
        (("--config", "sacle=smoke"), "--config: unknown key 'sacle'"),
    ],
)
def test_bad_configuration_stops_before_the_graph(words, message):
    done = snakemake(ROOT, "-n", *words)
    assert done.returncode != 0 and message in done.stdout and "Traceback" not in done.stdout


def own_images(folder: Path, count: int) -> Path:
    """A project whose sub-table (a) is a folder of images, at smoke scale; returns the folder of images."""
    import numpy as np

    images = folder / "my-images"
    images.mkdir()
    draws = np.random.default_rng(0)
    for index in range(count):
        Image.fromarray(draws.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(images / f"{index:03}.png")
    (folder / "config/datasets/digits.yaml").write_text(
        "title: My images\nsource: {kind: folder, path: my-images}\nresolution: 16\n"
    )
    return images


@pytest.mark.parametrize("damage", ["truncated", "not an image", "not RGB", "empty folder"])
def test_a_bad_image_stops_with_its_name_and_leaves_nothing(tmp_path, damage):
    folder = project(tmp_path / "project")
    images = own_images(folder, 400)
    if damage == "empty folder":
        shutil.rmtree(images)
        images.mkdir()
        expected = "my-images"
    else:
        path = images / "007.png"
        if damage == "not RGB":
            Image.open(path).convert("CMYK").save(path, format="TIFF")
        else:
            path.write_bytes(path.read_bytes()[:100] if damage == "truncated" else b"<html>not found</html>")
        expected = "007.png"
    done = snakemake(folder, "results/smoke/images/digits/train.zip", *SMOKE)
    assert done.returncode != 0
    line = next(line for line in done.stdout.splitlines() if line.startswith("error: "))
    assert expected in line and "expected" in line and "found" in line
    left = [p for p in (folder / "results").rglob("*") if p.is_file()] if (folder / "results").exists() else []
    assert left == []


def test_a_report_of_what_exists_comes_out_whatever_failed(tmp_path):
    folder = project(tmp_path / "project")
    (own_images(folder, 400) / "007.png").write_bytes(b"<html>not found</html>")
    index = folder / "reports/smoke/index.html"
    write_text(settings_path(index), "{}")  # of an earlier report: it must not pass for the graph's own
    done = snakemake(folder, *SMOKE)
    assert done.returncode != 0 and "A report of what exists is at reports/smoke/index.html" in done.stdout
    assert "not computed yet" in index.read_text() and not settings_path(index).exists()
    shown = snakemake(folder, "-n", "--quiet", "progress", *SMOKE).stdout
    assert "jobid: " in shown and "jobid: " not in snakemake(folder, "-n", *SMOKE).stdout
    (folder / "reports/templates/index.html.jinja").write_text("{{ nothing.at_all }}")
    done = snakemake(folder, *SMOKE)
    assert "warning: no report rendered: lct report:" in done.stdout and "Not everything was made" in done.stdout


@pytest.mark.slow  # mounts a small file system, as root
def test_a_full_disk_stops_with_one_line_and_a_good_run_follows(tmp_path):
    folder = project(tmp_path / "project")
    (folder / "results").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder / "results")]
    subprocess.run(mount, check=True)
    try:
        done = snakemake(folder, "results/smoke/images/digits/train.zip", *SMOKE)
        assert done.returncode != 0
        line = next(line for line in done.stdout.splitlines() if line.startswith("error: "))
        assert "No space left on device" in line and "free space" in line
        assert not list((folder / "results").rglob("*.partial"))
        subprocess.run(["mount", "-o", "remount,size=64m", str(folder / "results")], check=True)
        done = snakemake(folder, "results/smoke/images/digits/train.zip", *SMOKE)
        assert done.returncode == 0, done.stdout[-2000:]
    finally:
        subprocess.run(["umount", str(folder / "results")], check=True)


@pytest.mark.slow  # mounts a small file system, as root
def test_a_read_only_folder_stops_before_any_job_with_one_line(tmp_path):
    folder = project(tmp_path / "project")
    (folder / "results").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(folder / "results")], check=True)
    try:
        done = snakemake(folder, *SMOKE)
        assert done.returncode != 0
        assert "results: expected a writable folder, found a read-only one; fix its permissions or mount" in done.stdout
        assert not (folder / "work").exists() and "Traceback" not in done.stdout
    finally:
        subprocess.run(["umount", str(folder / "results")], check=True)


def test_a_limit_on_file_sizes_stops_with_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    """What an ordinary user can have of a full disk."""
    monkeypatch.delenv("LCT_WARM")
    folder = project(tmp_path / "project")
    words = f"ulimit -f 60; exec {sys.executable} -m snakemake results/smoke/images/digits/train.zip {' '.join(SMOKE)}"
    done = subprocess.run(["bash", "-c", words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "File too large" in done.stdout and "free space" in done.stdout
    assert not list((folder / "results").rglob("*.partial")) and not list((folder / "results").rglob("*.zip"))


def test_following_the_printed_advice_mends_a_damaged_image_set(smoke, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(smoke[0], folder, symlinks=True)
    images = next((folder / "results/smoke/sample/digits-lct").rglob("*.zip"))
    images.write_bytes(images.read_bytes()[:1000])
    verify = [sys.executable, "-m", "lct.cli.main", "verify", "--scale", "smoke"]
    found = subprocess.run(verify, cwd=folder, capture_output=True, text=True, check=False)
    assert found.returncode == 1 and images.name in found.stdout and "snakemake --force FILE" in found.stdout
    assert snakemake(folder, "--force", str(images.relative_to(folder)), *SMOKE).returncode == 0
    assert subprocess.run(verify, cwd=folder, capture_output=True, check=False).returncode == 0
    assert "Nothing to be done" in snakemake(folder, *SMOKE).stdout, "the same bytes: nothing follows"


@pytest.mark.slow
def test_a_truncated_checkpoint_is_named_and_made_again(smoke, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(smoke[0], folder, symlinks=True)
    weights = next((folder / "results/smoke/train/digits-lct/s0").glob("step*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:5000])
    plan = Plan(folder, {"scale": "smoke"})
    for path in stage_files.samples(plan, "digits-lct", 0):
        (folder / path.replace(".zip", ".manifest.json")).unlink()
    done = snakemake(folder, *SMOKE)
    assert done.returncode != 0
    line = next(line for line in done.stdout.splitlines() if line.startswith("error: "))
    assert weights.name in line and "expected a whole safetensors file, found damage" in line
    weights.unlink()
    done = snakemake(folder, *SMOKE, "keep_images=false")
    assert done.returncode == 0 and "image sets were dropped after they were measured" in done.stdout
    name = "results/smoke/tables/tables.json"
    assert (folder / name).read_bytes() == (smoke[0] / name).read_bytes()
    sampled = folder / "results/smoke/sample"
    assert not list(sampled.rglob("*.zip")) and list(sampled.rglob("*.zip.dropped")) and list(sampled.rglob("*.png"))
    assert "Nothing to be done" in snakemake(folder, "-n", *SMOKE).stdout


def test_dvc_has_nothing_to_complain_about(smoke, tmp_path):
    folder = tmp_path / "project"
    project(folder)
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache"))
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    for words in (["status"], ["dag"], ["stage", "list"]):
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *words], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", ["show", "status", "report", "verify"])
def test_each_verb_answers_people_and_programs(smoke, verb):
    words = {"show": ["digits-lct", "digits-ilct"], "verify": ["--deep"]}.get(verb, [])
    command = [sys.executable, "-m", "lct.cli.main", verb, *words, "--scale", "smoke"]
    text = subprocess.run(command, cwd=smoke[0], capture_output=True, text=True, check=True).stdout
    value = json.loads(subprocess.run([*command, "--json"], cwd=smoke[0], capture_output=True, check=True).stdout)
    assert text and value
    if verb == "show":
        assert value["objective.loss"] == {"digits-lct": "cauchy", "digits-ilct": "pseudo-huber"}
    if verb == "status":
        assert value["computed"] == value["planned"] == 7
    if verb == "verify":
        assert value["faults"] == []


def test_a_damaged_output_fails_verification_by_name(smoke, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(smoke[0], folder, symlinks=True)
    metrics = next((folder / "results/smoke/metrics").rglob("fd-train.json"))
    content = bytearray(metrics.read_bytes())
    content[40] ^= 1
    metrics.write_bytes(content)
    command = [sys.executable, "-m", "lct.cli.main", "verify", "--scale", "smoke", "--deep"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and str(metrics.relative_to(folder)) in done.stdout and "expected sha256" in done.stdout


def test_the_report_renders_from_what_exists(smoke, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(smoke[0], folder, symlinks=True)
    shutil.rmtree(folder / "results/smoke/metrics/digits-lct")
    command = [sys.executable, "-m", "lct.cli.main", "report", "--scale", "smoke"]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("reports/preview/smoke/index.html\n"), "beside that of the graph, which stays"
    page = (folder / "reports/preview/smoke/index.html").read_text()
    assert "not computed yet" in page and "table1.a.ilct-1.fd" in page and "table1.a.lct-1.fd" not in page
    graphs = "reports/smoke/index.html"
    assert (folder / graphs).read_bytes() == (smoke[0] / graphs).read_bytes()
    whole = [*command[:-2], "--tables", "results/smoke/tables/tables.json"]  # which says its scale
    done = subprocess.run(whole, cwd=folder, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("reports/preview/smoke/index.html\n")
    assert "table1.a.lct-1.fd" in (folder / "reports/preview/smoke/index.html").read_text()
    (folder / "gone.json").write_text((folder / whole[-1]).read_text().replace('"scale": "smoke"', '"scale": "gone"'))
    done = subprocess.run([*whole[:-1], "gone.json"], cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 1 and "gone.json: scale: expected one of" in done.stderr and "--scale" in done.stderr


@pytest.mark.slow
def test_given_weights_are_sampled_and_scored_without_training(smoke, tmp_path):
    """The weights of a finished run, handed over by path and hash: the same images, the same values, no training."""
    folder = tmp_path / "project"
    shutil.copytree(smoke[0], folder, symlinks=True)
    plan = Plan(folder, {"scale": "smoke"})
    name = plan.kept_weights("digits-lct")[0]
    shutil.copy(folder / plan.paths.weights("digits-lct", 0, name), folder / "given.safetensors")
    sha256 = sha256_file(folder / "given.safetensors")
    with open(folder / "config/runs/digits.yaml", "a") as runs:
        runs.write(f"digits-given: {{base: digits-lct, weights: {{path: given.safetensors, sha256: {sha256}}}}}\n")
    table = folder / "config/tables/table1.yaml"
    table.write_text(table.read_text().replace('"{dataset}-lct"', "digits-given"))
    before = {row["id"]: row for row in tables(folder)["tables"][0]["subtables"][0]["rows"]}
    done = snakemake(folder, *SMOKE)
    assert done.returncode == 0, done.stdout[-3000:]
    assert not (folder / "results/smoke/train/digits-given/s0/curves.json").exists()
    after = {row["id"]: row for row in tables(folder)["tables"][0]["subtables"][0]["rows"]}
    for row in ("lct-1", "lct-2"):
        assert after[row]["run"] == "digits-given" and before[row]["run"] == "digits-lct"
        for metric, cell in before[row]["cells"].items():
            assert after[row]["cells"][metric]["mean"] == cell["mean"]
    (folder / "given.safetensors").write_bytes(b"something else")
    refused = snakemake(folder, *SMOKE)
    assert refused.returncode != 0
    line = next(line for line in refused.stdout.splitlines() if line.startswith("error: "))
    assert f"given.safetensors: expected sha256 {sha256}" in line
