"""Image files of every container through the images job: the same pixels whatever holds them, and what stops it."""

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from contextlib import nullcontext
from unittest import mock

import lmdb
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import yaml
from PIL import Image

from lct.config.schema import build
from lct.data.imageset import ImageSet, open_checked, read_manifest
from lct.data.settings import DataSettings
from lct.data.sources import load
from lct.data.threads import AHEAD, in_order
from lct.download.record import Download
from lct.jobs import images as images_job

SIDE = 16


def picture(i, width=20, height=17):
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 12 % 256, y * 14 % 256, 0 * x + i * 7 % 256], -1).astype(np.uint8))


def encoded(i, form="PNG", **options):
    buffer = io.BytesIO()
    picture(i).save(buffer, form, **options)
    return buffer.getvalue()


FORMS = ("PNG", "JPEG", "WEBP")
IMAGES = {f"{i:02d}-ü.{('png', 'jpg', 'webp')[i % 3]}": encoded(i, FORMS[i % 3]) for i in range(12)}


def as_folder(place, images=IMAGES):
    for name, content in images.items():
        path = place / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return {"kind": "folder"}, place / "pictures"


def as_zip(place, images=IMAGES):
    with zipfile.ZipFile(place / "x.zip", "w") as archive:
        for name, content in reversed(images.items()):
            archive.writestr(name, content)
    return {"kind": "archive"}, place / "x.zip"


def tar(images, compress=bytes):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in reversed(images.items()):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return compress(buffer.getvalue())


def as_tar(place, images=IMAGES):
    (place / "x.tar").write_bytes(tar(images))
    return {"kind": "archive"}, place / "x.tar"


def as_tar_gz(place, images=IMAGES):
    (place / "x.tgz").write_bytes(tar(images, gzip.compress))
    return {"kind": "archive"}, place / "x.tgz"


def as_parquet(place, images=IMAGES, files=3, group=2, labels=None):
    (place / "rows").mkdir(parents=True)
    rows = [{"image": {"bytes": content, "path": name}} for name, content in images.items()]
    for i, row in enumerate(rows):
        row["label"] = i % 4 if labels is None else labels[i]
    per = -(-len(rows) // files)
    for i in range(files):
        table = pyarrow.Table.from_pylist(rows[i * per : (i + 1) * per])
        pyarrow.parquet.write_table(table, place / f"rows/{i:04d}.parquet", row_group_size=group)
    return {"kind": "parquet"}, place / "rows"


def as_lmdb(place, images=IMAGES, name="x_lmdb"):
    with lmdb.open(str(place / name), map_size=2**24) as database, database.begin(write=True) as edit:
        for key, content in images.items():
            edit.put(key if isinstance(key, bytes) else key.encode(), content)
    return {"kind": "lmdb"}, place / name


def as_lmdb_zip(place, images=IMAGES):
    _, folder = as_lmdb(place, images)
    with zipfile.ZipFile(place / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"x_lmdb/{path.name}")
    shutil.rmtree(folder)
    return {"kind": "lmdb"}, place / "x.zip"


CONTAINERS = [as_folder, as_zip, as_tar, as_tar_gz, as_parquet, as_lmdb, as_lmdb_zip]


def dataset(source, **changes):
    return {"source": source, "resolution": SIDE, "train": 8, "heldout": 3, **changes}


def made(values):
    return build(DataSettings, {"title": "-", **values}, "test")


def run(values, out, *more, check=True, limit=None):
    """The images job in its own process; returns what it printed."""
    settings = json.dumps({"recipe": 1, "dataset": values})
    command = [sys.executable, "-c", f"import resource, sys; {limit or 'pass'}"]
    command[-1] += "; from lct.jobs.images import main; sys.argv[0] = 'images'; raise SystemExit(main())"
    command += ["--settings", settings, "--train", str(out / "train.zip"), "--heldout", str(out / "heldout.zip"), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 1 and done.stdout.count("\n") == 1, done.stderr
        assert "Traceback" not in done.stderr
    return done.stdout


def job(values, out, workers=1, download=None, records=False):
    """The same in this process, by default without records; raises what the job would print."""
    settings = {"recipe": 1, "dataset": values}
    with nullcontext() if records else mock.patch.object(images_job.JobRecord, "write"):
        images_job.images(settings, out / "train.zip", out / "heldout.zip", download, workers)
    return read_manifest(out / "train.manifest.json"), read_manifest(out / "heldout.manifest.json")


def fails(values, out, match, **options):
    with pytest.raises((ValueError, OSError), match=match) as error:
        job(values, out, **options)
    assert "\n" not in str(error.value)
    assert not [name for name in os.listdir(out) if not name.endswith(".json")] if out.exists() else True
    return str(error.value)


# ---- one result, whatever holds the images ---------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["seeded", "ordered"])
@pytest.mark.parametrize("container", CONTAINERS, ids=lambda f: f.__name__)
def test_every_container_gives_the_same_images_in_the_same_order(tmp_path, container, split):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, folder = as_folder(tmp_path / "a")
    other, path = container(tmp_path / "b")
    if container in (as_lmdb, as_lmdb_zip):  # non-ASCII keys are shown as hexadecimal digits
        other["exceptions"] = []
    expected = job(dataset({**first, "path": str(folder), "split": split}), tmp_path / "one")
    found = job(dataset({**other, "path": str(path), "split": split}), tmp_path / "two", workers=3)
    for one, two in zip(expected, found, strict=True):
        assert one["content_sha256"] == two["content_sha256"] and one["sha256"] == two["sha256"]
        names = [item["source"] for item in two["items"]]
        if container in (as_lmdb, as_lmdb_zip):
            names = [bytes.fromhex(name).decode() for name in names]
        assert names == [item["source"] for item in one["items"]]
    assert found[0]["source"]["kind"] == other["kind"] and found[0]["left_out"] == []


def test_ordered_means_first_and_last(tmp_path):
    source, path = as_zip(tmp_path)
    train, heldout = job(dataset({**source, "path": str(path), "split": "ordered", "first": 11}), tmp_path / "out")
    assert [item["source"] for item in train["items"]] == sorted(IMAGES)[:8]
    assert [item["source"] for item in heldout["items"]] == sorted(IMAGES)[8:11]
    with ImageSet(tmp_path / "out/train.zip") as images:
        assert images.array().std() > 10


@pytest.mark.parametrize("container", [as_parquet, as_tar_gz])
@pytest.mark.parametrize("split", ["seeded", "ordered"])
def test_mirror_images_are_appended_for_containers_that_read_forward(tmp_path, container, split):
    source, path = container(tmp_path)
    values = dataset({**source, "path": str(path), "split": split}, flips="appended")
    train, _ = job(values, tmp_path / "out", workers=2)
    assert train["count"] == 16
    with ImageSet(tmp_path / "out/train.zip") as images:
        np.testing.assert_array_equal(images.array(8), images.array(0, 8)[:, :, ::-1])


@pytest.mark.parametrize("container", [as_folder, as_parquet])
def test_the_number_of_workers_changes_no_byte(tmp_path, container):
    source, path = container(tmp_path)
    values = dataset({**source, "path": str(path)})
    hashes = set()
    for workers in (1, 2, 5):
        job(values, tmp_path / f"{workers}", workers=workers)
        hashes.add(hashlib.sha256((tmp_path / f"{workers}/train.zip").read_bytes()).hexdigest())
    assert len(hashes) == 1


def test_tasks_run_at_once_stay_in_order_and_few_wait():
    taken, peak, running = [], 0, 0
    lock = threading.Lock()

    def tasks():
        for i in range(60):
            taken.append(i)
            yield lambda i=i: work(i)

    def work(i):
        nonlocal peak, running
        with lock:
            running += 1
            peak = max(peak, running)
        time.sleep(0.003 if i % 2 else 0.001)
        with lock:
            running -= 1
        return i

    ahead = []
    for i, found in enumerate(in_order(tasks(), workers=3)):
        assert found == i
        ahead.append(len(taken) - i)
    assert peak == 3 and max(ahead) <= 3 * AHEAD


def test_a_task_that_fails_stops_the_others():
    def fail():
        raise ArithmeticError("here")

    with pytest.raises(ArithmeticError, match="here"):
        list(in_order([lambda: 1, fail, *([lambda: time.sleep(0.01)] * 100)], workers=2))


# ---- parquet ---------------------------------------------------------------------------------------------------------


def test_plain_bytes_and_labels_are_read_from_parquet(tmp_path):
    table = pyarrow.table({"jpeg": list(IMAGES.values()), "class": [i % 3 for i in range(12)]})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    source = {"kind": "parquet", "path": str(tmp_path / "x.parquet"), "image": "jpeg", "label": "class"}
    train, _ = job(dataset({**source, "split": "ordered"}), tmp_path / "out")
    assert train["items"][4] == {"source": "x.parquet#4", "label": 1}


@pytest.mark.parametrize("paths", [[None] * 12, ["image.png"] * 12])
def test_rows_without_names_of_their_own_are_numbered(tmp_path, paths):
    rows = [{"image": {"bytes": b, "path": p}} for b, p in zip(IMAGES.values(), paths, strict=True)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "x.parquet")
    source = {"kind": "parquet", "path": str(tmp_path / "x.parquet"), "split": "ordered"}
    train, _ = job(dataset(source), tmp_path / "out")
    assert train["items"][0]["source"] == "x.parquet#0"


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pyarrow.array([[1, 2]], pyarrow.list_(pyarrow.uint8())), "to hold encoded images .*found list<"),
        (pyarrow.array(["/9j/4AAQ"]), "to hold encoded images .*found string"),
        (pyarrow.array([{"bytes": "/9j/4AAQ"}]), "one field `bytes` of binary.*found struct<bytes: string>"),
        (pyarrow.array([{"bytes": [1]}]), "one field `bytes` of binary.*found struct<bytes: list<"),
        (pyarrow.array([{"path": "a.jpg"}]), "one field `bytes` of binary.*found struct<path: string>"),
        (pyarrow.array([b"abcd"], pyarrow.binary(4)), "to hold encoded images .*found fixed_size_binary"),
    ],
)
def test_parquet_columns_of_another_type_are_refused(tmp_path, column, message):
    pyarrow.parquet.write_table(pyarrow.table({"image": column}), tmp_path / "x.parquet")
    fails(dataset({"kind": "parquet", "path": str(tmp_path / "x.parquet")}), tmp_path / "out", message)


def test_a_parquet_column_that_is_there_twice_is_refused(tmp_path):
    table = pyarrow.Table.from_arrays([pyarrow.array([b""])] * 2, names=["image", "image"])
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    fails(dataset({"kind": "parquet", "path": str(tmp_path / "x.parquet")}), tmp_path / "out", "expected one column")


def test_paths_with_a_tilde_and_links_to_nothing(tmp_path, monkeypatch):
    source, path = as_folder(tmp_path)
    monkeypatch.setenv("HOME", str(path.parent))
    fails(dataset(source | {"path": "~no such user/x"}), tmp_path / "no", "expected a folder of images, found none")
    fails(
        dataset(source | {"path": "a folder\n"}),
        tmp_path / "no",
        r"path: expected a folder or file, found 'a folder\\n'",
    )
    manifest, _ = job(dataset(source | {"path": f"~/{path.name}"}), tmp_path / "out")
    assert manifest["count"] > 0
    (path / "gone.png").symlink_to("nowhere")
    fails(dataset(source | {"path": str(path)}), tmp_path / "no", "gone.png: .*link to nothing")


def test_broken_parquet_files_are_named(tmp_path):
    source, path = as_parquet(tmp_path, files=1)
    values = dataset({**source, "path": str(path)})
    file = path / "0000.parquet"
    whole = file.read_bytes()
    for broken, message in (
        (whole[: len(whole) // 2], "whole parquet file, found damage"),
        (b"<html>quota</html>", "a web page"),
        (b"", "an empty file"),
        (whole[:400] + b"\xff" * 900 + whole[1300:], "found damage|expected usable images"),
    ):
        file.write_bytes(broken)
        fails(values, tmp_path / "out", message)
    file.write_bytes(whole)
    job(values, tmp_path / "out")
    fails(dataset({**values["source"], "image": "picture"}), tmp_path / "no", "expected a column 'picture', found")
    fails(dataset({**values["source"], "image": "label"}), tmp_path / "no", "hold encoded images")
    fails(dataset({**values["source"], "label": "image"}), tmp_path / "no", "whole numbers")
    shutil.rmtree(path)
    path.mkdir()
    fails(values, tmp_path / "no", "expected parquet files, found none")


# ---- LMDB ------------------------------------------------------------------------------------------------------------


def test_an_lmdb_is_read_in_byte_order_of_its_keys_as_file_folder_or_archive(tmp_path):
    keys = {f"{i * 7919 % 101:040x}": content for i, content in enumerate(IMAGES.values())}
    _, path = as_lmdb(tmp_path, keys)
    manifests = []
    for given in (path, path / "data.mdb", tmp_path):
        values = dataset({"kind": "lmdb", "path": str(given), "split": "ordered", "count": 12})
        manifests.append(job(values, tmp_path / f"out/{len(manifests)}")[0])
    assert [item["source"] for item in manifests[0]["items"]] == sorted(keys)[:8]
    assert len({m["sha256"] for m in manifests}) == 1
    assert manifests[0]["source"]["files"][0]["sha256"] == hashlib.sha256((path / "data.mdb").read_bytes()).hexdigest()


def test_numbered_keys_are_read_in_their_order(tmp_path):
    keys = {f"256-{i}": content for i, content in enumerate(IMAGES.values())} | {"length": b"12"}
    _, path = as_lmdb(tmp_path, keys)
    source = {"kind": "lmdb", "path": str(path), "key": "256-{index}", "count": 12, "split": "ordered"}
    train, heldout = job(dataset(source, train=9), tmp_path / "out")
    assert [item["source"] for item in heldout["items"]] == ["256-9", "256-10", "256-11"]
    fails(dataset({**source, "count": 13}), tmp_path / "no", "expected a key '256-12' .* the first key is b'256-0'")
    fails(dataset({**source, "key": "512-{index}"}), tmp_path / "no", "expected a key '512-0'")
    for pattern in ("{index", "{index:z}", "{index}{x}", "{index.x}", "{index[0]}", "{{index}}"):
        fails(dataset({**source, "key": pattern}), tmp_path / "no", r"expected a pattern with \{index\}, or null")
    del source["key"]
    fails(dataset({**source, "count": 13}), tmp_path / "no", r"not: length \(something else, starting with 31 32\)")


def test_an_lmdb_in_an_archive_is_unpacked_once_beside_it(tmp_path):
    source, path = as_lmdb_zip(tmp_path)
    values = dataset({**source, "path": str(path)})
    job(values, tmp_path / "one")
    (unpacked,) = [p for p in tmp_path.iterdir() if p.name.startswith(".x.zip.")]
    seen = (unpacked / "x_lmdb/data.mdb").stat().st_mtime_ns
    job(values, tmp_path / "two")
    assert (unpacked / "x_lmdb/data.mdb").stat().st_mtime_ns == seen
    os.truncate(unpacked / "x_lmdb/data.mdb", 100)
    job(values, tmp_path / "three")
    assert len({(tmp_path / name / "train.zip").read_bytes() for name in ("one", "two", "three")}) == 1


def test_what_is_no_lmdb_is_named(tmp_path):
    as_folder(tmp_path)
    source = {"kind": "lmdb", "path": str(tmp_path / "pictures")}
    fails(dataset(source), tmp_path / "out", "folder with data.mdb.*found none")
    (tmp_path / "page").write_text("<html>404</html>")
    fails(dataset({**source, "path": str(tmp_path / "page")}), tmp_path / "out", "expected an LMDB, found a web page")
    fails(dataset({**source, "path": str(tmp_path / "nothing")}), tmp_path / "out", "found nothing")
    _, path = as_zip(tmp_path)
    fails(dataset({**source, "path": str(path)}), tmp_path / "out", "folder with data.mdb.*found none")
    as_lmdb(tmp_path / "pictures", name="a")
    as_lmdb(tmp_path / "pictures", name="b")
    fails(dataset(source), tmp_path / "out", r"found them in \['a', 'b'\]; set `inside`")
    assert job(dataset({**source, "inside": "b"}), tmp_path / "out")[0]["count"] == 8
    fails(dataset({**source, "inside": "c"}), tmp_path / "no", "found them in")


@pytest.mark.parametrize("tenth", range(10))
def test_a_cut_lmdb_is_named_and_kills_nobody(tmp_path, tenth):
    source, path = as_lmdb(tmp_path, {f"{i}": os.urandom(9000) for i in range(10)})
    file = path / "data.mdb"
    os.truncate(file, file.stat().st_size * tenth // 10)
    line = fails(dataset({**source, "path": str(path)}), tmp_path / "out", "expected")
    assert re.search("cut off|an empty file|found damage|something else", line), line


def test_an_empty_lmdb_is_named(tmp_path):
    source, path = as_lmdb(tmp_path, {})
    fails(dataset({**source, "path": str(path)}), tmp_path / "out", "expected images, found none")


# ---- archives --------------------------------------------------------------------------------------------------------


def test_images_below_a_folder_of_an_archive_are_read(tmp_path):
    files = {f"a/{name}": content for name, content in IMAGES.items()}
    files |= {"b/x.png": b"", "a/._00.png": b"", "__MACOSX/a/01.png": b"", "a/readme.txt": b""}
    source, path = as_zip(tmp_path, files)
    train, _ = job(dataset({**source, "path": str(path), "inside": "a", "count": 12}), tmp_path / "out")
    assert {item["source"] for item in train["items"]} <= IMAGES.keys()
    fails(dataset({**source, "path": str(path), "inside": "c"}), tmp_path / "no", "below 'c/', found none")


@pytest.mark.parametrize("container", [as_zip, as_tar, as_tar_gz, as_lmdb_zip])
def test_archives_that_are_not_safe_are_refused_whatever_they_are_read_for(tmp_path, container):
    source, path = container(tmp_path, {"../evil.png" if container is not as_lmdb_zip else "0": encoded(0), **IMAGES})
    if container is as_lmdb_zip:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("../evil", b"")
    fails(dataset({**source, "path": str(path)}), tmp_path / "out", "leaves its folder")
    assert not (tmp_path.parent / "evil.png").exists()
    source["limits"] = {"members": 1}
    fails(dataset({**source, "path": str(path)}), tmp_path / "out", "leaves its folder|at most 1 files")


def test_a_member_damaged_inside_is_one_unusable_image(tmp_path):
    source, path = as_zip(tmp_path)
    whole = path.read_bytes()
    at = whole.index(IMAGES["04-ü.jpg"])
    path.write_bytes(whole[: at + 30] + b"\xff" + whole[at + 31 :])
    line = fails(dataset({**source, "path": str(path), "split": "ordered"}), tmp_path / "out", "found 1 that are not")
    assert '`exceptions: ["04-ü.jpg"]`' in line


# ---- what the reading options say ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"count": 13}, r"expected 13 images \(`count`\), found 12"),
        ({"exceptions": ["99.png"]}, "none called '99.png'; names look like '00-ü.png'"),
        ({"first": 13}, r"expected 13 images \(`first`\), found 12"),
        ({"exceptions": ["00-ü.png", "01-ü.jpg"]}, "found 10 images in all"),
        ({"extensions": ["tif"]}, r"expected images ending in \['tif'\], found none"),
        ({"labels": "folders"}, "expected every image in a sub-folder, found '00-ü.png' in none"),
    ],
)
def test_a_source_that_is_not_as_declared_stops_before_any_image_is_read(tmp_path, options, match):
    source, path = as_folder(tmp_path)
    fails(dataset({**source, "path": str(path), **options}), tmp_path / "out", match)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"count": 10}, "at most the source's 10 images, found 11"),
        ({"count": 12, "exceptions": ["a", "b"]}, "at most the source's 10 images"),
        ({"first": 10}, "at most the source's 10 images"),
        ({"exceptions": ["a", "a"]}, "every name once"),
        ({"min_side": 0}, "min_side"),
    ],
)
def test_reading_options_that_cannot_be_met_are_refused_in_the_configuration(options, match):
    with pytest.raises(ValueError, match=match):
        made(dataset({"kind": "folder", "path": "x", **options}))


def test_labels_come_from_sub_folders_where_asked_for(tmp_path):
    names = {f"{'dog' if i % 2 else 'cat'}/deep/{i}.png": encoded(i) for i in range(12)}
    source, path = as_folder(tmp_path, names)
    source = {**source, "path": str(path), "split": "ordered"}
    train, _ = job(dataset({**source, "labels": "folders"}), tmp_path / "out")
    assert [item["label"] for item in train["items"]] == [0] * 6 + [1] * 2
    assert {item["label"] for item in job(dataset(source), tmp_path / "out")[0]["items"]} == {None}
    shutil.rmtree(path / "dog")
    fails(
        dataset({**source, "labels": "folders"}, train=3, heldout=1), tmp_path / "no", r"two sub-folders .* \['cat'\]"
    )


# ---- images that cannot be used --------------------------------------------------------------------------------------


def bad_images():
    jpeg, png = encoded(1, "JPEG", quality=95), encoded(1)
    buffers = {name: io.BytesIO() for name in ("cmyk.jpg", "palette.png", "clear.png", "deep.png", "moving.webp")}
    picture(0).convert("CMYK").save(buffers["cmyk.jpg"], "JPEG")
    picture(0).convert("P").save(buffers["palette.png"], "PNG")
    picture(0).convert("RGBA").save(buffers["clear.png"], "PNG")
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 150).save(buffers["deep.png"], "PNG")
    picture(0).save(buffers["moving.webp"], "WEBP", save_all=True, append_images=[picture(9)])
    dot = io.BytesIO()
    Image.new("RGB", (1, 1)).save(dot, "PNG")
    return {name: buffer.getvalue() for name, buffer in buffers.items()} | {
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "cut.png": png[: len(png) // 2],
        "dot.png": dot.getvalue(),
        "empty.jpg": b"",
        "page.jpg": b"<!DOCTYPE html><html>Not found</html>",
        "text.png": b"hello world",
        "broken.png": png[:12] + b"broken" + png[18:],
    }


REASONS = {
    "cmyk.jpg": "mode CMYK; to bring such images to RGB, set `convert: true`",
    "palette.png": "mode P; to bring",
    "clear.png": "mode RGBA; to bring",
    "deep.png": "mode I;16, 16 bits a channel; to bring",
    "moving.webp": "2 frames",
    "cut.jpg": "Truncated",
    "cut.png": "truncated|broken",
    "dot.png": "1x1 pixels, less than `min_side` 2",
    "empty.jpg": "an empty file",
    "page.jpg": "a web page",
    "text.png": "something else",
    "broken.png": "a damaged image",
}
CONVERTED = ("cmyk.jpg", "palette.png", "clear.png", "deep.png")


@pytest.mark.parametrize("name", REASONS)
def test_an_unusable_image_is_named_and_can_be_left_out(tmp_path, name):
    source, path = as_folder(tmp_path, {**IMAGES, name: bad_images()[name]})
    values = dataset({**source, "path": str(path)}, train=None)
    line = fails(values, tmp_path / "out", "expected usable images only, found 1 that are not")
    assert re.search(rf"{re.escape(name)} \(.*({REASONS[name]})", line), line
    pasted = yaml.safe_load(line.rpartition("out and count them: ")[2].strip("`"))
    train, heldout = job(dataset({**values["source"], **pasted}, train=None), tmp_path / "out")
    assert train["left_out"] == [name] and train["count"] + heldout["count"] == 12


@pytest.mark.parametrize("name", CONVERTED)
def test_unusual_images_are_converted_where_asked_for(tmp_path, name):
    source, path = as_folder(tmp_path, {**IMAGES, name: bad_images()[name]})
    train, heldout = job(dataset({**source, "path": str(path), "convert": True}, train=None), tmp_path / "out")
    assert train["count"] + heldout["count"] == 13


def test_all_unusable_images_of_both_sides_are_found_in_one_pass(tmp_path):
    bad = bad_images()
    source, path = as_folder(tmp_path, {**IMAGES, **bad})
    values = dataset({**source, "path": str(path)}, train=19, heldout=5, flips="appended")
    line = fails(values, tmp_path / "out", f"found {len(bad)} that are not", workers=2)
    pasted = yaml.safe_load(line.rpartition("out and count them: ")[2].strip("`"))
    assert sorted(pasted["exceptions"]) == sorted(bad)
    values = dataset({**values["source"], **pasted}, train=8, heldout=4, flips="appended")
    assert job(values, tmp_path / "out")[0]["left_out"] == sorted(bad)


def test_many_unusable_images_are_counted_and_named_in_the_log(tmp_path, caplog):
    source, path = as_folder(tmp_path, {**IMAGES, **{f"x{i:04d}.png": b"" for i in range(40)}})
    line = fails(dataset({**source, "path": str(path)}, train=45, heldout=0), tmp_path / "out", "that are not")
    found = int(re.search(r"found (\d+)", line)[1])
    assert 30 < found <= 40 and "the log has the line to paste" in line and len(line) < 600
    assert sum("unusable image name=x" in record.message for record in caplog.records) == found


def test_a_dataset_of_nothing_but_damage_stops_early(tmp_path):
    source, path = as_folder(tmp_path, {f"{i:04d}.png": b"" for i in range(images_job.MOST + 500)})
    fails(
        dataset({**source, "path": str(path)}, train=None),
        tmp_path / "out",
        f"found {images_job.MOST} or more; is this the",
    )


def test_a_name_of_another_ending_is_no_harm(tmp_path):
    source, path = as_folder(tmp_path, {**IMAGES, "x.jpg": encoded(3, "PNG"), "y.png": encoded(3, "WEBP")})
    assert job(dataset({**source, "path": str(path)}, train=None), tmp_path / "out")[0]["count"] == 11


def test_a_photograph_with_a_preview_behind_it_is_a_photograph(tmp_path):
    content = io.BytesIO()
    picture(2).save(content, "MPO", save_all=True, append_images=[picture(2).resize((4, 4))])
    source, path = as_folder(tmp_path, {**IMAGES, "phone.jpg": content.getvalue()})
    assert job(dataset({**source, "path": str(path)}, train=None), tmp_path / "out")[0]["count"] == 10


# ---- own data --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [8, 16, 64])
def test_a_folder_of_any_sizes_and_names_works_at_any_resolution(tmp_path, resolution):
    place = tmp_path / "mine"
    sizes = [(2, 2), (3, 200), (200, 3), (17, 31), (64, 64), (300, 129), (1000, 700)]
    for i, size in enumerate(sizes):
        path = place / ("é è/日本" if i % 2 else "") / f"photo {i} – ñ.{('png', 'jpg', 'webp')[i % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(i, *size).save(path)
    picture(5, 40, 30).convert("L").save(place / "grey.jpeg")
    (place / ".hidden.png").write_bytes(b"")
    values = dataset({"kind": "folder", "path": str(place)}, resolution=resolution, train=None, heldout=2)
    train, heldout = job(values, tmp_path / "out")
    assert (train["count"], heldout["count"], train["height"], train["width"]) == (6, 2, resolution, resolution)
    assert any("é è/日本/photo" in item["source"] for item in train["items"] + heldout["items"])


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    source, path = as_folder(tmp_path)
    os.rename(os.fsencode(path / "00-ü.png"), os.fsencode(path) + b"/\xff.png")
    fails(dataset({**source, "path": str(path)}), tmp_path / "out", r"expected names in UTF-8, found b'\\xff.png'")


# ---- downloads -------------------------------------------------------------------------------------------------------


def downloaded(place, files, alternative=0):
    """resources/x as the download job leaves it."""
    folder = place / "resources/x"
    entries = []
    for name, content in files.items():
        path = folder / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        entries.append({"path": name, "url": None, "bytes": len(content), "sha256": digest, "verified": "first use"})
    record = {"format": 1, "id": "x", "origin": {"kind": "manual"}, "alternative": alternative, "files": entries}
    (folder / "download.json").write_text(json.dumps(record))
    return folder / "download.json"


def alternatives(*reads):
    origin = {"kind": "manual", "files": [{"path": "x.zip"}], "instructions": "bring it"}
    return {"kind": "download", "alternatives": [{"origin": origin, "read": read} for read in reads]}


def test_the_alternative_that_was_downloaded_is_read(tmp_path):
    source = alternatives({"kind": "parquet"}, {"kind": "archive", "split": "ordered", "count": 12}, {"kind": "lmdb"})
    _, path = as_zip(tmp_path)
    record = downloaded(tmp_path, {"x.zip": path.read_bytes()}, alternative=1)
    train, _ = job(dataset(source), tmp_path / "out", download=record, records=True)
    assert [item["source"] for item in train["items"]] == sorted(IMAGES)[:8]
    assert train["source"] == {
        "kind": "download",
        "read": "archive",
        "alternative": 1,
        "origin": {"kind": "manual"},
        "files": [{"path": "x.zip", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}],
    }
    settings = json.loads((tmp_path / "out/train.zip.settings.json").read_text())
    assert settings["inputs"]["download"]["sha256"] == hashlib.sha256(record.read_bytes()).hexdigest()
    fails(dataset(source), tmp_path / "no", "expected the dataset's download, found none given")


def test_a_downloaded_lmdb_is_unpacked_beside_the_download(tmp_path):
    _, path = as_lmdb_zip(tmp_path)
    record = downloaded(tmp_path, {"church.zip": path.read_bytes()})
    job(dataset(alternatives({"kind": "lmdb"})), tmp_path / "out", download=record)
    assert [p.name for p in (tmp_path / "resources/x/unpacked").glob("*/*/data.mdb")] == ["data.mdb"]


def test_several_downloaded_files_are_one_dataset_in_their_order(tmp_path):
    _, rows = as_parquet(tmp_path / "p")
    files = {f"data/{p.name}": p.read_bytes() for p in sorted(rows.iterdir())}
    record = downloaded(tmp_path, files)
    one, _ = job(dataset(alternatives({"kind": "parquet", "split": "ordered"})), tmp_path / "one", download=record)
    assert [item["source"] for item in one["items"]] == sorted(IMAGES)[:8]
    halves = [dict(list(IMAGES.items())[:6]), dict(list(IMAGES.items())[6:])]
    zips = {}
    for i, half in enumerate(halves):
        (tmp_path / f"{i}").mkdir()
        zips[f"part{i}.zip"] = as_zip(tmp_path / f"{i}", half)[1].read_bytes()
    record = downloaded(tmp_path / "zips", zips)
    two, _ = job(dataset(alternatives({"kind": "archive", "split": "ordered"})), tmp_path / "two", download=record)
    assert two["content_sha256"] == one["content_sha256"] and two["items"][0]["source"] == "part0.zip/00-ü.png"
    record = downloaded(tmp_path / "loose", IMAGES)
    three, _ = job(dataset(alternatives({"kind": "folder", "split": "ordered"})), tmp_path / "three", download=record)
    assert three["content_sha256"] == one["content_sha256"]


def test_a_downloaded_file_that_changed_is_refused(tmp_path):
    _, path = as_zip(tmp_path)
    record = downloaded(tmp_path, {"x.zip": path.read_bytes()})
    with open(record.parent / "files/x.zip", "r+b") as handle:
        handle.seek(50)
        handle.write(b"?")
    fails(dataset(alternatives({"kind": "archive"})), tmp_path / "out", "expected sha256", download=record)


def test_a_record_of_another_alternative_is_refused(tmp_path):
    _, path = as_zip(tmp_path)
    entry = {"path": path.name, "sha256": "0" * 64}
    download = Download(tmp_path / "download.json", "x", 3, {}, (entry,))
    with pytest.raises(ValueError, match="files of one of 1 alternatives, found 1 of number 3"):
        load(made(dataset(alternatives({"kind": "archive"}))), download=download)


# ---- interruptions and full disks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", [as_folder, as_tar_gz])
def test_a_full_disk_is_said_in_one_line_and_a_good_run_follows(tmp_path, container):
    noise = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), np.uint8)
    images = {}
    for i, pixels in enumerate(noise):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        images[f"{i:02d}.png"] = buffer.getvalue()
    source, path = container(tmp_path, images)
    values = dataset({**source, "path": str(path)}, resolution=64)
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))"
    line = run(values, tmp_path / "out", "--workers", "2", check=False, limit=limit)
    assert re.search("train.zip: expected a writable place, found: File too large; nothing was left half-written", line)
    assert os.listdir(tmp_path / "out") == []
    job(values, tmp_path / "out")
    assert len(open_checked(tmp_path / "out/train.manifest.json", deep=True)) == 8


def test_what_a_killed_job_left_is_removed_by_the_next(tmp_path, monkeypatch):
    source, path = as_folder(tmp_path)
    values = dataset({**source, "path": str(path)})
    settings = json.dumps({"recipe": 1, "dataset": values})
    out = ["--train", str(tmp_path / "out/train.zip"), "--heldout", str(tmp_path / "out/heldout.zip")]
    killed = "import lct.jobs.images as p, os; p.encode = lambda *a: os.kill(os.getpid(), 9)"
    program = f"{killed}; from lct.jobs.images import main; main()"
    done = subprocess.run([sys.executable, "-c", program, "--settings", settings, *out], check=False)
    assert done.returncode == -9 and any(name.endswith(".partial") for name in os.listdir(tmp_path / "out"))
    monkeypatch.setattr(sys, "argv", ["images", "--settings", settings, *out, "--workers", "2", "--download"])
    assert images_job.main() == 0
    assert not any(name.endswith(".partial") for name in os.listdir(tmp_path / "out"))


# ---- the empty held-out side and large manifests ---------------------------------------------------------------------


def test_a_dataset_that_holds_nothing_out_has_an_empty_set(tmp_path):
    source, path = as_folder(tmp_path)
    _, heldout = job(dataset({**source, "path": str(path)}, train=12, heldout=0), tmp_path / "out")
    assert heldout["count"] == 0 and heldout["items"] == []
    opened = open_checked(tmp_path / "out/heldout.manifest.json", deep=True)
    assert len(opened) == 0 and opened.array().shape[0] == 0 and list(opened.batches(4)) == []
