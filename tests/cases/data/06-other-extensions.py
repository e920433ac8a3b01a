"""Photographs that end in .jfif, .jpe, .gif, .avif, .heic beside .jpg ones: they are taken, or counted by kind."""

from situation import TMP, images, picture, verdict

source = TMP / "photographs"
source.mkdir()
for i in range(4):
    (source / f"{i}.jpg").write_bytes(picture(i))
    (source / f"{i}.jfif").write_bytes(picture(10 + i))
    (source / f"{i}.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    (source / f"{i}.gif").write_bytes(picture(20 + i, "GIF"))
(source / "notes.txt").write_text("x")
result = images({"kind": "folder", "path": str(source)})
manifest = (result.out / "train.manifest.json").read_text() if result.returncode == 0 else ""
verdict(
    result.returncode == 1 or "jfif" in result.output + manifest or "heic" in result.output + manifest,
    f"{len(result.names)} of 16 pictures taken; nothing lines of the others: {result.stdout.strip()}",
)
