"""Reading a finished download: its files, each checked against download.json before anybody uses it. Torch-free."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lct.checks import invalid, require
from lct.files.advice import force, make_again
from lct.files.atomic import read_json
from lct.files.hashing import sha256_file

FORMAT = 1
_KEYS = ("path", "url", "bytes", "sha256", "verified")


@dataclass(frozen=True)
class Download:
    """What resources/{id}/download.json says."""

    path: Path  # the download.json
    id: str  # a file in config/weights/ or config/datasets/
    alternative: int  # index of the origin that worked
    origin: dict[str, Any]  # its settings
    files: tuple[dict[str, Any], ...]  # path, url, bytes, sha256, verified of each, in reading order

    @property
    def names(self) -> list[str]:
        """Names of the files, in reading order."""
        return [entry["path"] for entry in self.files]

    def file(self, name: str, deep: bool = True) -> Path:
        """A file, checked: its size always, its sha256 when `deep`. ValueError with the remedy when it is not it."""
        entry = next((entry for entry in self.files if entry["path"] == name), None)
        require(entry is not None, self.path, f"a file {name!r}", self.names, "correct config/")
        path, advice = self.path.parent / "files" / name, f"fetch it again: {force(self.path)}"
        size = path.stat().st_size if path.is_file() else "nothing"
        require(size == entry["bytes"], path, f"{entry['bytes']} bytes", size, advice)
        digest = sha256_file(path) if deep else entry["sha256"]
        require(digest == entry["sha256"], path, f"sha256 {entry['sha256']}", digest, advice)
        return path


def read(path: Path | str) -> Download:
    """The download that a download.json describes; ValueError when the file is missing, damaged or of another form."""
    path = Path(path)
    content = read_json(path)
    try:
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}")
        files = tuple({key: entry[key] for key in _KEYS} for entry in content["files"])
        return Download(path, content["id"], content["alternative"], content["origin"], files)
    except (KeyError, TypeError, ValueError) as error:
        raise invalid(path, f"a download of format {FORMAT}", f"damage ({error})", make_again(path)) from error
