"""Every command that a message or a page prescribes is one that its program takes: no verb or option has moved."""

import ast
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from dvc.cli.parser import get_main_parser
from snakemake.cli import get_argument_parser

from lct.cli.main import main, parser
from lct.lineage import dvc
from lct.lineage.dvc import read_lock
from tests.helpers import ROOT
from tests.helpers import fake_lineage as fake

PROGRAMS = ("lct", "snakemake", "dvc", "git", "make", "pip", "scancel")
_COMMAND = re.compile(rf"`((?:{'|'.join(PROGRAMS)}) [^`\n]*)`")


def commands() -> list[str]:
    """Commands between backticks in the sources, what stands for a value replaced by a word."""
    sources = [*(ROOT / "lct").rglob("*.py"), *(ROOT / "workflow").rglob("*.smk"), *(ROOT / "docs").glob("*.md")]
    texts = {text for path in sources for text in _COMMAND.findall(path.read_text())}
    texts = {re.sub(r"\{[^}]*lct_options\}", "--scale smoke", text) for text in texts}
    texts = {re.sub(r"\{[^}]*\}", "word", text) for text in texts}
    return sorted(text for text in texts if not text.startswith(("dvc word", "git refuses")))


@pytest.mark.parametrize("command", commands())
def test_a_prescribed_command_is_taken_by_its_program(command, capsys):
    program, *words = shlex.split(command)
    if program == "snakemake":
        options = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert options <= get_argument_parser()._option_string_actions.keys()  # noqa: SLF001
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert {word for word in words if "=" not in word} <= set(targets)
    elif program == "git":
        usage = subprocess.run(["git", words[0], "-h"], capture_output=True, text=True, check=False)
        assert "usage: git" in usage.stdout + usage.stderr
    elif program in ("lct", "dvc"):
        taken = parser() if program == "lct" else get_main_parser()
        try:
            taken.parse_args([*words, "--help"] if len(words) == 1 else words)  # a verb alone is what prose names
        except SystemExit as end:
            assert end.code == 0, capsys.readouterr().err
        except Exception as error:  # noqa: BLE001 DVC's parser has errors of its own
            assert "required" in str(error), error


BY_SITUATION = "test_what_a_message_prescribes_works_where_it_is_printed"
BY_RECORD = "test_record_and_rm_work_as_they_are_printed"
BY_REMOTE = "test_a_remote_is_mended_by_what_verify_prints"
BY_IGNORED = "test_files_of_the_record_that_git_ignores_are_named_with_a_remedy_that_works"
BY_MERGE = "test_git_merges_two_recordings_or_leaves_its_own_conflict_where_the_driver_cannot_run"
BY_PACKAGE = "test_an_optional_package_is_there_after_what_its_absence_prints"
BY_INSTALL = "test_make_install_puts_the_locked_packages_where_doctor_misses_them"
BY_CLONE = "test_a_clone_restores_sees_a_change_refuses_guards_and_goes_back"
BY_BUNDLE = "test_a_whole_bundle_verifies_with_python_alone_and_is_a_crate"
BY_DROPPED = "test_a_dropped_image_set_is_no_work_and_stays_recorded_by_its_records"
BY_LINK = "test_results_behind_a_link_are_refused_with_a_remedy_that_works"
BY_DOCS = "test_every_command_of_the_documentation_runs"
BY_CASES = "test_situation"  # scripts of tests/cases
EXECUTED = {  # command of a message, {} for a value in it -> the test that executes it, or why none does
    "dvc config --local cache.type copy": "test_a_file_system_without_links_gets_copies",
    **dict.fromkeys(("dvc dag", "dvc metrics diff REVISION", "dvc metrics show", "dvc plots show"), BY_DOCS),
    **dict.fromkeys(("dvc pull", "dvc push -r {}", "dvc remote add -d NAME WHERE"), BY_REMOTE),
    **dict.fromkeys(("echo '!{}' >> .gitignore", "git check-ignore -v dvc.lock dvc.yaml"), BY_IGNORED),
    **dict.fromkeys(("git checkout -- .dvc", "git checkout dvc.lock"), BY_SITUATION),
    "git fetch --all": "test_a_revision_that_is_not_in_this_clone",
    **dict.fromkeys(("git merge BRANCH", "git pull"), BY_MERGE),
    "git status": "it repeats what the message says",
    "lct export": "it names what has written a file",
    "lct measure": "it takes 8 minutes and a GPU; test_it_is_rehearsed_on_a_cpu_where_only_a_few_packages_exist",
    **dict.fromkeys(("lct merge", "lct merge --ours PATH"), BY_CASES),
    **dict.fromkeys(("lct record", "lct record {}", "lct record --scale {}"), BY_RECORD),
    **dict.fromkeys(("lct restore", "lct restore --pull"), BY_SITUATION),
    "lct why {} {}": BY_CLONE,
    **dict.fromkeys(("make install", "make install CUDA={}"), BY_INSTALL),
    **dict.fromkeys(("pip install {}", "pip install elatentlpips", "pip install pillow-heif"), BY_PACKAGE),
    "pip install pillow-jxl-plugin": "as pillow-heif",
    "pip install wandb && wandb login": BY_PACKAGE,
    "python -c 'from lct.losses import objective; objective.load_perceptual()'": BY_PACKAGE,
    **dict.fromkeys(("python verify.py", "sha256sum --check SHA256SUMS"), BY_BUNDLE),
    "rm -r {} && git checkout -- {} dvc.lock lineage": BY_SITUATION,
    "rm {} && mv {} {} && dvc cache dir --local {}-cache": BY_LINK,
    "scancel {}": "test_the_printed_command_ends_the_jobs_that_are_waited_for",
    **dict.fromkeys(("snakemake", "snakemake {}", "snakemake --force {}", "snakemake --config scale={}"), BY_SITUATION),
    "snakemake --config dataset=NAME": BY_CASES,
    "snakemake --force": "a rule whose records are gone: with a file, " + BY_SITUATION,
    "snakemake FILE": BY_SITUATION,
    **dict.fromkeys(("snakemake FILE {}", "snakemake {} {}"), BY_DROPPED),
    "snakemake all_tables": BY_DOCS,
}  # fmt: skip


def prescribed() -> set[str]:
    """Commands between backticks in the texts that the package prints: no docstrings; {} for a value in it."""
    texts = []
    for path in (ROOT / "lct").rglob("*.py"):
        parts, printed_nodes = set(), []
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                parts.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts |= set(node.values)
                words = (str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
                texts.append("".join(words))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                printed_nodes.append(node)
        texts += [node.value for node in printed_nodes if node not in parts]
    programs = "|".join((*PROGRAMS, "echo", "python", "rm", "sha256sum"))
    return {command for text in texts for command in re.findall(rf"`((?:{programs})\b[^`\n]*)`", text)}


def test_each_prescribed_command_is_executed_by_a_test_or_says_why_not():
    assert prescribed() == EXECUTED.keys()
    sources = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    functions = {name for text in sources for name in re.findall(r"^def (test_\w+)", text, re.M)}
    assert {name for text in EXECUTED.values() for name in re.findall(r"\btest_\w+", text)} <= functions


def test_there_are_commands_to_try():
    assert {"lct restore --pull", "dvc pull", "snakemake --force word"} <= set(commands())


# --- done as they are printed, at a scale that is not the default one -------------------------------------------------
@pytest.fixture
def lct(tmp_path, monkeypatch, capsys):
    """`lct` in a finished project of the smoke scale, in which nothing is recorded: (exit code, what it printed)."""
    folder = fake.make(tmp_path / "project", fake.graph("smoke"))
    shutil.copytree(ROOT / "config", folder / "config", dirs_exist_ok=True)
    fake.finish(folder)
    monkeypatch.chdir(folder)

    def call(command: str) -> tuple[int, str]:
        program, *words = shlex.split(command)
        assert program == "lct"
        code = main(words)
        return code, "".join(capsys.readouterr())

    return call


def printed(text: str, start: str) -> str:
    """The command that a text prescribes, by its first words."""
    commands = re.findall(rf"`({start}[^`]*)`|: ({start}.*?)(?: does it| removes them|$)", text, re.M)
    assert commands, text
    return "".join(commands[0])


@pytest.mark.usefixtures("warm_programs")
def test_record_and_rm_work_as_they_are_printed(lct):
    """Results of a run that is nowhere, recorded by what `lct status` says, taken away by what `lct rm` says."""
    _, text = lct("lct status --scale smoke")
    assert lct(printed(text, "lct record"))[0] == 0
    code, refused = lct(printed(text, "lct rm"))
    assert code == 1 and "found 7 recorded files" in refused
    jobs = [job for job in fake.graph("smoke") if not job["rule"].split("_")[1:2] == ["run-0"]]
    gone = {path for path in read_lock(Path()).outs() if "/run-0/" in path}
    for job in jobs:
        job["inputs"] = [path for path in job["inputs"] if path not in gone]
        job["roles"] = {path: {k: v for k, v in used.items() if v not in gone} for path, used in job["roles"].items()}
    fake.write_jobs(Path(), jobs)
    fake.finish(Path(), {"tables", "report"})
    code, text = lct("lct verify --scale smoke")
    assert code == 1 and printed(text, "lct record") == printed(refused, "lct record")
    assert lct(printed(text, "lct record"))[0] == 0
    code, text = lct("lct rm run-0 --scale smoke")
    assert code == 0 and Path("results/smoke/train/run-0").is_dir()
    code, text = lct(printed(text, "lct rm"))
    assert code == 0 and not Path("results/smoke/train/run-0").exists()


@pytest.mark.usefixtures("warm_programs")
@pytest.mark.slow
def test_a_remote_is_mended_by_what_verify_prints(lct, tmp_path):
    lct("lct record --scale smoke")
    _, text = lct("lct verify --deep --scale smoke")
    code, refused = lct("lct restore --pull --scale smoke")
    assert code == 1 and printed(text, "dvc remote") == printed(refused, "dvc remote")
    add = printed(text, "dvc remote").replace("NAME", "store").replace("WHERE", str(tmp_path / "store"))
    dvc.run(Path(), *add.split()[1:])
    dvc.run(Path(), "push", "--quiet")
    assert lct("lct restore --pull --scale smoke")[0] == 0
    code, text = lct("lct verify --deep --scale smoke")
    assert "remote store" in text and "objects of the remote store" in text
    objects = sorted((tmp_path / "store/files/md5").rglob("*/*"))
    objects[0].chmod(0o644)
    objects[0].write_text("damage")
    objects[1].unlink()
    code, text = lct("lct verify --deep --scale smoke")
    assert code == 1 and "delete it there" in text and "1 files not in remote store" in text, text
    objects[0].unlink()
    dvc.run(Path(), *printed(text, "dvc push").split()[1:])
    _, text = lct("lct verify --deep --scale smoke")
    assert "dvc push" not in text and all(path.exists() for path in objects[:2]), text
    shutil.rmtree(".dvc/cache")
    _, text = lct("lct verify --deep --scale smoke")
    dvc.run(Path(), *printed(text, "dvc pull").split()[1:])
    assert "dvc pull" not in lct("lct verify --deep --scale smoke")[1]
