"""Zip and tar archives of unknown origin, listed, read and unpacked without trusting them.

A member must be a plain file or folder whose name stays inside the archive's own folder and collides with no other,
not even on a file system that ignores case or normalises Unicode. Links, devices, encrypted members, and archives
that hold more than the declared limits are refused from the listing alone, before anything is written. What an
archive is, its first bytes say, not its name.
"""

import gzip
import lzma
import os
import re
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from pydantic import PositiveInt

from lct.checks import invalid, require
from lct.files.atomic import atomic_folder, require_space
from lct.files.file_type import describe

_MAGIC = {  # first bytes -> how tarfile opens what follows them; None: a zip
    b"PK\x03\x04": None,
    b"PK\x05\x06": None,
    b"\x1f\x8b": "gz",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zst",
}
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError)
_ZIP_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_OTHER_METHODS = {9: "Deflate64, of Windows Explorer", 93: "Zstandard", 95: "XZ", 98: "PPMd"}
_UNREAD = {b"Rar!": "a RAR archive", b"7z\xbc\xaf": "a 7z archive"}
_BLOCK = 512  # bytes of a tar block
_JOIN = "it is a part of an archive in several files: join them first (`zip -s 0`, or `cat` of all parts in order)"
_PADDING = 2**24  # bytes that may follow the end mark of a tar


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an archive may hold. The defaults leave room for a million photographs."""

    members: PositiveInt = 2_000_000  # files and folders
    total_bytes: PositiveInt = 2**41  # size of all files, unpacked
    ratio: PositiveInt = 200  # unpacked size divided by the archive's; images hardly compress


class Member(NamedTuple):
    """A file of an archive; before it is checked, what the listing says of any member."""

    name: str  # relative, with /
    size: int  # bytes, unpacked
    key: int  # its place: index in a zip's listing, offset of the content in a tar
    type: str = "file"  # or "folder", or in words what is refused


class Archive(AbstractContextManager):
    """An opened archive: `members` in the archive's order; `read` where it gives single files, `stream` always."""

    def __init__(self, path: Path | str, limits: Limits | None = None):
        self.path, self.size = Path(path), os.path.getsize(path)
        self.compression = _compression(self.path)
        self.random_access = self.compression in (None, "")  # zip or plain tar: any member at any time
        self._file = open(self.path, "rb")  # noqa: SIM115 lives as long as this object
        self._zip: zipfile.ZipFile | None = None
        try:
            with naming_damage(self.path):
                if self.compression is None:
                    self._zip = zipfile.ZipFile(self._file)
                entries = self._zip_entries() if self._zip else self._tar_entries()
                self.members = _checked(self.path, entries, limits or Limits(), self.size)
        except BaseException:
            self.close()
            raise

    def read(self, member: Member) -> bytes:
        """One member's content; from any thread. Not for compressed tars."""
        with naming_damage(self.path, member.name):
            if self._zip:
                return self._zip.read(self._zip.infolist()[member.key])
            content = os.pread(self._file.fileno(), member.size, member.key)
            if len(content) != member.size:
                raise EOFError(f"{len(content)} of {member.size} bytes")
            return content

    def stream(self) -> Iterator[tuple[Member, IO[bytes]]]:
        """Every member with its content as a file, in the archive's order; read it before the next is asked for, inside
        `naming_damage`."""
        if self._zip:
            for member in self.members:
                with naming_damage(self.path, member.name):
                    handle = self._zip.open(self._zip.infolist()[member.key])
                with handle:
                    yield member, handle
            return
        members = {member.key: member for member in self.members}
        with self._tar() as tar:
            for info in self._infos(tar):
                if info.isreg() and (member := members.get(info.offset_data)):
                    yield member, tar.extractfile(info)

    def _zip_entries(self) -> Iterator[Member]:
        types = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "a symbolic link"}
        first = min((info.header_offset for info in self._zip.infolist()), default=0)
        if first < 0:
            raise zipfile.BadZipFile(f"{-first} bytes too few in front of its listing")
        if first:  # the file starts as a zip does, but this listing begins further behind
            raise zipfile.BadZipFile(f"another archive of {first} bytes in front, as in joined files")
        for index, info in enumerate(self._zip.infolist()):
            type_ = types.get(stat.S_IFMT(info.external_attr >> 16), "a device")
            type_ = "folder" if type_ == "file" and info.is_dir() else type_
            type_ = "an encrypted file" if info.flag_bits & 1 else type_
            if info.compress_type not in _ZIP_METHODS:
                method = _OTHER_METHODS.get(info.compress_type, "unknown")
                type_ = f"compression method {info.compress_type} ({method}), which Python does not read"
            # orig_filename: zipfile itself cuts names at a zero byte
            yield Member(info.orig_filename, info.file_size, index, type_)

    def _tar_entries(self) -> Iterator[Member]:
        types = {tarfile.DIRTYPE: "folder", tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a hard link"}
        with self._tar() as tar:
            for info in self._infos(tar):
                type_ = "file" if info.isreg() else types.get(info.type, "a device")
                yield Member(info.name, info.size, info.offset_data, "a sparse file" if info.issparse() else type_)
            # tarfile takes damage or an end between two members for the end; the end mark is two blocks of zeros
            if not self.compression:
                tar.fileobj.seek(tar.offset)
            after = tar.fileobj.read(_BLOCK)
            if any(after) or not (self.compression or after):
                raise tarfile.ReadError("no end mark")
            padding = 0
            while rest := tar.fileobj.read(2**20):  # the checksum of a compressed one comes last
                if rest.count(0) != len(rest):
                    raise tarfile.ReadError("more behind the end mark than padding, as in joined archives")
                padding += len(rest)
                if padding > _PADDING:
                    raise tarfile.ReadError("more behind the end mark than padding")

    def _tar(self) -> tarfile.TarFile:
        readable = self.compression in ("", *tarfile.TarFile.OPEN_METH)
        advice = "use Python 3.14, or unpack it yourself"
        require(readable, self.path, "a compression that Python reads", self.compression, advice)
        return tarfile.open(self.path, f"r:{self.compression}")

    def _infos(self, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        while True:
            with naming_damage(self.path):
                info = tar.next()
            if info is None:
                return
            yield info
            tar.members = []  # a million of them would take a gigabyte

    def close(self) -> None:
        self._file.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def is_archive(path: Path | str) -> bool:
    """Whether the first bytes of a file are those of a zip or tar."""
    try:
        _compression(Path(path))
    except ValueError:
        return False
    return True


def has_listing(path: Path | str) -> bool:
    """Whether an archive's members are listed without a pass over its content: a zip, or an uncompressed tar."""
    return _compression(Path(path)) in (None, "")


def extract(path: Path | str, into: Path | str, limits: Limits | None = None) -> Path:
    """Unpack an archive into the new folder `into`; one that holds all members already, with their sizes, is kept.

    It appears whole or not at all, so whatever interrupts this, doing it again is all that is needed."""
    into = Path(into)
    with Archive(path, limits) as archive:
        if into.is_dir():
            sizes = {path.relative_to(into).as_posix(): path.lstat().st_size for path in into.rglob("*")}
            if all(sizes.get(member.name) == member.size for member in archive.members):
                return into
            shutil.rmtree(into)
        require_space(into.parent, sum(member.size for member in archive.members), f"{into}: unpacked files")
        with atomic_folder(into) as partial:
            for member, content in archive.stream():
                place = partial / member.name
                place.parent.mkdir(parents=True, exist_ok=True)
                with open(place, "xb") as handle, naming_damage(path, member.name):
                    shutil.copyfileobj(content, handle, 2**20)
                    os.fsync(handle.fileno())
                where, size = f"{path}: member {member.name!r}", place.stat().st_size
                require(size == member.size, where, f"{member.size} bytes", size, "it is damaged: get it again")
    return into


def _compression(path: Path) -> str | None:
    """None: a zip; "", "gz", ...: a tar, so compressed. Raises ValueError for anything else."""
    with open(path, "rb") as handle:
        start = handle.read(_BLOCK)
    for magic, compression in _MAGIC.items():
        if start.startswith(magic):
            return compression
    if start[257:262] == b"ustar":
        return ""
    if other := _UNREAD.get(start[:4]):
        raise ValueError(f"{path}: expected a zip or tar archive, found {other}; unpack it yourself")
    remedy = _JOIN if _is_part(path) else "get it again"
    raise ValueError(f"{path}: expected a zip or tar archive, found {describe(start)}; {remedy}")


def _is_part(path: Path) -> bool:
    """Whether a file is named, or accompanied, as one part of an archive in several."""
    return bool(re.search(r"\.(z\d{2}|\d{3})$", path.name)) or path.with_suffix(".z01").exists()


def _checked(path: Path, entries: Iterable[Member], limits: Limits, size: int) -> list[Member]:
    """The files among `entries`; ValueError at the first one that is refused."""
    members: list[Member] = []
    places: dict[str, tuple[str, bool]] = {}  # folded name -> name, and whether it is a folder
    total = 0
    for number, entry in enumerate(entries, start=1):
        if fault := _fault(entry):
            raise _refused(path, entry.name, fault)
        total += entry.size
        for what, amount, most in (
            ("files and folders", number, limits.members),
            ("bytes unpacked", total, limits.total_bytes),
            ("times its own size unpacked", total // max(1, size), limits.ratio),
        ):
            if amount > most:
                raise invalid(path, f"at most {most} {what}", f"{amount} or more", "if you trust it, raise `limits`")
        parts = [part for part in entry.name.split("/") if part not in ("", ".")]  # none: ./, which tars list
        for depth in range(1, len(parts) + 1):
            place = ("/".join(parts[:depth]), depth < len(parts) or entry.type == "folder")
            name = unicodedata.normalize("NFC", place[0]).casefold()
            other = places.setdefault(unicodedata.normalize("NFC", name), place)  # what some file system takes for it
            if other is not place and (other != place or entry.type == "file" and depth == len(parts)):
                raise _refused(path, entry.name, f"a name that another member has, {other[0]!r}")
        if parts and entry.type == "file":
            members.append(entry._replace(name=place[0]))
    return members


def _refused(path: Path, name: str, fault: str) -> ValueError:
    return ValueError(
        f"{path}: member {name!r}: expected a plain file with its own name, found {fault}; the archive is not safe to "
        "unpack: get it from its publisher, or unpack what you trust yourself"
    )


def _fault(entry: Member) -> str | None:
    """Why a member is refused whatever else is in the archive; None when it is not."""
    name, control = entry.name, "an empty name, or one with control characters or bytes that are not Unicode"
    faults = {
        entry.type: entry.type not in ("file", "folder"),
        "an absolute path": name.startswith("/"),
        "a backslash": "\\" in name,
        "a drive letter": re.match(r"[A-Za-z]:", name),
        "a path that leaves its folder": ".." in name.split("/"),
        control: not name or any(unicodedata.category(character) in ("Cc", "Cs") for character in name),
    }
    return next((fault for fault, holds in faults.items() if holds), None)


@contextmanager
def naming_damage(path: Path | str, member: str | None = None) -> Iterator[None]:
    """Turn what the libraries say about broken archives into one line; a full disk or a missing file stays as it is."""
    try:
        yield
    except (*_BROKEN, NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile) and error.errno is not None:
            raise
        inside = f": member {member!r}" if member else ""
        remedy = _JOIN if _is_part(Path(path)) else "it may be cut off: delete it and get it again"
        damage = f"damage ({str(error) or type(error).__name__})"
        raise invalid(f"{path}{inside}", "a whole archive", damage, remedy) from error
