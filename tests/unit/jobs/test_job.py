"""Options of a job from its parameters, and what its program passes on."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from lct.jobs import job


def sums(
    settings: dict[str, Any],
    files: Annotated[list[Path], "files to read"],
    further: Annotated[list[Path], "more of them", {"nargs": "*"}],
    start_at: Annotated[Path | None, "where to start"] = None,
    count: Annotated[int | None, "how often"] = None,
    rate: Annotated[float, "how fast"] = 0.25,
    where: Annotated[Literal["memory", "file"], "which place"] = "memory",
    step: Annotated[int | None, "a step", {"type": lambda text: int(text.removeprefix("step"))}] = None,
) -> str:
    return f"{settings['a']} {[*map(str, files)]} {further} {start_at} {count} {rate} {where} {step}"


WORDS = ["--settings", json.dumps({"recipe": 1, "a": 2}), "--device", "cpu"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--files", "a", "--further"], "2 ['a'] [] None None 0.25 memory None"),
        (["--files", "a", "b", "--further", "--start-at"], "2 ['a', 'b'] [] None None 0.25 memory None"),
        (
            ["--files", "a", "--further", "--start-at", "c", "--count", "3", "--rate", "2", "--where", "file"],
            "2 ['a'] [] c 3 2.0 file None",
        ),
        (["--files", "a", "--further", "--step", "step7"], "2 ['a'] [] None None 0.25 memory 7"),
    ],
)
def test_options_are_the_parameters(words, line, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sums", *WORDS, *words])
    assert job.program(sums)() == 0
    assert capsys.readouterr().out.startswith(f"{line} (")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--further"], "the following arguments are required: --files"),
        (["--files", "--further"], "argument --files: expected at least one argument"),
        (["--files", "a", "--further", "--where", "disk"], "argument --where: invalid choice: 'disk'"),
        (["--files", "a", "--further", "--count", "x"], "argument --count: invalid int value: 'x'"),
    ],
)
def test_wrong_options_end_before_the_job(words, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sums", *WORDS, *words])
    with pytest.raises(SystemExit) as ended:
        job.program(sums)()
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_help_tells_what_the_module_and_each_option_is():
    text = " ".join(job.options_of(sums).format_help().split())
    assert __doc__ in text and "--start-at [START_AT] where to start" in text and "{memory,file}" in text
