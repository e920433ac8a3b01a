"""Copies in hidden folders (.ipynb_checkpoints, .thumbnails, .Trash-1000) are no images and no classes."""

import json
import zipfile

from situation import TMP, images, picture, verdict

source = TMP / "photographs"
for name in "ab":
    (source / name).mkdir(parents=True)
    for i in range(4):
        (source / name / f"{i}.jpg").write_bytes(picture(i))
for hidden in (".ipynb_checkpoints", "a/.ipynb_checkpoints", ".thumbnails", ".Trash-1000/files"):
    (source / hidden).mkdir(parents=True)
    (source / hidden / "0-checkpoint.jpg").write_bytes(picture(0))
result = images({"kind": "folder", "path": str(source), "labels": "folders"}, heldout=4)
with zipfile.ZipFile(TMP / "x.zip", "w") as z:
    for i in range(4):
        z.writestr(f"p/{i}.jpg", picture(i))
    z.writestr("p/.ipynb_checkpoints/0-checkpoint.jpg", picture(0))
zipped = images({"kind": "archive", "path": str(TMP / "x.zip")})
labels = (
    {
        i["label"]
        for side in ("train", "heldout")
        for i in json.loads((result.out / f"{side}.manifest.json").read_text())["items"]
    }
    if result.returncode == 0
    else set()
)
hidden = [n for n in result.names + zipped.names if "/." in "/" + n]
verdict(not hidden and labels <= {0, 1}, f"hidden among the images: {hidden}; classes {sorted(labels)}")
