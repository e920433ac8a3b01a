"""Every command that a message or a page prescribes is one that its program takes: no verb or option has moved."""

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
from lct.lineage.dvc_lock import read_lock
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


def test_a_remote_is_mended_by_what_verify_prints(lct, tmp_path):
    lct("lct record --scale smoke")
    Path(".dvc/config.local").write_text(
        f"[core]\n    remote = store\n['remote \"store\"']\n    url = {tmp_path}/store\n"
    )
    dvc.run(Path(), "push", "--quiet")
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
