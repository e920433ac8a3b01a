"""The audit page: what `lct audit` found, as one HTML file. Computes and checks nothing."""

from itertools import groupby
from typing import Any

from lct.files.hashing import sha256_json
from lct.report.render import templates
from lct.report.text import anchor, exact, flatten

STATES = ("broken", "missing", "dirty", "stale", "unchecked", "ok")  # worst first


def page(found: dict[str, Any], report: str = "") -> str:
    """HTML of an audit.

    found:  {"scale", "cells", "notes", "not_run"} as `lct audit --json` prints it.
    report: the report's page, relative to this one; empty: there is none to link to.
    """
    links = {path: link for cell in found["cells"] for path, link in cell["links"].items()}
    shown = {path: _link(link) for path, link in links.items()}
    rows = [_section(id_, list(cells), shown) for id_, cells in groupby(found["cells"], key=_row)]
    told = [one for cell in found["cells"] for one in (*cell["faults"], *cell["unchecked"])]
    unique = list({one["text"]: one for one in told}.values())
    values = {
        "scale": found["scale"],
        "report": report,
        "notes": found["notes"],
        "not_run": len(found["not_run"]),
        "count": len(found["cells"]),
        "faults": [one for one in unique if one["state"] != "unchecked"],
        "unchecked": [one for one in unique if one["state"] == "unchecked"],
        "tables": [(table, list(of)) for table, of in groupby(rows, key=lambda row: row["id"].partition(".")[0])],
        "links": list(shown.values()),
        "settings": _settings(links),
        "protocols": _protocols(found["cells"]),
    }
    return templates(autoescape=True).get_template("audit.html.jinja").render(page=values)


def _row(cell: dict[str, Any]) -> str:
    return cell["id"].rpartition(".")[0]


def _section(id_: str, cells: list[dict[str, Any]], links: dict[str, dict[str, Any]]) -> dict[str, Any]:
    first = cells[0]
    chains = []
    for value in first["values"]:
        said = [one["text"] for one in value["checks"] if one["state"] == "ok"]
        chain = {"seed": value["seed"], "draw": value["draw"], "said": said, "protocol": "", "tree": None}
        chain["protocol"] = (value["protocol"] or {}).get("hash") or ""
        if value["chain"]:
            chain["tree"] = _tree("metrics", value["metrics"], first["links"], links, set())
        chains.append(chain)
    told = {one["text"]: one for cell in cells for one in (*cell["faults"], *cell["unchecked"])}.values()
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
                    {"seed": v["seed"], "draw": v["draw"], "text": _number(v["value"])} for v in cell["values"]
                ],
            }
            for cell in cells
        ],
        "chains": chains,
        "faults": [one for one in told if one["state"] != "unchecked"],
        "unchecked": [one for one in told if one["state"] == "unchecked"],
    }


def _number(value: Any) -> str:
    return "not read here" if value is None else exact(value)


def _tree(
    role: str, path: str, links: dict[str, Any], shown: dict[str, dict[str, Any]], seen: set[str]
) -> dict[str, Any]:
    """A file with those it was made from below it; one that stands further up already is only named."""
    seen.add(path)
    node: dict[str, Any] = {"role": role, "link": shown[path], "inputs": [], "again": []}
    for one in links[path]["inputs"]:
        if one["path"] in seen:
            node["again"].append((one["role"], shown[one["path"]]))
        else:
            node["inputs"].append(_tree(one["role"], one["path"], links, shown, seen))
    return node


def _link(link: dict[str, Any]) -> dict[str, Any]:
    run = link["run"] or {}
    git = run.get("git") or {}
    code = f"{git['revision']}{' with uncommitted changes' if git.get('dirty') else ''}" if git.get("revision") else ""
    lock = run.get("environment_lock_sha256") or ""
    other = {True: "as in this checkout", False: "not this checkout's"}.get(run.get("same_environment_lock"), "")
    packages = ", ".join(f"{name} {version}" for name, version in (run.get("packages") or {}).items())
    origins = [", ".join(f"{k} {v}" for k, v in one.items() if k != "kind") for one in link["origins"]]
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
        *(("source", one) for one in origins),
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
        "inputs": [one | {"anchor": f"file-{anchor(one['path'])}"} for one in link["inputs"]],
        "checks": link["checks"],
        "passed": [check["text"] for check in link["checks"] if check["state"] == "ok"],
    }


def _settings(links: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Every different set of settings, once."""
    found = {sha256_json(one["settings"]): one for one in links.values() if one["settings"]}
    return [{"hash": key, "stage": one["stage"] or "", "rows": flatten(one["settings"])} for key, one in found.items()]


def _protocols(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = {v["protocol"]["hash"]: v["protocol"]["contents"] for c in cells for v in c["values"] if v["protocol"]}
    return [{"hash": key, "rows": flatten(contents or {})} for key, contents in found.items()]
