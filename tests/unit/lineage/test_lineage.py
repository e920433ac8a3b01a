"""Recording, restoring and the guard, on a small project whose jobs take no time; and the book of the real one."""

import dataclasses
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import zc.lockfile
from dvc.repo import Repo
from dvc.utils.serialize import dumps_yaml
from snakemake.io import IOFile

from lct.files.git import git_state
from lct.files.lock import LockHeldError, acquire
from lct.files.records import drop, is_dropped, run_path, settings_path
from lct.lineage import dvc, guard, record, registry, restore
from lct.lineage.dvc import Lock, cache_folder, cached, read_lock, remotes
from lct.lineage.hooks import record_earlier_run, record_run
from lct.lineage.registry import Entry
from lct.lineage.snakemake_adapter import Job, metadata_path, plan_jobs, plan_quickly, read_metadata
from lct.lineage.stages import _thinned, dvc_yaml, stages
from lct.lineage.verify import verify
from lct.plan import settings as stage_settings
from lct.plan.plan import Plan
from tests.helpers import ROOT
from tests.helpers import fake_lineage as fake

pytestmark = pytest.mark.usefixtures("warm_programs")
STATE = ("dvc.yaml", "dvc.lock", "lineage/toy.jsonl")
METRICS = "results/toy/metrics/run-0/s0/step40-ema0.9/one-0/d0/fd.json"
WEIGHTS = "results/toy/train/run-0/s0/step40-ema0.9.safetensors"
SAMPLES = "results/toy/sample/run-0/s0/step40-ema0.9/one-0/d0.zip"
TABLES = "results/toy/tables/tables.json"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished project, nothing recorded."""
    folder = fake.make(tmp_path_factory.mktemp("finished") / "project")
    fake.finish(folder)
    return folder


@pytest.fixture(scope="module")
def recorded(finished, tmp_path_factory) -> Path:
    """A finished project, recorded and committed."""
    folder = copied(finished, tmp_path_factory.mktemp("recorded") / "project")
    record.record(folder, {}, "toy")
    fake.commit(folder, "recorded")
    return folder


@pytest.fixture
def project(finished, tmp_path) -> Path:
    return copied(finished, tmp_path / "project")


@pytest.fixture
def book(recorded, tmp_path) -> Path:
    """A recorded project of one's own: copied, so its links are set right first."""
    folder = copied(recorded, tmp_path / 'it\'s the "group", ü')
    assert restore.restore(folder, "toy").absent == []
    return folder


def copied(source: Path, folder: Path) -> Path:
    return Path(shutil.copytree(source, folder, symlinks=True))


def state(folder: Path) -> dict[str, bytes | None]:
    """The recorded state, byte for byte."""
    return {name: (folder / name).read_bytes() if (folder / name).exists() else None for name in STATE}


def change(folder: Path, rule: str, lr: float) -> None:
    """Another learning rate for one job of the graph."""
    jobs = fake.jobs_in(folder)
    jobs[rule]["settings"]["training"]["lr"] = lr
    fake.write_jobs(folder, list(jobs.values()))


def flip(path: Path, keep_time: bool = True) -> None:
    """Change one byte; size stays, and with `keep_time` the time."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[5] ^= 1
    mode = path.stat().st_mode
    os.chmod(path, 0o644)
    path.write_bytes(content)
    os.chmod(path, mode)
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def due(folder: Path) -> list[str]:
    return [job.rule for job in plan_jobs(folder, {}) if job.due]


def python(folder: Path, program: str, **options) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": fake.CODE}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment, **options)


# --- the adapter to Snakemake ----------------------------------------------------------------------------------------
def test_the_graph_is_judged_as_snakemake_itself_does(project):
    change(project, "train_run-1", 0.5)
    (project / TABLES).unlink()
    done = fake.snakemake(project, "all", "all_tables", "--detailed-summary")
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()[1:] if line.count("\t") >= 7]
    theirs = {row[0]: row[-1] != "no update" for row in rows if not row[0].endswith((".settings.json", ".run.json"))}
    ours = {path: job.due for job in plan_jobs(project, {}) for path in job.outputs}
    assert ours == theirs
    assert sum(ours.values()) == 2 + 3 + 2 + 1 + 7  # weights, samples, score, tables, report
    reasons = {job.rule: job.reasons for job in plan_jobs(project, {})}
    assert reasons["train_run-1"] == ("its settings changed",)
    assert reasons["train_run-0"] == ()
    assert reasons["sample_run-1_one-0"] == (
        "input will be made again: results/toy/train/run-1/s0/step40-ema0.9.safetensors",
    )


@pytest.mark.parametrize(
    "pattern", ["a/b.txt", "a/{x}.txt", "{x}", "a/s{x,[0-9]{1,2}}/b.txt", "a/{x}/{y}.txt", "a/{x}{x}"]
)
def test_outputs_match_the_same_paths_where_their_ends_are_compared_first(pattern):
    plan_quickly()
    output = IOFile(pattern, rule=None)
    for path in ("a/b.txt", "a/s1/b.txt", "a/s123/b.txt", "a/b.txt.log", "b/a/b.txt", "a/.txt", "a/ss", "a/b+txt"):
        ours, theirs = output.match(path), type(output).match.by_expression(output, path)
        assert (ours and ours.groupdict()) == (theirs and theirs.groupdict()), path


def test_what_is_remembered_of_an_output_counts_for_its_records(project):
    remembered = [path for path in (project / ".snakemake/metadata").rglob("*") if path.is_file()]
    for path in (f"{WEIGHTS}.settings.json", f"{WEIGHTS}.run.json"):
        metadata_path(project, path).unlink()
    assert len(remembered) > 2
    assert due(project) == []
    metadata_path(project, WEIGHTS).unlink()
    jobs = {job.rule: job for job in plan_jobs(project, {})}
    assert not jobs["train_run-0"].due  # its own records say that it is up to date
    (project / f"{WEIGHTS}.settings.json").unlink()
    assert "train_run-0" in due(project)


SAMPLED = {"train_run-1", "sample_run-1_one-0", "score_run-1_one-0", "tables", "report"}


@pytest.mark.parametrize("lost", ["all metadata", "one file's metadata", "touched"])
def test_a_changed_setting_is_seen_whatever_snakemake_remembers(project, lost):
    change(project, "train_run-1", 0.5)
    weights = WEIGHTS.replace("run-0", "run-1")
    if lost == "touched":
        done = fake.snakemake(project, "--touch")
        assert done.returncode == 0, done.stderr
        assert "0.5" in str(read_metadata(project, weights).job["params"])
    elif lost == "all metadata":
        shutil.rmtree(project / ".snakemake")
    else:
        metadata_path(project, weights).unlink()
    jobs = {job.rule: job for job in plan_jobs(project, {})}
    assert {rule for rule, job in jobs.items() if job.due} == SAMPLED
    assert jobs["train_run-1"].reasons == ("its settings changed",)
    assert guard.causes(project, jobs["train_run-1"], {}) == ["setting changed: training.lr: 0.001 -> 0.5"]
    dry = fake.snakemake(project, "-n", "--quiet", "host")
    reason = "params have changed" if lost == "one file's metadata" else "its settings changed"  # by another output's
    assert "train_run-1" in dry.stdout + dry.stderr and reason in dry.stdout + dry.stderr
    done = fake.snakemake(project)
    assert done.returncode == 0, done.stderr
    assert not SAMPLED & set(due(project))


def test_lost_metadata_alone_reruns_nothing(project):
    shutil.rmtree(project / ".snakemake")
    assert due(project) == []


def test_an_output_whose_record_is_gone_or_damaged_is_made_again(project):
    record_file = settings_path(WEIGHTS)
    for damage in ("missing", "damaged"):
        (project / record_file).write_text("{") if damage == "damaged" else (project / record_file).unlink()
        jobs = {job.rule: job for job in plan_jobs(project, {})}
        assert jobs["train_run-0"].reasons == (f"{record_file} is {damage}, so nothing says how {WEIGHTS} was made",)
    for path in (WEIGHTS, f"{WEIGHTS}.run.json"):
        (project / path).unlink()
    assert "train_run-0" in due(project)


def test_a_lost_record_comes_back_by_the_command_that_the_guard_names(book):
    settings_path(book / WEIGHTS).unlink()
    job = next(job for job in plan_jobs(book, {}) if job.rule == "train_run-0")
    (cause,) = guard.causes(book, job, registry.read(book, "toy"))
    assert cause.startswith(f"{WEIGHTS}.settings.json is missing") and "`lct restore` brings it back" in cause
    restore.restore(book, "toy")
    assert due(book) == []


def test_an_output_of_an_older_input_is_made_again_though_touched(project):
    change(project, "train_run-1", 0.5)
    assert fake.snakemake(project, WEIGHTS.replace("run-0", "run-1")).returncode == 0
    assert fake.snakemake(project, "--touch").returncode == 0
    jobs = {job.rule: job for job in plan_jobs(project, {})}
    assert {rule for rule, job in jobs.items() if job.due} == SAMPLED - {"train_run-1"}
    (reason,) = jobs["sample_run-1_one-0"].reasons
    assert reason.startswith(f"made from {WEIGHTS.replace('run-0', 'run-1')} as it was before: read with sha256 ")


def test_a_killed_job_leaves_nothing_that_counts_as_finished(project):
    parts = metadata_path(project, WEIGHTS).relative_to(project / ".snakemake/metadata")
    mark = project / ".snakemake/incomplete" / parts
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text("{}")
    assert {"train_run-0", "sample_run-0_one-0", "score_run-0_one-0", "tables", "report"} == set(due(project))


def test_a_graph_that_cannot_be_planned_is_one_line(project):
    (project / "Snakefile").write_text("rule all:\n    input: 'nowhere'\n")
    with pytest.raises(ValueError, match=r"snakemake: the graph cannot be planned: .*nowhere") as error:
        plan_jobs(project, {})
    assert "\n" not in str(error.value)


# --- dvc.yaml --------------------------------------------------------------------------------------------------------
def stages_of(folder: Path) -> dict:
    return stages({scale: registry.read(folder, scale) for scale in registry.scales(folder)})


def test_every_recorded_job_is_one_stage_as_dvc_reads_it(recorded):
    read = {}
    for stage in Repo(str(recorded)).index.stages:
        params = [str(dep) for dep in stage.deps if hasattr(dep, "params")]
        deps = tuple(sorted(str(dep) for dep in stage.deps if not hasattr(dep, "params")))
        read[stage.name] = (tuple(sorted(str(out) for out in stage.outs)), deps, params)
    expected = {name: (stage.outs, stage.deps, [stage.params]) for name, stage in stages_of(recorded).items()}
    assert read == expected and list(expected) == sorted(expected)
    jobs = plan_jobs(recorded, {})
    assert {outs for outs, *_ in read.values()} == {tuple(sorted(job.outputs)) for job in jobs}
    assert {deps for _, deps, _ in read.values()} == {tuple(sorted(job.inputs)) for job in jobs}
    assert {"train-toy-run-0-s0", "images-toy-d", "encode-toy-d-posterior", "report-toy"} <= read.keys()


def test_every_out_is_kept_when_dvc_would_remove_it(recorded):
    assert all(out.persist and out.use_cache for stage in Repo(str(recorded)).index.stages for out in stage.outs)


@pytest.mark.parametrize("scale", ["smoke", "mini", "paper"])
def test_what_is_recorded_in_this_project_is_what_its_graph_declares(scale):
    entries, jobs = registry.read(ROOT, scale), plan_jobs(ROOT, {"scale": scale})
    assert len(jobs) > 10
    outputs = [path for job in jobs for path in job.outputs]
    assert len(outputs) == len(set(outputs)), "each file has one maker"
    assert set(entries) <= set(outputs)


def test_a_new_output_is_recorded_without_a_line_anywhere_else(project):
    jobs = fake.jobs_in(project)
    jobs["score_run-0_one-0"]["outputs"].append("results/toy/extra/run-0/notes.txt")
    fake.write_jobs(project, list(jobs.values()))
    assert fake.snakemake(project).returncode == 0
    assert record.record(project, {}, "toy").left_out == {}
    (stage,) = (stage for stage in stages_of(project).values() if METRICS in stage.outs)
    assert "results/toy/extra/run-0/notes.txt" in stage.outs and "up to date" in dvc.run(project, "status")


def test_jobs_whose_outputs_begin_alike_have_different_names():
    def entry(path, job):
        return Entry(path, 1, "0", "0", {"stage": "tables", "inputs": {}}, {}, job=job)

    paths = ("results/toy/tables/a.json", "results/toy/tables/a.csv", "results/toy/tables/a.txt")
    archive = {path: entry(path, paths[0] if i < 2 else path) for i, path in enumerate(paths)}
    assert sorted(stage.outs for stage in stages({"toy": archive}).values()) == [tuple(sorted(paths[:2])), paths[2:]]


def test_dvc_shows_values_and_draws_curves(project):
    jobs = fake.jobs_in(project)
    train, score = jobs["train_run-0"], jobs["score_run-0_one-0"]
    curves = {"step": list(range(1000)), "loss": [1.0] * 999 + [0.5], "c": [None] * 1000}
    values = {"fd": 1.25, "precision": 0.5, "own": 7, "confidence": 0.5, "none": None}
    train["contents"] = {path: curves for path in train["outputs"] if path.endswith("curves.json")}
    score["contents"] = {METRICS: {"values": values, "protocol": {"id": "p", "more": {"k": 3}}}}
    fake.write_jobs(project, list(jobs.values()))
    fake.finish(project)
    assert record.record(project, {}, "toy").left_out == {}
    name = "lineage/toy/run-0/s0/step40-ema0.9/one-0/d0.json"
    shown = json.loads(dvc.run(project, "metrics", "show", "--json"))[""]["data"]
    assert len(shown) == 4 and shown[name]["data"] == {"fd": 1.25, "precision": 0.5, "own": 7}
    table = dvc.run(project, "metrics", "show").splitlines()
    assert max(map(len, table)) <= 100 and table[0].split() == ["Path", "fd", "own", "precision", "value"]
    points = json.loads((project / "lineage/toy/run-0/s0/curves.json").read_text())
    assert len(points) == 100 and points[-1] == {"step": 999, "loss": 0.5}
    page = dvc.run(project, "plots", "show").strip().removeprefix("file://")
    assert '"loss": 0.5' in Path(page).read_text()
    fake.commit(project, "recorded")
    score["contents"][METRICS]["values"]["fd"] = 2.0
    fake.write_jobs(project, list(jobs.values()))
    fake.finish(project)
    record.record(project, {}, "toy")
    changes = json.loads(dvc.run(project, "metrics", "diff", "HEAD", "--json"))
    assert changes == {name: {"fd": {"old": 1.25, "new": 2.0, "diff": 0.75}}}


def test_curves_that_cannot_be_drawn_are_left_out():
    assert _thinned({"loss": [1.0]}) is _thinned({"step": [1, 2], "loss": [1.0]}) is None
    assert _thinned({"step": [1, 2], "loss": [1.0, None]}) == {"step": [1, 2], "loss": [1.0, None]}


@pytest.mark.parametrize("damage", ["conflict", "gone", "empty"])
def test_dvc_yaml_is_written_anew_whatever_has_become_of_it(book, damage):
    before = state(book)
    contents = {"conflict": b"<<<<<<< HEAD\n" + before["dvc.yaml"], "empty": dvc_yaml({}).encode()}
    (book / "dvc.yaml").write_bytes(contents.get(damage, b""))
    shutil.rmtree(book / "lineage/toy")
    if damage == "gone":
        (book / "dvc.yaml").unlink()
    report = record.record(book, {}, "toy")
    assert report.recorded == [] and state(book) == before and (book / "lineage/toy").exists()


# --- recording -------------------------------------------------------------------------------------------------------
def test_recording_plans_nothing_pleases_dvc_and_is_not_done_twice(project):
    report = record.record(project, {}, "toy")
    assert len(report.recorded) == 17 and report.left_out == {} and report.kept == 0
    assert due(project) == []
    assert "up to date" in dvc.run(project, "status")
    assert (project / WEIGHTS).is_symlink() and not settings_path(project / WEIGHTS).is_symlink()
    page = project / "reports/toy/index.html"
    assert page.is_file() and not page.is_symlink(), "a browser shows what a link points to by that one's name: as text"
    before = state(project)
    again = record.record(project, {}, "toy")
    assert (again.recorded, again.kept) == ([], 17) and state(project) == before
    shown = json.loads(dvc.run(project, "metrics", "show", "--json"))
    assert len(shown[""]["data"]) == 4  # two runs, two floors
    dag = dvc.run(project, "dag", "--dot")
    edges = {tuple(line.strip(' ;"').split('" -> "')) for line in dag.splitlines() if "->" in line}
    words = {(start.partition("-")[0], end.partition("-")[0]) for start, end in edges}
    for edge in (("images", "encode"), ("encode", "train"), ("train", "sample"), ("sample", "score"),
                 ("score", "tables"), ("reference", "tables"), ("tables", "report")):  # fmt: skip
        assert edge in words


def test_the_archive_is_portable_deterministic_and_holds_the_records(recorded, tmp_path):
    text = (recorded / "lineage/toy.jsonl").read_text()
    assert str(recorded) not in text and str(Path.home()) not in text
    entries = registry.read(recorded, "toy")
    assert list(entries) == sorted(entries) and registry.text(entries) == text
    assert set(entries) == {path for job in plan_jobs(recorded, {}) for path in job.outputs}
    entry = entries[WEIGHTS]
    assert entry.settings == json.loads(settings_path(recorded / WEIGHTS).read_text())
    assert entry.run == json.loads(run_path(recorded / WEIGHTS).read_text())
    assert read_lock(recorded).outs()[WEIGHTS] == entry.md5
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(recorded), str(clone)], check=True)
    shutil.copytree(recorded / ".dvc/cache", clone / ".dvc/cache")
    restore.restore(clone, "toy")
    for name in STATE:
        (clone / name).unlink()
    record.record(clone, {}, "toy")
    assert state(clone) == state(recorded), "recorded from nothing, elsewhere: the same bytes"


def test_texts_with_any_ends_of_lines_are_archived_as_they_are():
    """In a path, a title or a note: what Python, YAML or a terminal take for the end of a line."""
    note = "a\x0bb\x0cc\x1cd\x85e\u2028f\u2029g\rh\ni <<<<<<< HEAD"
    settings = {"settings": {"source": {"path": note}}, "inputs": {}}
    entry = Entry(
        "results/toy/images/a.zip", 1, "0" * 64, "f" * 32, settings, {"note": note}, job="results/toy/images/a.zip"
    )
    entries = {entry.path: entry}
    assert registry.parse(registry.text(entries), "toy.jsonl") == entries
    ((name, stage),) = stages({"toy": entries}).items()
    lock = Lock(f"schema: '2.0'\nstages:\n{record.lock_block(stage, entries, Lock(''))}")
    assert lock.params(name) == {f"{entry.path}.settings.json": settings} and lock.outs() == {entry.path: entry.md5}


def test_a_clone_with_the_line_ends_of_another_system_is_the_same_project(book):
    """As git makes it with core.autocrlf."""
    for name in STATE:
        (book / name).write_bytes((book / name).read_bytes().replace(b"\n", b"\r\n"))
    assert due(book) == [] and complaints(book) == []
    assert record.record(book, {}, "toy").recorded == []


def test_recording_one_scale_keeps_the_others(book):
    before = registry.read(book, "toy")
    fake.write_jobs(book, fake.graph("other", runs=1))
    fake.finish(book)
    report = record.record(book, {}, "other")
    assert len(report.recorded) == 14 and report.dropped == []
    assert registry.read(book, "toy") == before and registry.scales(book) == ["other", "toy"]
    assert {name.split("-")[1] for name in stages_of(book)} == {"toy", "other", "resources"}
    assert "up to date" in dvc.run(book, "status")


def test_what_is_not_up_to_date_is_left_out_with_what_follows_and_stays_as_recorded(book):
    before = state(book)
    change(book, "train_run-0", 0.5)
    report = record.record(book, {}, "toy")
    assert report.recorded == [] and state(book) == before
    assert report.left_out[WEIGHTS] == "its settings changed"
    assert set(report.left_out) == {
        WEIGHTS,
        METRICS.replace("metrics", "sample").replace("/fd.json", ".zip"),
        METRICS.replace("metrics", "features").replace("fd.json", "cnn.safetensors"),
        TABLES,
        "reports/toy/index.html",
    }
    assert fake.snakemake(book).returncode == 0
    report = record.record(book, {}, "toy")
    assert report.left_out == {} and len(report.recorded) == 5 and due(book) == []
    assert registry.read(book, "toy")[WEIGHTS].settings["settings"]["training"]["lr"] == 0.5
    assert "up to date" in dvc.run(book, "status")


@pytest.mark.parametrize("damage", ["flipped", "edited", "records", "gone", "other input"])
def test_what_does_not_agree_with_its_records_is_left_out_and_named(project, damage):
    path = project / WEIGHTS
    if damage == "flipped":
        flip(path)
        expected = "is not what its job wrote: expected sha256"
    elif damage == "edited":
        path = project / METRICS
        path.write_text('{"value": 0}')
        expected = "is not what its job wrote: expected sha256"
    elif damage == "records":
        run_path(path).write_text("{}")
        expected = "its records are not what a job writes"
    elif damage == "gone":
        settings_path(path).unlink()
        expected = "expected a JSON file, found nothing"
    else:
        settings = json.loads(settings_path(path).read_text())
        settings["inputs"]["latents"]["sha256"] = "0" * 64
        settings_path(path).write_text(json.dumps(settings))
        expected = "made from results/toy/latents/d/posterior/latents.safetensors as it was before"
    name = str(path.relative_to(project))
    report = record.record(project, {}, "toy")
    assert expected in report.left_out[name]
    assert name not in registry.read(project, "toy") and METRICS not in registry.read(project, "toy")
    assert TABLES in report.left_out and METRICS.replace("run-0", "run-1") in registry.read(project, "toy")
    assert "up to date" in dvc.run(project, "status")


def test_results_without_snakemake_s_metadata_are_recorded_by_their_own_records(project):
    shutil.rmtree(project / ".snakemake")
    assert record.record(project, {}, "toy").left_out == {}
    assert due(project) == [] and "0.001" in str(read_metadata(project, WEIGHTS).job["params"])
    change(project, "train_run-0", 0.5)
    assert "train_run-0" in due(project)


def test_bytes_that_change_while_dvc_reads_them_are_not_recorded(project, monkeypatch):
    commit = dvc.commit

    def late(root):
        flip(root / WEIGHTS, keep_time=False)
        commit(root)

    monkeypatch.setattr(dvc, "commit", late)
    before = state(project)
    with pytest.raises(ValueError, match=f"{WEIGHTS}: changed while it was being recorded"):
        record.record(project, {}, "toy")
    assert state(project) == before


def test_a_row_that_is_taken_out_is_dropped_and_named(book):
    jobs = [job for job in fake.graph(runs=1)]
    fake.write_jobs(book, jobs)
    assert fake.snakemake(book).returncode == 0
    report = record.record(book, {}, "toy")
    assert [name.partition("-")[0] for name in report.dropped] == ["sample", "score", "train"]
    assert all("run-1" in name for name in report.dropped)
    assert not any("run-1" in path for path in registry.read(book, "toy"))
    assert not any("run-1" in name for name in read_lock(book).blocks)


def test_a_dataset_of_its_own_is_recorded_beside_the_tables_and_dropped_with_its_configuration(book):
    text = json.dumps(fake.graph(runs=1)).replace("run-0", "mine-lct")
    text = text.replace("toy/tables/tables.json", "toy/tables/dataset-mine/tables.json")
    text = text.replace("reports/toy/", "reports/toy/dataset-mine/").replace('"rule": "report', '"rule": "own_report')
    (book / "graph-mine.json").write_text(text.replace('"rule": "tables', '"rule": "own_tables'))
    before = registry.read(book, "toy")
    assert fake.snakemake(book, "--config", "dataset=mine").returncode == 0
    report = record.record(book, {"dataset": "mine"}, "toy")
    assert len(report.recorded) == 5 and not report.dropped and not report.left_out
    assert before.items() <= registry.read(book, "toy").items() and "up to date" in dvc.run(book, "status")
    assert not record.record(book, {}, "toy").dropped
    (book / "graph-mine.json").unlink()
    report = record.record(book, {}, "toy")
    assert len(report.dropped) == 5 and registry.read(book, "toy") == before


def test_a_recording_of_some_rows_keeps_the_others(book):
    jobs = [job for job in fake.graph(runs=1) if job["rule"] not in ("tables", "report")]
    (book / "graph-run-0.json").write_text(json.dumps(jobs))
    before = registry.read(book, "toy")
    report = record.record(book, {"only": "run-0"}, "toy")
    assert report.dropped == [] and report.left_out == {} and registry.read(book, "toy") == before


def test_what_the_version_before_recorded_is_carried_over(book):
    entries, before = registry.read(book, "toy"), read_lock(book)
    fake.as_recorded_before(book)
    assert (
        not before.blocks.keys() & read_lock(book).blocks.keys() and not stages_of(book).keys() & read_lock(book).blocks
    )
    report = record.record(book, {}, "toy")
    assert report.left_out == {} and report.dropped == [] and len(report.recorded) == 17
    assert registry.read(book, "toy") == entries and not (book / record.FORMER).exists()
    assert read_lock(book).outs() == before.outs() and read_lock(book).blocks.keys() == before.blocks.keys()
    assert "up to date" in dvc.run(book, "status") and due(book) == []
    record.commit(book, "toy")
    done = subprocess.run(["git", "status", "--porcelain"], cwd=book, capture_output=True, text=True)
    assert done.stdout == "", "the former list of artifacts is taken out of git as well"


def test_what_the_version_before_recorded_is_carried_over_where_no_content_is(book, tmp_path):
    entries, outs = registry.read(book, "toy"), read_lock(book).outs()
    fake.as_recorded_before(book)
    clone = clone_of(book, tmp_path / "clone", cache=False)
    (clone / "dvc.yaml").write_text(dvc_yaml({}))  # as the new version brings it
    (clone / record.FORMER).unlink()
    report = record.record(clone, {}, "toy")
    assert (report.recorded, report.left_out, report.dropped) == ([], {}, [])
    assert registry.read(clone, "toy") == entries and read_lock(clone).outs() == outs
    shutil.copytree(book / ".dvc/cache", clone / ".dvc/cache")
    assert restore.restore(clone, "toy").absent == []
    assert "up to date" in dvc.run(clone, "status") and due(clone) == []
    assert record.record(clone, {}, "toy").kept == 17


# --- bad input -------------------------------------------------------------------------------------------------------
def test_each_unfit_surrounding_is_named(project, monkeypatch):
    for found, message in ((None, "dvc: expected version 3, found none"), ("2.58.2", "expected version 3, found 2.58")):
        with monkeypatch.context() as patch, pytest.raises(ValueError, match=message):
            patch.setattr(dvc, "version", lambda found=found: found)
            record.record(project, {}, "toy")
    shutil.rmtree(project / ".git")
    with pytest.raises(ValueError, match="expected a git repository, found none"):
        record.record(project, {}, "toy")
    shutil.rmtree(project / ".dvc")
    with pytest.raises(ValueError, match=r"expected a DVC project, found no \.dvc/config"):
        record.record(project, {}, "toy")
    assert not (project / "lineage").exists() and not (project / "dvc.lock").exists()


def test_a_run_that_cannot_be_recorded_warns_in_one_line(tmp_path, project):
    line = record_run(tmp_path, {"scale": "smoke"}, "smoke")
    assert line.startswith("Lineage not recorded: ") and "expected a DVC project" in line and "\n" not in line
    (project / "config/config.yaml").write_text("scale: nowhere\n")
    line = record_run(project, {"record": True}, "toy")
    assert line.startswith("Lineage not recorded: lct record: ") and "\n" not in line


def test_an_interrupted_recording_is_tried_again_by_the_next_run(project, monkeypatch):
    (project / "config/config.yaml").write_text("scale: toy\n")
    lines: list[str] = []
    record_earlier_run(project, lines.append)
    assert lines == [], "there was none"

    def interrupted(*words, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lct.lineage.hooks.subprocess.run", interrupted)
        patch.setattr("lct.lineage.dvc.check", lambda root: None)
        assert record_run(project, {"scale": "toy"}, "toy") == (
            "Lineage not recorded: interrupted; the next run records, or `lct record --scale toy` does"
        )
    with acquire(project / record.RUN_LOCK, "run"):
        record_earlier_run(project, lines.append)
    assert lines == [], "a run goes on"
    done = subprocess.CompletedProcess([], 0, "toy: 3 jobs recorded", "")
    monkeypatch.setattr("lct.lineage.hooks.subprocess.run", lambda *words, **options: done)
    monkeypatch.setattr("lct.lineage.dvc.check", lambda root: None)
    record_earlier_run(project, lines.append)
    record_earlier_run(project, lines.append)
    assert lines == ["Of an earlier run: Lineage: toy: 3 jobs recorded"], "once"


@pytest.mark.parametrize("name", STATE[1:])
@pytest.mark.parametrize("damage", ["conflict", "truncated"])
def test_a_merge_conflict_or_damage_in_the_recorded_state_is_named_and_left_alone(book, name, damage):
    text = (book / name).read_text()
    middle = len(text) // 2
    conflict = text[:middle] + "\n<<<<<<< HEAD\na\n=======\nb\n>>>>>>> other\n" + text[middle:]
    (book / name).write_text(conflict if damage == "conflict" else text[: middle - 3] + "\n{[")
    before = state(book)
    with pytest.raises(ValueError, match=Path(name).name) as error:
        record.record(book, {}, "toy")
    assert "\n" not in str(error.value) and ("conflict" in str(error.value) or damage != "conflict" or "yaml" in name)
    assert state(book) == before


def test_locks_held_by_others_are_named_and_nothing_changes(project, monkeypatch):
    before = state(project)
    with (
        acquire(project / record.LOCK, "recording"),
        pytest.raises(LockHeldError, match="expected no other running `lct record`"),
    ):
        record.record(project, {}, "toy")
    with acquire(project / record.RUN_LOCK, "run"):
        with pytest.raises(ValueError, match="expected no running snakemake, found one"):
            record.record(project, {}, "toy")
        with pytest.raises(ValueError, match="expected no running snakemake, found one"):
            restore.restore(project, "toy")
    monkeypatch.setattr(dvc, "LOCK_SECONDS", 0.0)
    held = zc.lockfile.LockFile(str(project / ".dvc/tmp/lock"))
    try:
        with pytest.raises(ValueError, match="another dvc is running in this project"):
            record.record(project, {}, "toy")
    finally:
        held.close()
    assert state(project) == before
    assert len(record.record(project, {}, "toy").recorded) == 17


def test_two_recordings_at_once_give_one_state(project):
    program = "import pathlib; from lct.lineage.record import record; record(pathlib.Path('.'), {}, 'toy', False, 60)"
    environment = os.environ | {"PYTHONPATH": fake.CODE}
    running = [subprocess.Popen([sys.executable, "-c", program], cwd=project, env=environment) for _ in range(2)]
    assert [one.wait(timeout=120) for one in running] == [0, 0]
    assert len(registry.read(project, "toy")) == 51 and "up to date" in dvc.run(project, "status")


KILLED = """
import os, pathlib, signal
from lct.lineage import dvc, record, registry
def die(*words):
    os.kill(os.getpid(), signal.SIGKILL)
def after(root, commit=dvc.commit):
    commit(root)
    die()
{what}
record.record(pathlib.Path('.'), {{}}, 'toy')
"""


@pytest.mark.parametrize(
    "what",
    [
        "dvc.commit = die",
        "registry.write = die",
        pytest.param("dvc.commit = after", marks=pytest.mark.slow),
        pytest.param("record.dvc_yaml = die", marks=pytest.mark.slow),
    ],
)
def test_a_recording_killed_anywhere_is_undone_by_the_next(book, what):
    change(book, "train_run-0", 0.5)
    assert fake.snakemake(book).returncode == 0
    done = python(book, KILLED.format(what=what))
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(registry.read(book, "toy")) == 51, "readable at any time"
    assert read_lock(book) is None or read_lock(book).all()
    report = record.record(book, {}, "toy")
    assert report.left_out == {} and len(report.recorded) == 5
    assert "up to date" in dvc.run(book, "status") and due(book) == []
    assert not (book / record.JOURNAL).exists()


def test_a_file_that_was_on_its_way_into_the_cache_comes_back(project, monkeypatch):
    commit = dvc.commit

    def half(root):
        commit(root)
        (root / WEIGHTS).unlink()
        (root / "dvc.lock").write_text("schema: '2")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dvc, "commit", half)
    content, before = (project / WEIGHTS).read_bytes(), state(project)
    with pytest.raises(OSError, match="No space left"):
        record.record(project, {}, "toy")
    assert (project / WEIGHTS).read_bytes() == content and state(project) == before and due(project) == []
    monkeypatch.undo()
    assert len(record.record(project, {}, "toy").recorded) == 17


def test_a_limit_on_file_sizes_while_committing_leaves_the_recorded_state(book, monkeypatch):
    change(book, "train_run-0", 0.5)
    assert fake.snakemake(book).returncode == 0
    before = state(book)
    program = "import pathlib; from lct.lineage.record import record; record(pathlib.Path('.'), {}, 'toy')"
    monkeypatch.delenv("LCT_WARM")

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = python(book, program, preexec_fn=limit)
    assert done.returncode != 0 and "File too large" in done.stderr
    assert state(book) == before and due(book) == []
    assert len(record.record(book, {}, "toy").recorded) == 5


@pytest.mark.slow  # mounts a small file system, as root
def test_a_full_disk_while_committing_leaves_the_recorded_state(book):
    change(book, "train_run-0", 0.5)
    assert fake.snakemake(book).returncode == 0
    before, cache = state(book), book / ".dvc/cache"
    kept = cache.rename(book / "kept")
    cache.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(cache)], check=True)
    try:
        shutil.copytree(kept, cache, dirs_exist_ok=True)
        with open(cache / "filler", "wb", buffering=0) as filler, pytest.raises(OSError, match="No space"):
            while filler.write(b"0" * 4096):
                pass
        with pytest.raises(ValueError, match="the disk is full: free space"):
            record.record(book, {}, "toy")
        assert state(book) == before and due(book) == []
        (cache / "filler").unlink()
        assert len(record.record(book, {}, "toy").recorded) == 5
    finally:
        subprocess.run(["umount", str(cache)], check=True)


# --- restoring -------------------------------------------------------------------------------------------------------
def clone_of(folder: Path, to: Path, cache: bool = True) -> Path:
    subprocess.run(["git", "clone", "-q", str(folder), str(to)], check=True)
    if cache:
        shutil.copytree(folder / ".dvc/cache", to / ".dvc/cache")
    return to


def test_a_clone_is_restored_plans_nothing_and_still_sees_a_changed_setting(recorded, tmp_path):
    clone = clone_of(recorded, tmp_path / "clone")
    assert len(due(clone)) == 17
    report = restore.restore(clone, "toy")
    assert (report.restored, report.linked, report.absent, report.differing) == (51, 51, [], [])
    assert due(clone) == [] and "up to date" in dvc.run(clone, "status")
    for path, entry in registry.read(clone, "toy").items():
        assert (clone / path).lstat().st_mtime == (clone / path).stat().st_mtime == pytest.approx(entry.ended[0])
        assert read_metadata(clone, path) == read_metadata(recorded, path)
        for of in (settings_path, run_path):
            if entry.settings is not None:
                assert of(clone / path).read_bytes() == of(recorded / path).read_bytes()
    change(clone, "train_run-0", 0.5)
    assert set(due(clone)) == {"train_run-0", "sample_run-0_one-0", "score_run-0_one-0", "tables", "report"}


@pytest.mark.slow
def test_one_cell_is_pulled_with_its_chain_only(recorded, tmp_path):
    source = copied(recorded, tmp_path / "source")
    restore.restore(source, "toy")
    dvc.run(source, "remote", "add", "-d", "store", str(tmp_path / "remote"))
    dvc.run(source, "push", "--quiet")
    fake.commit(source, "remote")
    clone = clone_of(source, tmp_path / "clone", cache=False)
    report = restore.restore(clone, "toy", [METRICS], pull=True)
    assert report.absent == [] and (clone / METRICS).exists() and (clone / WEIGHTS).exists()
    assert not list((clone / "results").rglob("run-1/**/*.*")) and not (clone / TABLES).exists()
    assert [job.rule for job in plan_jobs(clone, {}, (METRICS,)) if job.due] == []
    change(clone, "train_run-0", 0.5)
    assert "train_run-0" in [job.rule for job in plan_jobs(clone, {}, (METRICS,)) if job.due]


def test_a_moved_project_is_set_right(book, tmp_path):
    moved = book.rename(tmp_path / "moved")
    assert not (moved / WEIGHTS).exists() and (moved / WEIGHTS).is_symlink()
    with pytest.raises(ValueError, match="the project was moved.*`lct restore` sets links right"):
        guard.check_links(moved, "toy")
    links = [path for path in registry.read(moved, "toy") if (moved / path).is_symlink()]
    report = restore.restore(moved, "toy")
    assert report.linked == len(links) > 30 and due(moved) == [] and "up to date" in dvc.run(moved, "status")
    guard.check_links(moved, "toy")


def test_a_lost_cache_object_is_named_and_snakemake_can_make_it_again(book):
    cached(book, registry.read(book, "toy")[WEIGHTS].md5).unlink()
    report = restore.restore(book, "toy")
    assert report.absent == [WEIGHTS] and not (book / WEIGHTS).is_symlink()
    with pytest.raises(ValueError, match="expected a remote to pull from, found none; `dvc remote add -d"):
        restore.restore(book, "toy", pull=True)
    assert fake.snakemake(book, WEIGHTS).returncode == 0
    assert restore.restore(book, "toy").absent == [] and due(book) == []


def test_work_that_is_nowhere_else_is_never_replaced(book):
    (book / METRICS).unlink()
    (book / METRICS).write_text("mine")
    report = restore.restore(book, "toy")
    assert report.differing == [METRICS] and (book / METRICS).read_text() == "mine"
    (book / METRICS).unlink()
    assert restore.restore(book, "toy").differing == []


# --- dropped image sets -----------------------------------------------------------------------------------------------
def test_a_dropped_image_set_is_no_work_and_stays_recorded_by_its_records(book, tmp_path):
    before, zipped = registry.read(book, "toy")[SAMPLES], book / SAMPLES
    faults = verify(fake.auditor(book), "toy").faults  # of its manifests, which are made up
    drop(zipped)
    assert is_dropped(zipped) and not zipped.is_symlink() and due(book) == []
    report = record.record(book, {}, "toy")
    assert report.left_out == {} and report.kept == 16 and len(report.recorded) == 1
    entries = registry.read(book, "toy")
    assert entries[SAMPLES] == replace(before, md5=None) and entries.keys() >= {METRICS, SAMPLES}
    assert SAMPLES not in {path for stage in stages({"toy": entries}).values() for path in stage.outs}
    assert "up to date" in dvc.run(book, "status") and record.record(book, {}, "toy").recorded == []
    assert cached(book, before.md5).exists(), "content that is recorded elsewhere stays in the cache"
    findings = verify(fake.auditor(book), "toy")
    assert findings.faults == faults and sum("dropped" in note for note in findings.notes) == 1
    assert not any("lct restore" in note or "lct record" in note for note in findings.notes)
    link = fake.auditor(book).link(SAMPLES.replace(".zip", ".manifest.json"))
    assert [c["state"] for c in link["checks"] if "keep_images=true" in c["text"]] == ["unchecked"]
    fake.commit(book, "dropped")
    for revision, kept in (("HEAD~1", True), ("-", False)):
        subprocess.run(["git", "checkout", "-q", revision], cwd=book, check=True)
        report = restore.restore(book, "toy")
        assert (report.absent, report.differing, zipped.exists(), due(book)) == ([], [], kept, [])
    clone = clone_of(book, tmp_path / "clone")
    report = restore.restore(clone, "toy")
    assert (report.absent, report.differing) == ([], []) and is_dropped(clone / SAMPLES) and due(clone) == []
    assert guard.causes(clone, plan_jobs(clone, {})[0], entries) == []
    (note,) = (note for note in findings.notes if "dropped" in note)
    assert fake.snakemake(book, *note.split("`")[1].replace("FILE", SAMPLES).split()[1:]).returncode == 0
    assert zipped.exists() and not is_dropped(zipped)


def test_a_dropped_image_set_is_made_again_for_a_job_that_needs_it_alone(book):
    drop(book / SAMPLES)
    record.record(book, {}, "toy")
    change(book, "tables", 0.5)
    assert set(due(book)) == {"tables", "report"}
    change(book, "score_run-0_one-0", 0.5)
    assert set(due(book)) == {"sample_run-0_one-0", "score_run-0_one-0", "tables", "report"}
    done = fake.snakemake(book)
    assert done.returncode == 0 and (book / SAMPLES).exists(), done.stderr
    report = record.record(book, {}, "toy")
    assert report.left_out == {} and registry.read(book, "toy")[SAMPLES].md5 is not None and due(book) == []


def test_an_image_set_that_is_merely_gone_is_not_dropped(book):
    (book / SAMPLES).unlink()
    assert not is_dropped(book / SAMPLES)
    assert SAMPLES in str(record.record(book, {}, "toy").left_out)


def test_a_revision_and_back(book):
    first = state(book)
    change(book, "train_run-0", 0.5)
    assert fake.snakemake(book).returncode == 0
    record.record(book, {}, "toy")
    fake.commit(book, "another learning rate")
    second = state(book)
    for revision, expected in (("HEAD~1", first), ("-", second), ("HEAD~1", first)):
        subprocess.run(["git", "checkout", "-q", revision], cwd=book, check=True)
        assert state(book) == expected
        assert restore.restore(book, "toy").absent == []
        assert due(book) == [] and "up to date" in dvc.run(book, "status")


# --- why, and the guard ----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan(ROOT, {"scale": "smoke"})


def allowing(*cells: str) -> Plan:
    return Plan(ROOT, {"scale": "smoke", "allow_retrain": list(cells)})


def training(run: str, lr: float, due: bool, reasons: tuple[str, ...] = ("its settings changed",)) -> Job:
    path = f"results/smoke/train/{run}/s0/step40-ema0.9.safetensors"
    settings = {"recipe": 1, "training": {"optimiser": {"lr": lr}}}
    return Job(rule=f"train_{run}", outputs=(path,), inputs=(), settings=settings, due=due, reasons=reasons)


def archived(root: Path, *jobs: Job) -> Path:
    entries = {job.outputs[0]: Entry(job.outputs[0], 1, "0", "0", {"settings": job.settings}, {}) for job in jobs}
    registry.write(root, "smoke", entries)
    for job in jobs:
        (root / job.outputs[0]).parent.mkdir(parents=True)
        (root / job.outputs[0]).write_text("weights")
    return root


def test_the_guard_stops_what_would_train_a_recorded_cell_again(tmp_path, plan):
    root = archived(tmp_path, training("digits-lct", 0.1, False))
    jobs = [training("digits-lct", 0.2, True), training("digits-ilct", 0.2, True)]
    with pytest.raises(ValueError, match="nothing was touched") as error:
        guard.check_plan(root, plan, jobs)
    text = str(error.value)
    assert "table1.a.lct-1, table1.a.lct-2 (run digits-lct, seed 0): setting changed: " in text
    assert "training.optimiser.lr: 0.1 -> 0.2" in text and "digits-ilct" not in text
    assert (
        "`lct why table1.a.lct-1 --scale smoke`" in text and "snakemake --config allow_retrain=table1.a.lct-1\n" in text
    )
    with pytest.raises(ValueError, match="snakemake table1.a --config allow_retrain=table1.a.lct-1 scale=smoke\n"):
        guard.check_plan(root, plan, jobs, ("snakemake", "table1.a", "--config", "scale=smoke"))
    guard.check_plan(root, plan, [training("digits-lct", 0.1, False), training("digits-ilct", 0.2, True)])
    for cells in (["table1.a.lct-1.fd"], ["table1.a.ilct-1", "table1.a.lct-2"], ["all"]):
        guard.check_plan(root, allowing(*cells), jobs)
    guard.check_plan(root, Plan(ROOT, {"scale": "smoke", "allow_retrain": "table1.a.lct-1,table1.a.ilct-1"}), jobs)
    with pytest.raises(ValueError, match="would be replaced; nothing was touched"):
        guard.check_plan(root, allowing("table1.a.ilct-1"), jobs)
    with pytest.raises(ValueError, match="found 'table1.a.lct-9.fd'; did you mean 'table1.a.lct-"):
        guard.check_plan(root, allowing("table1.a.lct-9.fd"), jobs)


def test_the_guard_lets_a_recorded_training_go_on_and_stops_a_longer_one(tmp_path, plan):
    first, curves = (
        f"results/smoke/train/digits-lct/s0/{name}" for name in ("step20-ema0.9.safetensors", "curves.json")
    )
    last = dataclasses.replace(training("digits-lct", 0.1, True), inputs=(first,))
    last = dataclasses.replace(last, outputs=(*last.outputs, curves))
    before = dataclasses.replace(last, outputs=(first,), inputs=(), due=False)
    root = archived(tmp_path, before)
    guard.check_plan(root, plan, [before, last])
    entries = registry.read(root, "smoke")
    registry.write(root, "smoke", entries | {curves: dataclasses.replace(entries[first], path=curves)})
    with pytest.raises(ValueError, match="would be replaced; nothing was touched"):
        guard.check_plan(root, plan, [before, last])


def test_the_guard_says_where_it_begins_and_what_is_merely_not_here(tmp_path, plan):
    root = archived(tmp_path, training("digits-lct", 0.1, False))
    lost = training("digits-lct", 0.1, True, reasons=("missing: results/...",))
    (root / lost.outputs[0]).unlink()
    with pytest.raises(ValueError, match="recorded, but not here: .* no remote is set, so only its jobs can make it"):
        guard.check_plan(root, plan, [lost])
    (cached(root, "0")).parent.mkdir(parents=True)
    cached(root, "0").write_text("weights")
    with pytest.raises(ValueError, match="recorded, but not here: .*; `lct restore` brings it back"):
        guard.check_plan(root, plan, [lost])
    cached(root, "0").unlink()
    (root / ".dvc/config").write_text("[core]\n    remote = far\n['remote \"far\"']\n    url = /far\n")
    with pytest.raises(ValueError, match="recorded, but not here: .*; `lct restore --pull` brings it back"):
        guard.check_plan(root, plan, [lost])
    images = Job(rule="images", outputs=("results/smoke/images/digits/train.zip",), inputs=(), settings=None, due=True,
                 reasons=("asked for with --force",))  # fmt: skip
    follows = replace(lost, inputs=images.outputs, reasons=("input will be made again: train.zip",))
    with pytest.raises(ValueError, match=r"seed 0\): images: asked for with --force\n"):
        guard.check_plan(root, plan, [images, follows])


def test_differences_of_settings_are_one_line_a_leaf():
    old, new = {"a": {"b": 1, "c": [1]}, "d": None, "e": 1}, {"a": {"b": 2, "c": [1]}, "d": False, "f": "x"}
    assert guard.differences(old, new) == ["a.b: 1 -> 2", "d: None -> False", "e: was 1, now gone", "f: new, x"]
    assert guard.differences(old, old) == []


def test_switches_change_no_setting_of_any_job(plan):
    switched = Plan(ROOT, {"scale": "smoke", "record": "false", "allow_retrain": "all"})
    assert switched.main.record is False and plan.main.record is True
    for run in plan.runs:
        assert stage_settings.train(switched, run) == stage_settings.train(plan, run)
        assert stage_settings.sample(switched, run) == stage_settings.sample(plan, run)
    for which in ("tables", "all"):
        assert stage_settings.tables(switched, which) == stage_settings.tables(plan, which)


def test_results_behind_a_link_are_refused_with_a_remedy_that_works(project, tmp_path):
    assert dvc.place_fault(project) is None
    disk = tmp_path / "the group's disk"
    (project / "results").rename(disk)
    (project / "results").symlink_to(disk)
    fault = str(dvc.place_fault(project))
    assert fault.startswith(f"{project}/results: expected a folder, found a link to {disk}, and DVC records")
    with pytest.raises(ValueError, match="found a link to"):
        record.record(project, {}, "toy")
    program = f"{sys.executable} -m dvc cache"
    command = fault.rpartition(": ")[2].strip("`").replace("dvc cache", program)
    subprocess.run(command, shell=True, check=True, cwd=project)
    assert dvc.place_fault(project) is None and record.record(project, {}, "toy").left_out == {}
    assert (project / WEIGHTS).resolve().is_relative_to(tmp_path / "the group's disk-cache")


def test_files_of_the_record_that_git_ignores_are_named_with_a_remedy_that_works(project):
    (project / ".gitignore").write_text("*.lock\n")
    fault = str(dvc.place_fault(project))
    assert fault.startswith(
        "dvc.lock: expected a file that git keeps, found one that git ignores (.gitignore:1:*.lock)"
    )
    asked = dvc.explain("'dvc.lock' is git-ignored").split("`")[1]
    rule = subprocess.run(asked, shell=True, check=True, cwd=project, capture_output=True, text=True).stdout
    assert rule.startswith(".gitignore:1:*.lock\tdvc.lock")
    subprocess.run(fault.split("`")[1], shell=True, check=True, cwd=project)
    assert dvc.place_fault(project) is None


def test_the_project_s_own_ignore_file_keeps_its_records(project, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ignore").write_text("*.lock\n*.jsonl\ndvc.yaml\nlineage\n")
    subprocess.run(["git", "config", "--global", "core.excludesfile", str(tmp_path / "ignore")], check=True)
    assert dvc.place_fault(project) is None


def test_a_file_system_without_links_gets_copies(book, monkeypatch):
    def refused(*words, **options):
        raise PermissionError(1, "Operation not permitted", str(words[1]))

    monkeypatch.setattr("os.symlink", refused)
    assert "`dvc config --local cache.type copy`" in str(dvc.place_fault(book))
    dvc.run(book, "config", "--local", "cache.type", "copy")
    assert dvc.place_fault(book) is None
    shutil.rmtree(book / "results")
    report = restore.restore(book, "toy")
    assert report.absent == [] and report.differing == []
    assert not (book / WEIGHTS).is_symlink() and due(book) == []


def test_files_of_another_user_are_replaced_where_only_their_owner_may_set_times(book, monkeypatch):
    for i, path in enumerate((book / WEIGHTS, settings_path(book / WEIGHTS))):
        os.link(path, book / f"kept-{i}", follow_symlinks=False)  # so that no new file gets the number of theirs
    theirs = {(book / WEIGHTS).lstat().st_ino, settings_path(book / WEIGHTS).stat().st_ino}
    utime, refusals = os.utime, []

    def only_mine(path, times=None, *, follow_symlinks=True, **options):
        if os.stat(path, follow_symlinks=follow_symlinks).st_ino in theirs:
            refusals.append(path)
            raise PermissionError(1, "Operation not permitted")
        utime(path, times, follow_symlinks=follow_symlinks, **options)

    for path in (book / WEIGHTS, settings_path(book / WEIGHTS)):
        utime(path, (1, 1), follow_symlinks=False)
    monkeypatch.setattr("os.utime", only_mine)
    assert restore.restore(book, "toy").differing == []
    assert len(refusals) == 2 and due(book) == []


def test_without_a_whole_installation_of_dvc_its_settings_are_read_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dvc.config", None)  # as where a package that it needs is missing
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[cache]\n    dir = own\n")
    assert cache_folder(tmp_path) == tmp_path / ".dvc/own"


def test_dvc_is_asked_where_its_cache_and_remotes_are(project, tmp_path, monkeypatch):
    assert cache_folder(project) == project / ".dvc/cache" and remotes(project) == {}
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    (tmp_path / "xdg").mkdir()
    dvc.run(project, "config", "--global", "cache.dir", str(tmp_path / "shared"))
    dvc.run(project, "remote", "add", "--global", "team", str(tmp_path / "far"))
    assert cache_folder(project) == tmp_path / "shared" and remotes(project) == {"team": str(tmp_path / "far")}
    report = record.record(project, {}, "toy")
    assert report.recorded and report.left_out == {}
    assert (project / WEIGHTS).resolve().is_relative_to(tmp_path / "shared")
    dvc.run(project, "config", "--local", "cache.dir", "own")
    assert cache_folder(project) == project / "own"
    (user,) = tmp_path.rglob("dvc/config")
    for path in (user, project / ".dvc/config.local", project / ".dvc/config"):
        whole = path.read_text()
        path.write_text("[cache\n")
        os.utime(project / ".dvc/config")
        with pytest.raises(
            ValueError, match=rf"^{re.escape(str(path))}: expected DVC's settings, found damage .*; fix it"
        ):
            cache_folder(project)
        path.write_text(whole)


# --- git -------------------------------------------------------------------------------------------------------------
def test_a_dirty_tree_is_recorded_with_the_hash_of_its_difference(recorded, tmp_path):
    folder = clone_of(recorded, tmp_path / "clone", cache=False)
    clean = git_state(folder)
    assert clean["dirty"] is False and "diff_sha256" not in clean
    (folder / "dvc.lock").write_text("what recording writes is no source")
    assert git_state(folder) == clean
    (folder / "Snakefile").write_text("# changed\n")
    dirty = git_state(folder)
    assert dirty["dirty"] is True and dirty["revision"] == clean["revision"] and len(dirty["diff_sha256"]) == 64
    (folder / "Snakefile").write_text("# changed again\n")
    assert git_state(folder)["diff_sha256"] != dirty["diff_sha256"]
    assert git_state(tmp_path) is None


def test_committing_takes_the_recorded_state_and_nothing_else(project):
    record.record(project, {}, "toy")
    (project / "make.py").write_text("# mine\n")
    record.commit(project, "toy")
    shown = subprocess.run(["git", "show", "--stat", "--format=%s"], cwd=project, capture_output=True, text=True)
    assert shown.stdout.startswith("Record toy") and all(name in shown.stdout for name in STATE)
    assert "make.py" not in shown.stdout
    record.commit(project, "toy")


def test_unrecorded_outputs_are_counted_without_asking_snakemake(book, project):
    assert record.unrecorded(book, "toy") == []
    fake.write_outputs(book, fake.jobs_in(book)["tables"] | {"settings": {"recipe": 2}})
    assert record.unrecorded(book, "toy") == [TABLES]
    assert len(record.unrecorded(project, "toy")) == 36


def test_an_edited_run_record_is_not_recorded(book):
    path = book / f"{METRICS}.run.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"host": "another"}))
    report = record.record(book, {}, "toy")
    assert f"{METRICS}.run.json was edited since it was recorded (host); `lct restore`" in str(report.left_out)
    restore.restore(book, "toy")
    assert json.loads(path.read_text()) == content


def test_a_report_rendered_after_a_failed_run_is_noted_and_lost_records_of_a_page_are_a_fault(book):
    folder = book / "reports/toy"
    for of in (settings_path, run_path):
        of(folder / "index.html").unlink()
    faults = verify(fake.auditor(book), "toy").faults
    assert [text for text in faults if "index.html" in text and "`lct restore` brings them back" in text], faults
    for name in ("index.html", "report.md"):
        plain_file(folder / name).write_text("of what exists")
    findings = verify(fake.auditor(book), "toy")
    assert not [text for text in findings.faults if "reports/toy" in text], findings.faults
    assert any("7 files of a report rendered after a failed run" in note for note in findings.notes), findings.notes
    assert restore.restore(book, "toy").differing == [] and complaints(book) == []


@pytest.mark.parametrize("md5", ["1" * 32, "0" * 32, "12e" + "4" * 29, "1e" * 16, "e" + "1" * 31])
def test_a_hash_that_yaml_would_read_as_a_number_is_written_as_dvc_writes_it(md5):
    assert dumps_yaml({"md5": md5}).strip() == f"md5: {record.quoted(md5)}"
    block = f"  a:\n    cmd: b\n    outs:\n    - path: c\n      hash: md5\n      md5: {record.quoted(md5)}\n"
    assert Lock(f"schema: '2.0'\nstages:\n{block}").outs() == {"c": md5}


# --- advice: what a message prescribes is done as it is printed, in the situation that prints it ----------------------
def plain_file(path: Path) -> Path:
    """A file in the place of a link to it."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    return path


def lose_both_records(book: Path) -> None:
    for of in (settings_path, run_path):
        of(book / WEIGHTS).unlink()


def make_a_folder_of_it(book: Path) -> None:
    (book / METRICS).unlink()
    (book / METRICS).mkdir()


def push(book: Path) -> None:
    dvc.run(book, "remote", "add", "--force", "-d", "store", str(book.parent / "the store"))
    dvc.run(book, "push", "--quiet")


def push_and_damage(book: Path) -> None:
    push(book)
    flip((book / METRICS).resolve())


def push_and_lose_the_cache(book: Path) -> None:
    push(book)
    shutil.rmtree(book / ".dvc/cache")


def other_hash(book: Path) -> None:
    lock = (book / STATE[1]).read_text()
    (book / STATE[1]).write_text(lock.replace(registry.read(book, "toy")[METRICS].md5, "0" * 32))


def damage_journal(book: Path) -> None:
    (book / record.JOURNAL).mkdir(parents=True)
    (book / record.JOURNAL / "journal.json").write_text("{")


def edit_run(path: Path) -> None:
    content = json.loads(run_path(path).read_text())
    run_path(path).write_text(json.dumps(content | {"host": "another"}))


# damage -> number of the message's command that is tried; None: all of them, one after the other
SITUATIONS = {
    "a damaged record": (lambda book: settings_path(book / WEIGHTS).write_text("{"), 0),
    "no records": (lose_both_records, 0),
    "an edited file": (lambda book: flip(plain_file(book / METRICS)), 0),
    "an edited file, made again": (lambda book: flip(plain_file(book / METRICS)), 1),
    "a folder in the place of a file": (make_a_folder_of_it, 0),
    "a link to nothing": (lambda book: cached(book, registry.read(book, "toy")[METRICS].md5).unlink(), None),
    "a damaged object": (lambda book: flip((book / METRICS).resolve()), None),
    "a damaged object, a remote": (push_and_damage, None),
    "a lost cache, a remote": (push_and_lose_the_cache, 0),
    "a damaged archive": (lambda book: (book / STATE[2]).write_text("{}\n"), 0),
    "an archive in another encoding": (lambda book: (book / STATE[2]).write_bytes(b"\xff\xfe{"), 0),
    "another dvc.lock": (lambda book: (book / STATE[1]).write_text("schema: '1.0'\nstages:\n"), 0),
    "another hash in dvc.lock": (other_hash, 0),
    "no settings of DVC": (lambda book: (book / ".dvc/config").unlink(), 0),
    "a damaged journal": (damage_journal, 0),
    "a run record edited": (lambda book: edit_run(book / METRICS), 1),
    "a damaged dvc.lock": (lambda book: (book / STATE[1]).write_text("schema: '2.0'\nstages:\n  a:\n    outs: ["), 0),
}


def complaints(book: Path) -> list[str]:
    """What a start, the beginning of a recording, and then `lct verify` says about a project, without the manifests,
    which are none here."""
    try:
        dvc.check(book)
        record.undo(book)
        guard.check_links(book, "toy")
        faults = verify(fake.auditor(book, deep=True), "toy").faults
        return [text for text in faults if "expected a manifest with" not in text]
    except ValueError as error:
        return [str(error)]


def do_as_printed(book: Path, text: str, which: int | None) -> None:
    """Do what a message says: delete the file that it begins with, or the object that it names, and then its command
    number `which` (None: all of them, one after the other), in a shell in the project's folder."""
    if "delete it" in text and which == 0:
        path = book / text.partition(": ")[0]
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if damaged := re.search(r"the DVC object (.*), damaged: delete that", text):
        Path(damaged[1]).unlink()
    commands = re.findall(
        r"`((?:lct|snakemake|dvc|git|rm)\b[^`]*)`|((?:git checkout|snakemake --force) .*?)(?: brings|$)", text
    )
    commands = ["".join(pair) for pair in commands]
    assert commands, text
    (book / "config/config.yaml").write_text("scale: toy\n")
    places = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": fake.CODE}
    for command in commands if which is None else [commands[which]]:
        done = subprocess.run(command, shell=True, cwd=book, env=os.environ | places, capture_output=True, text=True)
        away = command == "lct restore" and "then `snakemake" in text  # it names what it does not have
        assert done.returncode == int(away), (command, done.stdout + done.stderr)


@pytest.fixture(scope="module")
def shared_book(recorded, tmp_path_factory) -> Path:
    """A recorded project that each situation leaves as it was."""
    folder = copied(recorded, tmp_path_factory.mktemp("advice") / 'it\'s the "group", ü')
    restore.restore(folder, "toy")
    return folder


@pytest.mark.parametrize("name", SITUATIONS)
def test_what_a_message_prescribes_works_where_it_is_printed(shared_book, name):
    situation, which = SITUATIONS[name]
    assert complaints(shared_book) == []
    situation(shared_book)
    before = complaints(shared_book)
    assert before and all("\n" not in text for text in before)
    print(f"{name}: {before}")
    do_as_printed(shared_book, before[0], which)
    assert complaints(shared_book) == []
    assert all((shared_book / path).is_file() for path in registry.read(shared_book, "toy"))
    if which is None:
        record.record(shared_book, {}, "toy")
