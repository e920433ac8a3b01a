"""Links to nothing (copied hub caches) and paths with ~: one line that says what is wrong and what to do."""

from situation import TMP, images, picture, verdict

source = TMP / "photographs"
source.mkdir()
for i in range(4):
    (source / f"{i}.jpg").write_bytes(picture(i))
(source / "gone.jpg").symlink_to("../../blobs/abc")
folder = images({"kind": "folder", "path": str(source)})
snapshot = TMP / "snapshot"
snapshot.mkdir()
(snapshot / "train.parquet").symlink_to("../../blobs/abc")
parquet = images({"kind": "parquet", "path": str(snapshot)})
(source / "gone.jpg").unlink()
home = images({"kind": "folder", "path": "~/photographs"}, env={"HOME": str(TMP)})
links = all("link" in d.stdout for d in (folder, parquet))
tilde = home.returncode == 0 or "~ is not" in home.stdout or "absolute" in home.stdout
verdict(links and tilde, f"links reported as such: {links}; tilde understood or explained: {tilde}")
