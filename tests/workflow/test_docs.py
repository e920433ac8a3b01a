"""The documentation is what happens: every example is applied and every command run at smoke scale, unless its block
says what it needs (```sh needs=remote). One project serves all pages: docs/extending.md makes it."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.tasks import tasks
from lct.cli.main import VERBS, main
from tests.helpers.copies import ROOT, project
from tests.helpers.pages import broken_links

BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NEEDS = ("install", "remote", "cluster")
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def blocks(path):
    """(language, what it needs, text, the words before it) of every fenced block."""
    text = path.read_text(encoding="utf-8")
    return [
        (found[1], found[2].strip().removeprefix("needs="), found[3], text[: found.start()][-400:])
        for found in BLOCK.finditer(text)
    ]


def commands(path):
    """Commands of a page, a line each, as a project at smoke scale runs them."""
    found = []
    for language, needs, text, _ in blocks(path):
        assert language != "sh" or not needs or needs in NEEDS, (path.name, needs)
        if language == "sh" and not needs:
            lines = [line.partition(" #")[0].strip() for line in text.splitlines()]
            lines = [line.replace(".venv/bin/", "").replace(" --watch", "") for line in lines]  # watching has no end
            found += [line for line in lines if line and not line.startswith("make ")]  # make installs first
    return found


def run(folder, command):
    environment = {key: value for key, value in os.environ.items() if key != "SNAKEMAKE_PROFILE"}
    environment |= {
        "PYTHONPATH": str(folder),
        "PATH": f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    return subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)


def succeed(folder, command):
    done = run(folder, command)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
    return done


def patched(folder, diff):
    """A diff without line numbers: what each hunk takes away, with its context, stands in the file exactly once."""
    for part in re.split(r"^--- a/", diff, flags=re.MULTILINE)[1:]:
        name, _, body = part.partition("\n")
        path = folder / name
        for hunk in re.split(r"^@@.*\n", body, flags=re.MULTILINE)[1:]:
            lines = hunk.splitlines()
            old = "\n".join(line[1:] for line in lines if line[:1] in (" ", "-", ""))
            new = "\n".join(line[1:] for line in lines if line[:1] in (" ", "+", ""))
            text = path.read_text()
            assert text.count(old) == 1, f"{name}: expected once:\n{old}"
            path.write_text(text.replace(old, new))


@pytest.fixture(scope="session")
def extended(tmp_path_factory, warm_variables):
    """The project after docs/extending.md, from its first line to its last. Its programs are forked, for speed."""
    folder = project(tmp_path_factory.mktemp("docs") / "project")
    (folder / "bin").mkdir()
    warm = f"export LCT_WARM={warm_variables['LCT_WARM']} PYTHONPATH=$PYTHONPATH:{warm_variables['PYTHONPATH']}"
    for name, module in {"lct": "lct.cli.main", "snakemake": "snakemake", "dvc": "dvc"}.items():
        (folder / "bin" / name).write_text(f'#!/bin/sh\n{warm}\nexec {sys.executable} -m {module} "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    config = folder / "config/config.yaml"
    config.write_text(config.read_text().replace("scale: mini", "scale: smoke"))
    (folder / "photographs").mkdir()
    draws = np.random.default_rng(0)
    for i in range(400):
        pixels = draws.integers(0, 256, (24, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"photographs/{i}.png")
    for name in (".dvc", ".gitignore"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(
            ROOT / name, folder / name, **({"ignore": shutil.ignore_patterns("cache", "tmp")} if name == ".dvc" else {})
        )
    for words in ("init -q", "config user.name t", "config user.email t@t", "add -A", "commit -qm start"):
        subprocess.run(["git", *words.split()], cwd=folder, check=True)
    for section in sections():
        if section != "A metric":
            apply(folder, section)
    store = folder.parent / "store"
    succeed(folder, f"dvc remote add -d store {store} && dvc remote modify store verify true && dvc push")
    return folder


def sections():
    """Headings of docs/extending.md that hold examples."""
    return [
        line[3:].strip() for line in (ROOT / "docs/extending.md").read_text().splitlines() if line.startswith("## ")
    ]


def apply(folder, section):
    """Every example of a section, in its order: files, changes, programs, commands."""
    text = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    start = text.index(f"## {section}\n")
    end = text.find("\n## ", start + 1)
    for found in BLOCK.finditer(text, start, len(text) if end < 0 else end):
        language, content, before = found[1], found[3], text[: found.start()][-400:]
        if language == "diff":
            patched(folder, content)
        elif language == "yaml":
            name = re.findall(r"`(config/[\w/-]+\.yaml)`", before)[-1]
            assert not (folder / name).exists(), f"{name} is written twice"
            (folder / name).write_text(content)
        elif language == "python":
            name = re.findall(r"`([\w-]+\.py)`", before)[-1]
            (folder / name).write_text(content)
            succeed(folder, f"{sys.executable} {name}")
        elif language == "sh":
            for line in filter(None, (line.strip() for line in content.splitlines())):
                succeed(folder, line)


@pytest.mark.slow
def test_the_worked_examples_of_extending_end_in_numbers(extended):
    listed = succeed(extended, "lct export --to csv --scale smoke").stdout
    for row in ("mine.a.welsch.fd", "mine.a.welsch-c3.fd", "table1.a.lct-1.fd"):
        assert row in listed
    page = (extended / "reports/smoke/index.html").read_text()
    assert "Welsch, 3 c" in page
    settings = next(
        (extended / "results/smoke/train/digits-mine-c3/s0").glob("*.safetensors.settings.json")
    ).read_text()
    assert '"loss": "welsch"' in settings and '"multiple": 3.0' in settings
    assert (extended / "exports/mine.a.welsch-s0/model_index.json").exists()
    assert broken_links(extended / "reports/smoke") == []
    own = (extended / "reports/smoke/dataset-mine/tables.csv").read_text()
    assert all(f"own.a.{row}.fd" in own for row in ("ldm-8", "ilct-1", "lct-1")) and "not run" not in own


@pytest.mark.slow
def test_an_edited_loss_outdates_the_runs_that_use_it_and_a_comment_none(extended):
    source = extended / "lct/losses/robust.py"
    text = source.read_text()

    def states():
        status = json.loads(succeed(extended, "lct status --scale smoke --json").stdout)
        return {run["run"]: (run["state"], run["note"]) for run in status["trainings"]}

    try:
        source.write_text(text.replace("expm1()", "expm1()  # a comment"))
        assert {state for state, _ in states().values()} == {"done"}
        source.write_text(text.replace("-2 * (-s / (4", "-2.5 * (-s / (4"))
        edited = states()
        why = succeed(extended, "lct why mine.a.welsch.fd --scale smoke").stdout
        audit = run(extended, "lct audit mine.a.welsch.fd --scale smoke").stdout
    finally:
        source.write_text(text)
    outdated = {name: note for name, (state, note) in edited.items() if state == "outdated"}
    assert outdated.keys() == {"digits-mine", "digits-mine-c3"} and "code.welsch" in outdated["digits-mine"]
    assert "setting changed: code.welsch: " in why and "stale: code.welsch: " in audit
    assert {state for state, _ in states().values()} == {"done"}


@pytest.mark.slow
def test_a_metric_by_a_network_of_ones_own_stands_behind_every_number(extended, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(extended, folder, symlinks=True)
    apply(folder, "A metric")
    page = "".join((folder / "reports/smoke" / name).read_text() for name in ("index.html", "numbers.html"))
    assert "fd by protocol blocks" in page and "distance in blocks" in page
    assert (folder / "config/pinned.json").read_text().count("blocks.pt") >= 1, "the hash is kept from first use on"


@pytest.mark.slow
@pytest.mark.parametrize("page", [path for path in PAGES if path.name != "extending.md"], ids=lambda path: path.name)
def test_every_command_of_the_documentation_runs(extended, page):
    for command in commands(page):
        succeed(extended, command)


def test_every_page_has_commands_or_says_what_they_need():
    assert {path.name for path in PAGES} >= {"README.md", "data.md", "lineage.md", "extending.md", "protocol.md"}
    assert sum(len(commands(path)) for path in PAGES) > 30
    for path in PAGES:
        assert any(language == "sh" for language, *_ in blocks(path)), path.name


def test_each_of_the_25_tasks_takes_one_command():
    page = (ROOT / "docs/howto.md").read_text(encoding="utf-8")
    listed = tasks(page)
    assert [number for number, _, _ in listed] == list(range(1, 26))
    assert [command for _, _, command in listed] == commands(ROOT / "docs/howto.md")


def test_links_between_pages_lead_somewhere():
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def strings(path):
    """Every piece of text in a source file."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    return " ".join(
        token.string for token in tokens if token.type in (tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1))
    )


def test_what_troubleshooting_quotes_is_what_the_project_says():
    sources = [*(ROOT / "lct").rglob("*.py")]
    said = " ".join(strings(path) for path in sources)
    said += " ".join(path.read_text() for path in (ROOT / "reports/templates").glob("*.jinja"))
    table = (ROOT / "docs/troubleshooting.md").read_text().partition("| you see |")[2]
    quoted = [
        phrase
        for line in table.splitlines()
        if line.startswith("| ")
        for phrase in re.findall(r"`([^`]+)`", line.split("|")[1])
    ]
    assert len(quoted) >= 10
    for phrase in quoted:
        assert phrase in said, phrase


def test_every_verb_is_explained_with_an_example_and_documented_exit_codes(capsys):
    documented = " ".join(path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    for name, verb in VERBS.items():
        with pytest.raises(SystemExit, match="^0$"):
            main([name, "--help"])
        text = capsys.readouterr().out
        assert "example: " in text and "--json" in text, name
        assert f"lct {name}" in verb.example and f"lct {name}" in documented, name
    for code in ("| 0 |", "| 1 |", "| 2 |", "| 75 |", "| 130 |"):
        assert code in documented
