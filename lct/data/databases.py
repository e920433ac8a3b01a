"""Parquet files and LMDBs of encoded images."""

import os
import struct
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lct.data.containers import Container, Content, Sequential, SourceFiles
from lct.data.settings import LmdbReading, ParquetReading
from lct.files.zip_tar import describe, extract, is_archive

_BATCH = 32  # rows of a parquet file held at once
_LMDB_MAGIC = struct.pack("<I", 0xBEEFC0DE)
_LMDB_MAGIC_AT = 16  # behind the header of the first page


def parquet(files: SourceFiles, reading: ParquetReading) -> Container:
    import pyarrow
    import pyarrow.parquet

    def opened(path: Path) -> pyarrow.parquet.ParquetFile:
        try:
            return pyarrow.parquet.ParquetFile(path, buffer_size=2**20, pre_buffer=False)
        except (pyarrow.ArrowInvalid, OSError) as error:
            with open(path, "rb") as handle:
                start = handle.read(64)
            found = f"damage ({str(error).splitlines()[0]})" if start.startswith(b"PAR1") else describe(start)
            raise ValueError(f"{path}: expected a whole parquet file, found {found}; get it again") from error

    def rows(path: Path, file: Any, columns: list[str]) -> Iterator[Any]:
        try:
            for group in range(file.num_row_groups):
                yield from file.iter_batches(_BATCH, row_groups=[group], columns=columns, use_threads=False)
        except (pyarrow.ArrowInvalid, OSError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path}: expected a whole parquet file, found damage ({reason}); get it again") from error

    binary = (pyarrow.types.is_binary, pyarrow.types.is_large_binary)
    image_names: list[str] = []
    paths: list[str | None] = []
    labels: list[int | None] = []
    bare = []  # for each file, whether the image column holds bytes, without a path
    for path, name in files.names.items():
        with opened(path) as file:
            schema = file.schema_arrow
            for column in filter(None, (reading.image, reading.label)):
                if column not in schema.names:
                    raise ValueError(
                        f"{path}: expected a column {column!r}, found {schema.names}; correct `image` or `label`"
                    )
            kind = schema.field(reading.image).type
            plain = any(test(kind) for test in binary)
            parts = {kind.field(i).name for i in range(kind.num_fields)} if pyarrow.types.is_struct(kind) else set()
            if not plain and "bytes" not in parts:
                raise ValueError(
                    f"{path}: expected column {reading.image!r} to hold encoded images (bytes or a struct with them), "
                    f"found {kind}; correct `image`"
                )
            bare.append(plain)
            count = file.metadata.num_rows
            image_names += [f"{name}#{row}" for row in range(count)]
            if "path" in parts:
                for batch in rows(path, file, [f"{reading.image}.path"]):
                    paths += batch.column(0).field("path").to_pylist()
            else:
                paths += [None] * count
            if reading.label is None:
                labels += [None] * count
            elif not pyarrow.types.is_integer(schema.field(reading.label).type):
                found = schema.field(reading.label).type
                raise ValueError(f"{path}: expected column {reading.label!r} of whole numbers, found {found}")
            else:
                for batch in rows(path, file, [reading.label]):
                    labels += batch.column(0).to_pylist()
    if None not in paths and len(set(paths)) == len(paths):  # the images' own names, where they tell them apart
        image_names = paths

    def forward() -> Iterator[tuple[int, bytes]]:
        number = 0
        for path, plain in zip(files.names, bare, strict=True):
            with opened(path) as file:
                for batch in rows(path, file, [reading.image if plain else f"{reading.image}.bytes"]):
                    column = batch.column(0) if plain else batch.column(0).field("bytes")
                    for value in column:
                        yield number, value.as_py() or b""
                        number += 1

    return Container(image_names, labels, Sequential(forward, files.scratch, ordered=True))


def lmdb(files: SourceFiles, reading: LmdbReading) -> Container:
    import lmdb

    data = _lmdb_file(files, reading)
    with open(data, "rb") as handle:
        start = handle.read(512)
    if start[_LMDB_MAGIC_AT : _LMDB_MAGIC_AT + 4] != _LMDB_MAGIC:
        raise ValueError(f"{data}: expected an LMDB, found {describe(start)}; get it again")
    try:
        database = lmdb.open(str(data), subdir=False, readonly=True, lock=False, readahead=False, max_spare_txns=16)
        try:
            keys = _keys(database, data, reading)
        except BaseException:
            database.close()
            raise
    except lmdb.Error as error:
        raise ValueError(f"{data}: expected a whole LMDB, found damage ({error}); get it again") from error

    def read(key: bytes) -> bytes:
        with database.begin() as view:
            return view.get(key)

    def contents(indices: Sequence[int]) -> Iterator[Content]:
        return (partial(read, keys[i]) for i in indices)

    readable = all(key.isascii() and key.decode("ascii").isprintable() for key in keys)
    found = [key.decode("ascii") if readable else key.hex() for key in keys]
    return Container(found, [None] * len(keys), contents)


def _keys(database: Any, data: Path, reading: LmdbReading) -> list[bytes]:
    """The keys of the images, in order."""
    pages, page = database.info()["last_pgno"] + 1, database.stat()["psize"]
    if (found := data.stat().st_size) < pages * page:  # a read behind the end would kill this process
        raise ValueError(f"{data}: expected {pages * page} bytes or more, found {found}: it is cut off; get it again")
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


def _lmdb_file(files: SourceFiles, reading: LmdbReading) -> Path:
    """The data.mdb of an LMDB that is given as a file, as a folder, as the files of a download, or in an archive."""
    first, *more = files.names
    folder = Path(os.path.commonpath([path.parent for path in files.names]))
    if not more and first.name != "data.mdb":
        if not is_archive(first):
            return first
        folder = extract(first, files.unpacked, reading.limits)
    if (folder / reading.inside / "data.mdb").is_file():
        return folder / reading.inside / "data.mdb"
    found = sorted(path.parent.relative_to(folder).as_posix() for path in folder.rglob("data.mdb"))
    if len(found) == 1 and not reading.inside:
        return folder / found[0] / "data.mdb"
    if not found:
        raise ValueError(f"{folder}: expected an LMDB (a folder with data.mdb), found none; get it again")
    raise ValueError(
        f"{folder}: expected one LMDB at {reading.inside or 'its top'!r}, found them in {found}; set `inside` to one"
    )
