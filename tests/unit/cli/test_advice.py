"""Every command that a message or a page prescribes is one that its program takes: no verb or option has moved."""

import re
import shlex
import subprocess

import pytest
from dvc.cli.parser import get_main_parser
from snakemake.cli import get_argument_parser

from lct.cli.main import parser
from tests.helpers import ROOT

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
