"""Fewer images than the scale or k needs: the counts are fitted, in a line that names the file that sets them."""

import json
import shutil
import subprocess
from pathlib import Path

from situation import ENV, PROJECT, TMP, call, images, picture, verdict

root = Path(PROJECT)
(root / "case16").mkdir(exist_ok=True)
for i in range(100):
    (root / "case16" / f"{i}.jpg").write_bytes(picture(i))
yaml = (
    "title: t\nsource: {kind: folder, path: case16%s}\nresolution: 16\ntrain: 80\nheldout: 10\n"
    "extractor: {kind: trained, labels: rotations}\n"
)
lines = []
try:
    for more in ("", ", count: 100"):
        (root / "config/datasets/case16.yaml").write_text(yaml % more)
        result = subprocess.run(
            [
                "snakemake",
                "results/smoke/images/case16/train.zip",
                "--config",
                "scale=smoke",
                "dataset=case16",
                "record=false",
            ],
            cwd=root,
            env=ENV,
            capture_output=True,
            text=True,
        )
        output = (result.stdout + result.stderr).splitlines()
        lines.append(next((line for line in output if line.startswith("Images of case16: 67 for training, 33")), "?"))
        print(lines[-1])
finally:
    (root / "config/datasets/case16.yaml").unlink(missing_ok=True)
    shutil.rmtree(root / "case16", ignore_errors=True)
    shutil.rmtree(root / "results/smoke/images/case16", ignore_errors=True)
reported = all("config/scales/smoke.yaml, fitted to the 100 images" in line for line in lines)
# three held-out images, k = 3
source = TMP / "photographs"
source.mkdir()
for i in range(30):
    (source / f"{i:03d}.jpg").write_bytes(picture(i))
prepared = images({"kind": "folder", "path": str(source)}, heldout=3)
train, heldout = prepared.out / "train.manifest.json", prepared.out / "heldout.manifest.json"
extractor = {"kind": "trained", "id": "cnn64", "labels": "rotations", "steps": 5, "batch": 8}
call(
    "lct.jobs.extractor",
    "--settings",
    json.dumps({"recipe": 1, "extractor": extractor}),
    "--train",
    train,
    "--heldout",
    heldout,
    "--out",
    prepared.out / "w.safetensors",
    "--summary",
    prepared.out / "s.json",
)
scoring = {
    "recipe": 1,
    "extractors": [extractor],
    "protocols": [{"id": "fd", "num_images": 2000, "k": 3, "batch": 64}],
    "own_extractor": "cnn64",
    "flips": "none",
}
(prepared.out / "ref").mkdir()
(prepared.out / "floor" / "heldout").mkdir(parents=True)
result = call(
    "lct.jobs.reference",
    "--settings",
    json.dumps(scoring),
    "--train",
    train,
    "--heldout",
    heldout,
    "--reconstructed-train",
    train,
    "--reconstructed-heldout",
    heldout,
    "--extractors",
    prepared.out / "w.safetensors",
    "--references",
    prepared.out / "ref" / "fd.safetensors",
    "--floors",
    prepared.out / "floor" / "heldout" / "fd.json",
    "--cache",
    prepared.out / "cache",
)
verdict(
    reported and (result.returncode == 0 or "raise num_images" not in result.stdout),
    f"the scale is reported: {reported}; floor row of 3 held-out images: {result.stdout.strip()[-120:]}",
)
