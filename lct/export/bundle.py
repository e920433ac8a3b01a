"""A Zenodo-ready archive of a report and what it rests on, which is also an RO-Crate and verifies by itself.

It holds the report, tables.json, metrics, records, curves, previews, configuration and, if asked for, weights; then
SHA256SUMS and verify.py, ro-crate-metadata.json (RO-Crate 1.1, Process Run Crate) and .zenodo.json. Equal content gives
equal bytes.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lct.files.atomic import atomic, json_text

HERE = Path(__file__).parent
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
    contents = {name: (root / name).read_bytes() for name in names}
    contents["verify.py"] = (HERE / "verify.py").read_bytes()
    contents["README.md"] = _readme(title, description, command).encode()
    contents[".zenodo.json"] = json_text(_zenodo(title, description)).encode()
    records = {n: json.loads(c) for n, c in contents.items() if n.endswith(".run.json")}
    contents["ro-crate-metadata.json"] = json_text(crate(contents, records, title, description)).encode()
    sums = "".join(f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in sorted(contents))
    contents["SHA256SUMS"] = sums.encode()
    with atomic(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            archive.writestr(entry, contents[name])
    return len(contents)


def crate(
    contents: dict[str, bytes], records: dict[str, dict[str, Any]], title: str, description: str
) -> dict[str, Any]:
    """RO-Crate metadata: every file, and an action for every job that made one."""
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
            "datePublished": max((r["finished"] for r in records.values()), default="1980-01-01"),
            "conformsTo": {"@id": _PROFILE},
            "hasPart": [{"@id": name} for name in sorted(contents)],
            "mentions": [{"@id": action} for action in sorted({_action(r) for r in records.values()})],
        },
        {"@id": "https://spdx.org/licenses/MIT", "@type": "CreativeWork", "name": "MIT License"},
        {"@id": _PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
        {"@id": "#lct", "@type": "SoftwareApplication", "name": "lct"},
    ]
    for name in sorted(contents):
        one = {"@id": name, "@type": "File", "name": name, "contentSize": str(len(contents[name]))}
        one |= {"sha256": hashlib.sha256(contents[name]).hexdigest()}
        one |= {"encodingFormat": kind} if (kind := _TYPES.get(Path(name).suffix)) else {}
        graph.append(one)
    jobs: dict[str, dict[str, Any]] = {}
    for name, record in sorted(records.items()):
        output, beside = name.removesuffix(".run.json"), f"{name.removesuffix('.run.json')}.settings.json"
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
        made["result"] |= {output} & contents.keys()
        settings = json.loads(contents[beside]) if beside in contents else {"inputs": {}}
        made["object"] |= {used["path"] for used in settings["inputs"].values()} & contents.keys()
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
