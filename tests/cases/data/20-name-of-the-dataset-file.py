"""config/datasets/MyPhotos.yaml: the message says which letters a name may have. Writes that file into PROJECT."""

import subprocess
from pathlib import Path

from situation import ENV, PROJECT, verdict

path = Path(PROJECT) / "config/datasets/MyPhotos.yaml"
path.write_text("title: t\nsource: {kind: folder, path: nowhere}\nresolution: 16\nheldout: 10\n")
try:
    result = subprocess.run(
        ["snakemake", "-n", "--config", "scale=smoke", "dataset=MyPhotos"],
        cwd=PROJECT,
        env=ENV,
        capture_output=True,
        text=True,
    )
finally:
    path.unlink()
output = (result.stdout + result.stderr).splitlines()
line = next((line for line in output if "MyPhotos" in line and "expected" in line), "")
verdict("a-z" in line or result.returncode == 0, line)
