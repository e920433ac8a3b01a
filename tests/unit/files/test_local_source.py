"""Files of a user's own, replaced under the path that they were read from."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lct.config.schema import build, plain
from lct.data.imageset import png
from lct.data.settings import DataSettings
from lct.files.atomic import read_json
from lct.files.local_source import MEMORY, look_again
from lct.files.records import disagreements
from lct.jobs.images import images


def pictures(first: int) -> dict[str, bytes]:
    draw = [np.random.default_rng(first + i).integers(0, 255, (8, 8, 3), dtype=np.uint8) for i in range(4)]
    return {f"{i}.png": png(pixels) for i, pixels in enumerate(draw)}


def folder(path: Path, first: int) -> None:
    (path / "sub").mkdir(parents=True, exist_ok=True)
    for name, content in pictures(first).items():
        (path / "sub" / name).write_bytes(content)


def archive(path: Path, first: int) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in pictures(first).items():
            file.writestr(zipfile.ZipInfo(name), content)  # of one date, so that it can be written again


def parquet(path: Path, first: int) -> None:
    import pyarrow.parquet

    path.mkdir(exist_ok=True)
    table = pyarrow.table({"image": list(pictures(first).values())})
    pyarrow.parquet.write_table(table, path / "part-0.parquet")


def lmdb(path: Path, first: int) -> None:
    import lmdb

    (path / "data.mdb").unlink(missing_ok=True)
    with lmdb.open(str(path), map_size=2**20) as database, database.begin(write=True) as change:
        for name, content in pictures(first).items():
            change.put(name.encode(), content)


WRITERS = {"folder": folder, "archive": archive, "parquet": parquet, "lmdb": lmdb}


def read(tmp_path: Path, kind: str, path: str = "source") -> tuple[Path, dict]:
    """The image sets of a source, and the settings of their job."""
    dataset = build(DataSettings, {"title": "t", "source": {"kind": kind, "path": path}, "resolution": 8}, "t")
    settings = {"recipe": 1, "dataset": {"source": plain(dataset.source), "resolution": 8}}
    images(settings, tmp_path / "sets/train.zip", tmp_path / "sets/heldout.zip")
    return tmp_path / "sets/train.zip", settings


def reasons(output: Path, settings: dict) -> list[str]:
    look_again()
    return disagreements([str(output)], settings)


@pytest.mark.parametrize("kind", WRITERS)
def test_replaced_files_are_a_change_and_other_times_are_none(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    WRITERS[kind](tmp_path / "source", 0)
    output, settings = read(tmp_path, kind)
    assert reasons(output, settings) == []
    record = read_json(f"{output}.settings.json")["source"]
    assert record["path"] == "source" and record["files"] == (4 if kind == "folder" else 1)

    WRITERS[kind](tmp_path / "source", 0)  # copied again
    assert reasons(output, settings) == []
    WRITERS[kind](tmp_path / "source", 50)
    (reason,) = reasons(output, settings)
    assert reason.startswith(f"the source source changed: {record['files']} of its {record['files']} files (")
    (output.parent / MEMORY).unlink()  # the tree was copied without it
    assert reasons(output, settings) == ["the source source changed: its files are not those that were read"]

    read(tmp_path, kind)
    assert reasons(output, settings) == []
    source = tmp_path / "source"
    names = ("sub/2.png", "part-0.parquet", "data.mdb")
    file = next((source / name for name in names if (source / name).exists()), source)
    status, content = file.stat(), file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # one byte, of equal size and time
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    (reason,) = reasons(output, settings)
    assert f"1 of its {record['files']} files (" in reason and file.name in reason
    file.rename(tmp_path / "other disk")
    file.symlink_to(tmp_path / "other disk")  # a link to it is the same change, and to the old content none
    assert len(reasons(output, settings)) == 1
    (tmp_path / "other disk").write_bytes(content)
    assert reasons(output, settings) == []
    (tmp_path / "source").rename(tmp_path / "elsewhere")  # not on this machine: what was read is not judged
    assert reasons(output, settings) == []


def test_any_change_of_an_image_counts_and_no_other_file_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder(tmp_path / "source", 0)
    output, settings = read(tmp_path, "folder", "~/source")
    image = tmp_path / "source/sub/2.png"
    (tmp_path / "source/notes.txt").write_text("no image")
    (tmp_path / "source/.thumbnails").mkdir()
    (tmp_path / "source/.thumbnails/0.png").write_bytes(image.read_bytes())
    assert reasons(output, settings) == []

    status, content = image.stat(), image.read_bytes()
    image.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))  # `cp -p` of another file of the same size
    assert reasons(output, settings) == [
        "the source ~/source changed: 1 of its 4 files (sub/2.png) are not those that were read"
    ]
    image.write_bytes(content)
    assert reasons(output, settings) == []
    image.rename(image.with_name("9.png"))
    assert "2 of its 4 files (sub/2.png, sub/9.png)" in reasons(output, settings)[0]
    (tmp_path / "source/sub/link.png").symlink_to("nowhere")
    assert "a link to nothing" in reasons(output, settings)[0]


def test_a_source_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    from lct.data import sources

    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "source", 0)
    load = sources.load

    def load_and_change(*arguments, **options):
        folder(tmp_path / "source", 90)
        return load(*arguments, **options)

    monkeypatch.setattr(sources, "load", load_and_change)
    with pytest.raises(ValueError, match="stay the same while they are read"):
        read(tmp_path, "folder")
    assert not (tmp_path / "sets/train.zip").exists()
