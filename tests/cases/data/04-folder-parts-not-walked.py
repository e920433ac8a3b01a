"""A folder with links to folders, and one with a sub-folder that may not be listed: no image is left out in silence."""

import os
import shutil

from situation import TMP, images, picture, verdict

source, elsewhere = TMP / "photographs", TMP / "elsewhere"
source.mkdir(), elsewhere.mkdir()
for i in range(6):
    (source / f"{i}.jpg").write_bytes(picture(i))
    (elsewhere / f"x{i}.jpg").write_bytes(picture(100 + i))
(source / "more").symlink_to(elsewhere)
linked = images({"kind": "folder", "path": str(source)})
good = len(linked.names) == 12 or "more" in linked.output
classes = TMP / "classes"
classes.mkdir()
for name in "bc":
    (classes / name).mkdir()
    (classes / name / "1.jpg").write_bytes(picture(1))
(classes / "a").symlink_to(elsewhere)  # a whole class is a link
labelled = images({"kind": "folder", "path": str(classes), "labels": "folders"})
good = good and (any(n.startswith("a/") for n in labelled.names) or "'a'" in labelled.output or "/a" in labelled.output)
closed = TMP / "closed"
(closed / "open").mkdir(parents=True)
(closed / "shut").mkdir()
for i in range(6):
    (closed / "open" / f"{i}.jpg").write_bytes(picture(i))
    (closed / "shut" / f"{i}.jpg").write_bytes(picture(50 + i))
os.chmod(closed / "shut", 0o000)
prefix = ()
if os.getuid() == 0:  # root reads everything: give up that right
    shutil.chown(closed / "shut", 65534)
    prefix = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")
unreadable = images({"kind": "folder", "path": str(closed)}, prefix=prefix)
os.chmod(closed / "shut", 0o700)
good = good and ("shut" in unreadable.output)
verdict(
    good,
    f"linked: {len(linked.names)} of 12 images; linked class: {labelled.names}; "
    f"unreadable sub-folder: rc {unreadable.returncode}, {len(unreadable.names)} of 12",
)
