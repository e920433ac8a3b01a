"""lineage/{scale}.jsonl: what is recorded of a scale, one line per file, committed to git beside dvc.lock.

Everything needed to trace, check and restore an output without the output itself: its size and hashes, its two records,
and what Snakemake knew of it. Portable (no absolute path) and deterministic (the same recorded state, the same bytes).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lct.files.atomic import write_text
from lct.files.hashing import canonical_json

_CONFLICT = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")


@dataclass(frozen=True)
class Entry:
    """One recorded file."""

    path: str  # relative to the project
    bytes: int  # its size
    sha256: str  # of its content
    md5: str | None  # DVC's name for its content
    settings: dict[str, Any] | None  # content of X.settings.json; null where the file has no records of its own
    run: dict[str, Any] | None  # content of X.run.json
    job: str | None = None  # first file of the Snakemake job that made it, whose line holds `snakemake`
    snakemake: dict[str, Any] | None = None  # what Snakemake knew of that job
    content: dict[str, Any] | None = None  # of a metrics file: its values and protocol, readable from here alone
    ended: tuple[float, ...] = ()  # when the file and its two records were finished [seconds since the epoch]

    @property
    def inputs(self) -> dict[str, dict[str, str]]:
        """Role -> {path, sha256} of what the file was made from."""
        return (self.settings or {}).get("inputs", {})


def archive_path(root: Path, scale: str) -> Path:
    return root / "lineage" / f"{scale}.jsonl"


def scales(root: Path) -> list[str]:
    """Scales of which something is recorded."""
    return sorted(path.stem for path in (root / "lineage").glob("*.jsonl"))


def read(root: Path, scale: str) -> dict[str, Entry]:
    """Path -> entry; {} when nothing is recorded. Raises ValueError naming file and line on damage."""
    path = archive_path(root, scale)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8, found damage ({error}); git checkout -- {path}") from error
    found: dict[str, Entry] = {}
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}"
        if line.startswith(_CONFLICT):
            raise ValueError(
                f"{where}: expected a line of JSON, found a merge conflict; take one side (git checkout --ours or "
                f"--theirs {path.relative_to(root)} dvc.lock config/recorded.yaml), then run `lct record`"
            )
        try:
            values = json.loads(line)
            entry = Entry(**values | {"ended": tuple(values.get("ended", ()))})
            known = isinstance(entry.path, str) and isinstance(entry.bytes, int) and isinstance(entry.sha256, str)
        except (json.JSONDecodeError, TypeError) as error:
            raise ValueError(
                f"{where}: expected a recorded file, found damage ({error}); {_mend(root, path)}"
            ) from None
        if not known or entry.path in found:
            raise ValueError(f"{where}: expected each recorded file once, found damage; {_mend(root, path)}")
        found[entry.path] = entry
    return found


def _mend(root: Path, path: Path) -> str:
    return f"git checkout -- {path.relative_to(root)} brings the committed one back"


def text(entries: dict[str, Entry]) -> str:
    """The archive as it is written: one compact line with sorted keys per file, sorted by path."""
    return "".join(f"{canonical_json(asdict(entry))}\n" for _, entry in sorted(entries.items()))


def write(root: Path, scale: str, entries: dict[str, Entry]) -> None:
    """Replace the archive of a scale."""
    write_text(archive_path(root, scale), text(entries))
