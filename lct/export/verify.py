"""Is this bundle what it was? Needs Python alone: no git, no DVC, no network, nothing installed. Run it inside:

    python verify.py

1. Every file has the size and SHA-256 of SHA256SUMS, none is missing, none is extra.
2. Every X.run.json names the X that lies beside it; every X.settings.json names inputs that, where the bundle holds
   them, are these very files.
3. Every value of tables.json stands in the metrics file that it names.
"""

import hashlib
import json
import sys
from pathlib import Path

SUMS = "SHA256SUMS"


def digest(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def faults(root: Path) -> list[str]:
    """One line per fault; none when the bundle is whole."""
    found, hashes = [], {}
    for line in (root / SUMS).read_text(encoding="utf-8").splitlines():
        sha256, _, name = line.partition("  ")
        hashes[name] = sha256
        path = root / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            found.append(f"{name}: outside the bundle")
        elif not path.is_file():
            found.append(f"{name}: missing")
        elif digest(path) != sha256:
            found.append(f"{name}: not the bytes that were bundled")
    there = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    found += [f"{name}: not part of the bundle" for name in sorted(there - set(hashes) - {SUMS})]
    return found or _records(root, hashes) + _tables(root)


def _records(root: Path, hashes: dict[str, str]) -> list[str]:
    found = []
    for name in sorted(hashes):
        if name.endswith(".run.json"):
            output = json.loads((root / name).read_text(encoding="utf-8"))["output"]
            if hashes.get(name.removesuffix(".run.json"), output["sha256"]) != output["sha256"]:
                found.append(f"{name}: records another {output['path']} than the one beside it")
        elif name.endswith(".settings.json"):
            for role, used in json.loads((root / name).read_text(encoding="utf-8"))["inputs"].items():
                if hashes.get(used["path"], used["sha256"]) != used["sha256"]:
                    found.append(f"{name}: made from another {used['path']} ({role}) than the one in the bundle")
    return found


def _tables(root: Path) -> list[str]:
    found = []
    for path in sorted((root / "results").glob("*/tables/**/*.json")):
        if path.name.endswith((".run.json", ".settings.json")):
            continue
        for table in json.loads(path.read_text(encoding="utf-8"))["tables"]:
            for subtable in table["subtables"]:
                for row in [*subtable["rows"], *subtable["floors"]]:
                    for metric, cell in row["cells"].items():
                        found += [f"{cell['id']}: {text}" for text in _values(root, metric, cell)]
    return found


def _values(root: Path, metric: str, cell: dict) -> list[str]:
    found = []
    for value in cell["values"]:
        path = root / value["metrics"]
        if not path.is_file():
            found.append(f"{value['metrics']} is not in the bundle")
            continue
        stored, shown = json.loads(path.read_text(encoding="utf-8"))["values"][metric], value["value"]
        if digest(path) != value["sha256"] or not _equal(shown, stored):
            found.append(f"{shown} is not what {value['metrics']} says")
    return found


def _equal(shown: float | str, stored: float | None) -> bool:
    """Whether a value of tables.json, where non-finite ones are words, is that of a metrics file."""
    one, other = float(shown), float("nan" if stored is None else stored)
    return one == other or (one != one and other != other)


if __name__ == "__main__":
    wrong = faults(Path(__file__).resolve().parent)
    print("\n".join(wrong) or "whole: every file, record and number of this bundle agrees")
    sys.exit(bool(wrong))
