"""Audits and differences in words, for the terminal."""

from typing import Any

from lct.files.records import flatten
from lct.lineage.chain import FAULTS, worst

MARKS = {state: state.upper() for state in FAULTS} | {"ok": "ok", "unchecked": "not checked"}


def cell(audit: dict[str, Any], settings: bool = False) -> str:
    """One cell: its numbers, the chain of each, its cost, what is wrong and what was not checked."""
    lines = [f"{audit['id']}  {audit['title']}"]
    shown: set[str] = set()
    for value in audit["values"]:
        where = f"{value['metrics']} {value['key']}"
        number = "not read here" if value["value"] is None else repr(value["value"])
        lines.append(f"  seed {value['seed']}, draw {value['draw']}: {number}  <- {where}")
        if value["protocol"]:
            contents = flatten(value["protocol"]["contents"] or {})
            lines.append(f"    protocol {value['protocol']['hash']}")
            lines += [f"      {key} = {item}" for key, item in contents.items()] if settings else []
        lines += [f"    {check['text']}" for check in value["checks"] if check["state"] == "ok"]
        if value["metrics"] in shown:
            lines.append("    its chain: above")
        elif value["chain"]:
            lines += _tree(audit["links"], value["metrics"], "", 2, shown, settings)
    spent = audit["cost"]
    lines.append(
        f"  cost of the chain: {spent['jobs']} jobs, {spent['seconds']:.1f} s, {spent['cpu_seconds']:.1f} CPU s"
        + (f", {spent['starts']} starts" if spent["starts"] > spent["jobs"] else "")
        + (f", {spent['gpu_seconds'] / 3600:.3g} GPU h" if spent["gpu_seconds"] else "")
    )
    sections = {
        "wrong": [f"{MARKS[check['state']]}  {check['text']}" for check in audit["faults"]],
        "could not check": [check["text"] for check in audit["unchecked"]],
        "changed since, and not wrong by that": audit["changed"],
    }
    for title, items in sections.items():
        lines += [f"  {title} ({len(items)}):", *(f"    {item}" for item in items)] if items else []
    lines.append(
        f"  {audit['checked']} checks passed, {len(audit['faults'])} failed, {len(audit['unchecked'])} not possible"
    )
    return "\n".join(lines)


def row(audits: list[dict[str, Any]]) -> str:
    """The cells of one row in a line, and beneath it what is wrong with them."""
    wrong = faults(audits)
    state = worst([check["state"] for check in wrong])
    values = [[v["value"] for v in audit["values"]] for audit in audits]
    texts = [" / ".join("not read here" if v is None else f"{v:.4g}" for v in of) for of in values]
    numbers = [f"{audit['id'].rpartition('.')[2]} {text}" for audit, text in zip(audits, texts, strict=True)]
    files = {path for audit in audits for path in audit["links"]}
    unchecked = {check["text"] for audit in audits for check in audit["unchecked"]}
    line = f"{MARKS[state]}  {audits[0]['id'].rpartition('.')[0]}  {', '.join(numbers)}; {len(files)} files"
    lines = [line + (f", {len(unchecked)} checks not possible" if unchecked else "")]
    lines += [f"    {MARKS[check['state']]}  {check['text']}" for check in wrong]
    changed = dict.fromkeys(text for audit in audits for text in audit["changed"])
    return "\n".join(lines + [f"    changed since, and not wrong by that: {text}" for text in changed])


def _tree(links: dict[str, Any], path: str, role: str, depth: int, shown: set[str], settings: bool) -> list[str]:
    link, indent = links[path], "  " * depth
    name = f"{role}: {path}" if role else path
    hashed = (link["sha256"] or "no hash")[:12]
    shown.add(path)
    lines = [f"{indent}{name}  {hashed}  {MARKS[link['state']]}"]
    count = len(flatten(link["settings"] or {}))
    counted = f"{count} settings" if count and not settings else ""
    facts = [
        link["stage"] or "",
        counted,
        *(f"{key} seed {seed}" for key, seed in link["seeds"].items()),
        *circumstances(link),
    ]
    if any(facts):
        lines.append(f"{indent}  | {', '.join(fact for fact in facts if fact)}")
    if settings:
        lines += [f"{indent}  | {key} = {value}" for key, value in flatten(link["settings"] or {}).items()]
    lines += [f"{indent}  = {origin(item)}" for item in link["origins"]]
    again = []
    for item in link["inputs"]:
        if item["path"] in shown:
            again.append(f"{item['role']} {(links[item['path']]['sha256'] or 'no hash')[:12]}")
        else:
            lines += _tree(links, item["path"], item["role"], depth + 1, shown, settings)
    return lines + ([f"{indent}  also reads: {', '.join(again)}"] if again else [])


def circumstances(link: dict[str, Any]) -> list[str]:
    """When, where and by what a file was made, in a few words each."""
    run = link["run"]
    if run is None:
        return []
    git, jobs = run["git"] or {}, run["slurm_jobs"]
    words = [f"code {git['revision'][:12]}{' + changes' if git.get('dirty') else ''}"] if git.get("revision") else []
    if run["environment_lock_sha256"]:
        other = " (not this checkout's)" if run["same_environment_lock"] is False else ""
        words.append(f"lock {run['environment_lock_sha256'][:12]}{other}")
    words.append(f"{run['device']} on {run['host']}")
    words += [f"SLURM job{'s' * (len(jobs) > 1)} {', '.join(jobs)}"] if jobs else []
    words += [f"{run['attempts']} attempts"] if run["attempts"] > 1 else []
    words += [f"{run['seconds']} s", f"{run['cpu_seconds']} CPU s", str(run["finished"])]
    return words


def origin(source: dict[str, str]) -> str:
    """Where data come from."""
    return ", ".join(f"{key} {value}" for key, value in source.items() if key != "kind") + (
        f" ({source['kind']})" if "kind" in source else ""
    )


def faults(audits: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Every different fault of several cells, once."""
    return list({fault["text"]: fault for audit in audits for fault in audit["faults"]}.values())


def diff(difference: dict[str, Any], most: int = 12) -> str:
    """Differences of two states; of long lists the first `most`."""
    old, new = difference["old"]["name"], difference["new"]["name"]
    cells = [cell for cell in difference["cells"] if cell["state"] != "same"]
    same = len(difference["cells"]) - len(cells)
    lines = [f"{old} -> {new}, {difference['scale']} scale: {len(cells)} cells differ, {same} are the same"]
    for cell in cells:
        numbers = [[item["value"] for item in cell[side]] for side in ("old", "new")]
        sides = [" / ".join("not here" if v is None else repr(v) for v in of) or "none" for of in numbers]
        apart = "" if cell["difference"] is None else f"  ({cell['difference']:+.6g})"
        lines.append(f"  {cell['id']}: {sides[0]} -> {sides[1]}{apart}  {cell['state']}")
    for group in difference["settings"]:
        lines.append(f"settings of {group['stage']} {group['name']}: {group['state']}")
        lines += _changes(group)
    for pair in difference["protocols"]:
        lines.append(f"protocol {pair['old'][:12]} -> {pair['new'][:12]}: not comparable: {', '.join(pair['cells'])}")
        lines += _changes(pair)
    lines.append(f"{len(difference['files'])} files have another recorded hash")
    for item in difference["files"][:most]:
        lines.append(f"  {item['path']}: {(item['old'] or 'none')[:12]} -> {(item['new'] or 'none')[:12]}")
    more = len(difference["files"]) - most
    lines += [f"  and {more} more (--json lists them)"] if more > 0 else []
    return "\n".join([*lines, *(f"note: {note}" for note in difference["notes"])])


def _changes(group: dict[str, Any]) -> list[str]:
    return [f"  {item['key']}: {item['old']!r} -> {item['new']!r}" for item in group["changes"]]
