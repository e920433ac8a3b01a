"""lineage/{scale}.jsonl: what is recorded of a scale, one line per file, committed to git beside dvc.lock.

Everything needed to trace, check and restore an output without the output itself: its size and hashes, its two records,
and what Snakemake knew of it. Portable (no absolute path) and deterministic (the same recorded state, the same bytes).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lct.checks import invalid, require
from lct.files.atomic import write_text
from lct.files.hashing import canonical_json
from lct.files.records import settings_path

_CONFLICT_MARKS = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")  # what git leaves in a file that it could not merge


@dataclass(frozen=True)
class Entry:
    """One recorded file."""

    path: str  # relative to the project
    bytes: int  # its size
    sha256: str  # of its content
    md5: str | None  # DVC's name for its content; null where the file was dropped and only its records are kept
    settings: dict[str, Any] | None  # content of X.settings.json; null where the file has no records of its own
    run: dict[str, Any] | None  # content of X.run.json
    job: str | None = None  # first file of the Snakemake job that made it, whose line holds `snakemake`
    snakemake: dict[str, Any] | None = None  # what Snakemake knew of that job
    content: dict[str, Any] | None = None  # of a metrics file, or of curves thinned
    ended: tuple[float, ...] = ()  # when the file and its two records were finished [seconds since the epoch]

    @property
    def is_kept(self) -> bool:
        """Whether DVC holds the content."""
        return self.md5 is not None

    @property
    def inputs(self) -> dict[str, dict[str, str]]:
        """Role -> {path, sha256} of what the file was made from."""
        return (self.settings or {}).get("inputs", {})


def archive_path(root: Path, scale: str) -> Path:
    return root / "lineage" / f"{scale}.jsonl"


def scales(root: Path) -> list[str]:
    """Scales of which something is recorded."""
    return sorted(path.stem for path in (root / "lineage").glob("*.jsonl"))


def conflict_line(text: str) -> int | None:
    """Number of the first line that is the mark of a merge conflict."""
    return next((i for i, line in enumerate(text.split("\n"), start=1) if line.startswith(_CONFLICT_MARKS)), None)


def previews(root: Path, entries: Mapping[str, Entry]) -> tuple[str, ...]:
    """Folders of reports rendered outside the graph, as after a failed run: their first page has no record."""
    pages = [path for path in entries if path.endswith("/index.html")]
    return tuple(f"{path.rpartition('/')[0]}/" for path in pages if not settings_path(root / path).exists())


def read(root: Path, scale: str) -> dict[str, Entry]:
    """Path -> entry; {} when nothing is recorded. Raises ValueError naming file and line on damage."""
    path = archive_path(root, scale)
    try:
        return parse(path.read_text(encoding="utf-8"), str(path), str(path.relative_to(root)))
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise invalid(path, "UTF-8", f"damage ({error})", f"git checkout -- lineage/{path.name}") from error


def parse(text: str, path: str, name: str = "") -> dict[str, Entry]:
    """Path -> entry of an archive's text; errors name `path` and a line, and advise on `name`, or else `path`."""
    advice = f"git checkout -- {name or path} brings the committed one back"
    line, joins = conflict_line(text), "`lct merge` joins both recordings"
    require(line is None, f"{path}:{line}", "a line of JSON", "a merge conflict", joins)
    entries: dict[str, Entry] = {}  # lines end with \n alone: texts in JSON hold what `splitlines` splits at
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), start=1):
        try:
            values = json.loads(line)
            entry = Entry(**values | {"ended": tuple(values.get("ended", ()))})
            valid = isinstance(entry.path, str) and isinstance(entry.bytes, int) and isinstance(entry.sha256, str)
        except (json.JSONDecodeError, TypeError) as error:
            raise ValueError(f"{path}:{number}: expected a recorded file, found damage ({error}); {advice}") from None
        require(valid and entry.path not in entries, f"{path}:{number}", "each recorded file once", "damage", advice)
        entries[entry.path] = entry
    return entries


def text(entries: dict[str, Entry]) -> str:
    """The archive as it is written: one compact line with sorted keys per file, sorted by path."""
    return "".join(f"{canonical_json(asdict(entry))}\n" for _, entry in sorted(entries.items()))


def write(root: Path, scale: str, entries: dict[str, Entry]) -> None:
    """Replace the archive of a scale."""
    write_text(archive_path(root, scale), text(entries))
