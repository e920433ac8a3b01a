"""A Zenodo-ready archive of a report and what it rests on, which is also an RO-Crate and verifies by itself.

It holds the report, tables.json, metrics, records, curves, previews, configuration and, if asked for, weights; then
SHA256SUMS and verify.py, ro-crate-metadata.json (RO-Crate 1.1, Process Run Crate) and .zenodo.json. Equal content gives
equal bytes.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lct.files.atomic import atomic, json_text, read_json

HERE = Path(__file__).parent
RUN, SETTINGS = RECORDS = (".run.json", ".settings.json")
_PIECE = 1 << 20  # bytes read at a time
_DENSE = (".safetensors", ".zip", ".png")  # no smaller when compressed
_DATE = (1980, 1, 1, 0, 0, 0)
_TYPES = {
    ".html": "text/html",
    ".md": "text/markdown",
    ".tex": "application/x-tex",
    ".csv": "text/csv",
    ".json": "application/json",
    ".yaml": "application/yaml",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".pdf": "application/pdf",
    ".py": "text/x-python",
    ".zip": "application/zip",
}
_CONTEXT = "https://w3id.org/ro/crate/1.1/context"
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"


def write(path: Path, root: Path, files: Iterable[str], *, title: str, description: str, command: str) -> int:
    """The archive of `files` (relative to root) at `path`; returns how many files it holds. title, description: of the
    record; command: what makes all of it again."""
    names = sorted(set(files))
    held: dict[str, Held] = {}
    with atomic(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name in names:
            with open(root / name, "rb") as content:
                held[name] = _add(archive, name, content)

        def add(name: str, text: str) -> None:
            held[name] = _add(archive, name, io.BytesIO(text.encode()))

        add("verify.py", (HERE / "verify.py").read_text(encoding="utf-8"))
        add("README.md", _readme(title, description, command))
        add(".zenodo.json", json_text(_zenodo(title, description)))
        records = {name: read_json(root / name) for name in names if name.endswith(RECORDS)}
        add("ro-crate-metadata.json", json_text(crate(held, records, title, description)))
        add("SHA256SUMS", "".join(f"{one.sha256}  {name}\n" for name, one in sorted(held.items())))
    return len(held)


@dataclass(frozen=True)
class Held:
    """A file of the archive."""

    bytes: int
    sha256: str


def _add(archive: zipfile.ZipFile, name: str, content: BinaryIO) -> Held:
    """A file written to the archive, a piece at a time: weights may be larger than the memory."""
    entry = zipfile.ZipInfo(name, _DATE)
    entry.create_system, entry.external_attr = 3, 0o644 << 16
    entry.compress_type = zipfile.ZIP_STORED if Path(name).suffix in _DENSE else zipfile.ZIP_DEFLATED
    digest, size = hashlib.sha256(), 0
    with archive.open(entry, "w", force_zip64=True) as target:
        while piece := content.read(_PIECE):
            digest.update(piece)
            size += target.write(piece)
    return Held(size, digest.hexdigest())


def crate(files: dict[str, Held], records: dict[str, dict[str, Any]], title: str, description: str) -> dict[str, Any]:
    """RO-Crate metadata: every file, and an action for every job that made one. records: run.json and settings.json
    files by name."""
    runs = {name: record for name, record in records.items() if name.endswith(RUN)}
    graph: list[dict[str, Any]] = [
        {
            "@id": "ro-crate-metadata.json",
            "@type": "CreativeWork",
            "about": {"@id": "./"},
            "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "name": title,
            "description": description,
            "license": {"@id": "https://spdx.org/licenses/MIT"},
            "datePublished": max((r["finished"] for r in runs.values()), default="1980-01-01"),
            "conformsTo": {"@id": _PROFILE},
            "hasPart": [{"@id": name} for name in sorted(files)],
            "mentions": [{"@id": action} for action in sorted({_action(r) for r in runs.values()})],
        },
        {"@id": "https://spdx.org/licenses/MIT", "@type": "CreativeWork", "name": "MIT License"},
        {"@id": _PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
        {"@id": "#lct", "@type": "SoftwareApplication", "name": "lct"},
    ]
    for name, held in sorted(files.items()):
        one = {"@id": name, "@type": "File", "name": name, "contentSize": str(held.bytes), "sha256": held.sha256}
        one |= {"encodingFormat": kind} if (kind := _TYPES.get(Path(name).suffix)) else {}
        graph.append(one)
    jobs: dict[str, dict[str, Any]] = {}
    for name, record in sorted(runs.items()):
        output = name.removesuffix(RUN)
        made = jobs.setdefault(
            _action(record),
            {
                "@type": "CreateAction",
                "name": record["stage"],
                "instrument": {"@id": "#lct"},
                "startTime": record["started"],
                "endTime": record["finished"],
                "description": " ".join(record["command"]),
                "object": set(),
                "result": set(),
            },
        )
        made["result"] |= {output} & files.keys()
        inputs = records.get(f"{output}{SETTINGS}", {"inputs": {}})["inputs"]
        made["object"] |= {used["path"] for used in inputs.values()} & files.keys()
    for action, made in sorted(jobs.items()):
        ends = {key: [{"@id": name} for name in sorted(made[key])] for key in ("object", "result")}
        graph.append({"@id": action} | made | ends)
    return {"@context": _CONTEXT, "@graph": graph}


def _action(record: dict[str, Any]) -> str:
    """One job: its stage, start and command."""
    told = json.dumps([record["stage"], record["started"], record["command"]])
    return f"#job-{hashlib.sha256(told.encode()).hexdigest()[:16]}"


def _readme(title: str, description: str, command: str) -> str:
    return (
        f"# {title}\n\n{description}\n\n"
        "Start with `reports/*/index.html`. `python verify.py` checks every file, record and number, with Python\n"
        "alone; `sha256sum --check SHA256SUMS` checks the files.\n\n"
        f"In a checkout of the project, this makes all of it again:\n\n    {command}\n"
    )


def _zenodo(title: str, description: str) -> dict[str, Any]:
    return {
        "title": title,
        "description": description,
        "upload_type": "dataset",
        "access_right": "open",
        "license": "MIT",
        "keywords": ["reproducibility", "consistency models", "latent diffusion"],
        "related_identifiers": [
            {"identifier": "arXiv:2502.01441", "relation": "isSupplementTo", "resource_type": "publication-article"}
        ],
        "creators": [{"name": "The maintainers of this repository"}],
    }
