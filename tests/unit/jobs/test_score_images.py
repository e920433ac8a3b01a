"""Images made elsewhere: read as they are, or refused in one line."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from lct.data.given import given_images
from lct.data.imageset import ImageSet
from lct.jobs.score_images import score_images, write_set
from lct.plan.plan import Plan
from tests.helpers import ROOT

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def places(tmp_path):
    """The same images as a folder, a zip, an npz and an npy file."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for i, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    np.savez(tmp_path / "images.npz", PIXELS, np.arange(6))  # with labels, as samplers of others write them
    np.save(tmp_path / "images.npy", PIXELS)
    return [folder, *(tmp_path / f"images.{kind}" for kind in ("zip", "npz", "npy"))]


def test_a_folder_a_zip_and_arrays_give_the_same_set(places, tmp_path):
    contents = [write_set(tmp_path / "out.zip", place, 8, 5)["content_sha256"] for place in places]
    assert len(set(contents)) == 1
    with ImageSet(tmp_path / "out.zip") as images:
        assert np.array_equal(images.array(), PIXELS[:5])


def damaged(folder):
    content = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(content[: len(content) // 2])


def other_size(folder):
    Image.fromarray(PIXELS[0]).resize((9, 8)).save(folder / "2.png")


@pytest.mark.parametrize(
    ("change", "count", "message"),
    [
        (damaged, 6, r"folder: 2\.png: expected a whole still image"),
        (other_size, 6, r"folder: 2\.png: expected 8 x 8 pixels, as the real images have, found 9 x 8"),
        (lambda folder: (folder / "5.png").unlink(), 6, r"folder: expected 6 images, as the protocol says, found 5"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], 6, r"folder: expected images .*found none"),
    ],
)
def test_a_folder_that_cannot_be_measured_ends_in_one_line(places, change, count, message):
    change(places[0])
    with pytest.raises(ValueError, match=message) as caught:
        list(given_images(places[0], 8, count))
    assert "\n" not in str(caught.value)


def test_an_array_that_cannot_be_measured_ends_in_one_line(places, tmp_path):
    for place in places[2:]:
        with pytest.raises(ValueError, match=r"expected 7 images, as the protocol says, found 6"):
            list(given_images(place, 8, 7))
        with pytest.raises(ValueError, match=r"expected 4 x 4 pixels, .* found 8 x 8"):
            list(given_images(place, 4, 6))
        place.write_bytes(place.read_bytes()[:200])
        with pytest.raises(ValueError, match=r"expected a whole np[yz] file, found "):
            list(given_images(place, 8, 6))
    np.save(tmp_path / "floats.npy", PIXELS / 255)
    with pytest.raises(ValueError, match=r"expected one array \(N, H, W, 3\) of uint8, found float64"):
        list(given_images(tmp_path / "floats.npy", 8, 6))
    with pytest.raises(ValueError, match=r"nothing: expected a folder, zip, tar, npz or npy of images, found nothing"):
        list(given_images(tmp_path / "nothing", 8, 6))


def test_without_references_the_command_that_makes_them_is_named(places, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"snakemake results/smoke/features/reference/digits/.* --config scale=smoke"):
        score_images(Plan(ROOT, {"scale": "smoke"}), "digits", places[0])
