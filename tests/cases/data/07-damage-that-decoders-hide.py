"""Damage that decoders hide: zeroed second half, early end of image, wrong checksum. Each is named by its file."""

import io

import numpy as np
from PIL import Image
from situation import TMP, images, picture, verdict

source = TMP / "photographs"
source.mkdir()
jpeg = picture(1, size=(200, 200), quality=90)
webp = picture(1, "WEBP", size=(200, 200))


def half(content):
    """The second half zeroed."""
    return content[: len(content) // 2] + bytes(len(content) - len(content) // 2)


smooth = io.BytesIO()
Image.fromarray(np.add.outer(np.arange(200), np.arange(200)).astype(np.uint8)).save(smooth, "PNG")
png = bytearray(smooth.getvalue())
at = png.index(b"IDAT") + 4 + int.from_bytes(png[png.index(b"IDAT") - 4 : png.index(b"IDAT")], "big")
png[at] ^= 0xFF  # the checksum of the image data
files = {
    "good.jpg": jpeg,
    "zeros.jpg": half(jpeg),
    "ended-early.jpg": jpeg[: len(jpeg) // 2] + b"\xff\xd9",
    "zeros.webp": half(webp),
    "checksum.png": bytes(png),
}
for name, content in files.items():
    (source / name).write_bytes(content)
result = images({"kind": "folder", "path": str(source)}, resolution=64)
reported = [name for name in files if f"name={name}" in result.stderr]
accepted = sorted(set(files) - set(reported) - {"good.jpg"})
verdict(not accepted and "good.jpg" not in reported, f"damaged, yet accepted: {accepted}")
