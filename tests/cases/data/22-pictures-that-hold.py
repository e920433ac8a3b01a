"""EXIF, CMYK, animated WebP, AppleDouble files, __MACOSX, an absolute tar: right, or refused by name."""

import io
import sys
import tarfile
import zipfile

from PIL import Image
from situation import PROJECT, TMP, images, picture, verdict

sys.path.insert(0, PROJECT)
from lct.data.decode import UnusableImageError, decode


def reason(content, convert=True):
    try:
        return decode(lambda: content, "x", 16, convert)
    except UnusableImageError as error:
        return error.reason


exif = Image.Exif()
exif[0x112] = 6
upright = Image.new("RGB", (64, 32), "black")
upright.paste("white", (0, 0, 32, 32))
b = io.BytesIO()
upright.save(b, "JPEG", exif=exif)
turned = reason(b.getvalue())
good = turned[0].mean() > 200 and turned[-1].mean() < 60
b = io.BytesIO()
Image.new("RGB", (20, 20)).save(b, "WEBP", save_all=True, append_images=[Image.new("RGB", (20, 20), "red")])
good &= "2 frames" in str(reason(b.getvalue()))
b = io.BytesIO()
Image.new("CMYK", (20, 20), (0, 255, 255, 0)).save(b, "JPEG")
good &= "convert: true" in str(reason(b.getvalue(), False)) and tuple(int(v) for v in reason(b.getvalue())[3, 3]) > (
    240,
    0,
    0,
)
source = TMP / "p"
source.mkdir()
(source / "a.jpg").write_bytes(picture(0))
(source / "._a.jpg").write_bytes(b"\0\5\x16\7")
(source / ".DS_Store").write_bytes(b"x")
(source / "Thumbs.db").write_bytes(b"x")
good &= images({"kind": "folder", "path": str(source)}).names == ["a.jpg"]
with zipfile.ZipFile(TMP / "m.zip", "w") as z:
    z.writestr("top/a.jpg", picture(0))
    z.writestr("__MACOSX/top/._a.jpg", b"\0\5\x16\7")
good &= images({"kind": "archive", "path": str(TMP / "m.zip")}).names == ["top/a.jpg"]
with tarfile.open(TMP / "abs.tar", "w") as t:
    info = tarfile.TarInfo("/home/a.jpg")
    info.size = 3
    t.addfile(info, io.BytesIO(b"abc"))
result = images({"kind": "archive", "path": str(TMP / "abs.tar")})
good &= result.returncode == 1 and "an absolute path" in result.stdout
verdict(bool(good), "as they should be")
