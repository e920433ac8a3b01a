"""The archive: `lineage/{scale}.jsonl`, one line per recorded file, committed to git beside dvc.lock.

A line holds the file's size and hashes and, embedded, the two JSON records beside it; plain text, readable without
any tool of this project.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFLICT_MARKS = ("<<<<<<< ", "=======", ">>>>>>> ")


@dataclass(frozen=True)
class Entry:
    """One recorded file."""

    path: str  # relative to the project's root
    bytes: int
    sha256: str
    md5: str | None  # DVC's hash
    settings: dict[str, Any] | None  # content of X.settings.json
    run: dict[str, Any] | None  # content of X.run.json


def archive_path(root: Path, scale: str) -> Path:
    return root / "lineage" / f"{scale}.jsonl"


def read(root: Path, scale: str) -> dict[str, Entry]:
    """Path -> entry; empty when nothing is recorded yet. ValueError names file and line of any damage."""
    path = archive_path(root, scale)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8, found damage at byte {error.start}; git checkout it") from error
    return parse(text, f"lineage/{scale}.jsonl")


def parse(text: str, where: str) -> dict[str, Entry]:
    """Path -> entry of an archive's text; `where` names it in errors."""
    found: dict[str, Entry] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith(CONFLICT_MARKS):
            raise ValueError(
                f"{where}:{number}: expected a recorded file, found the mark of a merge conflict; take either side "
                f"(git checkout --ours {where} dvc.lock config/recorded.yaml), then `lct record`"
            )
        try:
            values = json.loads(line)
            entry = Entry(*(values[key] for key in ("path", "bytes", "sha256", "md5", "settings", "run")))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{where}:{number}: expected one recorded file as JSON, found damage ({error}); git checkout {where}"
            ) from error
        if entry.path in found:
            raise ValueError(f"{where}:{number}: expected each file once, found {entry.path} again; git checkout it")
        found[entry.path] = entry
    return found
