"""The pages of `lct audit` and `lct diff`: their results as one HTML file each. Nothing is computed here."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from lct.files.hashing import sha256_json
from lct.report.images import Picture, picture
from lct.report.render import html
from lct.report.text import NOT_GIVEN, anchor, exact, flatten, number, seed_name, signed

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
    links = {path: link for cell in audits["cells"] for path, link in cell["links"].items()}
    shown = {path: _link(link) for path, link in links.items()}
    rows = [
        _section(id_, list(cells), shown)
        for id_, cells in groupby(audits["cells"], lambda cell: cell["id"].rpartition(".")[0])
    ]
    settings = {sha256_json(link["settings"]): link for link in links.values() if link["settings"]}.items()
    described = [value["protocol"] for cell in audits["cells"] for value in cell["values"] if value["protocol"]]
    protocols = {protocol["hash"]: protocol["contents"] for protocol in described}
    values = {
        "scale": audits["scale"],
        "options": audits.get("options", f"--scale {audits['scale']}"),
        "report": report,
        "watermark": watermark,
        "notes": audits["notes"],
        "not_run": len(audits["not_run"]),
        "count": len(audits["cells"]),
        **_faults(audits["cells"]),
        "tables": [(table, list(of)) for table, of in groupby(rows, key=lambda row: row["id"].partition(".")[0])],
        "links": list(shown.values()),
        "settings": [
            {"hash": key, "stage": of["stage"] or "", "rows": flatten(of["settings"])} for key, of in settings
        ],
        "protocols": [{"hash": key, "rows": flatten(contents or {})} for key, contents in protocols.items()],
        "timelines": timelines,
    }
    return html("audit.html", page=values)


def _faults(cells: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Different faults of these cells, and what could not be checked."""
    checks = {check["text"]: check for cell in cells for check in (*cell["faults"], *cell["unchecked"])}.values()
    faults = [check for check in checks if check["state"] != "unchecked"]
    return {"faults": faults, "unchecked": [check for check in checks if check["state"] == "unchecked"]}


def _section(id_: str, cells: list[dict[str, Any]], links: dict[str, dict[str, Any]]) -> dict[str, Any]:
    first = cells[0]
    chains = []
    for value in first["values"]:
        passed = [check["text"] for check in value["checks"] if check["state"] == "ok"]
        protocol = (value["protocol"] or {}).get("hash") or ""
        chain = {"seed": value["seed"], "draw": value["draw"], "passed": passed, "protocol": protocol, "tree": None}
        if value["chain"]:
            chain["tree"] = _tree("metrics", value["metrics"], first["links"], links, set())
        chains.append(chain)
    return {
        "id": id_,
        "anchor": f"row-{anchor(id_)}",
        "title": first["title"],
        "state": min((cell["state"] for cell in cells), key=STATES.index),
        "cost": first["cost"],
        "cells": [
            {
                "id": cell["id"],
                "anchor": f"cell-{anchor(cell['id'])}",
                "key": f"values.{cell['metric']}",
                "state": cell["state"],
                "numbers": [
                    {"seed": v["seed"], "draw": v["draw"]}
                    | {"text": "not read here" if v["value"] is None else exact(v["value"])}
                    for v in cell["values"]
                ],
            }
            for cell in cells
        ],
        "chains": chains,
        **_faults(cells),
    }


def _tree(
    role: str, path: str, links: dict[str, Any], shown: dict[str, dict[str, Any]], visited: set[str]
) -> dict[str, Any]:
    """A file with those it was made from below it; one that stands further up already is only named."""
    visited.add(path)
    node: dict[str, Any] = {"role": role, "link": shown[path], "inputs": [], "again": []}
    for source in links[path]["inputs"]:
        if source["path"] in visited:
            node["again"].append((source["role"], shown[source["path"]]))
        else:
            node["inputs"].append(_tree(source["role"], source["path"], links, shown, visited))
    return node


def _link(link: dict[str, Any]) -> dict[str, Any]:
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
        "path": link["path"],
        "anchor": f"file-{anchor(link['path'])}",
        "state": link["state"],
        "sha256": link["sha256"],
        "words": words,
        "origins": origins,
        "facts": [(key, str(value)) for key, value in facts if value not in (None, "")],
        "settings": sha256_json(link["settings"]) if link["settings"] else "",
        "inputs": [source | {"anchor": f"file-{anchor(source['path'])}"} for source in link["inputs"]],
        "checks": link["checks"],
        "passed": [check["text"] for check in link["checks"] if check["state"] == "ok"],
    }


def diff_page(difference: dict[str, Any], pictures: list[tuple[Path | None, Path | None]]) -> str:
    """HTML of what differs. `pictures`: per entry of its "samples", the file of either side, if it is here."""
    samples = [
        sample | {"pictures": [_picture(path, sample[side]) for side, path in zip(("old", "new"), paths, strict=True)]}
        for sample, paths in zip(difference["samples"], pictures, strict=True)
    ]
    cells = [_cell(cell) for cell in difference["cells"] if cell["state"] != "same"]
    same = len(difference["cells"]) - len(cells)
    return html("diff.html", page=difference | {"cells": cells, "same": same, "samples": samples})


def _picture(path: Path | None, name: str | None) -> Picture:
    if path is None:
        return Picture(name, missing="not here: neither in the workspace nor in DVC's cache" if name else "none")
    resolved = path.resolve()
    return picture(resolved.parent, resolved.name)


def _cell(cell: dict[str, Any]) -> dict[str, Any]:
    texts = {
        side: [
            f"{seed_name(v['seed'], v['draw'])}: {'not here' if v['value'] is None else exact(v['value'])}"
            for v in cell[side]
        ]
        for side in ("old", "new")
    }
    difference = cell["difference"]
    shown = NOT_GIVEN if difference is None else signed(difference) if difference else number(difference)
    return {"id": cell["id"], "state": cell["state"], **texts, "difference": shown}
