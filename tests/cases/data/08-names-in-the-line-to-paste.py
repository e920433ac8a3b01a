"""Damaged files with two spaces, U+202F, a line break or a tab in their names: the printed `exceptions` line works."""

import re

import yaml
from situation import TMP, images, picture, verdict

source = TMP / "photographs"
source.mkdir()
for i in range(4):
    (source / f"{i}.jpg").write_bytes(picture(i))
bad = ["IMG  0001.jpg", "Screenshot 2024-05-01 at 9.41.00\u202fAM.png", "a\nb.jpg", "tab\there.jpg"]
for name in bad:
    (source / name).write_bytes(b"hello")
result = images({"kind": "folder", "path": str(source)})
match = re.search(r"`(exceptions: .*?\])`", result.stdout, re.S)
try:
    pasted = yaml.safe_load(match[1])["exceptions"]
    again = images({"kind": "folder", "path": str(source), "exceptions": pasted})
    good, why = again.returncode == 0 and len(again.names) == 4, again.stdout.strip()[-300:]
except Exception as error:
    good, why = False, f"not YAML: {error}"
verdict(good, f"pasting the line: {why}")
