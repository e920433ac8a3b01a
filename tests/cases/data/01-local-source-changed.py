"""All photographs of a local folder, then of a zip, are replaced under the same path: their image sets are made anew.

Writes config/datasets/case01*.yaml, case01, case01.zip and results/smoke into PROJECT."""

import subprocess
import zipfile
from pathlib import Path

from situation import ENV, PROJECT, picture, verdict

root = Path(PROJECT)


def fill(first):
    (root / "case01").mkdir(exist_ok=True)
    with zipfile.ZipFile(root / "case01.zip", "w") as archive:
        for i in range(400):
            content = picture(first + i)
            (root / "case01" / f"{i:03d}.jpg").write_bytes(content)
            archive.writestr(f"{i:03d}.jpg", content)


def images(name):
    path = f"results/smoke/images/{name}/train.zip"
    command = ["snakemake", path, "--config", "scale=smoke", f"dataset={name}", "record=false"]
    result = subprocess.run(command, cwd=root, env=ENV, capture_output=True, text=True)
    output = result.stdout + result.stderr
    print("\n".join(line for line in output.splitlines() if "Nothing to be" in line or line.startswith("images")))
    return (root / path).read_bytes(), output


same = []
for name, source in (("case01", "{kind: folder, path: case01}"), ("case01z", "{kind: archive, path: case01.zip}")):
    fill(0)
    dataset = f"title: t\nsource: {source}\nresolution: 16\nheldout: 10\n"
    (root / f"config/datasets/{name}.yaml").write_text(f"{dataset}extractor: {{kind: trained, labels: rotations}}\n")
    before, _ = images(name)
    fill(5000)  # every photograph is another one now
    after, output = images(name)
    same.append(before == after)
fill(5000)  # copied again: other times, the same content
idle = "Nothing to be done" in images("case01")[1]
verdict(not any(same) and idle, f"image sets of the old photographs kept: {same}; an unchanged one left alone: {idle}")
