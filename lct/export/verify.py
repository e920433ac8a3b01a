"""Check that nothing in this bundle has changed. It needs Python alone: no packages, no network. Run it inside:

    python verify.py

1. Every file has the size and SHA-256 of SHA256SUMS, none is missing, none is extra.
2. Every X.run.json names the X that lies beside it; every X.settings.json names inputs that, where the bundle holds
   them, are these very files.
3. Every value of tables.json is that of the metrics file which it names.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

SUMS = "SHA256SUMS"


def digest(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def faults(root: Path) -> list[str]:
    """One line for each fault. The list is empty when the bundle is whole."""
    lines, hashes = [], {}
    for line in (root / SUMS).read_text(encoding="utf-8").splitlines():
        sha256, _, name = line.partition("  ")
        hashes[name] = sha256
        path = root / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            lines.append(f"{name}: outside the bundle")
        elif not path.is_file():
            lines.append(f"{name}: missing")
        elif digest(path) != sha256:
            lines.append(f"{name}: not the bytes that were bundled")
    present = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    lines += [f"{name}: not part of the bundle" for name in sorted(present - set(hashes) - {SUMS})]
    return lines or [*_records(root, hashes), *_tables(root)]


def _records(root: Path, hashes: dict[str, str]) -> Iterator[str]:
    for name in sorted(hashes):
        if name.endswith(".run.json"):
            output = _json(root / name)["output"]
            if hashes.get(name.removesuffix(".run.json"), output["sha256"]) != output["sha256"]:
                yield f"{name}: records another {output['path']} than the one beside it"
        elif name.endswith(".settings.json"):
            for role, source in _json(root / name)["inputs"].items():
                if hashes.get(source["path"], source["sha256"]) != source["sha256"]:
                    yield f"{name}: made from another {source['path']} ({role}) than the one in the bundle"


def _tables(root: Path) -> Iterator[str]:
    for path in sorted((root / "results").glob("*/tables/**/*.json")):
        if path.name.endswith((".run.json", ".settings.json")):
            continue
        for table in _json(path)["tables"]:
            for subtable in table["subtables"]:
                for row in [*subtable["rows"], *subtable["floors"]]:
                    for metric, cell in row["cells"].items():
                        yield from (f"{cell['id']}: {text}" for text in _values(root, metric, cell))


def _values(root: Path, metric: str, cell: dict) -> Iterator[str]:
    for entry in cell["values"]:
        path = root / entry["metrics"]
        if not path.is_file():
            yield f"{entry['metrics']} is not in the bundle"
        elif digest(path) != entry["sha256"] or not _equal(entry["value"], _json(path)["values"][metric]):
            yield f"{entry['value']} is not what {entry['metrics']} says"


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _equal(shown: float | str, stored: float | None) -> bool:
    """Whether a value of tables.json, a word if not finite, is the value of a metrics file, null if not finite."""
    a, b = float(shown), float("nan" if stored is None else stored)
    return a == b or (a != a and b != b)


if __name__ == "__main__":
    lines = faults(Path(__file__).resolve().parent)
    print("\n".join(lines) or "whole: every file, record and number of this bundle agrees")
    sys.exit(bool(lines))
