"""One image of 60000 x 2 pixels among photographs, 7 GB of address space: the message must name the image."""

from PIL import Image
from situation import TMP, images, picture, verdict

source = TMP / "photographs"
source.mkdir()
for i in range(3):
    (source / f"{i}.jpg").write_bytes(picture(i, size=(300, 300)))
Image.new("RGB", (60000, 2), "red").save(source / "separator.png")
result = images({"kind": "folder", "path": str(source)}, resolution=256, prefix=("prlimit", "--as=7000000000"))
verdict(
    result.returncode == 0 or "separator.png" in result.stdout,
    f"the image is reported, or used: rc {result.returncode}, {result.stdout.strip()}",
)
