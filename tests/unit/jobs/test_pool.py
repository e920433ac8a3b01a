"""Items dealt out to processes: results in order, the first error as it is, nothing left running."""

import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from lct.jobs.pool import Pool


def open_reader(source, device):
    """Reads a JSON text and leaves its process's number; the first text waits until every process has read one."""
    folder, processes = source
    if device == "broken":
        raise ValueError(f"{device}: expected a device, found none")

    def read(item):
        number, text = item
        Path(folder, str(os.getpid())).touch()
        deadline = time.monotonic() + 300
        while number == 0 and len(list(Path(folder).iterdir())) < processes and time.monotonic() < deadline:
            time.sleep(0.01)
        return json.loads(text)

    return read


def open_killer(code, device):
    return lambda item: os._exit(code)


@pytest.fixture
def forked(monkeypatch):
    """Processes forked from one that has loaded torch, for the tests after the first, whose processes start anew."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lct.jobs.pool"])
    monkeypatch.setattr("lct.jobs.pool.multiprocessing.get_context", lambda _: context)


@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"]])
def test_results_come_in_the_order_of_the_items_from_every_process(tmp_path, devices):
    with Pool(open_reader, (tmp_path, len(devices)), devices) as readers:
        assert list(readers.map(enumerate("0123456789"))) == list(range(10))
        assert list(readers.map(enumerate("42"))) == [4, 2], "what was opened is used again"
    assert len(list(tmp_path.iterdir())) == len(devices)


@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"]])
def test_the_first_error_of_a_process_is_raised_here(tmp_path, devices, forked):
    texts = ["1", "[1, x]", *["2"] * 50]
    with (
        pytest.raises(ValueError, match="^Expecting value: line 1 column 5"),
        Pool(open_reader, (tmp_path, len(devices)), devices) as p,
    ):
        list(p.map(enumerate(texts)))


@pytest.mark.parametrize("devices", [["broken"], ["broken", "broken"]])
def test_what_cannot_be_opened_says_so(tmp_path, devices, forked):
    with (
        pytest.raises(ValueError, match="^broken: expected a device"),
        Pool(open_reader, (tmp_path, len(devices)), devices) as p,
    ):
        list(p.map(enumerate("123")))


def test_a_killed_process_stops_the_job_with_one_line(forked):
    killed = "expected it to finish, found it killed; run the same command again"
    with pytest.raises(ValueError, match=killed), Pool(open_killer, 9, ["cpu", "cpu"]) as p:
        list(p.map([1, 2, 3]))


@pytest.mark.parametrize("devices", [["broken"], ["broken", "broken"]])
def test_nothing_to_do_opens_nothing(tmp_path, devices):
    with Pool(open_reader, (tmp_path, len(devices)), devices) as readers:
        assert list(readers.map([])) == []
