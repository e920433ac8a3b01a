"""The image-set format: round trips, equal bytes, parallel reads, and what a damaged file says."""

import io
import json
import multiprocessing
import os
import threading
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from lct.data.imageset import ImageSet, labels, open_checked, write_grid, write_imageset


def pictures(count, height=5, width=7, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.fixture
def written(tmp_path):
    images = pictures(11)
    items = [{"source": f"picture {i}", "label": i % 3} for i in range(11)]
    manifest = write_imageset(tmp_path / "set.zip", iter(images), items=items)
    (tmp_path / "set.json").write_text(json.dumps(manifest))
    return tmp_path, images, manifest


def test_what_is_read_is_what_was_written(written):
    folder, images, manifest = written
    opened = open_checked(folder / "set.json", deep=True)
    np.testing.assert_array_equal(opened.array(), images)
    np.testing.assert_array_equal(opened[-1], images[-1])
    np.testing.assert_array_equal(opened.array(3, 6), images[3:6])
    assert (len(opened), opened.height, opened.width) == (11, 5, 7)
    assert labels(folder / "set.json") == [i % 3 for i in range(11)]
    with pytest.raises(IndexError):
        opened[11]


def test_the_file_is_a_plain_zip_of_stored_images(written):
    folder, images, _ = written
    with zipfile.ZipFile(folder / "set.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"{i:06d}.webp" for i in range(11)]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(archive.read("000004.webp")))), images[4])


def test_equal_images_give_equal_bytes_whenever_they_are_written(written, tmp_path, monkeypatch):
    folder, images, manifest = written
    monkeypatch.setattr(time, "time", lambda: 2e9)
    again = write_imageset(tmp_path / "later.zip", images, items=manifest["items"], name="set.zip")
    assert again == manifest
    assert (tmp_path / "later.zip").read_bytes() == (folder / "set.zip").read_bytes()


def test_the_content_hash_knows_the_pixels_and_their_order_only(written, tmp_path):
    _, images, manifest = written
    assert write_imageset(tmp_path / "b.zip", images)["content_sha256"] == manifest["content_sha256"]
    assert write_imageset(tmp_path / "c.zip", images[::-1])["content_sha256"] != manifest["content_sha256"]


@pytest.mark.parametrize("size", [1, 4, 11, 16])
def test_batches_are_all_full_and_cover_every_image_once(written, size):
    folder, images, _ = written
    seen = []
    for start, batch, valid in ImageSet(folder / "set.zip").batches(size):
        assert batch.shape == (size, 5, 7, 3) and start == len(seen)
        seen.extend(batch[:valid])
    np.testing.assert_array_equal(np.stack(seen), images)


def test_batches_stop_at_a_limit(written):
    folder, _, _ = written
    assert [(start, valid) for start, _, valid in ImageSet(folder / "set.zip").batches(4, limit=6)] == [(0, 4), (4, 2)]


def test_one_set_serves_many_threads_and_travels_to_other_processes(written):
    folder, images, _ = written
    opened, wrong = ImageSet(folder / "set.zip"), []

    def read(offset):
        for i in range(200):
            index = (i * 7 + offset) % 11
            if not np.array_equal(opened[index], images[index]):
                wrong.append(index)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong


def test_one_open_set_serves_forked_processes_at_once(tmp_path):
    path, images = tmp_path / "a.zip", pictures(64, 32, 32)
    write_imageset(path, images)
    with ImageSet(path) as opened:

        def read(first):
            os._exit(any(not np.array_equal(opened[i % 64], images[i % 64]) for i in range(first, first + 640)))

        processes = [multiprocessing.get_context("fork").Process(target=read, args=(16 * n,)) for n in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "images, message",
    [
        ([], "at least one image"),
        ([np.zeros((4, 4), np.uint8)], "uint8"),
        ([np.zeros((4, 4, 3), np.float32)], "uint8"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)], "image 1"),
    ],
)
def test_images_that_do_not_fit_are_refused(tmp_path, images, message):
    with pytest.raises(ValueError, match=message):
        write_imageset(tmp_path / "set.zip", images)


def test_items_must_match_the_images(tmp_path):
    with pytest.raises(ValueError, match="1 for 2 images"):
        write_imageset(tmp_path / "set.zip", pictures(2), items=[{"source": "a", "label": None}])


def one_line(error):
    assert "\n" not in str(error.value), str(error.value)
    return str(error.value)


def test_every_truncation_is_noticed(written):
    folder, _, _ = written
    content = (folder / "set.zip").read_bytes()
    for tenth in range(10):
        (folder / "set.zip").write_bytes(content[: len(content) * tenth // 10])
        with pytest.raises(ValueError, match="expected .* bytes") as error:
            open_checked(folder / "set.json")
        one_line(error)
        with pytest.raises(ValueError, match="damaged zip") as error:
            ImageSet(folder / "set.zip")
        one_line(error)


def test_a_changed_byte_is_noticed_by_the_hash(written):
    folder, _, _ = written
    content = bytearray((folder / "set.zip").read_bytes())
    content[60] ^= 1
    (folder / "set.zip").write_bytes(content)
    with pytest.raises(ValueError, match="expected sha256"):
        open_checked(folder / "set.json", deep=True)


def test_an_image_damaged_inside_is_named(written):
    folder, _, manifest = written
    content = bytearray((folder / "set.zip").read_bytes())
    start = content.index(b"RIFF", content.index(b"000002.webp"))
    content[start : start + 4] = b"JUNK"
    (folder / "set.zip").write_bytes(content)
    opened = ImageSet(folder / "set.zip")
    opened[1], opened[3]
    with pytest.raises(ValueError, match="image 2: expected a whole RGB image") as error:
        opened[2]
    one_line(error)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', "not json"])
def test_a_broken_manifest_is_named(tmp_path, text):
    (tmp_path / "set.json").write_text(text)
    with pytest.raises(ValueError, match="set.json: expected a manifest") as error:
        open_checked(tmp_path / "set.json")
    one_line(error)


def test_missing_files_are_named(written):
    folder, _, _ = written
    with pytest.raises(FileNotFoundError, match="nothing.json"):
        open_checked(folder / "nothing.json")
    (folder / "set.zip").unlink()
    with pytest.raises(FileNotFoundError, match="set.zip"):
        open_checked(folder / "set.json")


def test_another_zip_is_not_an_image_set(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match="a zip of 1 other files"):
        ImageSet(tmp_path / "other.zip")


def test_a_grid_places_images_in_rows_and_repeats_its_bytes(tmp_path):
    images = pictures(5, 4, 4)
    for name in ("a.png", "b.png"):
        write_grid(tmp_path / name, images, 3, scale=2)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    grid = np.array(Image.open(tmp_path / "a.png"))
    assert grid.shape == (2 * 9 + 1, 3 * 9 + 1, 3)
    np.testing.assert_array_equal(grid[10:18:2, 10:18:2], images[4])
    assert (grid[10:18, 19:27] == 255).all()  # the sixth place is empty
