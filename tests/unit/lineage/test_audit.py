"""audit, verify and diff: each kind of broken link named; committed files alone; damages that DVC misses; revisions."""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from lct.cli import main as program
from lct.data.imageset import write_imageset
from lct.files import records
from lct.jobs import recompute
from lct.lineage import chain, dvc, registry
from lct.lineage.audit import run_facts
from lct.lineage.cells import targets
from lct.lineage.format import circumstances
from lct.plan.plan import Plan
from lct.report.audit import diff_page, page
from lct.report.readback import shown
from lct.report.text import anchor
from tests.helpers.browser import chromium
from tests.helpers.fake_recorded import ROOT, Project, digest, git
from tests.helpers.pages import Page

CELL = "table1.a.lct-1.fd"
SMOKE = "results/smoke"
METRICS = f"{SMOKE}/metrics/digits-lct/s0/step40-ema0.9/one/d0/fd-train.json"
SAMPLES = f"{SMOKE}/sample/digits-lct/s0/step40-ema0.9/one/d0"
WEIGHTS = f"{SMOKE}/train/digits-lct/s0/step40-ema0.9.safetensors"
LATENTS = f"{SMOKE}/latents/digits/posterior/latents.safetensors"
IMAGES = f"{SMOKE}/images/digits/train"
TABLES = f"{SMOKE}/tables/tables.json"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    made = Project(tmp_path_factory.mktemp("recorded") / "project")
    made.compute()
    made.collect()
    made.record()
    made.commit("recorded")
    return made.root


@pytest.fixture
def project(template, tmp_path):
    shutil.copytree(template, tmp_path / "project", symlinks=True)
    return tmp_path / "project"


@pytest.fixture
def lct(project, monkeypatch, capsys):
    """Run a verb in the project: exit code, standard output, error output."""

    def run(*words: str, scale: str = "smoke") -> tuple[int, str, str]:
        monkeypatch.chdir(project)
        code = program.main([*words, "--scale", scale])
        return code, *capsys.readouterr()

    return run


def edit(path: Path, change) -> None:
    """Rewrite a JSON file; the change works on its content."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def flip(path: Path) -> None:
    """Another byte of the same file, its size and times kept."""
    before, mode = path.stat(), path.stat().st_mode
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    path.chmod(mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def rewrite_archive(project: Path, change) -> None:
    entries = registry.read(project, "smoke")
    lines = [json.loads(line) for line in registry.text(entries).splitlines()]
    for line in lines:
        change(line)
    (project / "lineage/smoke.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


# --- a whole chain ------------------------------------------------------------------------------------------------
def test_a_number_is_traced_to_the_source_of_its_images(lct):
    code, text, _ = lct("audit", CELL, "--json")
    found = json.loads(text)
    (cell,) = found["cells"]
    (value,) = cell["values"]
    links = cell["links"]
    assert code == 0 and cell["faults"] == [] and cell["unchecked"] == [] and cell["state"] == "ok"
    assert value["value"] == json.loads(Path(METRICS).read_text())["values"]["fd"] and value["key"] == "values.fd"
    stages = [links[path]["stage"] for path in value["chain"]]
    assert stages[:5] == ["score", "sample", "train", "encode", "images"] and "autoencoder" in stages
    assert links[WEIGHTS]["seeds"] == {"train": 0} and links[WEIGHTS]["settings"]["training"]["batch"] == 32
    assert links[f"{IMAGES}.manifest.json"]["origins"] == [
        {"kind": "digits", "package": "scikit-learn", "version": "1.9.1"}
    ]
    run = links[WEIGHTS]["run"]
    assert (run["device"], run["slurm"]["SLURM_JOB_ID"], run["same_environment_lock"]) == ("cuda", "4711", True)
    assert value["protocol"]["contents"]["k"] == 3 and cell["cost"]["seconds"] == 71.2
    assert sum("shows the same value" in c["text"] for c in value["checks"]) == 3


def test_the_same_in_words(lct):
    code, text, _ = lct("audit", CELL, "--settings")
    assert code == 0
    for words in (
        "train seed 0",
        "SLURM job 4711",
        "package scikit-learn, version 1.9.1",
        "training.batch = 32",
        "CPU s",
        "changed since, and not wrong by that",
        f"torch 2.0 -> {records.versions()['torch']}",
    ):
        assert words in text
    assert lct("audit", CELL)[1].count("\n") < 60


def test_several_rows_take_a_line_each_and_their_faults_stand_beneath(project, lct):
    code, text, _ = lct("audit", "--all")
    lines = text.splitlines()
    assert code == 0 and len(lines) < 30 and lines[0].startswith("ok  table1.a."), text
    (line,) = (line for line in lines if "  table1.a.lct-1  " in line)
    assert all(f"{metric} " in line for metric in ("fd", "fdr", "precision", "recall")) and " files" in line
    assert lct("audit", "--all", "-v")[1].count("cost of the chain") == 28
    edit_metrics(project)
    code, text, _ = lct("audit", "table1.a")
    start = text.index("BROKEN  table1.a.lct-1  ")
    assert code == 1 and "    BROKEN  " in text[start:].split("\nok  ")[0]


def test_committed_files_alone_are_enough(project, template):
    """A clone without results, cache or network."""
    for name in ("results", "reports", ".dvc/cache"):
        shutil.rmtree(project / name)
    probe = (
        "import sys; from lct.cli.main import main; code = main(sys.argv[1:]); "
        "print(sorted({'torch', 'diffusers', 'pandas', 'matplotlib'} & set(sys.modules)), file=sys.stderr); "
        "sys.exit(code)"
    )
    command = [sys.executable, "-c", probe, "audit", CELL, "--scale", "smoke", "--json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr.strip() == "[]", done.stderr
    cell = json.loads(done.stdout)["cells"][0]
    assert cell["values"][0]["value"] is None and cell["faults"] == []
    assert cell["links"][WEIGHTS]["settings"] and cell["links"][WEIGHTS]["where"] == "archive"
    told = " ".join(one["text"] for one in cell["unchecked"])
    assert f"{WEIGHTS}: not in the workspace, recorded in the archive (1100000 bytes" in told and "the number" in told
    assert cell["checked"] > 50, "inputs, settings, revisions and dvc.lock are checked all the same"


def test_the_number_comes_from_the_cache_where_the_workspace_has_none(project, lct):
    shutil.rmtree(project / "results")
    value = json.loads(lct("audit", CELL, "--json")[1])["cells"][0]["values"][0]
    assert value["value"] > 0 and value["read_from"] == "DVC's cache"


# --- each kind of link broken once --------------------------------------------------------------------------------
def edit_metrics(project):
    edit(project / METRICS, lambda content: content["values"].update(fd=7.27))


def edit_protocol(project):
    edit(project / METRICS, lambda content: content["protocol"].update(k=5))


def edit_tables(project):
    path = project / TABLES
    path.write_text(path.read_text().replace(repr(value_of(project)), "7.27"))


def add_to_tables(project):
    def another(content):
        cells = (cell for table in content["tables"] for part in table["subtables"] for row in part["rows"]
                 for cell in row["cells"].values())  # fmt: skip
        (values,) = (cell["values"] for cell in cells if cell["id"] == CELL)
        values.append(values[0] | {"value": 7.27})

    edit(project / TABLES, another)


def value_of(project):
    return json.loads((project / METRICS).read_text())["values"]["fd"]


def edit_csv(project):
    path = project / "reports/smoke/tables.csv"
    path.write_text(path.read_text().replace(repr(value_of(project)), "7.27"))


def edit_page(project):
    path = project / "reports/smoke/numbers.html"
    path.write_text(path.read_text().replace(f">{value_of(project)!r}</a>", ">7.27</a>"))


def empty_page(project):
    path = project / "reports/smoke/numbers.html"
    path.write_text(path.read_text().replace(f">{value_of(project)!r}</a>", "></a>"))


def truncate_samples(project):
    (project / f"{SAMPLES}.zip").write_bytes(b"half")


def edit_manifest(project):
    edit(project / f"{SAMPLES}.manifest.json", lambda content: content.update(sha256="0" * 64))


def other_weights(project):
    """Weights made again, with records of their own, after the samples were taken."""
    content = b"other" * 50_000
    (project / WEIGHTS).write_bytes(content)
    output = {"path": WEIGHTS, "bytes": len(content), "sha256": digest(content)}
    edit(project / f"{WEIGHTS}.run.json", lambda run: run.update(output=output))


def flipped_weights(project):
    flip(project / WEIGHTS)


def missing_run(project):
    (project / f"{WEIGHTS}.run.json").unlink()


def other_seed(project):
    edit(project / f"{WEIGHTS}.settings.json", lambda settings: settings["seeds"].update(train=1))


def other_batch_configured(project):
    path = project / "config/scales/smoke.yaml"
    content = yaml.safe_load(path.read_text())
    content.setdefault("training", {})["batch"] = 16
    path.write_text(yaml.safe_dump(content))


def lost_settings(project):
    for of in ("settings", "run"):
        (project / f"{WEIGHTS}.{of}.json").unlink()


def dirty_code(project):
    def change(line):
        if line["path"] == LATENTS:
            line["run"]["git"]["dirty"] = True

    rewrite_archive(project, change)
    edit(project / f"{LATENTS}.run.json", lambda run: run["git"].update(dirty=True))


def forget_latents(project):
    """Neither there nor recorded."""
    forget_records(project)
    (project / LATENTS).unlink()


def forget_records(project):
    for of in ("settings", "run"):
        (project / f"{LATENTS}.{of}.json").unlink()
    lines = (project / "lineage/smoke.jsonl").read_text().splitlines(keepends=True)
    (project / "lineage/smoke.jsonl").write_text("".join(x for x in lines if f'"path":"{LATENTS}","run"' not in x))


def wrong_images(project):
    flip(project / f"{IMAGES}.zip")


def wrong_lock(project):
    path, md5 = project / "dvc.lock", registry.read(project, "smoke")[WEIGHTS].md5
    path.write_text(path.read_text().replace(md5, "ab" * 16))


def wrong_params(project):
    path = project / "dvc.lock"
    before, name, after = path.read_text().partition(f"{WEIGHTS}.settings.json:")
    path.write_text(before + name + after.replace("batch: 32", "batch: 64", 1))


def into_cache(project, path):
    """Replace a file by a link into the cache, as DVC makes it."""
    md5 = registry.read(project, "smoke")[path].md5
    stored = dvc.stored_object(dvc.cache_folder(project), md5)
    (project / path).unlink()
    (project / path).symlink_to(stored)
    return stored


def lost_object(project):
    into_cache(project, WEIGHTS).unlink()


def damaged_object(project):
    flip(into_cache(project, WEIGHTS))


def moved_folder(project):
    stored = into_cache(project, WEIGHTS)
    (project / WEIGHTS).unlink()
    (project / WEIGHTS).symlink_to(Path("/once/here") / stored.relative_to(project))


def test_links_of_a_copied_folder_into_the_cache_of_the_original_are_named(project, lct, tmp_path):
    stored = into_cache(project, WEIGHTS)
    original = tmp_path / "original" / stored.relative_to(project)
    original.parent.mkdir(parents=True)
    shutil.copy(stored, original)
    (project / WEIGHTS).unlink()
    (project / WEIGHTS).symlink_to(original)
    code, text, _ = lct("verify")
    assert code == 0 and "1 files are links into the cache of another project folder" in text and WEIGHTS in text


def linked_elsewhere(project):
    stored = into_cache(project, WEIGHTS)
    other = dvc.stored_object(dvc.cache_folder(project), "ab" * 16)
    other.parent.mkdir(exist_ok=True)
    shutil.copy(stored, other)
    (project / WEIGHTS).unlink()
    (project / WEIGHTS).symlink_to(other)


BROKEN = [
    (edit_metrics, "broken", f"{METRICS}: expected"),
    (edit_protocol, "broken", f"{METRICS}: expected protocol hash"),
    (edit_tables, "broken", f"{TABLES}: {CELL}: expected"),
    (add_to_tables, "broken", f"{TABLES}: {CELL}: expected"),
    (edit_csv, "broken", f"reports/smoke/tables.csv: {CELL}: expected"),
    (edit_page, "broken", f"reports/smoke/numbers.html: {CELL}: expected"),
    (empty_page, "broken", f"reports/smoke/numbers.html: {CELL}: expected"),
    (truncate_samples, "broken", f"{SAMPLES}.zip: expected 256 bytes, found 4"),
    (edit_manifest, "broken", f"{SAMPLES}.manifest.json: expected the 256 bytes"),
    (other_weights, "broken", f"{SAMPLES}.manifest.json: input weights = {WEIGHTS}: read with sha256"),
    (missing_run, "broken", f"{WEIGHTS}.run.json: expected a JSON file, found nothing; `lct restore`"),
    (
        other_seed,
        "broken",
        f"{WEIGHTS}.settings.json: expected what the archive holds, found other values of seeds.train",
    ),
    (other_batch_configured, "stale", f"{WEIGHTS}: stale: training.batch: recorded 32, configured 16"),
    (dirty_code, "dirty", f"{LATENTS}: made by uncommitted code on top of"),
    (forget_latents, "missing", f"{LATENTS}: expected a file, found none and no record of it"),
    (forget_records, "missing", f"{LATENTS}: no records beside it and none in the archive"),
    (wrong_images, "broken", f"{IMAGES}.zip: expected sha256"),
    (wrong_lock, "broken", f"outs: {WEIGHTS}: expected md5"),
    (
        wrong_params,
        "broken",
        f"params of {WEIGHTS}: expected the archive's settings, found other values of settings.training.batch",
    ),
    (lost_object, "missing", f"{WEIGHTS}: expected the DVC object"),
    (moved_folder, "missing", "the project folder was moved or renamed: `lct restore`"),
    (linked_elsewhere, "broken", f"{WEIGHTS}: expected a link to the DVC object"),
]


OUTDATED = [
    (other_batch_configured, "training.batch: recorded 32, configured 16"),
    (other_weights, f"made from {WEIGHTS} as it was before"),
    (lost_settings, f"{WEIGHTS}.settings.json is missing, so nothing says how"),
]


@pytest.mark.parametrize(("damage", "says"), OUTDATED, ids=lambda one: getattr(one, "__name__", ""))
def test_audit_verify_and_status_agree_on_what_is_outdated(project, lct, damage, says):
    assert "digits-lct s0" in (before := lct("status")[1]) and "outdated" not in before + lct("verify")[1]
    damage(project)
    assert says in lct("audit", CELL)[1]
    assert re.search(f"outdated +digits-lct s0: .*{SMOKE}.*{re.escape(says)}", lct("status")[1])
    assert "outdated by today's settings or sources" in lct("verify")[1]


@pytest.mark.parametrize(("damage", "state", "says"), BROKEN, ids=lambda one: getattr(one, "__name__", ""))
def test_each_kind_of_broken_link_is_named(project, lct, damage, state, says):
    damage(project)
    code, text, _ = lct("audit", CELL, "--json")
    faults = json.loads(text)["cells"][0]["faults"]
    assert code == 1
    assert any(one["state"] == state and says in one["text"] for one in faults), faults
    assert all(";" in one["text"] or ":" in one["text"] for one in faults)
    other = lct("audit", "table1.a.floor-heldout.fd")[0]
    assert other == int(damage is wrong_images), "a cell that does not rest on it is untouched"


@pytest.mark.parametrize("damage", [flipped_weights, damaged_object])
def test_a_flipped_byte_with_size_and_time_kept_needs_deep(project, lct, damage):
    damage(project)
    assert lct("audit", CELL)[0] == 0
    code, text, _ = lct("audit", CELL, "--deep")
    assert code == 1 and f"BROKEN  {WEIGHTS}: expected sha256" in text


# --- names and bad input ------------------------------------------------------------------------------------------
def test_an_unknown_cell_lists_near_ones(lct):
    code, _, error = lct("audit", "table1.a.lct-9.fd")
    assert code == 1 and error.count("\n") == 1 and "found no such cell; did you mean 'table1.a.lct-" in error


def test_a_row_a_start_and_several_cells(lct):
    assert [c["id"] for c in json.loads(lct("audit", "table1.a.lct-1", "--json")[1])["cells"]] == [
        f"table1.a.lct-1.{metric}" for metric in ("fd", "fdr", "precision", "recall")
    ]
    assert json.loads(lct("audit", "table1.a.lct-1.p", "--json")[1])["cells"][0]["id"] == "table1.a.lct-1.precision"
    assert len(json.loads(lct("audit", CELL, "table1.a.lct-2.fd", "--json")[1])["cells"]) == 2
    assert len(json.loads(lct("audit", "table1.a.lct", "--json")[1])["cells"]) == 8
    assert lct("audit")[0] == lct("audit", CELL, "--all")[0] == 1


def test_all_leaves_out_what_was_never_run(project, lct):
    shutil.rmtree(project / SMOKE / "metrics/digits-ldm")
    for line in (project / "lineage").iterdir():
        kept = [x for x in line.read_text().splitlines(keepends=True) if "metrics/digits-ldm" not in x]
        line.write_text("".join(kept))
    (project / TABLES).unlink()
    shutil.rmtree(project / "reports")
    code, text, _ = lct("audit", "--all", "--json")
    found = json.loads(text)
    assert len(found["cells"]) == 24 and all(id_.startswith("table1.a.ldm-8") for id_ in found["not_run"])
    code, text, _ = lct("audit", "table1.a.ldm-8.fd")
    assert code == 1 and "not computed and not recorded" in text


@pytest.mark.parametrize("verb", [["audit", CELL], ["verify"], ["diff", "HEAD"]])
@pytest.mark.parametrize("name", ["dvc.lock", "lineage/smoke.jsonl"])
def test_a_merge_conflict_is_named_by_its_line(project, lct, verb, name):
    lines = (project / name).read_text().splitlines(keepends=True)
    (project / name).write_text("".join([*lines[:3], "<<<<<<< HEAD\n", *lines[3:]]))
    code, _, error = lct(*verb)
    assert code == 1 and error.count("\n") == 1 and f"{name}:4: " in error and "merge conflict" in error
    assert "`lct merge` joins both recordings" in error


@pytest.mark.parametrize(
    ("name", "content"),
    [("dvc.lock", "schema: '2.0'\nstages:\n  files@0:\n    outs: 7\n"), ("lineage/smoke.jsonl", '{"path": 1}\n')],
)
def test_a_damaged_book_is_one_clear_line(project, lct, name, content):
    (project / name).write_text(content)
    code, _, error = lct("verify")
    assert code == 1 and error.count("\n") == 1 and name in error and "git checkout" in error


def test_the_lock_is_read_as_dvc_writes_it():
    """YAML 1.2; PyYAML alone would read `no` as false and 1e-08 as text."""
    params = "precision: no\n        epsilon: 1e-08\n        lr: 0.001\n        steps: 40\n        compile: false\n"
    params += "        epochs:\n        scale: 1.0\n        name: 1a\n        largest: .inf\n"
    outs = f"    outs:\n    - path: a b\n      hash: md5\n      md5: {'0a' * 16}\n      size: 3\n"
    text = f"schema: '2.0'\nstages:\n  one@x:\n    cmd: c\n    params:\n      s.json:\n        {params}{outs}"
    lock = dvc.Lock(text)
    (stored,) = lock.maker("a b")
    assert (stored.stage, stored.role, stored.bytes, stored.md5) == ("one@x", "outs", 3, "0a" * 16)
    expected = {"precision": "no", "epsilon": 1e-08, "lr": 0.001, "steps": 40, "compile": False, "epochs": None}
    assert lock.params("one@x")["s.json"] == expected | {"scale": 1.0, "name": "1a", "largest": float("inf")}


def test_settings_that_stages_share_are_read_as_those_of_each():
    many = "settings:\n          batch: 4\n          note: 'a\n\n            b'\n          loss: {c: [1, 2]}\n"
    texts = {"one": many, "two": many, "three": many.replace("4", "5"), "none": "settings: {}\n", "odd": "lr: 1\n"}
    block = "  {}:\n    params:\n      {}.json:\n        format: 1\n        {}        stage: train\n"
    lock = dvc.Lock("schema: '2.0'\nstages:\n" + "".join(block.format(name, name, of) for name, of in texts.items()))
    for name, text in texts.items():
        whole = yaml.safe_load(f"format: 1\n{text.replace('        ', '')}stage: train\n")
        assert lock.params(name) == {f"{name}.json": whole}
    assert lock.params("one")["one.json"]["settings"] == {"batch": 4, "note": "a\nb", "loss": {"c": [1, 2]}}


@pytest.mark.parametrize("text", [
    "one:\n  settings:\n    a: 1\n",
    "one:\n  settings:\n    a: 1\ntwo:\n  settings: {}\n",
    "one:\n  settings:\n    a: 1\n  b: 2\ntwo:\n  c: 3\n",
    "one:\n  b: &b {c: 1}\n  settings:\n    a: *b\n",
])  # fmt: skip
def test_unusual_params_are_read_whole(text):
    lines = "".join(f"      {line}\n" for line in text.splitlines())
    assert dvc.Lock(f"schema: '2.0'\nstages:\n  a:\n    params:\n{lines}").params("a") == yaml.safe_load(text)


def test_damaged_params_name_their_stage():
    lock = dvc.Lock("schema: '2.0'\nstages:\n  a:\n    params:\n      s:\n        settings:\n          a: [1\n")
    with pytest.raises(ValueError, match="dvc.lock: stage a: expected DVC's record, found damage"):
        lock.params("a")


def test_without_an_archive_the_live_records_do(project, lct):
    shutil.rmtree(project / "lineage")
    (project / "dvc.lock").unlink()
    code, text, _ = lct("audit", CELL)
    assert code == 0 and "no archive yet, so only the records in results/ were looked at" in text
    code, text, _ = lct("verify")
    assert code == 0 and "no archive yet" in text


def test_outside_a_git_checkout(project, lct):
    shutil.rmtree(project / ".git")
    code, text, _ = lct("audit", CELL)
    assert code == 0 and "expected a git repository, found none" in text
    code, _, error = lct("diff", "HEAD")
    assert code == 1 and "expected a git repository, found none" in error


def test_a_revision_that_is_not_in_this_clone(project, lct):
    elsewhere = (project / ".git").rename(project.parent / "elsewhere.git")
    git(project, "init", "-q")
    git(project, "remote", "add", "origin", str(elsewhere))
    code, text, _ = lct("audit", CELL)
    assert code == 0 and "is not in this clone; `git fetch --all` may bring it" in text
    subprocess.run(re.search("`(git fetch .*?)`", text)[1], shell=True, check=True, cwd=project, capture_output=True)
    assert "is not in this clone" not in lct("audit", CELL)[1]


def test_results_made_outside_git_or_with_given_weights_say_so(project, lct):
    for name in ("lineage/smoke.jsonl", "dvc.lock"):
        (project / name).unlink()
    edit(project / f"{LATENTS}.run.json", lambda run: run.update(git=None))
    given = b"given" * 300_000  # a big file is read too: nothing else says what it holds
    outside = {"weights": {"path": "given.safetensors", "sha256": digest(given)}}
    (project / "given.safetensors").write_bytes(given)
    edit(project / f"{WEIGHTS}.settings.json", lambda settings: settings.update(inputs=outside))
    link = json.loads(lct("audit", CELL, "--json")[1])["cells"][0]["links"]["given.safetensors"]
    text = f"a file from outside the graph: 1500000 bytes, sha256 {digest(given)[:12]}"
    assert link["checks"][0]["text"] == text and link["state"] == "ok"
    memory = json.loads((project / ".dvc/tmp/lct-given.json").read_text())
    assert memory["given.safetensors"][3] == digest(given), "it is read again when its size or times change"
    (project / "given.safetensors").write_bytes(b"other" * 300_000)
    code, text, _ = lct("audit", CELL)
    assert code == 1 and f"{WEIGHTS}: input weights = given.safetensors: read with sha256" in text


def test_downloads_are_named_with_url_and_hash(project, lct):
    listed = {"files": [{"path": "a.zip", "bytes": 3, "sha256": "ab" * 32, "url": "https://example.org/a.zip"}]}
    path = "resources/faces/download.json"
    (project / path).parent.mkdir(parents=True)
    (project / path).write_text(json.dumps(listed))
    content = (project / path).read_bytes()
    run = json.loads((project / f"{IMAGES}.zip.run.json").read_text())
    settings = {"format": 1, "stage": "download", "settings": {"recipe": 1}, "seeds": {}, "inputs": {}}
    (project / f"{path}.settings.json").write_text(json.dumps(settings))
    output = {"path": path, "bytes": len(content), "sha256": digest(content)}
    (project / f"{path}.run.json").write_text(json.dumps(run | {"output": output}))
    read = {"download": {"path": path, "sha256": digest(content)}}
    edit(project / f"{IMAGES}.zip.settings.json", lambda settings: settings.update(inputs=read))
    links = json.loads(lct("audit", CELL, "--json")[1])["cells"][0]["links"]
    assert links[path]["origins"] == [{"url": "https://example.org/a.zip", "sha256": "ab" * 32}]


# --- the page -----------------------------------------------------------------------------------------------------
def test_the_report_s_numbers_lead_to_the_page(project):
    report, audited = (Page((project / "reports/smoke" / name).read_text()) for name in ("numbers.html", "audit.html"))
    wanted = {link.partition("#")[2] for link in report.links if link.startswith("audit.html#")}
    assert f"cell-{anchor(CELL)}" in wanted and wanted <= set(audited.ids) and len(wanted) == 28
    back = {link.partition("#")[2] for link in audited.links if link.startswith("numbers.html#")}
    assert back <= set(report.ids) and back == wanted


def test_the_page_is_one_file_whose_links_all_lead_somewhere(project, lct):
    dirty_code(project)
    code, text, _ = lct("audit", "--all", "--html", "page.html")
    html = (project / "page.html").read_text()
    found = Page(html)
    assert code == 1 and "the page is at page.html" in text
    assert found.open == [] and len(found.ids) == len(set(found.ids))
    assert all(link.startswith("#") and link[1:] in found.ids for link in found.links)
    assert 'class="skip"' in html and "made by uncommitted code" in found.text
    assert "<script" not in html and "index.html" not in html, "no report to lead to"
    assert html.count("SMOKE TEST") == 3, "in title, flag and ground, as on every page of this scale"
    assert 'class="state dirty">dirty<' in html and 'class="state ok">ok<' in html, "colour and words"
    assert found.text.count("SLURM job") >= 20 and "training.batch" in found.text


def test_what_a_page_shows_is_read_back(project):
    cells = list(targets(Plan(project, {"scale": "smoke"})))
    found = shown(project / "reports/smoke", cells)
    value = value_of(project)
    assert found["tables.csv"][CELL] == found["numbers.html"][CELL] == [value]
    assert len(found["numbers.html"]) == len(cells) == 28


def test_markup_in_a_record_is_escaped(project, lct):
    edit(project / f"{LATENTS}.run.json", lambda run: run.update(host="<script>alert(1)</script>"))
    lct("audit", CELL, "--html", "page.html")
    html = (project / "page.html").read_text()
    assert "<script" not in html and "&lt;script&gt;" in html


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 768, 1250, 1600])
@pytest.mark.parametrize("name", ["audit", "diff"])
def test_no_page_is_wider_than_its_window(project, lct, tmp_path, name, width):
    dirty_code(project)
    words = ["audit", "--all"] if name == "audit" else ["diff", "HEAD~1"]
    lct(*words, "--html", str(tmp_path / "page.html"))
    html = (tmp_path / "page.html").read_text().replace("default-src", "script-src 'unsafe-inline'; default-src")
    script = """<script>addEventListener("load", () => { const page = document.documentElement;
        parent.postMessage([innerWidth, page.scrollWidth - page.clientWidth].join(" "), "*"); })</script></body>"""
    (tmp_path / "page.html").write_text(html.replace("</body>", script))
    listen = '<script>addEventListener("message", event => document.title = event.data)</script>'
    frame = f'{listen}<iframe src="page.html" width="{width}" height="900" style="border: 0"></iframe>'
    (tmp_path / "frame.html").write_text(frame)
    words = ["--window-size=1700,1000", "--virtual-time-budget=4000", "--dump-dom"]
    done = chromium(*words, (tmp_path / "frame.html").as_uri(), folder=tmp_path)
    assert f"<title>{width} 0</title>" in done.stdout, done.stdout[:300]


@pytest.mark.browser
def test_a_browser_opens_the_page_without_a_complaint(project, tmp_path):
    done = chromium("--dump-dom", (project / "reports/smoke/audit.html").as_uri(), folder=tmp_path)
    assert done.returncode == 0 and "Where the numbers come from" in done.stdout and "CONSOLE" not in done.stderr


# --- verify -------------------------------------------------------------------------------------------------------
def test_a_whole_project_verifies(lct):
    code, text, _ = lct("verify", "--json")
    found = json.loads(text)
    assert code == 0 and found["faults"] == [] and found["checked"] >= 50 and found["objects"] == {}
    code, text, _ = lct("verify", "--deep", "--json")
    found = json.loads(text)
    assert code == 0 and found["objects"]["cache"] >= 45 and "no remote is set up" in found["notes"][-1]


FAST = [edit_metrics, truncate_samples, edit_manifest, missing_run, other_seed, wrong_images, wrong_lock, lost_object]
FAST += [moved_folder, wrong_params, edit_tables, edit_csv, edit_page]


@pytest.mark.parametrize("damage", FAST)
def test_the_fast_check_names_what_it_sees(project, lct, damage):
    damage(project)
    code, text, _ = lct("verify")
    name = {edit_tables: TABLES, edit_csv: "tables.csv", edit_page: "numbers.html", wrong_params: "params of"}.get(
        damage
    )
    says = name or next(says for one, _, says in BROKEN if one is damage)
    assert code == 1 and says in text


def remote_folder(project):
    """A copy of the cache as a remote in a folder beside the project."""
    place = project.parent / "remote"
    shutil.copytree(project / ".dvc/cache", place)
    return place


def test_three_damages_that_dvc_does_not_see(project, lct):
    """A2-A8 of the findings: bytes in place, an object of the cache, an object of the remote."""
    place = remote_folder(project)
    (project / ".dvc/config.local").write_text(f"['remote \"store\"']\n    url = {place}\n")
    assert lct("verify", "--deep")[0] == 0
    flip(project / WEIGHTS)
    damaged = {path: dvc.stored_object(project / ".dvc/cache", md5) for path, md5 in md5s(project, LATENTS)}
    flip(damaged[LATENTS])
    (tampered,) = [dvc.stored_object(place, md5) for _, md5 in md5s(project, f"{SAMPLES}.zip")]
    flip(tampered)
    assert lct("verify")[0] == 0
    code, text, _ = lct("verify", "--deep")
    assert code == 1 and text.count("expected") == 3
    assert f"{WEIGHTS}: expected sha256" in text
    assert f"{damaged[LATENTS]}: expected content with the md5 of its name" in text and f"({LATENTS})" in text
    assert f"remote store ({place}): object " in text and f"of {SAMPLES}.zip: expected content with that md5" in text


def md5s(project, *paths):
    entries = registry.read(project, "smoke")
    return [(path, entries[path].md5) for path in paths]


def test_what_is_nowhere_to_be_found_is_noted(project, lct):
    place = remote_folder(project)
    (_, md5), (_, other) = md5s(project, WEIGHTS, LATENTS)
    dvc.stored_object(place, md5).unlink()
    dvc.stored_object(project / ".dvc/cache", other).unlink()
    shutil.rmtree(project / SMOKE / "extractor")
    config = f"['remote \"store\"']\n    url = ../../remote\n['remote \"gone\"']\n    url = {place}-gone\n"
    (project / ".dvc/config.local").write_text(config)
    code, text, _ = lct("verify", "--deep")
    assert code == 0
    assert f"1 files not in remote store (`dvc push -r store`): {WEIGHTS}" in text
    assert f"1 files not in DVC's cache (`dvc pull` fetches them, if a remote has them): {LATENTS}" in text
    assert "remote gone: " in text and "cannot be reached" in text
    assert "2 files recorded, but not in the workspace (`lct restore`)" in text


def test_a_remote_on_the_network_is_fetched_and_hashed(project, lct):
    """Through dvc, into a folder of its own: the project and its cache stay as they are."""
    place = remote_folder(project)
    path = f"{SMOKE}/extractor/digits/cnn64.safetensors"
    ((_, md5),) = md5s(project, path)
    out = {"path": path, "hash": "md5", "md5": md5, "size": 256}
    stage = {"cmd": "true", "outs": [out]}
    (project / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"one": stage}}, sort_keys=False))
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"one": {"cmd": "true", "outs": [path]}}}))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(place))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        (project / ".dvc/config.local").write_text(f"['remote \"web\"']\n    url = {url}\n")
        code, text, _ = lct("verify", "--deep")
        assert code == 0 and "1 objects of the remote web checked" in text
        flip(dvc.stored_object(place, md5))
        code, text, _ = lct("verify", "--deep")
        server.shutdown()
    assert code == 1 and f"remote web ({url}): object {md5} of {path}: expected content with that md5" in text


# --- recompute ----------------------------------------------------------------------------------------------------
def test_only_outputs_are_redirected():
    words = [
        "--settings",
        '{"recipe": 1}',
        "--train",
        "r/train/a/s0",
        "--out",
        "r/sample/a/s0",
        "--metrics",
        "r/m.json",
    ]
    outputs, inputs = ["r/sample/a/s0/one/d0.zip", "r/m.json"], ["r/train/a/s0/w.safetensors"]
    moved = recompute._redirected(words, outputs, inputs, "/tmp/x")
    assert moved == [*words[:5], "/tmp/x/r/sample/a/s0", "--metrics", "/tmp/x/r/m.json"]
    with pytest.raises(ValueError, match="among the recorded arguments, found none"):
        recompute._redirected(["--device", "cpu"], outputs, inputs, "/tmp/x")


def test_bytes_may_differ_only_elsewhere():
    run = {"device": "cpu", "host": "a", "machine": f"{os.uname().machine}, 2 cpus", "packages": {"torch": "2.0"}}
    assert recompute.elsewhere(run, run | {"machine": "x, 64 cpus"}) is None
    assert recompute.elsewhere(run, run | {"device": "cuda"}) == "device cpu then, cuda now"
    assert "torch 2.0 then, 2.1 now" in recompute.elsewhere(run, run | {"packages": {"torch": "2.1"}})
    assert "host a then, b now" in recompute.elsewhere(run, run | {"host": "b"})


@pytest.mark.parametrize(
    ("new", "within"),
    [
        ({"fd": 10.0005, "recall": 0.5, "confidence": None}, True),
        ({"fd": 10.01, "recall": 0.5, "confidence": None}, False),
        ({"fd": 10.0, "recall": 0.52, "confidence": None}, True),
        ({"fd": 10.0, "recall": 0.53, "confidence": None}, False),
        ({"fd": 10.0, "recall": 0.5, "confidence": 0.5}, False),
        ({"fd": float("nan"), "recall": 0.5, "confidence": None}, False),
    ],
)
def test_metrics_agree_within_the_stated_tolerance(new, within):
    old = {"num_images": 100, "values": {"fd": 10.0, "recall": 0.5, "confidence": None}}
    assert recompute._metrics_difference(old, {"values": new})[0] == within


@pytest.mark.parametrize(("change", "within"), [(0, True), (1, False), ("one pixel", True), ("one image more", False)])
def test_images_agree_within_the_stated_tolerance(tmp_path, change, within):
    images = np.random.default_rng(0).integers(0, 200, (8, 16, 16, 3), dtype=np.uint8)
    other = images + change if isinstance(change, int) else images.copy()
    if change == "one pixel":
        other[0, 0, 0] = 255
    if change == "one image more":
        other = np.concatenate([other, other[:1]])
    for name, content in (("a.zip", images), ("b.zip", other.astype(np.uint8))):
        write_imageset(tmp_path / name, list(content))
    found, text = recompute._image_difference(tmp_path / "a.zip", tmp_path / "b.zip")
    assert found == within and ("tolerance" in text or "9 now" in text)


@pytest.mark.parametrize("value", [10.0, 10.0005])
def test_an_outcome_holds_the_values_of_then_and_now(tmp_path, value):
    (tmp_path / "m.json").write_text(json.dumps({"values": {"fd": 10.0}}))
    (tmp_path / "again.json").write_text(json.dumps({"values": {"fd": value}}))
    (tmp_path / "again.json.run.json").write_text("{}")
    stored = chain.Record("m.json", "workspace", sha256=digest((tmp_path / "m.json").read_bytes()))
    outcome = recompute._compare(SimpleNamespace(root=tmp_path), stored, tmp_path / "again.json")
    assert (outcome.stored, outcome.recomputed) == ({"fd": 10.0}, {"fd": value})


def test_recomputing_refuses_changed_missing_and_foreign(project, lct):
    extractor = f"{SMOKE}/extractor/digits/cnn64.safetensors"
    flip(project / extractor)
    code, _, error = lct("verify", "--recompute", CELL)
    assert code == 1 and f"{extractor}: expected sha256" in error and "was made from" in error
    (project / extractor).unlink()
    code, _, error = lct("verify", "--recompute", CELL)
    assert code == 1 and f"expected its input {extractor}, found none in the workspace" in error
    edit(project / f"{METRICS}.run.json", lambda run: run.update(command=["rm.py", "-rf", METRICS]))
    code, _, error = lct("verify", "--recompute", CELL)
    assert code == 1 and "expected a job of ['score', 'reference', 'sample'], found 'rm'" in error


# --- diff ---------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A project recorded twice, with another batch the second time; the first revision is tagged."""
    made = Project(tmp_path_factory.mktemp("twice") / "project")
    made.compute()
    made.record()
    made.commit("first")
    git(made.root, "tag", "first")
    other_batch_configured(made.root)
    made.compute(version=1)
    made.record()
    made.commit("second")
    return made.root


def diffed(monkeypatch, capsys, root, *words):
    monkeypatch.chdir(root)
    code = program.main(["diff", *words, "--scale", "smoke", "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("words", [["first"], ["first", "HEAD"]])
def test_two_revisions_are_compared_without_a_checkout(two, monkeypatch, capsys, words):
    before = git(two, "status", "--porcelain"), git(two, "rev-parse", "HEAD")
    code, found = diffed(monkeypatch, capsys, two, *words)
    assert code == 0 and (git(two, "status", "--porcelain"), git(two, "rev-parse", "HEAD")) == before
    cells = {cell["id"]: cell for cell in found["cells"]}
    assert len(cells) == 28 and {c["state"] for id_, c in cells.items() if "floor" in id_} == {"same"}
    changed = cells[CELL]
    assert changed["state"] == "changed"
    old, new = changed["old"][0]["value"], changed["new"][0]["value"]
    assert new == json.loads((two / METRICS).read_text())["values"]["fd"] != old
    assert changed["difference"] == pytest.approx(new - old)
    assert cells["table1.a.lct-1.recall"]["state"] == "same value", "another file with the same number in it"
    assert {(group["stage"], group["name"]) for group in found["settings"]} == {
        ("train", f"digits-{method}") for method in ("lct", "ilct", "ldm")
    }
    assert found["settings"][0]["changes"] == [{"key": "training.batch", "old": 32, "new": 16}]
    assert WEIGHTS in [one["path"] for one in found["files"]] and found["protocols"] == []
    assert {one["row"] for one in found["samples"]} >= {"table1.a.lct-1", "table1.a.ldm-8"}


def test_the_same_revision_differs_in_nothing(two, monkeypatch, capsys):
    _, found = diffed(monkeypatch, capsys, two, "HEAD")
    assert {cell["state"] for cell in found["cells"]} == {"same"}
    assert found["files"] == found["settings"] == found["samples"] == []


def test_values_that_are_not_here_are_said_to_be_elsewhere(two, tmp_path, monkeypatch, capsys):
    shutil.copytree(two, tmp_path / "project")
    shutil.rmtree(tmp_path / "project/.dvc/cache")
    _, found = diffed(monkeypatch, capsys, tmp_path / "project", "first")
    cell = next(cell for cell in found["cells"] if cell["id"] == CELL)
    assert cell["state"] == "changed, value not here" and cell["old"][0]["value"] is None


def test_other_protocols_are_not_comparable(two, tmp_path, monkeypatch, capsys):
    root = tmp_path / "project"
    shutil.copytree(two, root)
    edit(root / METRICS, lambda content: content.update(protocol={"id": "fake", "k": 5}, protocol_hash="5" * 64))
    edit(root / f"{METRICS}.run.json", lambda run: run["output"].update(sha256=digest((root / METRICS).read_bytes())))
    _, found = diffed(monkeypatch, capsys, root, "HEAD")
    (pair,) = found["protocols"]
    assert {"key": "k", "old": 3, "new": 5} in pair["changes"] and CELL in pair["cells"]
    monkeypatch.chdir(root)
    program.main(["diff", "HEAD", "--scale", "smoke"])
    assert "not comparable" in capsys.readouterr().out


def test_the_page_shows_samples_side_by_side(two, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(two)
    path = tmp_path / "diff.html"
    assert program.main(["diff", "first", "--scale", "smoke", "--html", str(path)]) == 0
    text, html = capsys.readouterr().out, path.read_text()
    found = Page(html)
    assert found.open == [] and "<script" not in html
    assert html.count("data:image/png") == 2 * 5, "five rows, old and new"
    assert len({source for source in found.resources if source.startswith("data:image/png")}) == 10
    assert "training.batch" in found.text and "training.batch: 32 -> 16" in text and CELL in found.text


@pytest.mark.parametrize("name", ["--upload-pack=x", "a b", "HEAD;id", "$(id)", "", "no-such-branch"])
def test_names_of_revisions_are_validated(two, monkeypatch, capsys, name):
    monkeypatch.chdir(two)
    code = program.main(["diff", "--scale", "smoke", "--", name])
    error = capsys.readouterr().err
    assert code == 1 and "expected a commit, branch or tag" in error and error.count("\n") == 1


def test_a_revision_before_any_recording(two, monkeypatch, capsys):
    first = git(two, "rev-list", "--max-parents=0", "HEAD")
    _, found = diffed(monkeypatch, capsys, two, first, "first")
    assert "nothing was recorded of this scale then" in found["notes"][0]
    assert {cell["state"] for cell in found["cells"]} == {"added"}


def test_a_job_of_several_attempts_counts_with_all_of_them():
    spent = {"attempts": 3, "seconds": 7200.0, "gpu_seconds": 14400.0, "jobs": ["71", "75"]}
    last = {
        "started": "a",
        "seconds": 600.0,
        "cpu_seconds": 500.0,
        "host": "n1",
        "command": ["train.py"],
        "cost": spent,
    }
    last |= {"slurm": {"SLURM_JOB_ID": "75"}, "device": "cuda", "finished": "b"}
    other = {"started": "c", "seconds": 10.0, "cpu_seconds": 9.0, "host": "n1", "command": ["score.py"]}
    found = chain.cost([SimpleNamespace(run=run) for run in (last, last, other, None)])
    assert found == {"jobs": 2, "starts": 4, "seconds": 7210.0, "cpu_seconds": 509.0, "gpu_seconds": 14400.0}
    facts = run_facts(last, None)
    assert (facts["slurm_jobs"], facts["attempts"], facts["seconds"]) == (["71", "75"], 3, 7200.0)
    assert "SLURM jobs 71, 75" in circumstances({"run": facts}) and "3 attempts" in circumstances({"run": facts})
    assert run_facts(other, None)["slurm_jobs"] == [] and run_facts(other, None)["attempts"] == 1


def test_pages_take_their_numbers_as_they_come():
    """Odd numbers and absent parts break no page."""
    value = {
        "seed": 0,
        "draw": 1,
        "metrics": "m.json",
        "value": float("nan"),
        "protocol": None,
        "checks": [],
        "chain": [],
    }
    cost = {"jobs": 0, "starts": 0, "seconds": 0.0, "cpu_seconds": 0.0, "gpu_seconds": 0.0}
    cell = {"id": "t.a.r.fd", "title": "t", "metric": "fd", "state": "ok", "values": [value], "links": {}}
    cell |= {"cost": cost, "faults": [], "unchecked": [], "checked": 0}
    assert "NaN" in page({"scale": "smoke", "cells": [cell], "notes": [], "not_run": []})
    assert "Nothing computed" in page({"scale": "smoke", "cells": [], "notes": ["n"], "not_run": ["t.a.r.fd"]})
    side = {"name": "a", "commit": None}
    empty = {"scale": "smoke", "old": side, "new": side, "notes": [], "cells": [], "settings": []}
    assert "No cell differs" in diff_page(empty | {"protocols": [], "files": [], "samples": []}, [])
