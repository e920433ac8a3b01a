"""Parquet files and LMDBs of encoded images."""

import os
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from lct.checks import require
from lct.data.containers import Container, Content, Sequential, SourceFiles
from lct.data.settings import LmdbReading, ParquetReading
from lct.files.file_type import describe
from lct.files.local_source import select
from lct.files.zip_tar import extract, is_archive

_BATCH = 32  # rows of a parquet file held at once
_LMDB_MAGIC = struct.pack("<I", 0xBEEFC0DE)
_LMDB_MAGIC_AT = 16  # behind the header of the first page


def parquet(files: SourceFiles, reading: ParquetReading) -> Container:
    """Rows of parquet files, in order. An image's name is its path where the paths differ, else file and row."""
    names: list[str] = []
    paths: list[str | None] = []
    labels: list[int | None] = []
    further: Counter[str] = Counter()
    columns: dict[Path, tuple[str, ...]] = {}  # file -> the column, or column and field, of the encoded images
    for path, name in files.names.items():
        with _opened_parquet(path) as file:
            columns[path], has_paths = _image_column(path, file.schema_arrow, reading)
            rows = file.metadata.num_rows
            further += Counter({f"in column {ascii(other)}": rows for other in _further(file.schema_arrow, reading)})
            names += [f"{name}#{row}" for row in range(rows)]
            paths += _values(file, reading.image, "path") if has_paths else [None] * rows
            labels += _values(file, reading.label) if reading.label else ()
    if None not in paths and len(set(paths)) == len(paths):
        names = paths

    def forward() -> Iterator[tuple[int, bytes]]:
        numbers = count()
        for path, column in columns.items():
            with _opened_parquet(path) as file:
                for content in _values(file, *column):
                    yield next(numbers), content or b""

    return Container(names, Sequential(forward, files.scratch, ordered=True), further, labels)


def _image_column(path: Path, schema: Any, reading: ParquetReading) -> tuple[tuple[str, ...], bool]:
    """Where a file's encoded images are, as arguments of `_values`, and whether their paths stand beside them.

    Raises ValueError for a file without the columns that the settings name, or with columns of another type."""
    from pyarrow import types

    for column in filter(None, (reading.image, reading.label)):
        require(column in schema.names, path, f"a column {column!r}", schema.names, "correct `image` or `label`")
        require(schema.names.count(column) <= 1, path, f"one column {column!r}", "several of that name", "rename them")
    if reading.label and not types.is_integer(label := schema.field(reading.label).type):
        raise ValueError(f"{path}: expected column {reading.label!r} of whole numbers, found {label}; correct `label`")
    image = schema.field(reading.image).type
    if _is_bytes(image):
        return (reading.image,), False
    fields = [image.field(i) for i in range(image.num_fields)] if types.is_struct(image) else []
    encoded = [field.type for field in fields if field.name == "bytes"]
    if len(encoded) != 1 or not _is_bytes(encoded[0]):
        raise ValueError(
            f"{path}: expected column {reading.image!r} to hold encoded images (binary, or a struct with one field "
            f"`bytes` of binary), found {image}; correct `image`, or write the column anew as pyarrow.binary()"
        )
    paths = [field.type for field in fields if field.name == "path"]
    return (reading.image, "bytes"), len(paths) == 1 and (types.is_string(paths[0]) or types.is_large_string(paths[0]))


def _further(schema: Any, reading: ParquetReading) -> list[str]:
    """Names of columns, and of fields of the images' column, that may hold images too, and are not read: those with
    bytes at any depth."""
    from pyarrow import types

    def has_bytes(type_: Any) -> bool:
        if types.is_dictionary(type_):
            return has_bytes(type_.value_type)
        return _is_bytes(type_) or any(has_bytes(type_.field(i).type) for i in range(type_.num_fields))

    image = schema.field(reading.image).type
    fields = [image.field(i) for i in range(image.num_fields)]
    beside = [f"{reading.image}.{field.name}" for field in fields if field.name != "bytes" and has_bytes(field.type)]
    return [field.name for field in schema if field.name != reading.image and has_bytes(field.type)] + beside


def _is_bytes(type_: Any) -> bool:
    from pyarrow import types

    return types.is_binary(type_) or types.is_large_binary(type_) or types.is_binary_view(type_)


@contextmanager
def _opened_parquet(path: Path) -> Iterator[Any]:
    """The file, opened; errors of pyarrow, also while it is read, as one line that names the file."""
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
            yield file
    except (pyarrow.ArrowException, OSError) as error:
        with open(path, "rb") as handle:
            start = handle.read(64)
        content = f"damage ({str(error).splitlines()[0]})" if start.startswith(b"PAR1") else describe(start)
        raise ValueError(f"{path}: expected a whole parquet file, found {content}; get it again") from error


def _values(file: Any, column: str, field: str | None = None) -> Iterator[Any]:
    """The values of a column, or of a field of a struct column, row after row."""
    columns = [column if field is None else f"{column}.{field}"]
    for group in range(file.num_row_groups):
        for batch in file.iter_batches(_BATCH, row_groups=[group], columns=columns, use_threads=False):
            values = batch.column(0) if field is None else batch.column(0).field(field)
            for value in values:
                yield value.as_py()


def lmdb(files: SourceFiles, reading: LmdbReading) -> Container:
    """Values of an LMDB, in byte order of their keys or under numbered keys; an image's name is its key."""
    import lmdb

    data, others = _lmdb_file(files, reading)
    with open(data, "rb") as handle:
        start = handle.read(512)
    require(start[_LMDB_MAGIC_AT : _LMDB_MAGIC_AT + 4] == _LMDB_MAGIC, data, "an LMDB", describe(start), "get it again")
    options = {"subdir": False, "readonly": True, "lock": False, "readahead": False, "max_spare_txns": 16}
    try:
        with ExitStack() as opened:  # closes the database where its keys cannot be read
            database = opened.enter_context(lmdb.open(str(data), **options))
            keys = _keys(database, data, reading)
            beyond = database.stat()["entries"] - len(keys)
            opened.pop_all()
    except lmdb.Error as error:
        raise ValueError(f"{data}: expected a whole LMDB, found damage ({error}); get it again") from error

    def read(key: bytes) -> bytes:
        with database.begin() as view:
            return view.get(key)

    def contents(indices: Sequence[int]) -> Iterator[Content]:
        return (partial(read, keys[i]) for i in indices)

    readable = all(key.isascii() and key.decode("ascii").isprintable() for key in keys)
    names = [key.decode("ascii") if readable else key.hex() for key in keys]
    others += Counter({"entries under other keys": beyond})
    return Container(names, contents, others)


def _keys(database: Any, data: Path, reading: LmdbReading) -> list[bytes]:
    """The keys of the images, in order."""
    smallest = (database.info()["last_pgno"] + 1) * database.stat()["psize"]
    if (size := data.stat().st_size) < smallest:  # reading behind the end of the file would kill this process
        raise ValueError(f"{data}: expected {smallest} bytes or more, found {size}: it is cut off; get it again")
    with database.begin() as view, view.cursor() as cursor:
        if reading.key is None:
            return list(cursor.iternext(values=False))
        keys = [reading.key.format(index=i).encode() for i in range(reading.count)]
        missing = next((key for key in keys if not cursor.set_key(key)), None)
        if missing is None:
            return keys
        cursor.first()
        raise ValueError(
            f"{data}: expected a key {missing.decode()!r} (`key`, `count`), found none; the first key is "
            f"{cursor.key()!r}; correct them, or set `key: null` for all keys in byte order"
        )


def _lmdb_file(files: SourceFiles, reading: LmdbReading) -> tuple[Path, Counter[str]]:
    """The data.mdb of an LMDB that is given as a file, as a folder, as the files of a download, or in an archive; and
    what lies beside it, by kind."""
    paths = list(files.names)
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    if len(paths) == 1 and paths[0].name != "data.mdb":
        if not is_archive(paths[0]):
            return paths[0], Counter()
        folder = extract(paths[0], files.unpacked, reading.limits)
        paths = [path for path in folder.rglob("*") if path.is_file()]
    bases = {path.parent.relative_to(folder): path for path in paths if path.name == "data.mdb"}
    require(bases, folder, "an LMDB (a folder with data.mdb)", "none", "get it again")
    sole = next(iter(bases.values())) if len(bases) == 1 and not reading.inside else None
    expected, given = f"one LMDB at {reading.inside or 'its top'!r}", f"them in {sorted(map(str, bases))}"
    data = bases.get(Path(reading.inside), sole)
    require(data, folder, expected, given, "set `inside` to one")
    names = [path.relative_to(folder).as_posix() for path in paths if path != data and path.name != "lock.mdb"]
    return data, select(((name, None) for name in names), ())[1]
