"""Archives of unknown origin: what is read and unpacked, what is refused, and what is left behind when it fails."""

import bz2
import gzip
import io
import lzma
import os
import resource
import stat
import subprocess
import sys
import tarfile
import zipfile
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from lct.files.zip_tar import Archive, Limits, extract, is_archive

FILES = {"a.txt": b"first", "deep/er/ü.bin": bytes(range(256)) * 40, "deep/empty": b""}
COMPRESS = {"tar": bytes, "tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}


def make_zip(path, files, **entry):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files:
            info = zipfile.ZipInfo(name)
            info.compress_type = entry.get("compress_type", zipfile.ZIP_DEFLATED)
            info.external_attr = entry.get("mode", 0) << 16
            archive.writestr(info, content)
    return path


def make_tar(path, members):
    """members: (TarInfo or name, content)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, content in members:
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    path.write_bytes(COMPRESS[path.name.partition(".")[2]](buffer.getvalue()))
    return path


def make(path, files=FILES):
    return make_zip(path, files.items()) if path.suffix == ".zip" else make_tar(path, files.items())


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def assert_refused(path, into, match, limits=None):
    """Refused in one line, with nothing left beside the archive."""
    before = sorted(os.listdir(into.parent))
    with pytest.raises(ValueError, match=match) as error:
        extract(path, into, limits)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    assert sorted(os.listdir(into.parent)) == before


KINDS = ["zip", *COMPRESS]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_listed_read_and_unpacked(tmp_path, kind):
    path = make(tmp_path / f"x.{kind}").rename(tmp_path / "any-name")
    with Archive(path) as archive:
        assert {member.name: member.size for member in archive.members} == {k: len(v) for k, v in FILES.items()}
        assert {member.name: handle.read() for member, handle in archive.stream()} == FILES
        assert archive.random_access == (kind in ("zip", "tar"))
        if archive.random_access:
            assert {member.name: archive.read(member) for member in archive.members} == FILES
    assert content(extract(path, tmp_path / "out")) == FILES


def test_unpacking_again_keeps_what_is_whole_and_repairs_what_is_not(tmp_path):
    path = make(tmp_path / "x.zip")
    out = extract(path, tmp_path / "out")
    kept = (out / "a.txt").stat().st_mtime_ns
    assert (extract(path, out) / "a.txt").stat().st_mtime_ns == kept
    (out / "a.txt").write_bytes(b"cut")
    assert content(extract(path, out)) == FILES


def test_a_tar_with_folders_and_a_leading_dot_is_plain(tmp_path):
    folder = tarfile.TarInfo("./")
    folder.type = tarfile.DIRTYPE
    inner = tarfile.TarInfo("./d")
    inner.type = tarfile.DIRTYPE
    path = make_tar(tmp_path / "x.tar", [(folder, b""), (inner, b""), ("./d/a", b"1")])
    assert content(extract(path, tmp_path / "out")) == {"d/a": b"1"}


ESCAPES = [
    ("/etc/x", "an absolute path"),
    ("../x", "leaves its folder"),
    ("a/../../x", "leaves its folder"),
    ("a/..", "leaves its folder"),
    ("C:/x", "a drive letter"),
    ("c:x", "a drive letter"),
    ("a\\..\\x", "a backslash"),
    ("\\\\host\\x", "a backslash"),
    ("a\nb", "control characters"),
]


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize(("name", "message"), ESCAPES)
def test_names_that_leave_the_folder_are_refused(tmp_path, kind, name, message):
    assert_refused(make(tmp_path / f"x.{kind}", {"fine": b"1", name: b"2"}), tmp_path / "out", message)


def test_a_name_behind_a_zero_byte_is_seen(tmp_path):
    path = make_zip(tmp_path / "x.zip", [("a_../x", b"1")])
    path.write_bytes(path.read_bytes().replace(b"a_../x", b"a\0../x"))
    assert_refused(path, tmp_path / "out", "leaves its folder|control characters")


TWINS = [
    ("a/b", "a/b"),
    ("a/b", "A/b"),
    ("a/x", "A/y"),
    ("straße", "STRASSE"),
    ("u\u0308", "\u00fc"),
    ("a", "./a"),
    ("a", "a/b"),
    ("a/b", "a"),
]


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("names", TWINS, ids=ascii)
def test_names_that_some_file_system_takes_for_one_are_refused(tmp_path, kind, names):
    members = [(name, b"1") for name in names]
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        with pytest.warns(UserWarning) if names[0] == names[1] else nullcontext():
            make_zip(path, members)
    else:
        make_tar(path, members)
    assert_refused(path, tmp_path / "out", "expected a plain file with its own name")


def special(kind, name="x", target="a"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a device"),
    ],
)
def test_links_and_devices_in_tars_are_refused(tmp_path, kind, message):
    assert_refused(make_tar(tmp_path / "x.tar", [("a", b"1"), (special(kind), b"")]), tmp_path / "out", message)


@pytest.mark.parametrize(("mode", "message"), [(stat.S_IFLNK, "a symbolic link"), (stat.S_IFCHR, "a device")])
def test_links_and_devices_in_zips_are_refused(tmp_path, mode, message):
    assert_refused(make_zip(tmp_path / "x.zip", [("a", b"/etc")], mode=mode | 0o777), tmp_path / "out", message)


def test_encrypted_members_are_refused(tmp_path):
    path = make_zip(tmp_path / "x.zip", [("a", b"secret")])
    whole = bytearray(path.read_bytes())
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        whole[whole.index(magic) + at] |= 1
    path.write_bytes(whole)
    assert_refused(path, tmp_path / "out", "an encrypted file")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(members=2), "at most 2 files and folders, found 3"),
        (Limits(total_bytes=10_000), "at most 10000 bytes unpacked"),
        (Limits(ratio=2), "at most 2 times its own size"),
    ],
)
def test_more_than_the_limits_is_refused_before_anything_is_written(tmp_path, kind, limits, message):
    assert_refused(make(tmp_path / f"x.{kind}"), tmp_path / "out", message, limits)


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz"])
def test_a_bomb_is_refused(tmp_path, kind):
    path = make(tmp_path / f"x.{kind}", {"zeros": bytes(30_000_000)})
    assert path.stat().st_size < 60_000
    assert_refused(path, tmp_path / "out", "at most 200 times its own size")


def test_a_size_that_lies_is_noticed(tmp_path):
    path = make_zip(tmp_path / "x.zip", [("a", b"x" * 1000)])
    whole = bytearray(path.read_bytes())
    entry = whole.index(b"PK\x01\x02")
    whole[entry + 24 : entry + 28] = (10).to_bytes(4, "little")
    path.write_bytes(whole)
    assert_refused(path, tmp_path / "out", "member 'a': expected a whole archive, found damage")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tenth", range(10))
def test_every_truncation_is_noticed_and_the_whole_archive_then_works(tmp_path, kind, tenth):
    path = make(tmp_path / f"x.{kind}", {f"{i}": os.urandom(9000) for i in range(8)})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * tenth // 10])
    assert_refused(path, tmp_path / "out", "expected a whole archive, found damage|found an empty file")
    path.write_bytes(whole)
    assert len(content(extract(path, tmp_path / "out"))) == 8


def test_a_tar_cut_between_two_members_is_noticed(tmp_path):
    path = make_tar(tmp_path / "x.tar", [("a", b"1" * 512), ("b", b"2" * 512)])
    path.write_bytes(path.read_bytes()[:1024])
    assert_refused(path, tmp_path / "out", "no end mark")


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz"])
def test_changed_bytes_inside_are_noticed(tmp_path, kind):
    path = make(tmp_path / f"x.{kind}", {"a": os.urandom(20_000)})
    whole = bytearray(path.read_bytes())
    whole[10_000] ^= 0xFF
    path.write_bytes(whole)
    assert_refused(path, tmp_path / "out", "found damage")


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"<!DOCTYPE html><html>quota exceeded</html>", "a web page"),
        (b"\n<html>", "a web page"),
        (b"", "an empty file"),
        (b"Rar!\x1a\x07\x00", "a RAR archive; unpack it yourself"),
        (b"7z\xbc\xaf'\x1c", "a 7z archive; unpack it yourself"),
    ],
)
def test_what_is_no_archive_is_described(tmp_path, start, message):
    (tmp_path / "x.zip").write_bytes(start)
    assert not is_archive(tmp_path / "x.zip")
    assert_refused(tmp_path / "x.zip", tmp_path / "out", message)


def test_parts_of_an_archive_in_several_files_are_to_be_joined(tmp_path):
    whole = make(tmp_path / "whole.zip").read_bytes()
    for name, content in (("x.zip.001", whole[:100]), ("x.z01", whole[:100]), ("x.zip", whole[100:])):
        (tmp_path / name).write_bytes(content)
    for name in ("x.zip.001", "x.z01", "x.zip"):
        assert_refused(tmp_path / name, tmp_path / "out", "a part of an archive in several files: join them first")
    (tmp_path / "x.z01").rename(tmp_path / "y")
    assert_refused(tmp_path / "x.zip", tmp_path / "out", "get it again")


def test_a_compression_that_python_lacks_is_named(tmp_path, monkeypatch):
    monkeypatch.delitem(tarfile.TarFile.OPEN_METH, "zst", raising=False)
    (tmp_path / "x.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(600))
    assert_refused(tmp_path / "x.tar.zst", tmp_path / "out", "found zst; use Python 3.14")


def test_too_little_space_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=50))
    with pytest.raises(OSError, match="out: unpacked files: expected 10.2 kB of free space in .*, found 50 bytes"):
        extract(make(tmp_path / "x.zip"), tmp_path / "out")
    monkeypatch.undo()
    assert content(extract(tmp_path / "x.zip", tmp_path / "out")) == FILES


def test_a_disk_that_fills_up_leaves_nothing_and_the_next_attempt_succeeds(tmp_path):
    path = make(tmp_path / "x.zip", {"a": b"1", "large": os.urandom(100_000)})
    program = (
        "import resource, sys; from lct.files.zip_tar import extract; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); extract(sys.argv[1], sys.argv[2])"
    )
    command = [sys.executable, "-c", program, str(path), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and "expected a writable place, found: File too large" in last
    assert os.listdir(tmp_path) == ["x.zip"]
    assert len(content(extract(path, tmp_path / "out"))) == 2


def test_what_a_killed_process_left_is_removed(tmp_path):
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left = tmp_path / f".out.{os.uname().nodename}-{int(done.stdout)}.partial"
    left.mkdir()
    (left / "half").write_text("x")
    extract(make(tmp_path / "x.zip"), tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["out", "x.zip"]


def test_listing_many_members_takes_little_memory(tmp_path):
    header = tarfile.TarInfo("x")
    path = tmp_path / "x.tar"
    with open(path, "wb") as handle:
        for i in range(20_000):
            header.name = f"{i % 100}/{i}.png"
            handle.write(header.tobuf(tarfile.USTAR_FORMAT))
        handle.write(bytes(1024))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Archive(path) as archive:
        assert len(archive.members) == 20_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000  # kB


# --- what lies beside the first listing -------------------------------------------------------------------------------
@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_second_archive_behind_the_first_is_not_passed_over(tmp_path, ending):
    path = make(tmp_path / f"x.{ending}")
    path.write_bytes(path.read_bytes() + make(tmp_path / f"y.{ending}", {"b.txt": b"second"}).read_bytes())
    assert_refused(path, tmp_path / "out", "more behind the end mark than padding, as in joined archives")


def test_a_zip_behind_another_one_is_not_taken_for_the_whole(tmp_path):
    path, other = make(tmp_path / "x.zip"), make(tmp_path / "y.zip", {"b.txt": b"second"})
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + other.read_bytes())
    assert_refused(path, tmp_path / "out", f"another archive of {size} bytes in front")


def test_compression_that_python_does_not_read_is_refused_once_by_name(tmp_path):
    path = make(tmp_path / "x.zip", {"a.txt": b"first" * 99, "b.txt": b"second" * 99})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = content.find(signature)
        content[at + offset] = 9
    path.write_bytes(content)
    assert_refused(
        path, tmp_path / "out", "a.txt.* compression method 9 .Deflate64, of Windows Explorer., which Python"
    )
