"""From encoded bytes of any origin to one square RGB image, or to one line that says why not.

Damage that decoders pass over counts too: they fill what is missing with grey, and skip checksums.
"""

import functools
import importlib.util
import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError, features

from lct.files.file_type import describe, is_image

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # no formats that run programs, such as EPS
PLUGINS = {"HEIF": "pillow_heif", "JXL": "pillow_jxl"}  # further formats, with the packages that read them
_PHOTOMETRIC, _BITS = 262, 258  # TIFF's tags of what 0 means (0: white) and of the bits of each channel
_CONVERT = "to bring such images to RGB, set `convert: true`"
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff])")  # 0 stands behind a data byte 255
_RESTARTS = range(0xD0, 0xD8)
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_PROGRESSIVE = 0xC2  # Huffman-coded; the ends of arithmetic-coded data do not show whether all of them are there
_ALONE = {0x01, _START, _END, *_RESTARTS}  # markers without a length
_SEQUENTIAL = (0xC0, 0xC1)
_GREY = (127, 128)  # what blocks without data become
_FILLER = b"\x55" * 4096  # entropy-coded data of no meaning
_PNG_START = 8  # bytes in front of the first chunk
_COMPRESSION, _DEFLATE = 259, (8, 32946)  # TIFF's tag, and its values for deflated data
_STRIPS, _TILES = (273, 279), (324, 325)  # TIFF's tags of offsets and sizes
_UNWRITTEN = "data that end in zeros: a part of the file was not written"
_ZEROS = 64  # zero bytes at the end of arithmetic-coded data, where they do not occur by themselves
LARGEST_SCALED = 2**26  # pixels of a scaled image that is cut afterwards; of larger ones only the middle is scaled


class UnusableImageError(ValueError):
    """An image that cannot be used: `name` in its source, and the `reason`."""

    def __init__(self, name: str, reason: str):
        super().__init__(
            f"{name}: expected a whole still image that can be made RGB, found {reason}; repair or remove the file"
        )
        self.name, self.reason = name, reason


def decode(
    content: Callable[[], bytes],
    name: str,
    resolution: int,
    convert: bool = False,
    min_side: int = 1,
    advice: str = _CONVERT,
) -> np.ndarray:
    """One image as (resolution, resolution, 3) uint8: turned as its EXIF tag says, brought to RGB, centre-cropped.

    Grey is written three times. With `convert`, palette and CMYK images become RGB, transparency is laid over white,
    and of more than eight bits a channel the upper eight are kept. Raises UnusableImageError for such images without
    `convert`, with the `advice` that the caller's options allow, for animated images, images that cannot become RGB,
    damaged or cut-off ones, and sides under `min_side` pixels.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:  # another library's choice would turn a cut-off file into a grey-bottomed image
        raise RuntimeError("Pillow is set to accept cut-off images; unset PIL.ImageFile.LOAD_TRUNCATED_IMAGES")
    encoded = b""
    try:
        encoded = content()
        with Image.open(io.BytesIO(encoded), formats=formats()) as image:
            # A phone's MPO is a photograph with a preview or depth map behind it, not an animation.
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                raise ValueError(f"{image.n_frames} frames")
            if min(image.size) < min_side:
                raise ValueError(f"{image.width}x{image.height} pixels, less than `min_side` {min_side}")
            bits = _bits(encoded, image)
            image.load()
            if damage := fault(encoded, image):
                raise ValueError(damage)
            if not convert and (image.mode not in ("RGB", "L") or image.has_transparency_data or bits > 8):
                raise ValueError(f"mode {image.mode}{f', {bits} bits a channel' if bits > 8 else ''}; {advice}")
            # a 16-bit TIFF may store white as 0, which Pillow minds for fewer bits only
            if image.format == "TIFF" and image.mode.startswith("I") and image.tag_v2.get(_PHOTOMETRIC) == 0:
                image = Image.fromarray(65535 - np.asarray(image).astype(np.int32))
            return np.array(centre_crop(_to_rgb(ImageOps.exif_transpose(image)), resolution))
    except UnidentifiedImageError as error:
        raise UnusableImageError(name, _unreadable(encoded)) from error
    except MemoryError as error:
        raise MemoryError(f"{name}: expected enough memory to decode it, found too little") from error
    except Exception as error:  # damaged bytes make decoders raise anything
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error).replace(repr(name), "")
        reason = " ".join(text.split()) or type(error).__name__
        raise UnusableImageError(name, reason) from error


@functools.cache
def formats() -> tuple[str, ...]:
    """The formats that can be read here: FORMATS, AVIF where Pillow has it, and those of installed PLUGINS."""
    further = ["AVIF"] if features.check("avif") else []
    for name, package in PLUGINS.items():
        if importlib.util.find_spec(package):
            plugin = importlib.import_module(package)
            getattr(plugin, "register_heif_opener", lambda: None)()
            further.append(name)
    return (*FORMATS, *(name for name in further if name in Image.registered_extensions().values()))


def _unreadable(encoded: bytes) -> str:
    """What an image is that no format of `formats` is; says which package reads it, where there is one."""
    brand = encoded[8:12] if encoded[4:8] == b"ftyp" else b""
    if brand in (b"avif", b"avis"):
        return "an AVIF image, which this Pillow does not read or which is damaged; convert it to PNG"
    if brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        return "a HEIC image: read after `pip install pillow-heif`; install that, or convert it to PNG"
    if encoded.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return "a JPEG XL image: read after `pip install pillow-jxl-plugin`; install that, or convert it to PNG"
    if encoded.startswith((b"II*\0", b"MM\0*")):
        return "a TIFF image of a kind that Pillow does not read, or a damaged one; convert it to PNG"
    if is_image(encoded):
        return "a damaged image"
    return describe(encoded) if encoded else "an empty file, or a row without an image"


def _bits(encoded: bytes, image: Image.Image) -> int:
    """Bits of a channel in the file, from which Pillow silently makes eight in a colour image. Before it is loaded."""
    if image.format == "PNG":
        return encoded[24]  # in IHDR, behind width and height
    if image.format == "TIFF":
        return max(image.tag_v2.get(_BITS, (1,)))
    if image.format == "PPM" and image.tile:
        most = image.tile[0][3]  # ("RGB", largest value), or a raw mode for eight bits
        return int(most[1]).bit_length() if isinstance(most, tuple) and isinstance(most[1], int) and most[1] else 8
    return 8


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit greys arrive as I;16 or, from PNG, as 32-bit integers
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"mode {image.mode} with values {values.min()}..{values.max()}, outside 16 bits")
        return Image.fromarray((values >> 8).astype(np.uint8), "L").convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels of unknown range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def centre_crop(image: Image.Image, resolution: int) -> Image.Image:
    """ADM's crop: halve with a box filter while the shorter side is at least twice the resolution, scale the shorter
    side to it (bicubic), cut out the middle. Source: the authors' preprocessing (their datasets_prep)."""
    while min(image.size) >= 2 * resolution:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = resolution / min(image.size)
    size = (max(resolution, round(image.width * scale)), max(resolution, round(image.height * scale)))
    if size[0] * size[1] > LARGEST_SCALED:  # a very thin image: its middle square, scaled without the rest
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        return image.resize((resolution, resolution), Image.Resampling.BICUBIC, box=box)
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (image.width - resolution) // 2, (image.height - resolution) // 2
    return image.crop((left, top, left + resolution, top + resolution))


def fault(encoded: bytes, image: Image.Image) -> str | None:
    """What is damaged in a file that Pillow has decoded; None where nothing is known to be.

    encoded: the whole file. image: the image loaded from it, before it is changed."""
    if image.format in ("JPEG", "MPO"):
        return _jpeg_fault(encoded, image)
    if image.format == "PNG":
        return _png_fault(encoded)
    if image.format == "TIFF":
        return _tiff_fault(encoded, image)
    if image.format == "AVIF":
        return _UNWRITTEN if not any(encoded[-_ZEROS:]) else None
    return _webp_fault(encoded) if image.format == "WEBP" else None


def _jpeg_fault(encoded: bytes, image: Image.Image) -> str | None:
    """No end marker; missing scans of a progressive image; blocks without data in a sequential one."""
    frame, precision, end = 0, {}, None
    for marker, at, segment in _jpeg_segments(encoded):
        if marker == _END:
            end = at
            break
        if marker in (*_SEQUENTIAL, _PROGRESSIVE) and not frame:
            frame, components = marker, segment[6::3]  # behind precision, height, width and count
        elif marker == _SCAN:
            count = segment[0]
            first, last, bits = segment[2 * count + 1 : 2 * count + 4]
            for component in segment[1 : 2 * count + 1 : 2]:
                precision |= {(component, k): bits & 15 for k in range(first, last + 1)}
    if end is None:
        return "no end-of-image marker: it is cut off"
    if frame == _PROGRESSIVE:
        whole = all(precision.get((component, k)) == 0 for component in components for k in range(64))
        if not whole or _grows(encoded, end, image):
            return "a progressive image without all of its scans: it is cut off"
        return None
    grey = np.isin(image.getpixel((image.width - 1, image.height - 1)), _GREY).all()
    return "blocks without data: it is cut off" if frame and grey and _grows(encoded, end, image) else None


def _jpeg_segments(encoded: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(marker, its offset, content of its segment), up to the end of the file; restart markers are left out."""
    position = 0
    while match := _JPEG_MARKER.search(encoded, position):
        marker, position = match[1][0], match.end()
        if marker in _RESTARTS:
            continue
        segment = b""
        if marker not in _ALONE:
            size = int.from_bytes(encoded[position : position + 2], "big")
            segment = encoded[position + 2 : position + size]
            position += max(2, size)
        yield marker, match.start(), segment


def _grows(encoded: bytes, end: int, image: Image.Image) -> bool:
    """Whether more data in front of the end marker changes the image: then data are missing there."""
    with Image.open(io.BytesIO(encoded[:end] + _FILLER + encoded[end:]), formats=("JPEG",)) as longer:
        return longer.convert(image.mode).tobytes() != image.tobytes()


def _tiff_fault(encoded: bytes, image: Image.Image) -> str | None:
    """A wrong checksum of deflated strips or tiles, which libtiff only warns about."""
    tags = image.tag_v2
    if tags.get(_COMPRESSION) not in _DEFLATE:
        return None
    offsets, sizes = tags.get(_STRIPS[0]) or tags[_TILES[0]], tags.get(_STRIPS[1]) or tags[_TILES[1]]
    try:
        for offset, size in zip(offsets, sizes, strict=True):
            zlib.decompress(memoryview(encoded)[offset : offset + size])
    except (zlib.error, ValueError, LookupError):
        return "deflated data with a wrong checksum"
    return None


def _png_fault(encoded: bytes) -> str | None:
    """A wrong checksum of a chunk that decides the image, or no last chunk."""
    position = _PNG_START
    while position + 12 <= len(encoded):
        size, kind = struct.unpack_from(">I4s", encoded, position)
        content_end = position + 8 + size
        critical = not kind[0] & 0x20 or kind == b"tRNS"
        if content_end + 4 > len(encoded):
            break
        checksum = int.from_bytes(encoded[content_end : content_end + 4], "big")
        if critical and zlib.crc32(memoryview(encoded)[position + 4 : content_end]) != checksum:
            return f"a wrong checksum of chunk {kind.decode('latin-1')}"
        if kind == b"IEND":
            return None
        position = content_end + 4
    return "no last chunk (IEND): it is cut off"


def _webp_fault(encoded: bytes) -> str | None:
    """Less than the header's length, or an end of zeros where the coder writes none."""
    expected = int.from_bytes(encoded[4:8], "little") + 8
    if len(encoded) < expected:
        return f"{len(encoded)} of {expected} bytes: it is cut off"
    position = 12
    while position + 8 <= expected:
        kind, size = encoded[position : position + 4], int.from_bytes(encoded[position + 4 : position + 8], "little")
        if kind == b"VP8 " and not any(encoded[position + 8 : position + 8 + size][-_ZEROS:]):
            return _UNWRITTEN
        position += 8 + size + size % 2
    return None
