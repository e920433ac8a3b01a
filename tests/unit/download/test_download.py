"""lct/download: files arrive whole and right, or not at all, whatever the network does.

`python -m tests.unit.download.test_download` prints the table of faults: message, state after, and whether a good run
follows."""

import datetime
import hashlib
import ipaddress
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lct.config.schema import build
from lct.download.fetch import Access, Checker, download
from lct.download.record import read
from lct.download.settings import Downloads, HubOrigin, ManualOrigin, RemoteFile, WebOrigin, Weights
from lct.download.transfer import Policy
from lct.files import atomic
from lct.files.atomic import write_json
from lct.files.lock import acquire
from lct.plan import files as stage_files
from lct.plan import settings as stage_settings
from lct.plan.plan import Plan
from tests.helpers.copies import ROOT, project, snakemake
from tests.helpers.server import Fault, Repository, Site, cut, serve, status

CONTENT = b"PK\x03\x04" + bytes(range(256)) * 4000  # 1 MB
OTHER = CONTENT[::-1]
NAME = "data.zip"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PAGE = b"<!DOCTYPE html><html><title>Please accept the licence</title></html>"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Bench:
    """A folder to download into, and what happened there."""

    folder: Path
    site: Site

    def __post_init__(self):
        self.waits: list[float] = []  # seconds that a transfer would have waited
        self.read_seconds = 30.0  # of silence that a transfer bears
        self.resources = self.folder / "resources" / "thing"
        self.known_hashes_file = self.folder / "config" / "pinned.json"

    def web(self, name: str = NAME, path: str = NAME, **declared) -> WebOrigin:
        return WebOrigin(files=(RemoteFile(path=path, url=f"{self.site}/{name}", **declared),))

    def run(self, *origins, **access) -> dict:
        """A download, as the job makes it; what download.json says."""
        patience = Policy(attempts=4, connect_seconds=30, read_seconds=self.read_seconds, sleep=self.waits.append)
        content = download("thing", origins, self.resources, self.known_hashes_file, Access(policy=patience, **access))
        write_json(self.resources / "download.json", content)
        return content

    def left(self) -> list[str]:
        """Files that are there, by name."""
        names = (str(p.relative_to(self.resources)) for p in self.resources.rglob("*") if p.is_file())
        return sorted(name for name in names if name != ".lock")

    def request_count(self, path: str = NAME) -> int:
        return sum(path == name for _, name, _ in self.site.requests)


@pytest.fixture
def bench(tmp_path):
    with serve({NAME: CONTENT}) as site:
        yield Bench(tmp_path, site)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch, tmp_path):
    """No proxy, token or mirror of the machine that runs the tests."""
    for name in list(os.environ):
        if name.upper().endswith("_PROXY") or name.startswith(("HF_", "LCT_MIRROR", "LCT_CACHE", "LCT_OFFLINE")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))


# --- faults: what goes wrong, the message, what is left, and a good run after it -------------------------------------
@dataclass(frozen=True)
class Case:
    """A fault of the server, and the declaration of the file."""

    title: str
    faults: tuple[Fault, ...]
    message: str  # regular expression; "" when the run succeeds in spite of the fault
    requests: int  # for the file
    declared: dict
    left: tuple[str, ...] = ()  # names left under resources/thing/ after a failure
    resent: int = 0  # bytes sent again after a fault that the run survives

    def __repr__(self):
        return self.title


GOOD = {"bytes": len(CONTENT), "sha256": sha256(CONTENT)}
KEPT = (f"files/.{NAME}.part", f"files/.{NAME}.part.json")
ALWAYS = {"forever": True}
HALF, TENTH = len(CONTENT) // 2, len(CONTENT) // 10 + 1
FAULTS = (
    Case(
        "HTML page instead of an archive",
        (status(200, body=PAGE, headers={"Content-Type": "text/html; charset=utf-8"}, **ALWAYS),),
        "expected data.zip, found an HTML page, usually a licence to accept or a login",
        1,
        {},
    ),
    Case(
        "HTML page that says it is an archive",
        (status(200, body=b"\n " + PAGE, **ALWAYS),),
        "an HTML page, perhaps a licence to accept or a login: open the address in a browser",
        1,
        {},
    ),
    Case(
        "compressed though asked not to",
        (Fault(headers={"Content-Encoding": "gzip"}, **ALWAYS),),
        r"encoded \(gzip\)",
        1,
        {},
    ),
    Case("404", (status(404, **ALWAYS),), "404 Not Found", 1, GOOD),
    Case("403", (status(403, **ALWAYS),), "403 Forbidden", 1, GOOD),
    Case("401", (status(401, **ALWAYS),), "401 Unauthorized", 1, GOOD),
    Case("503 twice, then the file", (status(503), status(503)), "", 3, GOOD),
    Case("503 for ever", (status(503, **ALWAYS),), "503 Service Unavailable, 4 times in a row", 4, GOOD),
    Case("429, come back in 7 s", (status(429, headers={"Retry-After": "7"}),), "", 2, GOOD),
    Case(
        "503, come back tomorrow",
        (status(503, headers={"Retry-After": "86400"}, **ALWAYS),),
        "503 Service Unavailable; the server asks to come back in 86400 s",
        1,
        GOOD,
    ),
    Case("silence in the middle, once", (cut(HALF, stall=60),), "", 2, GOOD),
    Case("silence before the first byte", (cut(0, stall=60, **ALWAYS),), "nothing received for 1 s, 4 times", 4, GOOD),
    Case("connection cut at every tenth", (cut(TENTH),) * 9, "", 10, GOOD),
    Case("connection cut at half, always at once after", (cut(HALF), cut(0, **ALWAYS)), "was cut after", 4, GOOD, KEPT),
    Case("cut, and the server cannot go on", (cut(HALF, plain=True), Fault(plain=True)), "", 2, GOOD, resent=HALF),
    Case("cut, without Content-Length", (cut(HALF, chunked=True),), "", 2, GOOD),
    Case("neither length nor end", (Fault(unsized=True, **ALWAYS),), "declare `bytes`", 1, {}),
    Case("wrong hash", (), f"expected sha256 {sha256(OTHER)}, found {sha256(CONTENT)}", 1, {"sha256": sha256(OTHER)}),
    Case("wrong first digits of the hash", (), "begins with 01234567", 1, {"sha256_prefix": "01234567"}),
    Case("wrong size", (), f"expected 12345 bytes, found {len(CONTENT)}", 1, {"bytes": 12345}),
    Case(
        "more bytes than declared, unannounced",
        (Fault(chunked=True, **ALWAYS),),
        "expected 12345 bytes, found more",
        1,
        {"bytes": 12345},
    ),
    Case("empty file", (status(200, **ALWAYS),), "the server sent no byte, 4 times in a row", 4, {}),
    Case(
        "redirect to a local file",
        (status(302, headers={"Location": "file:///etc/passwd"}, **ALWAYS),),
        r"no usable address \(InvalidSchema\)",
        1,
        {},
    ),
    Case(
        "redirect in circles",
        (status(302, headers={"Location": f"/{NAME}"}, **ALWAYS),),
        "more than 8 redirects",
        9,
        {},
    ),
)


def play(case: Case, bench: Bench) -> tuple[str, list[str], bool]:
    """A run with the fault, a good one after it: message, names left after the first, is the second right?"""
    bench.site.faults[NAME] = list(case.faults)
    bench.read_seconds = 1.0 if any(fault.stall for fault in case.faults) else bench.read_seconds
    message = ""
    try:
        bench.run(bench.web(**case.declared))
    except ValueError as error:
        message = str(error)
    left = bench.left()
    bench.site.faults.clear()
    bench.run(bench.web(**GOOD))
    good = (bench.resources / "files" / NAME).read_bytes() == CONTENT
    return message, left, good and set(bench.left()) == {"download.json", f"files/{NAME}"}


@pytest.mark.parametrize("case", FAULTS, ids=repr)
def test_a_fault_is_named_leaves_nothing_wrong_and_a_good_run_follows(case, bench):
    counts = []
    original = bench.run

    def run(*origins):
        try:
            return original(*origins)
        finally:
            counts.append(bench.request_count())

    bench.run = run
    message, left, good = play(case, bench)
    assert good and counts[0] == case.requests
    if case.message:
        assert re.search(case.message, message) and "\n" not in message
        assert tuple(left) == case.left
    else:
        assert message == "" and left == ["download.json", f"files/{NAME}"]
        assert bench.site.sent[NAME] == len(CONTENT) + case.resent


def test_waits_double_after_a_first_try_at_once_and_follow_the_server(bench):
    bench.site.faults[NAME] = [status(503, forever=True)]
    with pytest.raises(ValueError, match="4 times in a row"):
        bench.run(bench.web(**GOOD))
    assert bench.waits == [0, 2, 4]
    bench.waits.clear()
    bench.site.faults[NAME] = [status(429, headers={"Retry-After": "7"}), cut(HALF), cut(100), status(500)]
    bench.run(bench.web(**GOOD))
    assert bench.waits == [7, 0, 0, 2]  # every new byte starts the count again


def test_a_date_to_come_back_at_is_understood(bench):
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    bench.site.faults[NAME] = [status(503, headers={"Retry-After": past})]
    bench.run(bench.web(**GOOD))
    assert bench.waits == [0]


def test_a_file_that_changes_between_attempts_starts_again(bench, caplog):
    def change():
        bench.site.files[NAME] = OTHER

    bench.site.faults[NAME] = [cut(HALF, then=change)]
    content = bench.run(bench.web())
    assert (bench.resources / "files" / NAME).read_bytes() == OTHER
    assert content["files"][0]["sha256"] == sha256(OTHER)
    assert "the file has changed at the server; starting from its first byte" in caplog.text


def test_a_file_that_changes_after_an_interrupted_run_starts_again(bench):
    bench.site.faults[NAME] = [cut(HALF), cut(0, forever=True)]
    with pytest.raises(ValueError, match="cut"):
        bench.run(bench.web())
    bench.site.files[NAME], bench.site.faults[NAME] = OTHER, []
    bench.run(bench.web())
    assert (bench.resources / "files" / NAME).read_bytes() == OTHER


def test_what_was_begun_is_removed_when_the_file_comes_another_way(bench):
    bench.site.faults[NAME] = [cut(HALF), cut(0, forever=True)]
    with pytest.raises(ValueError, match="cut"):
        bench.run(bench.web(**GOOD))
    (bench.resources / "files" / NAME).write_bytes(CONTENT)
    bench.run(bench.web(**GOOD))
    assert bench.left() == ["download.json", f"files/{NAME}"] and bench.request_count() == 4


def test_a_damaged_part_costs_one_more_transfer_not_the_origin(bench):
    bench.site.faults[NAME] = [cut(HALF), cut(0, forever=True)]
    with pytest.raises(ValueError, match="cut"):
        bench.run(bench.web(**GOOD))
    kept = bench.resources / "files" / f".{NAME}.part"
    kept.write_bytes(b"\0" * kept.stat().st_size)
    bench.site.faults.clear()
    bench.run(bench.web(**GOOD))
    assert (bench.resources / "files" / NAME).read_bytes() == CONTENT


def test_progress_shows_rate_and_eta(bench, caplog):
    caplog.set_level("INFO")
    bench.run(bench.web(**GOOD))
    assert re.search(r"data\.zip done=1\.02 MB total=1\.02 MB rate=[\d.]+ \w?B/s eta=0:00", caplog.text)


# --- interrupted and full ---------------------------------------------------------------------------------------------
def job(bench: Bench, *origins, prefix: str = "", **environment) -> list[str]:
    """The command line of the download job, in bash."""
    settings = json.dumps({"recipe": 1, "id": "thing", "origins": [yaml.safe_load(o) for o in origins]})
    out = "resources/thing/download.json"
    return ["bash", "-c", f"{prefix} exec {sys.executable} -m lct.jobs.download --settings '{settings}' --out {out}"]


def start(bench: Bench, command: list[str], **environment) -> subprocess.Popen:
    surroundings = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=bench.folder, env=surroundings, **pipes)


def web_yaml(bench: Bench, **declared) -> str:
    return json.dumps({"kind": "web", "files": [{"path": NAME, "url": f"{bench.site}/{NAME}", **declared}]})


def test_kill_9_in_the_middle_and_the_next_run_goes_on(bench):
    bench.site.faults[NAME] = [cut(HALF, stall=60)]
    process = start(bench, job(bench, web_yaml(bench, **GOOD)))
    kept = bench.resources / "files" / f".{NAME}.part"
    deadline = time.monotonic() + 240
    while not (kept.exists() and kept.stat().st_size == HALF) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (bench.resources / "files" / NAME).exists() and not (bench.resources / "download.json").exists()
    again = start(bench, job(bench, web_yaml(bench, **GOOD)))
    out, log = again.communicate(timeout=240)
    assert again.returncode == 0, log
    assert out.startswith("download thing: 1 files, 1.02 MB, hashes: declared")
    assert bench.site.requests[-1][2]["Range"] == f"bytes={HALF}-"
    assert bench.site.sent[NAME] == len(CONTENT)
    assert read(bench.resources / "download.json").file(NAME).read_bytes() == CONTENT


def test_a_full_disk_keeps_what_was_received_and_a_good_run_goes_on(bench):
    """A limit on file sizes: what an ordinary user can have of a full disk."""
    full = start(bench, job(bench, web_yaml(bench, **GOOD), prefix="ulimit -f 300;"))
    out, _ = full.communicate(timeout=240)
    assert full.returncode == 1
    assert re.search(r"data\.zip: expected space .*File too large; the 307200 bytes received are kept: free space", out)
    assert bench.left() == list(KEPT)
    again = start(bench, job(bench, web_yaml(bench, **GOOD)))
    _, log = again.communicate(timeout=240)
    assert again.returncode == 0, log
    assert bench.site.requests[-1][2]["Range"] == "bytes=307200-"


def test_too_little_space_stops_before_the_first_byte(bench, monkeypatch):
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**7, 10**7, 1000))
    with pytest.raises(OSError, match=r"thing: expected 1\.02 MB of free space .*, found 1 kB; free space, then"):
        bench.run(bench.web(**GOOD))
    with pytest.raises(OSError, match=r"data\.zip: expected 1\.02 MB of free space"):
        bench.run(bench.web())  # the size is known from the server's answer
    monkeypatch.undo()
    bench.run(bench.web(**GOOD))


@pytest.mark.slow  # mounts a small file system, as root
def test_a_small_file_system_fills_and_a_good_run_goes_on(bench):
    bench.resources.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(bench.resources)]
    subprocess.run(mount, check=True)
    try:
        bench.site.faults[NAME] = [Fault(chunked=True)]  # the size shows only when the disk is full
        with pytest.raises(OSError, match="No space left on device; the .* bytes received are kept"):
            bench.run(bench.web())
        assert bench.left() == list(KEPT)
        subprocess.run(["mount", "-o", "remount,size=8m", str(bench.resources)], check=True)
        bench.run(bench.web(**GOOD))
        assert (bench.resources / "files" / NAME).read_bytes() == CONTENT
    finally:
        subprocess.run(["umount", str(bench.resources)], check=True)


def test_two_downloads_of_one_name_at_once_fetch_it_once(bench):
    bench.site.faults[NAME] = [cut(HALF, stall=0.2)]
    contents: list[dict] = []
    threads = [threading.Thread(target=lambda: contents.append(bench.run(bench.web(**GOOD)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents[0] == contents[1] and bench.site.sent[NAME] == len(CONTENT)


def test_a_download_waits_for_another_of_its_name(bench):
    handle = acquire(bench.resources / ".lock", "download")
    thread = threading.Thread(target=lambda: bench.run(bench.web(**GOOD)))
    thread.start()
    thread.join(0.3)
    assert thread.is_alive() and bench.request_count() == 0
    handle.close()
    thread.join(240)
    assert bench.left() == ["download.json", f"files/{NAME}"]


# --- in place, cache, mirror, offline ---------------------------------------------------------------------------------
def test_what_is_here_and_right_is_not_asked_for_and_what_is_wrong_is_replaced(bench):
    first = bench.run(bench.web(**GOOD))
    assert bench.run(bench.web(**GOOD)) == first and bench.request_count() == 1
    (bench.resources / "files" / NAME).write_bytes(OTHER)
    assert bench.run(bench.web(**GOOD)) == first and bench.request_count() == 2
    assert (bench.resources / "files" / NAME).read_bytes() == CONTENT


def test_the_cache_is_filled_by_a_link_and_serves_offline(bench, tmp_path):
    cache = tmp_path / "cache"
    content = bench.run(bench.web(**GOOD), cache=cache)
    assert os.path.samefile(cache / "thing" / "files" / NAME, bench.resources / "files" / NAME)
    shutil.rmtree(bench.resources)
    assert bench.run(bench.web(**GOOD), cache=cache, offline=True) == content
    assert bench.request_count() == 1 and (bench.resources / "files" / NAME).read_bytes() == CONTENT


def test_a_damaged_cache_is_not_used_and_mended(bench, tmp_path, caplog):
    cached = tmp_path / "cache" / "thing" / "files" / NAME
    cached.parent.mkdir(parents=True)
    cached.write_bytes(CONTENT[:-1] + b"!")
    message = f"cache {cached}: expected sha256 .*, nor good in the cache {tmp_path / 'cache'}, and LCT_OFFLINE forbids"
    with pytest.raises(ValueError, match=message):
        bench.run(bench.web(**GOOD), cache=tmp_path / "cache", offline=True)
    bench.run(bench.web(**GOOD), cache=tmp_path / "cache")
    assert f"cache {cached}: expected sha256" in caplog.text and cached.read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written_costs_nothing(bench, tmp_path, caplog):
    (tmp_path / "cache").write_text("not a folder")
    bench.run(bench.web(**GOOD), cache=tmp_path / "cache")
    assert "not filled" in caplog.text


def test_a_copy_of_resources_is_an_offline_bundle(bench, tmp_path):
    content = bench.run(bench.web())
    shutil.copytree(bench.folder / "resources", tmp_path / "bundle")
    shutil.rmtree(bench.folder / "resources")
    assert bench.run(bench.web(), cache=tmp_path / "bundle", offline=True) == content


def test_offline_makes_no_connection_and_says_what_to_do(bench):
    with pytest.raises(ValueError, match=r"not here, and LCT_OFFLINE forbids to ask for it: put it at .*data\.zip, or"):
        bench.run(bench.web(**GOOD), bench.web(name="other.zip"), offline=True, mirror=f"{bench.site}/mirror")
    assert bench.site.requests == []
    (bench.resources / "files" / NAME).parent.mkdir(parents=True)
    (bench.resources / "files" / NAME).write_bytes(CONTENT)
    assert bench.run(bench.web(**GOOD), offline=True)["files"][0]["verified"] == "declared"
    assert bench.site.requests == []


def test_the_mirror_is_asked_first_and_leaves_no_trace(bench):
    content = bench.run(bench.web(**GOOD))
    shutil.rmtree(bench.resources)
    bench.site.files[f"mirror/thing/files/{NAME}"] = CONTENT
    assert bench.run(bench.web(**GOOD), mirror=f"{bench.site}/mirror/") == content
    assert bench.request_count() == 1 and bench.request_count(f"mirror/thing/files/{NAME}") == 1


@pytest.mark.parametrize("wrong", [None, OTHER, PAGE], ids=["missing", "wrong", "page"])
def test_a_mirror_without_the_right_file_is_passed_over(bench, wrong, caplog):
    if wrong is not None:
        bench.site.files[f"thing/files/{NAME}"] = wrong
    bench.run(bench.web(**GOOD), mirror=str(bench.site))
    assert (bench.resources / "files" / NAME).read_bytes() == CONTENT
    assert f"{bench.site}/thing/files/{NAME}: " in caplog.text


def test_the_way_to_the_files_comes_from_the_environment(monkeypatch, tmp_path):
    for name, value in Downloads(mirror="http://m", cache=str(tmp_path), offline=True).environment().items():
        monkeypatch.setenv(name, value)
    access = Access.from_environment()
    assert (access.mirror, access.cache, access.offline) == ("http://m", tmp_path, True)
    assert Downloads().environment() == {}


# --- several origins, manual ones, known hashes ----------------------------------------------------------------------
def test_the_second_origin_is_tried_when_the_first_fails(bench, caplog):
    content = bench.run(bench.web(name="gone.zip", **GOOD), bench.web(**GOOD))
    assert content["alternative"] == 1 and content["origin"]["files"][0]["url"] == f"{bench.site}/{NAME}"
    assert "gone.zip: " in caplog.text and "404" in caplog.text
    bench.site.files["gone.zip"] = CONTENT
    assert (
        bench.run(bench.web(name="other.zip", sha256=sha256(OTHER)), bench.web(**GOOD)) == content
    )  # what is here stays
    assert bench.request_count("other.zip") == 0


def test_when_all_origins_fail_one_line_gives_each_reason(bench):
    refused = WebOrigin(files=(RemoteFile(path=NAME, url="http://127.0.0.1:1/data.zip"),))
    origins = (bench.web(name="gone.zip"), refused, bench.web(sha256=sha256(OTHER)), MANUAL)
    with pytest.raises(ValueError) as caught:
        bench.run(*origins)
    line = str(caught.value)
    assert "\n" not in line and "one of 4 origins" in line
    for text in (
        f"(1) web {bench.site}/gone.zip: data.zip: 404 Not Found",
        "(2) web http://127.0.0.1:1/data.zip: data.zip: no connection: Connection refused, 4 times in a row",
        f"(3) web {bench.site}/data.zip: data.zip: expected sha256 {sha256(OTHER)}",
        "(4) by hand: data.zip: Fill in the form at https://example.org/form",
        "snakemake",
    ):
        assert text in line
    assert bench.left() == []


MANUAL = ManualOrigin(
    files=(RemoteFile(path=NAME, url="https://example.org/data.zip", **GOOD),),
    instructions="Fill in the form at https://example.org/form.",
)


def test_a_manual_download_is_explained_and_accepted(bench):
    with pytest.raises(ValueError) as caught:
        bench.run(MANUAL)
    place = bench.resources / "files" / NAME
    assert f"put the file ({len(CONTENT)} bytes, sha256 {sha256(CONTENT)}) at {place}" in str(caught.value)
    assert f"the same command goes on from here: snakemake {bench.resources}/download.json" in str(caught.value)
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    content = bench.run(MANUAL)
    assert content["files"][0]["verified"] == "declared" and content["origin"]["kind"] == "manual"


@pytest.mark.parametrize(("wrong", "reason"), [(OTHER, "expected sha256"), (PAGE, "was not it: an HTML page")])
def test_a_wrong_manual_file_is_set_aside_and_named(bench, wrong, reason):
    place = bench.resources / "files" / NAME
    place.parent.mkdir(parents=True)
    place.write_bytes(wrong)
    with pytest.raises(ValueError, match=reason) as caught:
        bench.run(MANUAL)
    assert "it is now data.zip.rejected" in str(caught.value)
    assert bench.left() == [f"files/{NAME}.rejected"]
    place.write_bytes(CONTENT)
    assert bench.run(MANUAL)["files"][0]["sha256"] == sha256(CONTENT)


def test_a_page_saved_by_hand_is_never_taken_for_a_file_of_unknown_hash(bench):
    unknown = ManualOrigin(files=(RemoteFile(path=NAME),), instructions="Fill in the form")
    place = bench.resources / "files" / NAME
    place.parent.mkdir(parents=True)
    place.write_bytes(PAGE)
    with pytest.raises(ValueError, match="was not it: an HTML page, perhaps a licence"):
        bench.run(unknown)
    place.write_bytes(CONTENT)
    assert bench.run(unknown)["files"][0]["verified"] == "first use"


def test_an_unpublished_hash_is_recorded_once_and_enforced_afterwards(bench, caplog):
    caplog.set_level("INFO")
    content = bench.run(bench.web())
    assert content["files"][0] | {"url": None} == {
        "path": NAME,
        "url": None,
        "bytes": len(CONTENT),
        "sha256": sha256(CONTENT),
        "verified": "first use",
    }
    assert "recorded on first use" in caplog.text
    entries = {"thing/data.zip": {"bytes": len(CONTENT), "sha256": sha256(CONTENT), "url": f"{bench.site}/{NAME}"}}
    assert json.loads(bench.known_hashes_file.read_text()) == entries
    shutil.rmtree(bench.folder / "resources")
    assert bench.run(bench.web()) == content, "the same bytes, however often they are fetched"
    shutil.rmtree(bench.folder / "resources")
    bench.site.files[NAME] = OTHER
    with pytest.raises(ValueError, match=r"recorded on first use in .*pinned\.json; if it changed on purpose, remove"):
        bench.run(bench.web())
    assert bench.left() == []
    bench.known_hashes_file.unlink()
    assert bench.run(bench.web())["files"][0]["sha256"] == sha256(OTHER)


def test_a_declared_hash_is_not_recorded(bench):
    bench.run(bench.web(**GOOD, sha256_prefix=sha256(CONTENT)[:8]))
    assert not bench.known_hashes_file.exists()


def test_damaged_known_hashes_are_named(bench):
    bench.known_hashes_file.parent.mkdir()
    for damage in ("{", '{"thing/data.zip": "abc"}'):
        bench.known_hashes_file.write_text(damage)
        with pytest.raises(ValueError, match=r"pinned\.json: expected .*bring it back from git"):
            bench.run(bench.web())


def test_writers_of_known_hashes_do_not_lose_each_others(tmp_path):
    def write(index):
        Checker("thing", tmp_path / "pinned.json", tmp_path / "lock").record(
            {f"x/{index}": {"bytes": 1, "sha256": "", "url": None}}
        )

    threads = [threading.Thread(target=write, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(json.loads((tmp_path / "pinned.json").read_text())) == [f"x/{index}" for index in range(8)]


# --- the hub ----------------------------------------------------------------------------------------------------------
def repository(**more) -> Repository:
    files = {"README.md": b"# read me", "data/1.parquet": OTHER, "data/0.parquet": CONTENT, "config.json": b"{}"}
    return Repository("owner/name", "dataset", COMMIT, files, small=("README.md", "config.json"), **more)


def hub(*files: str, **more) -> HubOrigin:
    return HubOrigin(repo="owner/name", revision=COMMIT, files=files or ("data/*.parquet",), **more)


@pytest.fixture
def on_hub(tmp_path, monkeypatch):
    with serve(hub=[repository()]) as site:
        monkeypatch.setenv("HF_ENDPOINT", str(site))
        yield Bench(tmp_path, site)


def test_hub_files_come_in_order_with_the_hubs_hashes(on_hub, caplog):
    content = on_hub.run(hub("data/*.parquet", "config.json"))
    assert [(f["path"], f["verified"]) for f in content["files"]] == [
        ("data/0.parquet", "hub"),
        ("data/1.parquet", "hub"),
        ("config.json", "first use"),
    ]
    assert content["files"][0]["url"] == f"https://huggingface.co/datasets/owner/name/resolve/{COMMIT}/data/0.parquet"
    assert read(on_hub.resources / "download.json").file("data/1.parquet").read_bytes() == OTHER
    assert list(json.loads(on_hub.known_hashes_file.read_text())) == ["thing/config.json"]
    shown = caplog.text + (on_hub.resources / "download.json").read_text()
    assert "very-secret" not in shown


def test_a_cut_hub_file_goes_on_through_the_redirect(on_hub):
    name = f"datasets/owner/name/resolve/{COMMIT}/data/0.parquet"
    on_hub.site.faults[name] = [cut(HALF)]
    on_hub.run(hub("data/0.parquet"))
    assert on_hub.site.sent[f"stored/{sha256(CONTENT)}"] == len(CONTENT)


def test_a_listing_is_kept_and_serves_offline(on_hub, tmp_path):
    content = on_hub.run(hub(), cache=tmp_path / "cache")
    shutil.rmtree(on_hub.resources)
    count = len(on_hub.site.requests)
    assert on_hub.run(hub(), cache=tmp_path / "cache", offline=True) == content
    assert on_hub.run(hub(), hub_offline=True) == content
    assert len(on_hub.site.requests) == count
    shutil.rmtree(on_hub.resources)
    with pytest.raises(ValueError, match="the names of its files are not known without asking the hub; go online once"):
        on_hub.run(hub(), offline=True)
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE forbids to ask for it"):
        on_hub.run(hub("config.json"), hub_offline=True)


def test_a_damaged_listing_is_asked_for_again(on_hub):
    content = on_hub.run(hub())
    listing = next(on_hub.resources.glob("listing-*.json"))
    listing.write_text('{"data/0.parquet": 3}')
    assert on_hub.run(hub()) == content
    assert set(json.loads(listing.read_text())) == set(repository().files)


def test_a_gated_repository_needs_a_token_that_goes_nowhere_else(on_hub, monkeypatch):
    on_hub.site.hub[0].token = "hf_right"
    page = "gated: accept its conditions at https://huggingface.co/datasets/owner/name, then set HF_TOKEN to a token"
    with pytest.raises(ValueError, match=f"401 Unauthorized; {page}"):
        on_hub.run(hub())
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ValueError, match=f"403 Forbidden; {page}") as caught:
        on_hub.run(hub())
    assert "hf_wrong" not in str(caught.value) and on_hub.left() == []
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    on_hub.run(hub(), mirror=f"{on_hub.site}/mirror")
    for _, path, headers in on_hub.site.requests:
        if path.startswith(("stored/", "mirror/")):
            assert "Authorization" not in headers
    assert "hf_right" not in (on_hub.resources / "download.json").read_text()


def test_a_file_may_be_refused_though_the_listing_is_not(on_hub):
    name = f"datasets/owner/name/resolve/{COMMIT}/config.json"
    on_hub.site.files[name] = b"never sent"
    on_hub.site.faults[name] = [status(403, headers={"X-Error-Code": "GatedRepo"}, forever=True)]
    with pytest.raises(ValueError, match="config.json: 403 Forbidden; gated: accept its conditions"):
        on_hub.run(hub("config.json"))


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        (hub("data/9.parquet"), r"expected data/9\.parquet in it at commit 0123456789ab, found no such file"),
        (hub("*.arrow"), r"expected \*\.arrow in it at commit"),
        (replace(hub(), revision="f" * 40), f"404 Not Found; it has no commit {'f' * 40}: correct `revision`"),
        (replace(hub(), repo="owner/other"), "no such repository, or a private one: correct `repo`, or set HF_TOKEN"),
        (hub(sha256={"data/0.parquet": "0" * 64}), "data/0.parquet: expected sha256 0{64}, found"),
    ],
    ids=["missing file", "pattern without files", "wrong commit", "wrong name", "wrong hash"],
)
def test_what_the_hub_has_not_got_is_named(on_hub, origin, message):
    with pytest.raises(ValueError, match=message):
        on_hub.run(origin)
    assert [name for name in on_hub.left() if name.startswith("files/")] == []
    on_hub.run(hub())


def test_a_hub_that_is_away_is_asked_again(on_hub):
    listing = f"api/datasets/owner/name/revision/{COMMIT}"
    on_hub.site.faults[listing] = [status(503), status(502)]
    on_hub.run(hub("config.json"))
    assert on_hub.waits == [0, 2]


@pytest.mark.parametrize(("body", "code"), [(b"<html>portal</html>", 200), (b"[]", 200), (b"{}", 200)])
def test_what_is_no_hub_is_said(on_hub, body, code):
    listing = f"api/datasets/owner/name/revision/{COMMIT}"
    on_hub.site.faults[listing] = [status(code, body=body, forever=True)]
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:\d+ does not answer as a hub does"):
        on_hub.run(hub())


def test_a_hub_that_cannot_be_reached_is_said(bench, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(ValueError, match=r"no connection to http://127\.0\.0\.1:1 \(ConnectError\)"):
        bench.run(hub())
    assert bench.run(hub(), bench.web(**GOOD))["alternative"] == 1


@pytest.mark.parametrize("address", ["", " ", "hf-mirror.example", "ftp://127.0.0.1", "http://[", "https://"])
def test_an_odd_address_of_the_hub_ends_in_one_line_and_the_next_origin(bench, monkeypatch, address):
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setattr("lct.download.hub.HUB", "http://127.0.0.1:1")  # what an empty one stands for
    with pytest.raises(ValueError, match=r"HF_ENDPOINT: expected http.*correct or unset it|no connection to") as error:
        bench.run(hub())
    assert "\n" not in str(error.value)
    assert bench.run(hub(), bench.web(**GOOD))["alternative"] == 1


@pytest.mark.parametrize("address", [" ", "mirror.example/resources", "ftp://127.0.0.1", "http://[", "https://"])
def test_an_odd_address_of_the_mirror_names_its_variable(monkeypatch, address):
    monkeypatch.setenv("LCT_MIRROR", address)
    with pytest.raises(ValueError, match="LCT_MIRROR: expected http") as error:
        Access.from_environment()
    assert repr(address) in str(error.value)
    assert "correct or unset it" in str(error.value)


@pytest.mark.parametrize("token", ["", "hf_\u00e4", "hf_a hf_b", "hf_a\nhf_b", "\u2026"])
def test_an_odd_token_ends_in_one_line_and_the_next_origin(on_hub, monkeypatch, token):
    on_hub.site.files[NAME] = CONTENT
    monkeypatch.setenv("HF_TOKEN", token)
    content = on_hub.run(hub("config.json"), on_hub.web(**GOOD))
    assert content["alternative"] == (0 if not token else content["alternative"])


@pytest.mark.parametrize(
    "proxy", ["socks5://127.0.0.1:1", "odd://127.0.0.1", "http://[", "http://", "127.0.0.1:1", "x y"]
)
def test_proxies_of_any_kind_end_in_one_line(on_hub, monkeypatch, proxy):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    on_hub.site.files[NAME] = CONTENT
    with pytest.raises(ValueError, match="expected its files from one of 2 origins") as error:
        on_hub.run(hub("config.json"), on_hub.web(**GOOD))
    assert "\n" not in str(error.value)
    for name in list(os.environ):
        if name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    assert on_hub.run(hub("config.json"))["alternative"] == 0


def test_wrong_bytes_from_the_hub_are_not_kept(on_hub):
    on_hub.run(hub("config.json"))  # keeps the listing
    on_hub.site.hub[0].files["data/0.parquet"] = OTHER
    with pytest.raises(ValueError, match=f"data/0.parquet: expected sha256 {sha256(CONTENT)}"):
        on_hub.run(hub("data/0.parquet"))
    assert not (on_hub.resources / "files" / "data" / "0.parquet").exists()


def test_names_on_the_hub_that_leave_the_folder_are_refused(on_hub):
    on_hub.site.hub[0].files["../../escaped"] = b"x"
    with pytest.raises(ValueError, match=r"a file of it has a name that is refused: '\.\./\.\./escaped'"):
        on_hub.run(hub("*escaped"))
    assert not (on_hub.folder / "escaped").exists()


# --- settings, records, certificates ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"path": "../data.zip"}, r"file\.path: expected a relative path"),
        ({"path": "/etc/passwd"}, r"file\.path: expected a relative path"),
        ({"path": "a/../../b"}, r"file\.path: expected a relative path"),
        ({"path": NAME, "url": "ftp://host/data.zip"}, r"url: expected http\(s\)://host/"),
        ({"path": NAME, "url": "https:///data.zip"}, r"url: expected http\(s\)://host/"),
        ({"path": NAME, "url": "https://me:pw@host/x"}, r"no password or token in the address.*found 'host'"),
        ({"path": NAME, "url": "https://host/x?X-Amz-Signature=1"}, "no password or token in the address"),
        ({"path": NAME, "url": "https://host/x?token=1"}, "no password or token in the address"),
        ({"path": NAME, "sha256": "abc"}, "sha256: expected 64 hexadecimal digits or null"),
        ({"path": NAME, "sha256_prefix": "abc"}, "sha256_prefix: expected 6 or more first digits"),
        ({"path": NAME, "sha256": "0" * 64, "sha256_prefix": "12345678"}, "sha256_prefix: expected 6 or more"),
        ({"path": NAME, "bytes": 0}, "bytes: expected a positive size or null"),
    ],
)
def test_declarations_that_cannot_work_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        RemoteFile(**values)


def test_an_address_may_have_a_harmless_query():
    assert RemoteFile(path=NAME, url="https://host/x?download=1&keyword=2").url.endswith("keyword=2")


def test_a_path_is_declared_once():
    file = RemoteFile(path=NAME, url="https://host/x")
    with pytest.raises(ValueError, match="files: expected every path once, found .'data.zip'."):
        WebOrigin(files=(file, file))


def test_hashes_of_hub_files_are_declared_by_name():
    values = {"title": "t", "licence": "l", "origins": [{"kind": "hub", "repo": "a/b", "revision": COMMIT}]}
    values["origins"][0] |= {"files": ["x/config.json"], "sha256": {"x/config.json": "0" * 64}}
    assert build(Weights, values, "here").origins[0].sha256 == {"x/config.json": "0" * 64}
    values["origins"][0]["sha256"] = {"x/config.json": "0"}
    with pytest.raises(ValueError, match="sha256: expected 64 hexadecimal digits for every name"):
        build(Weights, values, "here")


def test_a_record_gives_files_only_when_they_are_what_it_says(bench):
    bench.run(bench.web(**GOOD))
    path = bench.resources / "download.json"
    download_record = read(path)
    assert (download_record.id, download_record.alternative, download_record.names) == ("thing", 0, [NAME])
    assert download_record.file(NAME) == bench.resources / "files" / NAME
    with pytest.raises(ValueError, match=r"expected a file 'other', found \['data\.zip'\]"):
        download_record.file("other")
    download_record.file(NAME).write_bytes(OTHER)
    assert download_record.file(NAME, deep=False).exists()
    with pytest.raises(ValueError, match=rf"expected sha256 .*; fetch it again: snakemake --force {path}"):
        download_record.file(NAME)
    (bench.resources / "files" / NAME).write_bytes(b"short")
    with pytest.raises(ValueError, match="expected 1024004 bytes, found 5; fetch it again"):
        download_record.file(NAME, deep=False)
    (bench.resources / "files" / NAME).unlink()
    with pytest.raises(ValueError, match="expected 1024004 bytes, found nothing"):
        download_record.file(NAME)


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "files": [{}]}'])
def test_a_damaged_record_is_named(tmp_path, damage):
    path = tmp_path / "resources" / "download.json"
    path.parent.mkdir()
    path.write_text(damage)
    with pytest.raises(ValueError, match=rf"{path}: expected .*snakemake --force {path}"):
        read(path)


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody has signed, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False).sign(key, hashes.SHA256())
    forms = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "certificate.pem"
    path.write_bytes(key.private_bytes(*forms) + builder.public_bytes(serialization.Encoding.PEM))
    return path


def test_certificates_are_checked_and_https_never_becomes_http(bench, tmp_path, monkeypatch):
    path = certificate(tmp_path)
    with serve({NAME: CONTENT}, tls=path) as secure:
        origin = WebOrigin(files=(RemoteFile(path=NAME, url=f"{secure}/{NAME}", **GOOD),))
        with pytest.raises(ValueError, match="the server's certificate is not to be trusted: self-signed certificate"):
            bench.run(origin)
        assert secure.requests == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
        secure.faults[NAME] = [status(302, headers={"Location": f"{bench.site}/{NAME}"})]
        with pytest.raises(ValueError, match="redirected from https to http"):
            bench.run(origin)
        bench.run(origin)
    assert (bench.resources / "files" / NAME).read_bytes() == CONTENT


# --- plan and graph ---------------------------------------------------------------------------------------------------
def test_every_network_of_the_configuration_can_be_asked_for():
    plan = Plan(ROOT)
    assert {"sd-vae-ft-ema", "inception-pytorch-fid", "inception-torch-fidelity", "inception-clean-fid"} <= set(
        plan.downloads
    )
    assert {"vgg16-torch-fidelity", "vgg16-stylegan2-ada"} <= set(plan.downloads)
    for name in plan.downloads:
        settings = stage_settings.download(plan, name)
        assert plan.download_record(name, "here") == f"resources/{name}/download.json"
        assert settings["id"] == name and settings["recipe"] >= 1 and settings["origins"]
    hashes_of = {
        name: plan.downloads[name][0].files[0].sha256 for name in ("inception-pytorch-fid", "inception-torch-fidelity")
    }
    assert len(set(hashes_of.values())) == 1, "one file under two names"
    with pytest.raises(ValueError, match=r"here: expected a download of \[.*'sd-vae-ft-ema'.*\], found 'nope'"):
        plan.download_record("nope", "here")
    assert stage_files.image_download(plan, "digits") is None and stage_files.autoencoder_sources(plan, "digits") == []


def test_a_bad_declaration_stops_the_plan(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    file = tmp_path / "config" / "weights" / "vgg16-torch-fidelity.yaml"
    file.write_text(file.read_text().replace("397923af8e", "zz"))
    with pytest.raises(ValueError, match=r"vgg16-torch-fidelity\.yaml: origins\W0\W+files\W0\W.*sha256: expected 64"):
        Plan(tmp_path)


@pytest.mark.usefixtures("warm_programs")
def test_the_graph_fetches_goes_on_and_then_has_nothing_to_do(bench):
    folder = project(bench.folder)
    origin = {"kind": "web", "files": [{"path": NAME, "url": f"{bench.site}/{NAME}"}]}
    described = {"title": "A thing", "licence": "none", "origins": [origin]}
    (folder / "config" / "weights" / "thing.yaml").write_text(yaml.safe_dump(described))
    target = "resources/thing/download.json"
    bench.site.faults[NAME] = [cut(HALF), status(404)]
    failed = snakemake(folder, target)
    assert failed.returncode != 0 and "error: thing: expected its files from one of 1 origins" in failed.stdout
    assert "404 Not Found" in failed.stdout and "Traceback" not in failed.stdout
    assert bench.left() == list(KEPT)
    done = snakemake(folder, target)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "download thing: 1 files, 1.02 MB, hashes: first use" in done.stdout
    assert bench.site.sent[NAME] == len(CONTENT)
    assert read(folder / target).file(NAME).read_bytes() == CONTENT
    assert json.loads((folder / f"{target}.settings.json").read_text())["settings"]["id"] == "thing"
    (folder / "config" / "config.yaml").write_text("scale: smoke\ndownloads: {offline: true}\n")
    assert "Nothing to be done" in snakemake(folder, target, LCT_MIRROR="http://127.0.0.1:1").stdout
    offline = snakemake(folder, "--force", target)
    assert offline.returncode == 0, "all in place: nothing is asked for"


# --- the table --------------------------------------------------------------------------------------------------------
def table(show: Callable[[str], None] = print) -> None:
    """Every fault as a row of a Markdown table."""
    show("| fault | message | state after | good run after it |\n| --- | --- | --- | --- |")
    for case in FAULTS:
        with tempfile.TemporaryDirectory() as folder, serve({NAME: CONTENT}) as site:
            message, left, good = play(case, Bench(Path(folder), site))
        message = message.replace(folder, "").replace(str(site), "http://host") or "survived"
        message = message.partition(f"{NAME}: {NAME}: ")[2].partition("; then the same command")[0] or message
        show(f"| {case.title} | {message} | {', '.join(left) or 'nothing left'} | {'yes' if good else 'NO'} |")


if __name__ == "__main__":
    table()


@pytest.mark.parametrize("address", ["http://[", "ftp://example.org/a", "https://"])
def test_an_address_that_is_none_is_refused_in_one_line(address):
    with pytest.raises(ValueError, match="a.bin: url: expected http"):
        RemoteFile(path="a.bin", url=address)
    with pytest.raises(ValueError, match="downloads.mirror: expected http"):
        Downloads(mirror=address)
