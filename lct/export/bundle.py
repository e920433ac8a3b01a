"""An archive of a report and its sources, for Zenodo. It is an RO-Crate, and a script inside verifies it.

The archive holds the files that `write` receives, SHA256SUMS, verify.py, README.md, ro-crate-metadata.json (RO-Crate
1.1, Process Run Crate) and .zenodo.json. Equal content gives equal bytes.
"""

import hashlib
import io
import json
import mimetypes
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from lct.files.atomic import atomic, json_text, read_json
from lct.files.records import run_path, settings_path
from lct.plan import files as stage_files
from lct.plan.paths import REPORT_FILES
from lct.plan.plan import Plan

HERE = Path(__file__).parent
RUN, SETTINGS = RECORDS = (".run.json", ".settings.json")
_PIECE = 1 << 20  # bytes read at a time
_DENSE = (".safetensors", ".zip", ".png")  # no smaller when compressed
_DATE = (1980, 1, 1, 0, 0, 0)
_TYPES = mimetypes.MimeTypes()  # Python's own, without those of the machine
for _type, _suffix in (("application/yaml", ".yaml"), ("text/markdown", ".md")):
    _TYPES.add_type(_type, _suffix)
_CONTEXT = "https://w3id.org/ro/crate/1.1/context"
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_DESCRIPTOR = {
    "@id": "ro-crate-metadata.json",
    "@type": "CreativeWork",
    "about": {"@id": "./"},
    "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
}
_CONTEXTUAL = [
    {"@id": _PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
    {"@id": "#lct", "@type": "SoftwareApplication", "name": "lct"},
]
Entity = dict[str, Any]  # of an RO-Crate
ABOUT = ("LICENSE", "CITATION.cff", "requirements.lock", "requirements-cuda12.lock")


def write(
    path: Path,
    root: Path,
    files: Iterable[str],
    *,
    title: str,
    description: str,
    command: str,
    licence: str | None = None,
) -> int:
    """Write an archive of `files` (relative to root) to `path`; return the number of files in it.

    title, description: of the published record. command: what computes all of it again. licence: SPDX id of what is in
    it; None where it is not stated, which leaves the choice to whoever publishes it."""
    names = sorted(set(files))
    archived: dict[str, Entity] = {}
    with atomic(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name in names:
            with open(root / name, "rb") as content:
                archived[name] = _add(archive, name, content)

        def add(name: str, text: str) -> None:
            archived[name] = _add(archive, name, io.BytesIO(text.encode()))

        add("verify.py", (HERE / "verify.py").read_text(encoding="utf-8"))
        add("README.md", _readme(title, description, command))
        add(".zenodo.json", json_text(_zenodo(title, description, licence)))
        records = {name: read_json(root / name) for name in names if name.endswith(RECORDS)}
        add("ro-crate-metadata.json", json_text(crate(archived, records, title, description, licence)))
        add("SHA256SUMS", "".join(f"{file['sha256']}  {name}\n" for name, file in sorted(archived.items())))
    return len(archived)


def _add(archive: zipfile.ZipFile, name: str, content: BinaryIO) -> Entity:
    """Write a file to the archive in small pieces, because weights may be larger than the memory; return its entity."""
    entry = zipfile.ZipInfo(name, _DATE)
    entry.create_system, entry.external_attr = 3, 0o644 << 16
    entry.compress_type = zipfile.ZIP_STORED if Path(name).suffix in _DENSE else zipfile.ZIP_DEFLATED
    digest, size = hashlib.sha256(), 0
    with archive.open(entry, "w", force_zip64=True) as target:
        while piece := content.read(_PIECE):
            digest.update(piece)
            size += target.write(piece)
    entity = {"@id": name, "@type": "File", "name": name, "contentSize": str(size), "sha256": digest.hexdigest()}
    media_type, _ = _TYPES.guess_type(name)
    return entity | ({"encodingFormat": media_type} if media_type else {})


def crate(
    files: dict[str, Entity], records: dict[str, dict[str, Any]], title: str, description: str, licence: str | None
) -> dict[str, Any]:
    """RO-Crate metadata: an entity for every file, and an action for every job.

    records: contents of the run.json and settings.json files, by name."""
    runs = {name.removesuffix(RUN): record for name, record in sorted(records.items()) if name.endswith(RUN)}
    actions = _actions(runs, records, files)
    dataset = {
        "@id": "./",
        "@type": "Dataset",
        "name": title,
        "description": description,
        "license": f"https://spdx.org/licenses/{licence}" if licence else "not stated; see config/datasets/",
        "datePublished": max((run["finished"] for run in runs.values()), default="1980-01-01"),
        "conformsTo": {"@id": _PROFILE},
        "hasPart": _references(files),
        "mentions": _references(actions),
    }
    entities = [of[name] for of in (files, actions) for name in sorted(of)]
    return {"@context": _CONTEXT, "@graph": [_DESCRIPTOR, dataset, *_CONTEXTUAL, *entities]}


def _actions(
    runs: dict[str, dict[str, Any]], records: dict[str, dict[str, Any]], files: dict[str, Entity]
) -> dict[str, Entity]:
    """Id of each job -> its action, with inputs and outputs where the archive holds them. runs: run.json by output."""
    actions: dict[str, Entity] = {}
    inputs: dict[str, set[str]] = defaultdict(set)
    outputs: dict[str, set[str]] = defaultdict(set)
    for output, run in runs.items():
        identity = json.dumps([run["stage"], run["started"], run["command"]])
        action = f"#job-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        settings = records.get(f"{output}{SETTINGS}", {"inputs": {}})
        inputs[action].update(source["path"] for source in settings["inputs"].values())
        outputs[action].add(output)
        actions[action] = {
            "@id": action,
            "@type": "CreateAction",
            "name": run["stage"],
            "instrument": {"@id": "#lct"},
            "startTime": run["started"],
            "endTime": run["finished"],
            "description": " ".join(run["command"]),
            "object": _references(inputs[action] & files.keys()),
            "result": _references(outputs[action] & files.keys()),
        }
    return actions


def _references(ids: Iterable[str]) -> list[dict[str, str]]:
    return [{"@id": id_} for id_ in sorted(ids)]


def _readme(title: str, description: str, command: str) -> str:
    return (
        f"# {title}\n\n{description}\n\n"
        "Start with `reports/*/index.html`. `python verify.py` checks every file, record and number, with Python\n"
        "alone; `sha256sum --check SHA256SUMS` checks the files.\n\n"
        f"In a checkout of the project, this makes all of it again:\n\n    {command}\n"
    )


def _zenodo(title: str, description: str, licence: str | None) -> dict[str, Any]:
    return {
        "title": title,
        "description": description,
        "upload_type": "dataset",
        "access_right": "open",
        **({"license": licence} if licence else {}),
        "keywords": ["reproducibility", "consistency models", "latent diffusion"],
        "related_identifiers": [
            {"identifier": "arXiv:2502.01441", "relation": "isSupplementTo", "resource_type": "publication-article"}
        ],
        "creators": [{"name": "The maintainers of this repository"}],
    }


def contents(plan: Plan, root: Path, which: str, with_weights: bool) -> list[str]:
    """Paths relative to root: metrics, what the report shows, tables.json, pages, records and configuration.

    which: "tables" or "all". ValueError if the report, a metrics file or, with_weights, weights do not exist."""
    metrics = stage_files.report_metrics(plan, which)
    sets = [s for cell in plan.cells_of(which) for s in cell.sets]
    weights = [plan.paths.weights(s.run, s.seed, s.weights) for s in sets] if with_weights else []
    required = [*metrics, plan.paths.report("index.html", which), *weights]
    missing = [name for name in required if not (root / name).exists()]
    if missing:
        command = f"snakemake {plan.snakemake_options}"
        raise ValueError(f"{missing[0]}: expected a finished scale, found {len(missing)} files missing; {command}")
    pages = [*REPORT_FILES, *stage_files.row_pages(plan, which), *stage_files.report_figures(plan)]
    names = [*metrics, *stage_files.report_inputs(plan, which), plan.paths.tables(which), *weights]
    names += [plan.paths.report(name, which) for name in pages]
    names += [str(record(name)) for name in names for record in (settings_path, run_path)]
    names += [path.relative_to(root).as_posix() for path in sorted((root / "config").rglob("*"))]
    return [name for name in (*names, *ABOUT) if (root / name).is_file()]
