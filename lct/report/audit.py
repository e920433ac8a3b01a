"""The pages of `lct audit` and `lct diff`: their results as one HTML file each. Nothing is computed here."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from lct.files.hashing import sha256_json
from lct.report.images import Picture, picture
from lct.report.render import html

STATES = ("broken", "missing", "dirty", "stale", "unchecked", "ok")  # worst first


def page(
    audits: dict[str, Any],
    report: str = "",
    timelines: Sequence[tuple[str, str]] = (),
    watermark: str | None = None,
) -> str:
    """HTML of an audit.

    audits: {"scale", "options", "cells", "notes", "not_run"} as `lct audit --json` prints it.
    report: the report's page, relative to this one; empty: there is none to link to.
    timelines: (what it is, drawing as SVG) of when its tables appear.
    watermark: of the scale.
    """
    different = {path: link for cell in audits["cells"] for path, link in cell["links"].items()}
    links = {path: link | _words(link) for path, link in different.items()}
    rows = [_section(list(of), links) for _, of in groupby(audits["cells"], lambda cell: cell["id"].rpartition(".")[0])]
    described = [value["protocol"] for cell in audits["cells"] for value in cell["values"] if value["protocol"]]
    values = {
        "options": f"--scale {audits['scale']}",
        **audits,
        "report": report,
        "watermark": watermark,
        **_faults(audits["cells"]),
        "tables": [(table, list(of)) for table, of in groupby(rows, key=lambda row: row["id"].partition(".")[0])],
        "links": list(links.values()),
        "settings": {link["settings_hash"]: link for link in links.values() if link["settings"]},
        "protocols": {protocol["hash"]: protocol["contents"] or {} for protocol in described},
        "timelines": timelines,
    }
    return html("audit.html", page=values)


def _faults(cells: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Different faults of these cells, and what could not be checked."""
    kinds = ("faults", "unchecked")
    return {kind: list({check["text"]: check for cell in cells for check in cell[kind]}.values()) for kind in kinds}


def _section(cells: list[dict[str, Any]], links: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The cells of a row, which share their files, and the chain of each value."""
    trees = [v["chain"] and _tree("metrics", v["metrics"], links, set()) for v in cells[0]["values"]]
    return {
        "id": cells[0]["id"].rpartition(".")[0],
        "cells": cells,
        "state": min((cell["state"] for cell in cells), key=STATES.index),
        "chains": list(zip(cells[0]["values"], trees, strict=True)),
        **_faults(cells),
    }


def _tree(role: str, path: str, links: dict[str, dict[str, Any]], visited: set[str]) -> dict[str, Any]:
    """A file with those it was made from below it; one that stands further up already is only named."""
    visited.add(path)
    node: dict[str, Any] = {"role": role, "link": links[path], "inputs": [], "again": []}
    for source in links[path]["inputs"]:
        if source["path"] in visited:
            node["again"].append((source["role"], links[source["path"]]))
        else:
            node["inputs"].append(_tree(source["role"], source["path"], links, visited))
    return node


def _words(link: dict[str, Any]) -> dict[str, Any]:
    """What a page says of a file beside its checks."""
    run = link["run"] or {}
    git = run.get("git") or {}
    code = f"{git['revision']}{' with uncommitted changes' if git.get('dirty') else ''}" if git.get("revision") else ""
    lock = run.get("environment_lock_sha256") or ""
    other = {True: "as in this checkout", False: "not this checkout's"}.get(run.get("same_environment_lock"), "")
    packages = ", ".join(f"{name} {version}" for name, version in (run.get("packages") or {}).items())
    origins = [", ".join(f"{k} {v}" for k, v in origin.items() if k != "kind") for origin in link["origins"]]
    seeds = ", ".join(f"{name} {seed}" for name, seed in link["seeds"].items())
    jobs = ", ".join(run.get("slurm_jobs") or ())
    spent = f"{run.get('seconds')} s, {run.get('cpu_seconds')} CPU s" if run else ""
    spent += f", {run['attempts']} attempts" if run.get("attempts", 1) > 1 else ""
    spent += f", {run['gpu_seconds'] / 3600:.3g} GPU h" if run.get("gpu_seconds") else ""
    facts = [
        ("stage", link["stage"]),
        ("seeds", seeds),
        ("bytes", link["bytes"]),
        ("sha256", link["sha256"]),
        ("known from", link["where"]),
        *(("source", origin) for origin in origins),
        ("code", code),
        ("environment lock", f"{lock} {other}".strip()),
        ("packages", packages),
        ("device", f"{run.get('device')} on {run.get('host')}, {run.get('machine')}" if run else ""),
        ("SLURM jobs", jobs),
        ("made", f"{run.get('started')} to {run.get('finished')}" if run else ""),
        ("cost", spent),
    ]
    words = [f"{name} seed {seed}" for name, seed in link["seeds"].items()]
    words += [f"code {code[:12]}{'+' if git.get('dirty') else ''}"] if code else []
    words += [f"{run.get('device')} on {run.get('host')}", f"{run.get('seconds')} s"] if run else []
    words += [f"SLURM {jobs}"] if jobs else []
    return {
        "words": words,
        "origins": origins,
        "facts": [(key, str(value)) for key, value in facts if value not in (None, "")],
        "settings_hash": sha256_json(link["settings"]) if link["settings"] else "",
    }


def diff_page(difference: dict[str, Any], pictures: list[tuple[Path | None, Path | None]]) -> str:
    """HTML of what differs. `pictures`: per entry of its "samples", the file of either side, if it is here."""
    samples = [
        sample | {"pictures": [_picture(path, sample[side]) for side, path in zip(("old", "new"), paths, strict=True)]}
        for sample, paths in zip(difference["samples"], pictures, strict=True)
    ]
    return html("diff.html", page=difference | {"samples": samples})


def _picture(path: Path | None, name: str | None) -> Picture:
    if path is None:
        return Picture(name, missing="not here: neither in the workspace nor in DVC's cache" if name else "none")
    resolved = path.resolve()
    return picture(resolved.parent, resolved.name)
