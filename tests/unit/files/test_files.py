"""lct/files: atomic outputs, records, locks."""

import errno
import hashlib
import json
import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lct.files.atomic import atomic, read_json, write_bytes, write_json
from lct.files.file_type import describe, is_html
from lct.files.git import checkout_fault, git_state, run_git
from lct.files.hashing import canonical_json, hash_file, sha256_file
from lct.files.lock import LockHeldError, acquire, hold
from lct.files.progress import ProgressLogger
from lct.files.records import JobRecord, mismatch, run_path, settings_path
from lct.files.tensors import pick_rows, read_metadata, read_rows, read_tensors, stream_tensor, write_tensors


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path):
    path = tmp_path / "out.txt"
    write_bytes(path, b"old")
    with pytest.raises(RuntimeError, match="midway"), atomic(path) as partial:
        partial.write_bytes(b"half")
        raise RuntimeError("midway")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.txt"]


def test_what_a_killed_writer_left_is_removed(tmp_path):
    out = tmp_path / "out.txt"
    program = (
        "import os; from lct.files.atomic import atomic\n"
        f"with atomic({str(out)!r}) as partial: partial.write_bytes(b'half'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert len(os.listdir(tmp_path)) == 1 and not out.exists()
    write_bytes(out, b"new")
    assert os.listdir(tmp_path) == ["out.txt"]


def test_two_writers_never_publish_each_others_halves(tmp_path):
    out = tmp_path / "out.txt"
    program = (
        "import sys; from lct.files.atomic import atomic\n"
        f"with atomic({str(out)!r}) as partial:\n"
        "    partial.write_bytes(b'other, first half'); print('half', flush=True); sys.stdin.readline()\n"
        "    partial.write_bytes(b'other, whole')"
    )
    other = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "half\n"
    write_bytes(out, b"mine, whole")
    assert out.read_bytes() == b"mine, whole"
    other.communicate("go on\n", timeout=30)
    assert other.returncode == 0 and out.read_bytes() == b"other, whole"
    assert os.listdir(tmp_path) == ["out.txt"]


def test_a_full_disk_ends_in_one_line_that_says_what_to_do(tmp_path):
    with pytest.raises(
        OSError, match=r"out\.bin: expected a writable place, found: No space left.*free space"
    ) as caught:
        with atomic(tmp_path / "out.bin"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == []


def test_so_does_a_lock_that_cannot_be_written(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # what an ordinary user can have of a full disk
    try:
        with pytest.raises(OSError, match=r"lock: expected a writable place, found: File too large.*free space"):
            acquire(tmp_path / "lock", "training")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    acquire(tmp_path / "lock", "training").close()


def test_an_unwritable_folder_ends_in_one_line(tmp_path):
    """As an ordinary user, whom file modes stop; root would pass them."""
    tmp_path.chmod(0o755)
    program = (
        "import os, sys; sys.path.insert(0, os.getcwd());\n"
        "from lct.files.atomic import write_bytes\n"
        f"os.setuid(65534) if os.getuid() == 0 else None\n"
        f"try: write_bytes({str(tmp_path / 'locked' / 'x')!r}, b'x')\n"
        "except OSError as error: print(error)\n"
    )
    (tmp_path / "locked").mkdir(mode=0o555)
    for parent in [tmp_path, *tmp_path.parents]:
        if parent.owner() == "root" and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055) if str(parent).startswith("/tmp/") else None
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "expected a writable place, found: Permission denied" in done.stdout
    assert os.listdir(tmp_path / "locked") == []


def test_equal_json_values_give_equal_bytes(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, None]})
    write_json(tmp_path / "b.json", {"a": [1.5, None], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert canonical_json({"b": 1, "a": 2}) == '{"a":2,"b":1}'


def test_numbers_that_json_has_not_are_words_that_python_reads(tmp_path):
    values = [math.inf, -math.inf, math.nan, 1.5]
    write_json(tmp_path / "a.json", {"psnr": values[0], "more": [{"values": tuple(values)}], "not": True})
    strict = json.loads((tmp_path / "a.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert strict == {"psnr": "Infinity", "more": [{"values": ["Infinity", "-Infinity", "NaN", 1.5]}], "not": True}
    assert [float(word) for word in strict["more"][0]["values"][:2]] == values[:2]


def test_truncated_json_is_named_with_a_command_that_works_where_it_is_pasted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    for name, remedy in (
        ("results/a b's.json", "make it again: snakemake --force 'results/a b'\"'\"'s.json'"),
        ("x.json", "correct it, or copy it here again"),  # no job writes it
    ):
        (tmp_path / name).write_text('{"a": ')
        for path in (tmp_path / name, Path(name)):
            with pytest.raises(ValueError, match=r"s?\.json: expected JSON, found damage") as caught:
                read_json(path)
            assert str(caught.value).endswith(f"; {remedy}")


def test_tensors_come_back_and_their_file_does_not_depend_on_order(tmp_path):
    tensors = {"b": torch.arange(6.0).view(2, 3).T, "a": torch.ones(2, dtype=torch.float64)}
    write_tensors(tmp_path / "one", tensors, {"z": 1, "a": 2})
    write_tensors(tmp_path / "two", dict(reversed(tensors.items())), {"a": 2, "z": 1})
    assert sha256_file(tmp_path / "one") == sha256_file(tmp_path / "two")
    back = read_tensors(tmp_path / "one")
    assert torch.equal(back["b"], tensors["b"]) and back["a"].dtype == torch.float64
    assert read_metadata(tmp_path / "one") == {"a": 2, "z": 1}


@pytest.mark.parametrize("kept", [0, 4, 20, 60])
def test_a_truncated_tensor_file_is_named(tmp_path, kept):
    write_tensors(tmp_path / "x.safetensors", {"a": torch.ones(64)})
    whole = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(whole[:kept])
    with pytest.raises(ValueError, match=r"x\.safetensors: expected a whole safetensors file, found damage"):
        read_tensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8])
@pytest.mark.parametrize("metadata", [{}, {"a": [1, 2.5], "b": 'µ"\\\n\u2028'}, *({"k": "x" * n} for n in range(8))])
def test_a_streamed_tensor_has_the_bytes_of_a_whole_one(tmp_path, dtype, metadata):
    whole = (100 * torch.rand(7, 4, 3, 3, generator=torch.Generator().manual_seed(0))).to(dtype)
    write_tensors(tmp_path / "whole", {"latents": whole}, metadata)
    for sizes in ([7], [1, 0, 6], [3, 3, 1]):
        stream_tensor(tmp_path / "streamed", "latents", iter(whole.split(sizes)), whole.shape, dtype, metadata)
        assert (tmp_path / "streamed").read_bytes() == (tmp_path / "whole").read_bytes()
    assert torch.equal(torch.cat(list(read_rows(tmp_path / "streamed", "latents", 3))), whole)
    assert torch.equal(pick_rows(tmp_path / "streamed", "latents", [6, 0, 3]), whole[[6, 0, 3]])
    assert [len(part) for part in read_rows(tmp_path / "streamed", "latents", 3)] == [3, 3, 1]


@pytest.mark.parametrize(
    ("parts", "found"), [([(2, 3)], "found 2"), ([(4, 3), (3, 3)], "found 7"), ([(5, 2)], "found torch.Size")]
)
def test_parts_that_do_not_add_up_leave_nothing(tmp_path, parts, found):
    with pytest.raises(ValueError, match=f"x.safetensors: expected .*{found}"):
        stream_tensor(tmp_path / "x.safetensors", "latents", (torch.zeros(shape) for shape in parts), (5, 3))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("write", ["whole", "streamed"])
def test_a_full_disk_is_an_error_of_the_system_for_tensors_too(tmp_path, write):
    """As far as an ordinary user can fill a disk: a limit on the size of files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match="x.safetensors: expected a writable place, found: File too large") as error:
            if write == "whole":
                write_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(10_000)})
            else:
                stream_tensor(tmp_path / "x.safetensors", "a", [torch.zeros(10_000)], (10_000,))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.errno == errno.EFBIG and os.listdir(tmp_path) == []


def test_a_second_holder_is_refused_and_told_who_holds(tmp_path):
    handle = acquire(tmp_path / "lock", "training")
    with pytest.raises(LockHeldError, match=rf"expected no other training, found one \(process {os.getpid()} on "):
        acquire(tmp_path / "lock", "training")
    handle.close()
    with hold(tmp_path / "lock", "training"):
        assert (tmp_path / "lock").exists()


def test_a_lock_dies_with_its_process(tmp_path):
    lock = tmp_path / "lock"
    program = f"import os; from lct.files.lock import acquire; h = acquire({str(lock)!r}, 'x'); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -9
    acquire(lock, "x").close()


def test_records_say_what_was_asked_and_what_happened(tmp_path):
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("in")
    output.write_text("out")
    JobRecord("stage", {"recipe": 1, "a": 2}, inputs={"source": source}, seeds={"train": 3}).write([output])
    settings, run = json.loads(settings_path(output).read_text()), json.loads(run_path(output).read_text())
    assert settings["settings"] == {"recipe": 1, "a": 2} and settings["seeds"] == {"train": 3}
    assert settings["inputs"]["source"]["sha256"] == sha256_file(source)
    assert run["output"]["sha256"] == sha256_file(output)
    assert {"git", "host", "packages", "seconds", "peak_memory_bytes", "environment_lock_sha256"} <= run.keys()


def test_settings_records_are_deterministic(tmp_path):
    (tmp_path / "in").write_text("in")
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        JobRecord("stage", {"recipe": 1}, inputs={"source": tmp_path / "in"}).write([tmp_path / name])
        contents.append(settings_path(tmp_path / name).read_bytes())
    assert contents[0] == contents[1]


def test_a_changed_output_no_longer_agrees_with_its_record(tmp_path):
    output = tmp_path / "out.txt"
    output.write_text("good")
    JobRecord("stage", {"recipe": 1}, inputs={}).write([output])
    assert mismatch(output) is None
    output.write_text("evil")
    assert "expected sha256" in mismatch(output)
    output.write_text("longer")
    assert "expected 4 bytes, found 6" in mismatch(output)
    output.unlink()
    assert "recorded, but missing" in mismatch(output)


def test_a_file_is_hashed_in_one_pass(tmp_path):
    content = bytes(range(256)) * 9000  # more than one block
    (tmp_path / "x").write_bytes(content)
    size, sha256, md5 = hash_file(tmp_path / "x")
    assert (size, sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert md5 == hashlib.md5(content).hexdigest() and sha256 == sha256_file(tmp_path / "x")


def test_a_machine_without_git_has_no_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_git(tmp_path, "status").returncode == 127
    assert checkout_fault(tmp_path) and git_state(tmp_path) is None


def test_web_pages_are_known_by_their_first_bytes():
    assert is_html(b"\xef\xbb\xbf\n <!DOCTYPE HTML>") and not is_html(b"<?xml version='1.0'?>")
    assert "empty" in describe(b"") and "web page" in describe(b"<?xml") and "52 61 72" in describe(b"Rar!")


def test_progress_is_logged_at_the_end_with_rate_and_remaining_time(caplog):
    caplog.set_level("INFO")
    progress = ProgressLogger("work", 10, done=5, every_seconds=60)
    progress(7)
    assert caplog.messages == []
    progress(10)
    assert caplog.messages[0].startswith("work done=10 total=10 rate=") and caplog.messages[0].endswith("eta=0:00")
    unknown = ProgressLogger("more", None, every_seconds=0)
    unknown(3)
    assert caplog.messages[1].startswith("more done=3 rate=") and "eta" not in caplog.messages[1]
