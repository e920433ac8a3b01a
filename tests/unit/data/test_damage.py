"""Damage that decoders pass over is named; whole files of every kind are taken; thin images take little memory."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lct.data.decode import UnusableImageError, centre_crop, decode, fault
from lct.data.readers import open_images


def encoded(pixels, kind="JPEG", mode=None, **options):
    out = io.BytesIO()
    Image.fromarray(pixels, mode).save(out, kind, **options)
    return out.getvalue()


def noise(*shape):
    return np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)


def reason(content):
    """Why an image is refused; None where it is taken."""
    try:
        decode(lambda: content, "x", 16, convert=True)
    except UnusableImageError as error:
        return error.reason
    return None


NOISE, GREY = noise(72, 80, 3), np.full((72, 80, 3), 128, np.uint8)
WHOLE = {
    "sequential": encoded(NOISE),
    "best": encoded(NOISE, quality=100, subsampling=0, optimize=True),
    "grey level": encoded(noise(33, 17)),
    "progressive": encoded(NOISE, progressive=True),
    "progressive grey level": encoded(noise(72, 80), progressive=True),
    "restarts": encoded(NOISE, restart_marker_blocks=2),
    "CMYK": encoded(noise(40, 40, 4), mode="CMYK", quality=90),
    "all of the grey of missing blocks": encoded(GREY),
    "grey of missing blocks, with restarts": encoded(GREY, restart_marker_blocks=1),
    "thumbnail inside, bytes behind": encoded(NOISE, exif=b"Exif\0\0" + encoded(NOISE)) + bytes(500),
    "PNG": encoded(NOISE, "PNG"),
    "PNG, bytes behind": encoded(NOISE, "PNG") + b"more",
    "WebP": encoded(NOISE, "WEBP"),
    "flat WebP": encoded(GREY, "WEBP"),
    "flat lossless WebP": encoded(np.zeros((300, 300, 3), np.uint8), "WEBP", lossless=True, quality=0, method=0),
    "GIF": encoded(noise(20, 20), "GIF"),
    "TIFF": encoded(NOISE, "TIFF"),
    "deflated TIFF": encoded(NOISE, "TIFF", compression="tiff_adobe_deflate"),
    "deflated TIFF of many strips": encoded(noise(900, 80, 3), "TIFF", compression="tiff_deflate"),
    "BMP": encoded(NOISE, "BMP"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_are_taken(name):
    assert reason(WHOLE[name]) is None


@pytest.mark.parametrize("name", ["sequential", "best", "grey level", "progressive", "restarts", "CMYK"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_jpeg_that_is_cut_off_zeroed_or_ended_early_is_named(name, share):
    content = WHOLE[name]
    kept = content[: max(int(len(content) * share), content.rindex(b"\xff\xda") + 40 if "pro" not in name else 0)]
    assert reason(kept) is not None
    assert reason(kept + bytes(len(content) - len(kept))) is not None
    if name != "restarts":  # libjpeg looks for the next restart marker itself
        assert "cut off" in reason(kept + b"\xff\xd9")


def test_a_wrong_checksum_of_deflated_tiff_data_is_named():
    smooth = np.linspace(0, 200, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8) + noise(64, 64, 3) // 8
    content = bytearray(encoded(smooth, "TIFF", compression="tiff_adobe_deflate"))
    third = len(content) // 3
    content[third : third + 64] = bytes(64)
    with Image.open(io.BytesIO(content)) as image:
        assert (np.asarray(image) != smooth).mean() > 0.1, "Pillow reads it"
    assert reason(bytes(content)) == "deflated data with a wrong checksum"


def test_checksums_of_png_chunks_are_checked_and_the_last_chunk_is_there():
    content = bytearray(WHOLE["PNG"])
    content[content.index(b"IEND") - 8 + 2] ^= 1  # within the checksum of the image data
    assert reason(bytes(content)) == "a wrong checksum of chunk IDAT"
    assert reason(WHOLE["PNG"][:-12]) == "no last chunk (IEND): it is cut off"


def test_a_webp_whose_end_was_not_written_is_named():
    content = WHOLE["WebP"]
    assert reason(content[: len(content) // 2] + bytes(len(content) - len(content) // 2)).startswith("data that end in")
    assert reason(content[:-20]) is not None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(99), "a HEIC image.*pip install pillow-heif"),
        (b"\0\0\0\x18ftypavif" + bytes(99), "AVIF image|damage|unable|[Ff]ailed|Invalid"),
        (b"\xff\x0a" + bytes(99), "a JPEG XL image.*pillow-jxl-plugin"),
        (b"<html>", "a web page"),
    ],
)
def test_images_that_cannot_be_read_here_say_what_reads_them(content, words):
    assert re.search(words, reason(content))


@pytest.mark.parametrize("pixels", [NOISE, GREY, np.zeros((72, 80, 3), np.uint8)])
def test_avif_is_read_and_an_end_that_was_not_written_is_named(pixels):
    content = encoded(pixels, "AVIF")
    assert reason(content) is None
    assert reason(content[:-9]) is not None
    if len(content) > 1000:
        assert reason(content[:600] + bytes(len(content) - 600)).startswith("data that end in zeros")


def test_of_other_formats_nothing_is_known():
    with Image.open(io.BytesIO(WHOLE["BMP"])) as image:
        assert fault(b"", image) is None


def test_of_a_very_thin_image_only_the_middle_is_scaled(monkeypatch):
    image = Image.fromarray(noise(3, 400, 3))
    expected = np.asarray(centre_crop(image, 24)).astype(int)
    monkeypatch.setattr("lct.data.decode.LARGEST_SCALED", 1)
    assert np.abs(np.asarray(centre_crop(image, 24)) - expected).max() <= 40  # the middle falls between two pixels
    assert np.asarray(centre_crop(Image.new("RGB", (2, 60000), "red"), 64))[..., 0].min() == 255


def test_memory_that_runs_out_names_the_image(monkeypatch):
    def exhausted(*_):
        raise MemoryError

    monkeypatch.setattr("lct.data.decode.centre_crop", exhausted)
    with pytest.raises(MemoryError, match="photograph.png: expected enough memory"):
        decode(lambda: WHOLE["PNG"], "photograph.png", 16)


# --- depths and polarities --------------------------------------------------------------------------------------------
def tiff(values, bits, photometric, order="<"):
    """An uncompressed grey TIFF of one strip."""
    rows = [[sum(int(v) << bits * (7 - i) for i, v in enumerate(row))] for row in values]  # 8 pixels a number
    data = b"".join(number.to_bytes(bits, "big") for (number,) in rows)
    if bits == 16:
        data = values.astype(f"{order}u2").tobytes()
    height, width = values.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8 + 2 + 12 * 9 + 4, 277: 1, 278: height}
    tags[279] = len(data)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    entries = [struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items()]
    return head + b"".join(entries) + bytes(4) + data


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("photometric", [0, 1])
def test_grey_levels_of_every_depth_and_polarity(bits, photometric):
    """A ramp from black to white, also where 0 is white."""
    ramp = np.tile(np.linspace(0, 1, 8), (8, 1))
    stored = np.round((ramp if photometric else 1 - ramp) * (2**bits - 1)).astype(np.int64)
    pixels = decode(lambda: tiff(stored, bits, photometric), "x", 8, convert=True)
    np.testing.assert_allclose(pixels[..., 0], np.round(ramp * (2**bits - 1)) * 255 / (2**bits - 1), atol=1)


@pytest.mark.parametrize("photometric", [0, 1])
def test_big_endian_greys_are_right_or_named(photometric):
    ramp = np.tile(np.linspace(0, 65535, 8).astype(np.int64), (8, 1))
    content = tiff(ramp if photometric else 65535 - ramp, 16, photometric, ">")
    if (why := reason(content)) is None:
        assert (decode(lambda: content, "x", 8, convert=True)[..., 0] == ramp >> 8).all()
    else:
        assert not photometric and "TIFF" in why


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "I;16"])
def test_png_depths_and_transparent_palettes(mode):
    """Black on white, transparent where it is white, in every mode of a PNG."""
    grey = np.repeat([[0, 255]], 8, axis=0).repeat(4, axis=1).astype(np.uint8)
    image = Image.fromarray(grey)
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(255 - grey))
        image = image.convert(mode)
    else:
        image = image.convert(mode)
    out = io.BytesIO()
    image.save(out, "PNG", **({"transparency": 255} if mode == "P" else {}))
    assert (decode(out.getvalue, "x", 8, convert=True)[..., 0] == grey).all()
    assert "convert: true" in (reason_without_conversion(out.getvalue()) or "convert: true")


def reason_without_conversion(content):
    try:
        decode(lambda: content, "x", 8)
    except UnusableImageError as error:
        return error.reason
    return None


def png_of_16_bits(pixels, colour_type):
    """A PNG with 16 bits a channel, which Pillow does not write; pixels: (H, W, channels) uint16."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("colour_type", [4, 6])
def test_transparency_of_16_bits_is_laid_over_white(colour_type):
    """White above black, the lower quarter transparent."""
    grey = np.zeros((8, 8, 1), np.uint16)
    grey[:4] = 65535
    alpha = np.full((8, 8, 1), 65535, np.uint16)
    alpha[6:] = 0
    content = png_of_16_bits(np.concatenate([grey] * (1 if colour_type == 4 else 3) + [alpha], 2), colour_type)
    assert decode(lambda: content, "x", 8, convert=True)[:, 0, 0].tolist() == [255] * 4 + [0] * 2 + [255] * 2
    assert "convert: true" in reason_without_conversion(content)


def colours_of_16_bits(kind):
    """(a file of 8 x 8 colours with 16 bits a channel, their values), as Pillow does not write them."""
    pixels = np.arange(8 * 8 * 3, dtype=np.uint16).reshape(8, 8, 3) * 341
    if kind == "PNG":
        return png_of_16_bits(pixels, 2), pixels
    if kind == "PPM":
        return b"P6 8 8 65535\n" + pixels.astype(">u2").tobytes(), pixels
    data, extra = pixels.astype("<u2").tobytes(), 8 + 2 + 12 * 9 + 4
    tags = {256: 8, 257: 8, 258: extra, 259: 1, 262: 2, 273: extra + 6, 277: 3, 278: 8, 279: len(data)}
    entries = [struct.pack("<HHII", tag, 3 if tag == 258 else 4, 3 if tag == 258 else 1, tags[tag]) for tag in tags]
    head = b"II" + struct.pack("<HIH", 42, 8, len(tags)) + b"".join(entries) + bytes(4)
    return head + struct.pack("<HHH", 16, 16, 16) + data, pixels


@pytest.mark.parametrize("kind", ["PNG", "PPM", "TIFF"])
def test_colours_of_16_bits_lose_their_lower_half_only_where_that_is_asked_for(kind):
    content, pixels = colours_of_16_bits(kind)
    assert "16 bits a channel; to bring such images to RGB, set `convert: true`" in reason_without_conversion(content)
    np.testing.assert_allclose(decode(lambda: content, "x", 8, convert=True), pixels >> 8, atol=1)


def test_images_made_elsewhere_name_what_can_be_done_about_them(tmp_path):
    """No option converts them."""
    for number, content in enumerate((colours_of_16_bits("PNG")[0], colours_of_16_bits("TIFF")[0])):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "a.png").write_bytes(content)
        with pytest.raises(UnusableImageError, match="16 bits a channel; save it as RGB with 8 bits") as error:
            list(open_images(folder, 8, 1).images)
        assert "convert: true" not in str(error.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(("orientation", "corner"), [(1, 255), (3, 0), (6, 0), (8, 255)])
def test_images_of_every_format_are_turned_as_their_tag_says(kind, orientation, corner):
    """White above black: the first corner after turning."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16] = 255
    exif = Image.Exif()
    exif[0x112] = orientation
    content = encoded(pixels, kind, exif=exif)
    assert abs(int(decode(lambda: content, "x", 32)[0, 0, 0]) - corner) < 9


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_animations_and_stacks_of_pages_are_named(kind):
    first, *others = (Image.fromarray(np.full((32, 32, 3), 60 * i, np.uint8)) for i in range(3))
    out = io.BytesIO()
    first.save(out, kind, save_all=True, append_images=others)
    assert reason(out.getvalue()) == "3 frames"


@pytest.mark.parametrize("name", ["x", "1", "pixels"])
def test_a_reason_keeps_its_words_whatever_the_image_is_called(name):
    content = encoded(np.full((8, 8), 0.5, np.float32), "TIFF")
    with pytest.raises(UnusableImageError) as caught:
        decode(lambda: content, name, 16, convert=True)
    assert caught.value.reason == "floating-point pixels of unknown range"
