"""Sources and latent statistics: splits without leaks, equal draws, decoding of anything, parity in float64."""

import dataclasses
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from lct.data.decode import centre_crop, decode
from lct.data.latents import (
    LatentMoments,
    LatentStatistics,
    check_finite,
    check_normalised,
    from_moments,
)
from lct.data.readers import CONTAINERS
from lct.data.settings import (
    DataSettings,
    DigitsSource,
    Encoding,
    FolderSource,
    PatchesSource,
    Source,
    TrainedAutoencoder,
)
from lct.data.sources import COMPUTED, load
from tests.helpers.latents import statistics


def digits(**changes):
    return DataSettings(
        **{"title": "d", "source": DigitsSource(), "resolution": 16, "train": 60, "heldout": 40, **changes}
    )


def patches(train=60, heldout=40, resolution=16, split_seed=0, **changes):
    source = PatchesSource(**{"photograph": "china", **changes})
    return DataSettings(
        title="p", source=source, resolution=resolution, train=train, heldout=heldout, split_seed=split_seed
    )


def read_image(path, resolution, convert=False):
    return decode(path.read_bytes, str(path), resolution, convert)


def picture(split, index):
    return next(split.tasks([index]))()


def pictures(split):
    return [task() for task in split.tasks(range(len(split)))]


def place(item):
    return tuple(map(int, item["source"].split()[1].split(",")))


@pytest.mark.parametrize("dataset", [digits(), patches(), patches(split="regions", colour=False)])
def test_a_source_gives_what_it_declares_and_gives_it_again(dataset):
    first, again = load(dataset), load(dataset)
    for name, count in (("train", 60), ("heldout", 40)):
        side, other = getattr(first, name), getattr(again, name)
        images = np.stack(pictures(side))
        assert images.shape == (count, 16, 16, 3) and images.dtype == np.uint8 and len(side.items) == count
        assert images.std() > 10  # pictures, not blanks
        np.testing.assert_array_equal(images, np.stack(pictures(other)))
        assert side.items == other.items
    assert load(dataclasses.replace(dataset, split_seed=1)).train.items != first.train.items


def test_no_original_digit_is_on_both_sides():
    sides = load(digits(train=6000, heldout=2000))
    train, heldout = ({item["source"] for item in side.items} for side in (sides.train, sides.heldout))
    assert not train & heldout and len(train) == 1197 and len(heldout) == 600


def test_digits_are_drawn_evenly_and_carry_their_class():
    from sklearn.datasets import load_digits

    sides = load(digits(train=6000))
    originals = np.array([int(item["source"].split()[1]) for item in sides.train.items])
    counts = np.bincount(originals)
    assert set(counts[counts > 0]) == {5, 6}
    np.testing.assert_array_equal(load_digits().target[originals], [item["label"] for item in sides.train.items])


def test_digits_without_jitter_are_the_enlarged_originals():
    from sklearn.datasets import load_digits

    dataset = digits(source=DigitsSource(rotate=0, zoom=0, shift=0), resolution=8)
    sides = load(dataset)
    originals = load_digits().images
    for item, image in list(zip(sides.train.items, pictures(sides.train), strict=True))[:10]:
        original = 255 / 16 * originals[int(item["source"].split()[1])]
        assert np.abs(image[:, :, 0] - original).mean() < 16  # bicubic up, box down: soft, but the same digit
        assert np.corrcoef(image[:, :, 0].ravel(), original.ravel())[0, 1] > 0.97


def test_jitter_makes_different_images_of_one_original():
    sides = load(digits(train=2400))
    by_original = {}
    for i, item in enumerate(sides.train.items):
        by_original.setdefault(item["source"], []).append(i)
    first, second = next(iter(by_original.values()))[:2]
    assert not np.array_equal(picture(sides.train, first), picture(sides.train, second))


@pytest.mark.parametrize("split", ["positions", "regions"])
def test_patches_are_distinct_crops_of_the_photograph(split):
    sides = load(patches(train=2000, heldout=1000, split=split))
    train, heldout = ([place(item) for item in side.items] for side in (sides.train, sides.heldout))
    assert len(set(train)) == 2000 and len(set(heldout)) == 1000 and not set(train) & set(heldout)
    from sklearn.datasets import load_sample_image

    half = np.array(Image.fromarray(load_sample_image("china.jpg")).reduce(2))
    top, left = train[7]
    np.testing.assert_array_equal(picture(sides.train, 7), half[top : top + 16, left : left + 16])


def test_enlarged_photographs_give_softer_crops_of_the_same_places():
    sharp, soft = load(patches()), load(patches(shrink=4, enlarge=2))
    assert max(place(item)[0] for item in soft.train.items) > 100  # places are counted in the resized photograph

    def roughness(side):
        return np.mean([np.abs(np.diff(image.astype(float), axis=1)).mean() for image in pictures(side)])

    assert roughness(soft.train) < 0.7 * roughness(sharp.train)


def test_crops_of_two_regions_share_no_pixel():
    sides = load(patches(train=3000, heldout=2000, split="regions"))
    covered = {name: np.zeros((214, 320), bool) for name in ("train", "heldout")}
    for name, mask in covered.items():
        for item in getattr(sides, name).items:
            top, left = place(item)
            mask[top : top + 16, left : left + 16] = True
    assert not (covered["train"] & covered["heldout"]).any()
    assert covered["train"].mean() > 0.4 and covered["heldout"].mean() > 0.15


def test_a_patch_is_labelled_with_its_cell():
    sides = load(patches(train=500, cells=(2, 3)))
    for item in sides.train.items:
        top, left = place(item)
        assert item["label"] == (top + 8 >= 214 / 2) * 3 + int((left + 8) / (320 / 3))
    assert {item["label"] for item in sides.train.items} == set(range(6))


def test_grey_patches_have_three_equal_channels():
    image = picture(load(patches(colour=False)).train, 0)
    assert (image[:, :, 0] == image[:, :, 1]).all() and (image[:, :, 0] == image[:, :, 2]).all()


def test_too_many_patches_are_refused():
    with pytest.raises(ValueError, match="expected at most .* crops of china, found 90000"):
        load(patches(train=90_000))


def test_flips_follow_the_images_they_mirror():
    sides = load(digits(flips="appended"))
    assert len(sides.train) == 120 and len(sides.heldout) == 40
    np.testing.assert_array_equal(picture(sides.train, 63), picture(sides.train, 3)[:, ::-1])
    assert sides.train.items[63] == {
        "source": sides.train.items[3]["source"] + " mirrored",
        "label": sides.train.items[3]["label"],
    }


# ---- folders ---------------------------------------------------------------------------------------------------


def gradient(width, height, mode="RGB"):
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([255 * x // max(1, width - 1), 255 * y // max(1, height - 1), 0 * x + 90], -1).astype(np.uint8)
    return Image.fromarray(rgb).convert(mode)


def folder_dataset(path, **changes):
    return DataSettings(**{"title": "f", "source": FolderSource(path=str(path)), "resolution": 8, **changes})


@pytest.fixture
def mixed_folder(tmp_path):
    place = tmp_path / "pictures"
    (place / "deeper").mkdir(parents=True)
    gradient(20, 30).save(place / "a.png")
    gradient(64, 16).save(place / "b.JPG", quality=95)
    gradient(9, 8).save(place / "c.webp", lossless=True)
    gradient(8, 8, "L").save(place / "deeper/d.png")
    (place / "notes.txt").write_text("not an image")
    return place


def test_a_folder_of_mixed_images_is_read_in_a_seeded_order(mixed_folder, monkeypatch):
    sides = load(folder_dataset(mixed_folder, heldout=1))
    names = [item["source"] for item in sides.train.items + sides.heldout.items]
    assert sorted(names) == ["a.png", "b.JPG", "c.webp", "deeper/d.png"] and len(sides.train) == 3
    assert {image.shape for image in [*pictures(sides.train), *pictures(sides.heldout)]} == {(8, 8, 3)}
    flat = FolderSource(path=str(mixed_folder), recursive=False)
    assert len(load(folder_dataset(mixed_folder, source=flat)).train) == 3
    monkeypatch.chdir(mixed_folder.parent)
    assert len(load(folder_dataset(mixed_folder.name)).train) == 4


def test_the_first_images_of_a_folder_can_be_asked_for(mixed_folder):
    source = FolderSource(path=str(mixed_folder), first=2)
    sides = load(folder_dataset(mixed_folder, source=source))
    assert {item["source"] for item in sides.train.items} == {"a.png", "b.JPG"}
    with pytest.raises(ValueError, match="expected 9 images .* found 4"):
        load(folder_dataset(mixed_folder, source=dataclasses.replace(source, first=9)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_mode_with_a_way_to_rgb_is_read(tmp_path, mode):
    if mode == "I;16":
        path = tmp_path / "x.png"
        Image.fromarray((np.arange(64, dtype=np.uint16) * 1024).reshape(8, 8)).save(path)
        expected = np.repeat((np.arange(64) * 4).reshape(8, 8, 1), 3, 2)
    else:
        path = tmp_path / ("x.tif" if mode in ("CMYK", "YCbCr") else "x.png")
        image = gradient(8, 8, mode)
        image.save(path)
        expected = np.array(image.convert("RGB"))
    found = read_image(path, 8, convert=True)
    assert found.shape == (8, 8, 3) and np.abs(found.astype(int) - expected).max() <= (3 if mode == "YCbCr" else 0)


def test_transparent_pixels_become_white(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "x.png")
    assert (read_image(tmp_path / "x.png", 4, convert=True) == 255).all()


@pytest.mark.parametrize(("mode", "ending"), [("P", "png"), ("RGBA", "png"), ("CMYK", "tif"), ("I;16", "png")])
def test_an_image_that_is_not_rgb_or_grey_is_refused_by_name_unless_conversion_is_asked_for(tmp_path, mode, ending):
    path = tmp_path / f"x.{ending}"
    Image.new(mode, (8, 8)).save(path)
    with pytest.raises(ValueError, match=rf"x\.{ending}: expected .*found mode {mode}.*set `convert: true`"):
        read_image(path, 8)
    assert read_image(path, 8, convert=True).shape == (8, 8, 3)


def test_grey_is_written_three_times(tmp_path):
    gradient(8, 8, "L").save(tmp_path / "x.png")
    found = read_image(tmp_path / "x.png", 8)
    assert (found == found[..., :1]).all() and found.std() > 0


def test_a_rotated_photograph_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned a quarter clockwise
    gradient(8, 8).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", 8), np.rot90(np.array(gradient(8, 8)), -1))


def test_a_single_pixel_becomes_a_flat_image(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "x.png")
    assert (read_image(tmp_path / "x.png", 8) == (1, 2, 3)).all()


def broken_files(place):
    gradient(16, 16).save(place / "whole.png")
    content = (place / "whole.png").read_bytes()
    (place / "cut.png").write_bytes(content[: len(content) // 2])
    gradient(64, 64).save(place / "whole.jpg")
    content = (place / "whole.jpg").read_bytes()
    (place / "cut.jpg").write_bytes(content[: len(content) // 2])
    (place / "empty.png").write_bytes(b"")
    (place / "page.png").write_text("<html>404</html>")
    gradient(8, 8).save(place / "animated.webp", save_all=True, append_images=[gradient(8, 8).rotate(90)])
    Image.fromarray(np.random.default_rng(0).random((8, 8), np.float32)).save(place / "floats.tif")
    return ["cut.png", "cut.jpg", "empty.png", "page.png", "animated.webp", "floats.tif"]


def test_every_unusable_image_is_named_in_one_line(tmp_path):
    for name in broken_files(tmp_path):
        with pytest.raises(ValueError) as error:
            read_image(tmp_path / name, 8)
        assert f"{name}: expected a whole still image" in str(error.value) and "\n" not in str(error.value), name


def test_empty_and_missing_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match="expected images ending in"):
        load(folder_dataset(tmp_path))
    with pytest.raises(FileNotFoundError, match="expected a folder of images"):
        load(folder_dataset(tmp_path / "nothing"))


def test_a_folder_with_too_few_images_is_refused(mixed_folder):
    with pytest.raises(ValueError, match="found 4 images in all"):
        load(folder_dataset(mixed_folder, heldout=4))
    with pytest.raises(ValueError, match="found 4 images in all"):
        load(folder_dataset(mixed_folder, heldout=2, train=3))


def test_the_centre_crop_halves_scales_and_cuts_the_middle():
    assert centre_crop(gradient(70, 33), 8).size == (8, 8)
    exact = np.array(gradient(32, 32)).reshape(16, 2, 16, 2, 3).mean((1, 3))
    np.testing.assert_allclose(np.array(centre_crop(gradient(32, 32), 16)), exact, atol=1)  # one halving, no more
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200
    assert (np.array(centre_crop(Image.fromarray(wide), 8)) == 200).all()


# ---- settings --------------------------------------------------------------------------------------------------


def test_every_kind_of_source_has_a_function():
    assert {cls.kind for cls in get_args(get_args(Source)[0])} == {*COMPUTED, *CONTAINERS, "download"}


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: digits(resolution=18), "multiple of 4"),
        (lambda: digits(train=None), "train with source digits"),
        (lambda: digits(heldout=-1), "heldout"),
        (lambda: DigitsSource(heldout_originals=1797), "1 to 1796"),
        (lambda: patches(split="regions", block=8), "at least the resolution"),
        (lambda: TrainedAutoencoder(block_out_channels=(12,)), "multiples of norm_groups"),
        (lambda: TrainedAutoencoder(steps=0), "autoencoder.steps"),
        (lambda: Encoding(sigma_data=0.0), "sigma_data"),
    ],
)
def test_contradictory_settings_are_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


# ---- latents ---------------------------------------------------------------------------------------------------


def latents(count=200, seed=0):
    draws = torch.Generator().manual_seed(seed)
    scale = torch.rand(4, 3, 3, generator=draws) * 5 + 0.1
    return torch.randn(count, 4, 3, 3, generator=draws) * scale + 100 * torch.randn(4, 3, 3, generator=draws)


@pytest.mark.parametrize("normalisation, axes", [("per-element", (0,)), ("per-channel", (0, 2, 3))])
def test_statistics_and_normalisation_match_numpy(normalisation, axes):
    z = latents()
    exact = z.numpy().astype(np.float64)
    mean, std = exact.mean(axes, keepdims=True)[0], exact.std(axes, ddof=1, keepdims=True)[0]
    found = statistics(z, Encoding(normalisation=normalisation))
    np.testing.assert_allclose(found.mean.numpy(), mean, rtol=1e-12)
    np.testing.assert_allclose(found.std.numpy(), std, rtol=1e-10)
    x = found.normalise(z.double())
    np.testing.assert_allclose(x.numpy(), 0.5 * (exact - mean) / std, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.denormalise(x), z.double(), rtol=1e-12, atol=1e-12)
    check_normalised(found.normalise(z), found, "test")


@pytest.mark.parametrize("cuts", [[200], [1, 199], [0, 50, 50, 100], [67, 67, 66]])
def test_moments_do_not_depend_on_how_the_latents_are_divided(cuts):
    z = latents()
    whole, merged = LatentMoments().update(z), LatentMoments()
    for part in z.split(cuts):
        merged.update(part)
    assert merged.count == whole.count == 200
    torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(merged.std(), whole.std(), rtol=1e-12, atol=1e-12)


def test_moments_survive_a_large_offset():
    z = torch.randn(1000, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    far = LatentMoments().update(z[:500] + 1e8).update(z[500:] + 1e8)
    torch.testing.assert_close(far.std(), z.std(0), rtol=1e-7, atol=0)


def test_statistics_travel_as_tensors():
    found = statistics(latents(), Encoding(sigma_data=0.25))
    again = LatentStatistics.from_tensors(found.tensors())
    z = latents(8, seed=3)
    assert again.sigma_data == 0.25 and torch.equal(again.normalise(z), found.normalise(z))


def test_a_constant_factor_on_all_latents_changes_nothing():
    z = latents()
    plain, scaled = statistics(z, Encoding()), statistics(0.18215 * z, Encoding())
    torch.testing.assert_close(scaled.normalise(0.18215 * z), plain.normalise(z), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factor", [0.18215, 1 / 0.18215, 1.03, 0.97])
@pytest.mark.parametrize("normalisation", ["per-element", "per-channel"])
def test_statistics_of_other_latents_are_noticed(factor, normalisation):
    z = latents()
    found = statistics(z, Encoding(normalisation=normalisation))
    with pytest.raises(ValueError, match="standard deviation 0.5 within 2 %"):
        check_normalised(found.normalise(z) * factor, found, "latents of test")


def test_constant_latents_have_no_statistics():
    z = latents()
    z[:, 2, 1, 1] = 3.0
    with pytest.raises(ValueError, match="1 of 36 without"):
        statistics(z, Encoding())
    with pytest.raises(ValueError, match="2 or more images"):
        from_moments(LatentMoments().update(z[:1]), Encoding())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_latent_that_is_not_finite_is_named(bad):
    z = latents(5)
    z[3, 0, 0, 0] = bad
    with pytest.raises(ValueError, match="somewhere: image 103: expected finite latents"):
        check_finite(z, "somewhere", first=100)
