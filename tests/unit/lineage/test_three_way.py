"""The rules by which two recorded states become one, for entries and whole files; and the driver that git calls."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from lct.cli import merge_driver
from lct.lineage import merge, registry
from lct.lineage.dvc import lock_text
from lct.lineage.registry import Entry
from lct.lineage.stages import dvc_yaml
from lct.lineage.three_way import ConflictError, MergeReport, merge_entries, merge_texts
from tests.helpers import ROOT


def entry(path: str, content: str, job: str | None = None, started: float = 0.0, stage: str = "train") -> Entry:
    snakemake = {"started": started} if job in (None, path) else None
    values = {"values": {"fd": 1.0}} if "/metrics/" in path else None
    return Entry(
        path, 1, content, content, {"stage": stage}, {"at": started}, job or path, snakemake=snakemake, content=values
    )


def entries(*items: Entry) -> dict[str, Entry]:
    return {item.path: item for item in items}


def merged(before, mine, other, **sides):
    report = MergeReport()
    return merge_entries(before, mine, other, report, **{"ours": (), "theirs": ()} | sides), report


def test_what_both_sides_have_made_is_taken_once_and_other_content_is_for_the_user_to_decide():
    before = {name: entry(name, "old") for name in ("a", "b", "gone")}
    mine = {"a": entry("a", "new", started=2), "b": entry("b", "old"), "c": entry("c", "x", started=3)}
    other = {"a": entry("a", "other", started=1), "b": entry("b", "newer"), "c": entry("c", "x", started=1),
             "gone": entry("gone", "old"), "d": entry("d", "y")}  # fmt: skip

    joined, report = merged(before, mine, other)
    assert report.conflicts == ["a"] and (report.ours, report.theirs, report.twice) == (1, 2, 1)
    assert joined.keys() == {"a", "b", "c", "d"}, "what one side has taken away stays away"
    assert joined["b"].sha256 == "newer" and joined["c"] == other["c"], "the first of two equal ones"
    for sides, content in (({"ours": ("",)}, "new"), ({"theirs": ("a",)}, "other")):
        joined, report = merged(before, mine, other, **sides)
        assert joined["a"].sha256 == content and report.conflicts == []
    swapped = merged(before, other, mine, ours=("",))[0]
    assert swapped == merged(before, mine, other, theirs=("",))[0], "from either branch the same"


def test_outputs_of_one_job_that_differ_between_the_sides_stay_one_job():
    mine = {name: entry(name, name, job="b") for name in ("b", "c")}
    other = {name: entry(name, name, job="a", started=-1) for name in ("a", "b")}
    joined, _ = merged({}, mine, other)
    assert {name: e.job for name, e in joined.items()} == {"a": "a", "b": "a", "c": "a"}


def test_pages_of_both_sides_stay_those_of_one_side_with_all_their_records():
    pages = ("reports/toy/index.html", "reports/toy/evidence.html")
    mine = entries(*(entry(path, f"mine {path}"[:14], stage="report", started=2) for path in pages))
    other = entries(*(entry(path, f"other {path}"[-9:], stage="report", started=1) for path in pages))
    same = "reports/toy/style.css"
    mine[same], other[same] = (entry(same, "x", stage="report", started=started) for started in (2, 1))
    joined, report = merged({}, mine, other)
    assert joined == mine and report.conflicts == [] and sorted(report.views) == sorted(mine)


# --- whole files ----------------------------------------------------------------------------------------------------
WEIGHTS, PAGE = "results/toy/train/{}/s0/w.safetensors", "reports/toy/index.html"


def side(*runs: str, page: str = "", weights: str = "w") -> dict[str, Entry]:
    """Weights and a metrics file of each run, and a page."""
    trained = [entry(WEIGHTS.format(run), f"{weights} {run}") for run in runs]
    scored = [entry(f"results/toy/metrics/{run}/fd.json", f"m {run}", stage="score") for run in runs]
    return entries(*trained, *scored, entry(PAGE, page or f"page of {runs}", stage="report"))


def lock(state: dict[str, Entry]) -> str:
    blocks = {}
    for path, e in state.items():
        name = f"{e.settings['stage']}-toy-{path.split('/')[3 if 'results' in path else 2]}"
        blocks[name] = f"  {name}:\n    cmd: snakemake {path}\n    outs:\n    - path: {path}\n      md5: {e.md5}\n"
    return lock_text(blocks)


TEXTS = {
    "lineage/toy.jsonl": registry.text,
    "dvc.lock": lock,
    "dvc.yaml": lambda state: dvc_yaml({"toy": state}),
}


@pytest.mark.parametrize("name", TEXTS)
def test_files_of_both_sides_become_what_the_joined_entries_give(name):
    text, before = TEXTS[name], side("a")
    mine, other = side("a", "b", "both"), side("both", "c")  # the other side has dropped run a
    joined, report = merged(before, mine, other)
    assert report.conflicts == [] and sum("/train/" in path for path in joined) == 3
    for one, two in itertools.permutations((mine, other)):
        expected = merged(before, one, two)[0]
        assert merge_texts(name, *map(text, (before, one, two))) == text(expected)
    assert merge_texts(name, "", text(mine), text(mine)) == text(mine)


@pytest.mark.parametrize("name", ["lineage/toy.jsonl", "dvc.lock"])
def test_other_content_of_the_same_file_is_a_conflict_that_names_it(name, tmp_path, capsys):
    texts = [TEXTS[name](state) for state in (side("a"), side("a", "b"), side("a", "b", weights="other"))]
    texts[0] = TEXTS[name](side("a", weights="former"))
    with pytest.raises(ConflictError, match="both sides have recorded other content of .*`lct merge --ours PATH`"):
        merge_texts(name, *texts)
    files = [tmp_path / number for number in "123"]
    for path, text in zip(files, texts, strict=True):
        path.write_text(text)
    assert merge_driver.main([*map(str, files), name]) == 1
    assert files[1].read_text() == texts[1] and capsys.readouterr().err.startswith(f"lct: {name}: both sides")


def test_damage_and_foreign_files_are_left_to_git():
    for name, text in (("lineage/toy.jsonl", "{"), ("dvc.lock", "x: 1\n"), ("dvc.yaml", "[1]"), ("README.md", "")):
        with pytest.raises(ValueError, match=f"^{name}") as error:
            merge_texts(name, "", text, text)
        assert "\n" not in str(error.value) and not isinstance(error.value, ConflictError)


# --- git -----------------------------------------------------------------------------------------------------------
def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def test_the_driver_is_set_up_once_and_again_where_its_program_is_gone(tmp_path):
    with pytest.raises(ValueError, match="expected a git repository"):
        merge.install(tmp_path)
    git(tmp_path, "init", "-q")
    with pytest.raises(ValueError, match="expected merge=lct for dvc.lock, .*, found none"):
        merge.install(tmp_path)
    assert merge.install_quietly(tmp_path) == []
    (tmp_path / ".gitattributes").write_bytes((ROOT / ".gitattributes").read_bytes())
    assert "git merges recordings" in str(merge.install(tmp_path)) and merge.install(tmp_path) is None
    driver = git(tmp_path, "config", "merge.lct.driver").strip()
    assert driver.startswith(f"{sys.executable} -m lct.cli.merge_driver %O %A %B %P || git merge-file ")
    git(tmp_path, "config", "merge.lct.driver", f"{tmp_path}/gone/python -m lct")
    assert merge.install(tmp_path) and git(tmp_path, "config", "merge.lct.driver").strip() == driver


@pytest.mark.parametrize("program", ["/nowhere/python -m lct.cli.merge_driver", None])
def test_git_merges_two_recordings_or_leaves_its_own_conflict_where_the_driver_cannot_run(tmp_path, program):
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / ".gitattributes").write_bytes((ROOT / ".gitattributes").read_bytes())
    merge.install(tmp_path)
    if program:
        lines = git(tmp_path, "config", "merge.lct.driver").strip().partition(" || ")[2]
        git(tmp_path, "config", "merge.lct.driver", f"{program} %O %A %B %P || {lines}")
    archive = tmp_path / "lineage/toy.jsonl"
    archive.parent.mkdir()
    for branch, state in (("main", side("a")), ("theirs", side("a", "b")), ("main", side("a", "c"))):
        git(tmp_path, "checkout", "-q", *(["-b"] if branch == "theirs" else []), branch)
        archive.write_text(registry.text(state))
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-q", "-m", branch)
    output = git(tmp_path, "merge", "--no-edit", "theirs")
    if program:
        assert "CONFLICT" in output and registry.conflict_line(archive.read_text())
    else:
        assert "CONFLICT" not in output and "/b/" in archive.read_text() and "/c/" in archive.read_text()


def test_only_a_merge_that_is_under_way_is_joined(tmp_path):
    """Git keeps REBASE_HEAD after the end of a rebase; a squashed merge keeps no other side."""
    path = "results/smoke/train/a/s0/step1-ema0.9.safetensors"
    digests = {content: f"ab{i:030x}" for i, content in enumerate(("old", "ours", "theirs", "newer", "more"))}

    def run(*words):
        return subprocess.run(["git", *words], cwd=tmp_path, capture_output=True, text=True, check=False)

    def commit(branch, content, start="base"):
        run("checkout", "-q", "-B", branch, start)
        registry.write(tmp_path, "smoke", entries(entry(path, digests[content])))
        run("add", "-A")
        run("commit", "-q", "-m", branch)

    run("init", "-q", "-b", "base")
    for name in ("name", "email"):
        run("config", f"user.{name}", "tester")
    commit("start", "old", "base")
    run("branch", "-f", "base")
    commit("other", "theirs")
    commit("mine", "ours")
    assert run("rebase", "other").returncode != 0
    assert merge.merge(tmp_path).conflicts == [path]
    with pytest.raises(ValueError, match=f"results/smoke/trian: expected .* nothing is written; .*{path}"):
        merge.merge(tmp_path, ours=("results/smoke/trian",))
    assert merge.merge(tmp_path, theirs=(path,)).next == "git rebase --continue"
    assert run("-c", "core.editor=true", "rebase", "--continue").returncode == 0
    assert registry.read(tmp_path, "smoke")[path].sha256 == digests["ours"]
    run("update-ref", "REBASE_HEAD", "HEAD")
    with pytest.raises(ValueError, match="expected a merge of two branches, found none"):
        merge.merge(tmp_path)
    assert run("cherry-pick", "other").returncode != 0
    assert merge.merge(tmp_path, theirs=("",)).next == "git cherry-pick --continue"
    assert registry.read(tmp_path, "smoke")[path].sha256 == digests["theirs"]
    run("cherry-pick", "--abort")
    commit("later", "newer", "mine")
    assert run("revert", "HEAD~1").returncode != 0
    assert merge.merge(tmp_path, ours=("",)).next == "git revert --continue"
    assert registry.read(tmp_path, "smoke")[path].sha256 == digests["newer"]
    run("revert", "--abort")
    commit("more", "more", "other")
    run("checkout", "-q", "mine")
    assert run("merge", "--squash", "more").returncode != 0
    with pytest.raises(ValueError, match="of a command that keeps no other side"):
        merge.merge(tmp_path)
    run("reset", "-q", "--hard")
    (tmp_path / "lineage/smoke.jsonl").write_text("{")
    run("commit", "-qam", "damage")
    run("checkout", "-q", "more")
    run("merge", "mine")
    with pytest.raises(ValueError, match=r"MERGE_HEAD:lineage/smoke.jsonl:1: .*; mend the commit on its branch[^;]*$"):
        merge.merge(tmp_path)
