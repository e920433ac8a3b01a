"""Outputs appear whole or not at all: write beside, fsync, rename."""

import errno
import functools
import glob
import io
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lct.files.advice import make_again
from lct.files.formatting import format_size, plain_numbers

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
_UMASK = os.umask(0o022)  # the only way to read it is to set it
os.umask(_UMASK)


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on any failure it is removed.

    The temporary name belongs to this process, so that two writers never publish each other's halves; what dead
    processes left beside `path` is removed. Raises OSError with a line that says what to do when the directory is full
    or not writable.
    """
    path = Path(path)
    with _beside(path) as partial:
        yield partial
        os.chmod(partial, 0o666 & ~_UMASK)  # safetensors writes files that nobody else may read
        publish(partial, path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises OSError with a line that says what to do where `path` cannot be written, as on a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        raise OSError(
            error.errno,
            f"{path}: expected a writable place, found: {os.strerror(error.errno)}; "
            "nothing was left half-written: free space or fix the permissions, then run the same command again",
        ) from error


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    partial = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.partial")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(path)
            yield partial
        except BaseException:
            _remove(partial)
            raise


def publish(partial: Path, path: Path) -> None:
    """Give a finished file, whose bytes then really are on the disk, its final name."""
    with open(partial, "rb") as written:
        os.fsync(written.fileno())
    os.replace(partial, path)
    _sync_directory(path.parent)


def _remove_leftovers(path: Path) -> None:
    """Remove partial files of `path` whose writer, on this host, is dead; other hosts' are left to them."""
    prefix, suffix = f".{path.name}.{platform.node()}-", ".partial"
    for leftover in path.parent.glob(f"{glob.escape(prefix)}*{suffix}"):
        writer = leftover.name.removeprefix(prefix).removesuffix(suffix)
        if writer.isdigit() and not _alive(int(writer)):
            _remove(leftover)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return error.errno == errno.EPERM  # somebody else's
    return True


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path | str, content: str) -> None:
    """Write `content` to `path` atomically, as UTF-8 with its own line ends."""
    write_bytes(path, content.encode())


def copy(source: Path | str, path: Path | str) -> None:
    """Copy a file atomically."""
    with atomic(path) as partial:
        shutil.copyfile(source, partial)


def link_or_copy(source: Path, path: Path) -> None:
    """Another name for a file's bytes on the same file system, a copy of them elsewhere. Atomic."""
    path.parent.mkdir(parents=True, exist_ok=True)
    link = path.with_name(f".{path.name}.link")
    try:
        link.unlink(missing_ok=True)
        os.link(source, link)
    except OSError:
        copy(source, path)
    else:
        publish(link, path)


def write_fully(file: io.RawIOBase, content: bytes | memoryview) -> None:
    """Write all of `content` to an unbuffered file, which may take less than all at a time."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def require_space(folder: Path, size: int, what: str) -> None:
    """OSError with one line when the file system of `folder` has not `size` bytes left."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(
            errno.ENOSPC,
            f"{what}: expected {format_size(size)} of free space in {folder}, found {format_size(free)}; "
            "free space, then run the same command again",
        )


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys: equal values give equal bytes."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """What `write_json` writes: JSON as every reader takes it, numbers that are not finite as words."""
    write = functools.partial(json.dumps, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    try:
        return write(value) + "\n"
    except ValueError:
        return write(plain_numbers(value)) + "\n"


def read_json(path: Path | str, hint: str = "") -> Any:
    """The JSON in `path`; raises ValueError naming the file when it is missing, truncated or not JSON."""
    try:
        with open(path, "rb") as file:
            return json.loads(file.read())
    except FileNotFoundError as error:
        raise ValueError(f"{path}: expected a JSON file, found nothing; {hint or make_again(path)}") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: expected JSON, found damage ({error}); {hint or make_again(path)}") from error


def read_json_or_empty(path: Path | str) -> dict[str, Any]:
    """The JSON object in `path`; empty where it is missing, being replaced on a slow file system, or damaged."""
    try:
        content = read_json(path)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """The same for a folder: yields a new one beside `path`, which must not exist when the block ends."""
    path = Path(path)
    with _beside(path) as partial:
        partial.mkdir()
        yield partial
        os.replace(partial, path)
        _sync_directory(path.parent)


def _remove(partial: Path) -> None:
    with suppress(OSError):  # the error that brought us here says more
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink()


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
