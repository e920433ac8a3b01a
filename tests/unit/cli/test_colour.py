"""Colours are for terminals that want them; programs and files get plain text."""

import io
import json
import subprocess
import sys

import pytest

from lct.cli.main import fault, main, paint

TEXT = "ok      a/b.json\n  broken: c.json is ok\nnotes: stale words stay plain\nfailed"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_states_at_the_start_of_a_line_are_coloured_on_a_terminal(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    painted = paint(TEXT, Terminal())
    assert painted.splitlines()[0] == "\x1b[32mok\x1b[0m      a/b.json"
    assert painted.splitlines()[1] == "  \x1b[31mbroken\x1b[0m: c.json is ok"
    assert painted.splitlines()[2] == "notes: stale words stay plain"
    assert painted.splitlines()[3] == "\x1b[31mfailed\x1b[0m"
    assert fault("x", Terminal()) == "\x1b[31mx\x1b[0m"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_that_wants_none_and_a_pipe_get_plain_text(monkeypatch, name, value):
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert paint(TEXT, io.StringIO()) == TEXT and fault("x", io.StringIO()) == "x"
    monkeypatch.setenv(name, value)
    assert paint(TEXT, Terminal()) == TEXT


def test_errors_are_json_for_programs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["show", "x", "--json"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "project's folder" in json.loads(captured.err)["error"]
    assert main(["show", "x"]) == 1 and capsys.readouterr().err.startswith("lct show: ")


def test_an_answer_that_cannot_be_written_is_one_line():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "lct.cli.main", "completion", "bash"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "lct completion: expected to print its answer, found: No space left on device\n"
