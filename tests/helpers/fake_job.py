"""What a job of the small project of fake_lineage.py does; apart, so that each starts without Snakemake and DVC."""

import hashlib
import json
from pathlib import Path

from lct.files.atomic import write_bytes, write_json
from lct.files.hashing import sha256_file
from lct.files.records import run_path, settings_path


def jobs_in(folder: Path) -> dict[str, dict]:
    graphs = [json.loads(path.read_text()) for path in sorted(folder.glob("graph*.json"), reverse=True)]
    return {one["rule"]: one for jobs in graphs for one in jobs}


def write_outputs(folder: Path, one: dict) -> None:
    """What a job does: every output, deterministic in its settings and inputs, and the records."""
    used = {path: sha256_file(folder / path) for path in one["inputs"]}
    seed = json.dumps([one["settings"], used], sort_keys=True)
    for path in one["outputs"]:
        content = hashlib.sha256(f"{seed} {path}".encode()).hexdigest()
        fixed = one.get("contents", {}).get(path, {"value": int(content[:6], 16), "of": content})
        write_bytes(folder / path, json.dumps(fixed).encode())
    stage = one["rule"].partition("_")[0]
    for path, inputs in one["roles"].items():
        named = {role: {"path": source, "sha256": used[source]} for role, source in inputs.items()}
        write_json(folder / settings_path(path), {"settings": one["settings"], "inputs": named, "stage": stage})
        output = {"path": path, "bytes": (folder / path).stat().st_size, "sha256": sha256_file(folder / path)}
        write_json(folder / run_path(path), {"output": output, "git": None, "stage": stage})
