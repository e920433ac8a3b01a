"""Image files, archives and parquet files that nobody meant: a result or one line, and nothing half-written."""

import gzip
import io
import tarfile
import warnings
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lct.data.decode import UnusableImageError, decode
from lct.jobs import images as images_job
from lct.jobs import job
from tests.helpers.fuzz import damaged, examples

pytestmark = pytest.mark.slow
SIDE = 8


def encoded(kind, mode, size=(13, 11), **options):
    out = io.BytesIO()
    pixels = np.random.default_rng(len(kind)).integers(0, 255, (size[1], size[0], 4), dtype=np.uint8)
    Image.fromarray(pixels).convert("RGB").convert(mode).save(out, kind, **options)
    return out.getvalue()


MODES = {"PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "JPEG": ("L", "RGB", "CMYK"), "GIF": ("P",)}
MODES |= {"BMP": ("1", "L", "RGB"), "TIFF": ("1", "L", "P", "RGB", "CMYK", "I;16", "F"), "WEBP": ("RGB", "RGBA")}
MODES |= {"PPM": ("1", "L", "RGB")}
FILES = [encoded(kind, mode) for kind, modes in MODES.items() for mode in modes]
FILES += [encoded("JPEG", "RGB", progressive=True), encoded("WEBP", "RGB", lossless=True), encoded("PNG", "L", (60, 1))]


def one_line(error):
    return "\n" not in str(error) and len(str(error)) < 2000


@examples(900)
@given(st.one_of(damaged(st.sampled_from(FILES)), st.binary(max_size=200)), st.booleans())
def test_image_files(content, convert):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's of odd tags
        try:
            pixels = decode(lambda: content, "x/y.png", SIDE, convert)
        except UnusableImageError as error:
            assert error.reason and one_line(error) and str(error).startswith("x/y.png: ")
        else:
            assert pixels.shape == (SIDE, SIDE, 3) and pixels.dtype == np.uint8


def images(folder: Path, source: dict, capsys):
    """The job `images`: it ends well with both sets, or with one line and neither; never with a traceback."""
    out = folder / "out"
    values = {"recipe": 1, "dataset": {"source": {"path": str(folder / "source"), **source}, "resolution": SIDE}}
    capsys.readouterr()
    with mock.patch.object(images_job.JobRecord, "write"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = {"settings": values, "train": out / "train.zip", "heldout": out / "heldout.zip"}
        code = job.run(lambda: images_job.images(**arguments))
    printed = capsys.readouterr().out
    names = {path.name for path in out.iterdir()} - {"source.json"}
    assert printed.count("\n") == 1 and (printed.startswith("error: ") if code else printed.startswith("images out"))
    whole = {"train.zip", "heldout.zip", "train.manifest.json", "heldout.manifest.json", "train.grid.png"}
    assert names == (set() if code else whole), (printed, names)


@pytest.fixture
def folder(tmp_path_factory):
    """A new folder for each example."""
    return lambda: tmp_path_factory.mktemp("example")


def archives():
    pictures = {"a/1.png": FILES[4], "a/2.jpg": encoded("JPEG", "RGB"), "b/3.png": FILES[1], "notes.txt": b"no image"}
    zipped, stored, plain = io.BytesIO(), io.BytesIO(), io.BytesIO()
    for out, how in ((zipped, zipfile.ZIP_DEFLATED), (stored, zipfile.ZIP_STORED)):
        with zipfile.ZipFile(out, "w", how) as archive:
            for name, content in pictures.items():
                archive.writestr(zipfile.ZipInfo(name), content, how)
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, content in pictures.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    tar = plain.getvalue()[: 512 * 12]
    return [zipped.getvalue(), stored.getvalue(), tar, gzip.compress(tar, mtime=0)]


@examples(350)
@given(damaged(st.sampled_from(archives()), most=3), st.sampled_from(("none", "folders")), st.booleans())
def test_archives(folder, capsys, content, labels, convert):
    place = folder()
    (place / "source").write_bytes(content)
    images(place, {"kind": "archive", "labels": labels, "convert": convert}, capsys)


BYTES = st.one_of(st.none(), st.sampled_from(FILES[:6]), st.binary(max_size=20))
SCALARS = {
    pyarrow.int64(): st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    pyarrow.uint8(): st.integers(0, 255),
    pyarrow.float32(): st.floats(width=32),
    pyarrow.bool_(): st.booleans(),
    pyarrow.string(): st.one_of(st.none(), st.text(max_size=8)),
    pyarrow.large_string(): st.text(max_size=3),
    pyarrow.binary(): BYTES,
    pyarrow.large_binary(): BYTES,
    pyarrow.timestamp("s"): st.integers(0, 2**31),
    pyarrow.null(): st.none(),
}
TYPES = [(kind, values) for kind, values in SCALARS.items()]
TYPES += [(pyarrow.list_(kind), st.one_of(st.none(), st.lists(values, max_size=2))) for kind, values in TYPES]
TYPES += [
    (
        pyarrow.struct(list(zip(names, (kind, other), strict=True))),
        st.fixed_dictionaries(dict(zip(names, (a, b), strict=True))),
    )
    for names in (("bytes", "path"), ("bytes", "bytes2"), ("path", "data"))
    for kind, a in TYPES[:8]
    for other, b in TYPES[:8]
]


@st.composite
def tables(draw):
    rows, columns, names = draw(st.integers(0, 5)), [], []
    for _ in range(draw(st.integers(1, 3))):
        kind, values = draw(st.sampled_from(TYPES))
        columns.append(pyarrow.array(draw(st.lists(values, min_size=rows, max_size=rows)), kind))
        names.append(draw(st.sampled_from(("image", "image", "label", "a b", ""))))
    return pyarrow.Table.from_arrays(columns, names=names)


@examples(350)
@given(tables(), st.sampled_from((None, "label", "image")), st.integers(0, 8), st.data())
def test_parquet_schemas(folder, capsys, table, label, cut, data):
    place, out = folder(), io.BytesIO()
    pyarrow.parquet.write_table(table, out)
    content = out.getvalue() if cut else data.draw(damaged(st.just(out.getvalue()), most=2))
    (place / "source").write_bytes(content)
    images(place, {"kind": "parquet", "label": label}, capsys)
