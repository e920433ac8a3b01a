"""Which files are images: none is passed over in silence, and what is printed about names works when it is pasted."""

import json
import os
import shutil
import zipfile
from collections import Counter

import numpy as np
import pytest
import yaml
from PIL import Image

from lct.data.imageset import png
from lct.files.local_source import describe, pictures, select, walk
from lct.jobs.images import images, quoted, readable

ENDINGS = ("png", "jpg")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a/b.jpg", None),
        ("b.JFIF", None),
        ("b.jpe", None),
        ("b.gif", ".gif"),
        ("b.AVIF", ".avif"),
        ("b.HEIC", ".heic"),
        ("more.zip", ".zip"),
        ("more/part-0.parquet", ".parquet"),
        ("notes.txt", "other files"),
        ("png", "other files"),
        (".b.png", "hidden images"),
        ("._b.png", "other files"),
        ("__MACOSX/._b.png", "other files"),
        ("a/@eaDir/b.jpg", "in @eaDir"),
        (".Trash-1000/files/b.heic", "in .Trash-1000"),
        ("#recycle/b.png", "in #recycle"),
        (".git/HEAD", "other files"),
    ],
)
def test_every_file_is_an_image_or_counted_by_kind(name, kind):
    taken, others = select([(name, 0)], ENDINGS)
    assert ([name for name, _ in taken], dict(others)) == ([name] if kind is None else [], {kind: 1} if kind else {})


def test_kinds_are_described_by_frequency_without_files_that_are_no_images():
    others = Counter({".gif": 2, ".heic": 5, "other files": 9}) + Counter({f".x{i}": 1 for i in range(6)})
    assert list(pictures(others))[:2] == [".heic", ".gif"] and "other files" not in pictures(others)
    assert describe(others) == "5 .heic, 2 .gif, 1 .x0, 1 .x1, 1 .x2, 1 .x3, 2 of other kinds"


def test_links_are_followed_once_and_loops_end(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    (root / "z").mkdir(parents=True)
    elsewhere.mkdir()
    for path in (root / "0.png", root / "z" / "1.png", elsewhere / "2.png"):
        path.write_bytes(b"")
    (root / "a").symlink_to(root / "z")  # sorts first, but z is the folder's own name
    (root / "z" / "up").symlink_to(root)
    (root / "more").symlink_to(elsewhere)
    (root / "file.png").symlink_to(elsewhere / "2.png")
    os.mkfifo(root / "pipe.png")
    (root / "device.png").symlink_to(os.devnull)
    files, others = walk(root)
    names = sorted(path.relative_to(root).as_posix() for path in files)
    assert names == ["0.png", "file.png", "more/2.png", "z/1.png"]
    assert others == {"links to folders that are read already": 2, "other files": 2}
    (root / ".cache").mkdir()
    files, others = walk(root, recursive=False)
    assert sorted(path.name for path in files) == ["0.png", "file.png"]
    assert others == {"sub-folders": 3, "other files": 2}


def test_a_link_to_nothing_is_named_unless_a_tool_made_it(tmp_path):
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "gone.png").symlink_to("nowhere")
    assert walk(tmp_path) == ([], {"other files": 1})
    (tmp_path / "class").symlink_to("nowhere")
    with pytest.raises(
        ValueError, match=r"class: expected a file or folder, found a link to nothing \(nowhere\); copy"
    ):
        walk(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["a.jpg", "a  b.jpg", " a.jpg ", 'q"uo\\te.jpg', "line\nbreak.jpg", "\u202f.jpg", "\U0001f600 \U000e0001.jpg"],
)
def test_a_quoted_name_survives_yaml_and_one_line_messages(name):
    text = f"exceptions: [{quoted(name)}]"
    assert yaml.safe_load(text)["exceptions"] == [name]
    assert yaml.safe_load(" ".join(text.split()))["exceptions"] == [name]
    assert readable(name) in (name, quoted(name)) and readable(name).isprintable()


def test_the_line_of_many_damaged_images_works_when_it_is_pasted(tmp_path, caplog):
    source = tmp_path / "source"
    source.mkdir()
    Image.new("RGB", (16, 16)).save(source / "good.png")
    for i in range(30):
        (source / f"{i}  damaged\n.png").write_bytes(b"hello")
    dataset = {"source": {"kind": "folder", "path": str(source)}, "resolution": 16}
    outputs = tmp_path / "train.zip", tmp_path / "heldout.zip"
    with pytest.raises(ValueError, match="the log has the line to paste"):
        images({"recipe": 1, "dataset": dataset}, *outputs)
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("exceptions: ")]
    dataset["source"] |= yaml.safe_load(line)
    assert "1 training, 0 held out, 30 left out" in images({"recipe": 1, "dataset": dataset}, *outputs)


def test_copies_and_files_that_are_not_taken_stand_in_the_line_and_the_manifest(tmp_path):
    source = tmp_path / "source"
    (source / ".thumbnails").mkdir(parents=True)
    for i in range(6):
        Image.new("RGB", (16, 16), (40 * (i % 4), 0, 0)).save(source / f"{i}.png")
    for name in ("a.gif", "b.gif", ".thumbnails/0.png", "notes.txt"):
        (source / name).write_bytes(b"")
    for name in ("photograph", "photograph.jpg?size=large", "x.jpeg_large"):  # as downloads name them
        shutil.copy(source / "0.png", source / name)
    dataset = {"source": {"kind": "folder", "path": str(source), "split": "ordered"}, "resolution": 16, "heldout": 2}
    outputs = tmp_path / "train.zip", tmp_path / "heldout.zip"
    line = images({"recipe": 1, "dataset": dataset}, *outputs)
    assert line.endswith(
        "4 training, 2 held out, not taken: 3 images without an ending of images, 2 .gif, 1 in .thumbnails, copies: "
        "0 of training images, 0 of held-out images, 2 held-out images that are training images too"
    )
    content = json.loads((tmp_path / "train.manifest.json").read_text())
    assert content["duplicates"] == {"train": 0, "heldout": 0, "across": 2}
    nameless = {"images without an ending of images": 3}
    assert content["not_taken"] == {".gif": 2, "in .thumbnails": 1, **nameless}


def test_what_lies_beside_parquet_files_and_under_other_keys_of_an_lmdb_is_counted(tmp_path):
    import lmdb
    import pyarrow.parquet

    contents = [png(np.full((16, 16, 3), 40 * i, np.uint8)) for i in range(4)]
    (tmp_path / "tables").mkdir()
    views = pyarrow.array([[b""]] * 4, pyarrow.list_(pyarrow.binary()))
    columns = {"image": [{"bytes": content, "mask": b""} for content in contents], "text": ["a"] * 4, "views": views}
    columns |= {"mask": [{"bytes": b"", "path": ""}] * 4, "größe": pyarrow.array([b""] * 4).dictionary_encode()}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "tables" / "0.parquet")
    for name in ("README.md", "more.png", "part.tar"):
        (tmp_path / "tables" / name).write_bytes(b"")
    with lmdb.open(str(tmp_path / "base"), map_size=2**20) as database, database.begin(write=True) as change:
        for i, content in enumerate(contents):
            change.put(f"{i}".encode(), content)
        change.put(b"length", b"4")
    (tmp_path / "base" / "more.png").write_bytes(b"")
    shutil.copytree(tmp_path / "base", tmp_path / "bases" / "a")
    shutil.copytree(tmp_path / "base", tmp_path / "bases" / "b")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, content in zip(("a/0.png", "a/1.png", "b/2.png", "3.PNG"), contents, strict=True):
            archive.writestr(name, content)
        for name in ("b/4.gif", ".x/5.png", "inner.zip", "dataset.json"):
            archive.writestr(name, b"")
    parquet = {"kind": "parquet", "path": str(tmp_path / "tables")}
    base = {"kind": "lmdb", "path": str(tmp_path / "base"), "key": "{index}", "count": 3}
    bases = base | {"path": str(tmp_path / "bases"), "inside": "b"}
    archives = {"kind": "archive", "path": str(tmp_path / "x.zip"), "inside": "a"}
    columns = ("views", "mask", ascii("größe")[1:-1], "image.mask")
    for source, text in (
        (parquet, "".join(f"4 in column '{column}', " for column in columns) + "1 .png, 1 .tar"),
        (base, "2 entries under other keys, 1 .png"),
        (bases, "2 .png, 2 entries under other keys, 1 .mdb"),
        (archives, "2 outside 'a/', 1 .gif, 1 in .x, 1 .zip"),
    ):
        outputs = [tmp_path / ascii(text) / f"{split}.zip" for split in ("train", "heldout")]
        line = images({"recipe": 1, "dataset": {"source": source, "resolution": 16}}, *outputs)
        assert line.endswith(f"not taken: {text}")


def test_mirror_images_of_symmetric_images_are_no_copies(tmp_path):
    for i in range(4):
        Image.new("RGB", (16, 16), (40 * i, 0, 0)).save(tmp_path / f"{i}.png")
    dataset = {"source": {"kind": "folder", "path": str(tmp_path)}, "resolution": 16, "flips": "appended"}
    line = images({"recipe": 1, "dataset": dataset}, tmp_path / "out" / "train.zip", tmp_path / "out" / "heldout.zip")
    assert line.endswith("8 training, 0 held out")
    assert "duplicates" not in json.loads((tmp_path / "out" / "train.manifest.json").read_text())
