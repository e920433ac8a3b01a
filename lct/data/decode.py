"""From encoded bytes of any origin to one square RGB image, or to one line that says why not."""

import functools
import importlib.util
import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError, features

from lct.data.damage import fault
from lct.files.file_type import describe

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # no formats that run programs, such as EPS
PLUGINS = {"HEIF": "pillow_heif", "JXL": "pillow_jxl"}  # further formats, with the packages that read them
_PHOTOMETRIC, _BITS = 262, 258  # TIFF's tags of what 0 means (0: white) and of the bits of each channel
_CONVERT = "to bring such images to RGB, set `convert: true`"
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
            if _is_negative(image):
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
    return describe(encoded)


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


def _is_negative(image: Image.Image) -> bool:
    """Whether a 16-bit TIFF stores white as 0, which Pillow minds for fewer bits only."""
    return image.format == "TIFF" and image.mode.startswith("I") and image.tag_v2.get(_PHOTOMETRIC) == 0


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
    if size[0] * size[1] > LARGEST_SCALED:  # a very thin image
        return _middle(image, resolution)
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (image.width - resolution) // 2, (image.height - resolution) // 2
    return image.crop((left, top, left + resolution, top + resolution))


def _middle(image: Image.Image, resolution: int) -> Image.Image:
    """The middle square of an image, scaled to the resolution (bicubic) without the rest."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((resolution, resolution), Image.Resampling.BICUBIC, box=box)
