"""Audit: a table cell traced from its number to the source of the images, every link looked at.

Works from whatever is there: files and records of the workspace, the archive, dvc.lock, the configuration. What could
not be looked at is said. No dvc, no network, no cache is needed.
"""

import functools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lct.files import advice, local_source
from lct.files.atomic import json_text, read_json
from lct.files.git import checkout_fault, run_git
from lct.files.hashing import sha256_file, sha256_text
from lct.files.records import (
    MISSING,
    SETTINGS_CHANGED,
    differences,
    disagreements,
    environment_lock,
    flatten,
    is_dropped,
    versions,
)
from lct.lineage import chain, dvc
from lct.lineage.chain import FAULTS, SMALL, Contents, Finding, worst
from lct.lineage.registry import Entry
from lct.plan.settings import Planned, of_file

DOWNLOADS = "download.json"  # a file of this name lists what was downloaded


@dataclass(frozen=True)
class Target:
    """A table cell: one metric of one row, measured on one image set or several."""

    id: str  # e.g. table1.a.lct-1.fd
    metric: str  # key under `values` in a metrics file
    title: str
    files: tuple[tuple[int, int, str], ...]  # (training seed, draw, metrics file)


@dataclass
class Auditor:
    """Everything an audit reads, each thing once."""

    root: Path
    archive: dict[str, Entry]
    lock: dvc.Lock | None
    planned: Planned  # what the configuration asks for now
    tables: tuple[str, ...] = ()  # tables files
    shown: dict[str, Mapping[str, list[float]]] = field(default_factory=dict)  # report file -> cell -> its values
    deep: bool = False

    def __post_init__(self):
        local_source.look_again()
        self.contents = Contents(self.root, self.deep, self.archive)
        self.records = chain.Records(self.root, self.archive)
        self.checks = functools.cache(self._checks_of)  # path -> what was looked at of a file, each with its state
        self.link = functools.cache(self._link)  # path -> the file of a chain, its records and the checks of it
        self._walk = functools.cache(functools.partial(chain.walk, self.records))
        self._metrics, self._stale = functools.cache(self._metrics), functools.cache(self._stale)
        self._settings, self._source = functools.cache(self._settings), functools.cache(self._source)
        self._cost, self._changed = functools.cache(self._cost), functools.cache(self._changed)  # of a row's four cells
        self._sources_since = functools.cache(self._sources_since)
        self._has_commit = functools.cache(functools.partial(has_commit, self.root))
        self._lock_sha256 = sha256_file(lock) if (lock := environment_lock(self.root)).exists() else None

    def audit(self, target: Target) -> dict[str, Any]:
        """All that is known of one cell, as JSON: its values, the links behind them, faults, what was not checked."""
        values = [self._value(target, seed, draw, path) for seed, draw, path in target.files]
        paths = tuple(dict.fromkeys(path for value in values for path in value["chain"]))
        links = {path: self.link(path) for path in paths}
        checks = [check for part in (*values, *links.values()) for check in part["checks"]]
        unique = list({(check["kind"], check["text"]): check for check in checks}.values())
        return {
            "id": target.id,
            "title": target.title,
            "metric": target.metric,
            "state": worst([check["state"] for check in checks]),
            "values": values,
            "links": links,
            "cost": self._cost(paths),
            "faults": [check for check in unique if check["state"] in FAULTS],
            "unchecked": [check for check in unique if check["state"] == "unchecked"],
            "changed": self._changed(paths),
            "checked": sum(check["state"] == "ok" for check in checks),
        }

    def _cost(self, paths: tuple[str, ...]) -> dict[str, Any]:
        return chain.cost([self.records.of(path) for path in paths])

    def _changed(self, paths: tuple[str, ...]) -> list[str]:
        """What is another one here than when the files of a chain were made, and no fault by itself: versions of
        packages, and source files since the revisions. Recipes and fingerprints say which code counts."""
        runs, here = [run for path in paths if (run := self.records.of(path).run)], versions()
        packages = {(name, old) for run in runs for name, old in (run.get("packages") or {}).items()}
        lines = [f"{name} {old} -> {here[name]}" for name, old in sorted(packages) if here.get(name, old) != old]
        revisions = {str(git["revision"]) for run in runs if (git := run.get("git")) and git.get("revision")}
        for revision in sorted(revisions):
            if files := self._sources_since(revision):
                lines.append(
                    f"{len(files)} files of lct/ since revision {revision[:12]} (git diff {revision[:12]} -- lct)"
                )
        return lines

    def _sources_since(self, revision: str) -> list[str]:
        """Files of lct/ that changed since a revision."""
        if not self._has_commit(revision):
            return []
        return run_git(self.root, "diff", "--name-only", revision, "--", "lct").stdout.splitlines()

    # --- the number ------------------------------------------------------------------------------------------------
    def _value(self, target: Target, seed: int, draw: int, path: str) -> dict[str, Any]:
        result: dict[str, Any] = {"seed": seed, "draw": draw, "metrics": path, "key": f"values.{target.metric}"}
        result |= {"value": None, "read_from": None, "protocol": None, "checks": [], "chain": []}
        record = self.records.of(path)
        if not record.where and not (self.root / path).exists():
            missing = "missing", f"{path}: not computed and not recorded; `snakemake {path}` makes it"
            return result | {"checks": _checks("value", [missing])}
        result["chain"] = self._walk(path)
        content, result["read_from"], fault = self._metrics(path, record)
        if content is None:
            return result | {"checks": _checks("value", [fault])}
        value = content["values"].get(target.metric)
        protocol = {"hash": content.get("protocol_hash"), "contents": content.get("protocol")}
        checks = _checks("protocol", [self._protocol(path, content)])
        checks += _checks("value", self._shown(target, seed, draw, path, value))
        return result | {"value": value, "protocol": protocol, "checks": checks}

    def _metrics(self, path: str, record: chain.Record) -> tuple[dict[str, Any] | None, str | None, Finding]:
        """Content of a metrics file and where it is: in the workspace, DVC's cache or the archive; or why it is not."""
        entry, remedy = self.archive.get(path), self.contents.remedy(path)
        file, name = self.root / path, "the workspace"
        if entry is not None and not file.exists():
            file, name = dvc.stored_object(self.contents.cache, str(entry.md5)), "DVC's cache"
        if file.exists():
            try:
                content = read_json(file, remedy)
                if not isinstance(content.get("values"), dict):
                    raise ValueError(f"{path}: expected a metrics file; {remedy}")
            except (ValueError, AttributeError) as error:
                return None, None, ("broken", str(error).replace(f"{self.root}/", ""))
            return content, name, ("ok", "")
        if entry is not None and entry.content is not None:
            digest = sha256_text(json_text(entry.content))
            if digest == entry.sha256:
                return entry.content, "the archive", ("ok", "")
            text = f"{path}: expected values of sha256 {entry.sha256[:12]} in the archive, found {digest[:12]}"
            return None, None, ("broken", f"{text}; git checkout brings the committed ones back")
        text = f"not in the workspace or DVC's cache (recorded: sha256 {(record.sha256 or '?')[:12]})"
        return None, None, ("unchecked", f"{path}: the number itself: {text}")

    def _protocol(self, path: str, content: dict[str, Any]) -> Finding:
        text = json.dumps(content.get("protocol"), sort_keys=True, separators=(",", ":"))
        digest, stated = sha256_text(text), str(content.get("protocol_hash"))
        if digest == stated:
            return "ok", f"hash {stated[:12]} is that of the protocol's contents"
        what = f"expected protocol hash {digest[:12]}, the protocol's own, found {stated[:12]}"
        return "broken", f"{path}: {what}; {self.contents.remedy(path)}"

    def _shown(self, target: Target, seed: int, draw: int, path: str, value: Any) -> Iterator[Finding]:
        """The number again in every table file and rendered report."""
        printed: dict[str, list[Any]] = {}
        for name, cells in self._cells.items():
            if target.id in cells:
                values = cells[target.id]["values"]
                same = [v.get("value") for v in values if (v.get("seed"), v.get("draw", 0)) == (seed, draw)]
                printed[name] = [other for other in same if not equal(other, value)] or same
        printed |= {name: cells[target.id] for name, cells in self.shown.items() if target.id in cells}
        for name, values in printed.items():
            if any(equal(other, value) for other in values):
                yield "ok", f"{name} shows the same value"
            elif values or name in self.shown:
                text = f"expected {value!r}, as in {path}, found {', '.join(map(repr, values)) or 'none'}"
                yield "broken", f"{name}: {target.id}: {text}; `{advice.force(name)}` makes it again"
            else:
                text = f"no value of seed {seed}, draw {draw}; `snakemake {name}` collects it anew"
                yield "stale", f"{name}: {target.id}: {text}"

    @functools.cached_property
    def _cells(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Tables file -> cell id -> cell."""
        return {name: _cells(read_json(self.root / name)) for name in self.tables}

    # --- the links -------------------------------------------------------------------------------------------------
    def _checks_of(self, path: str) -> list[dict[str, str]]:
        record, entry = self.records.of(path), self.archive.get(path)
        checks = _checks("file", [self._file(record, entry)])
        checks += _checks("records", [("broken", text) for text in record.damage])
        looks = {"records": self._archived, "manifest": self._manifest, "input": self._inputs}
        looks |= {"settings": self._settings, "source": self._source, "git": self._git}
        checks += [check for kind, look in looks.items() if record.where for check in _checks(kind, look(record))]
        return checks + _checks("dvc", self._dvc(path, entry))

    def _link(self, path: str) -> dict[str, Any]:
        record, checks = self.records.of(path), self.checks(path)
        settings = record.settings or {}
        return {
            "path": path,
            "stage": record.stage,
            "where": record.where,
            "bytes": record.bytes,
            "sha256": record.sha256 or self.contents.sha256(path),
            "settings": settings.get("settings"),
            "seeds": settings.get("seeds") or {},
            "inputs": [{"role": role, "path": other, "sha256": sha} for role, other, sha in record.inputs],
            "origins": chain.origins(record, self._downloads(path)),
            "run": run_facts(record.run, self._lock_sha256),
            "state": worst([check["state"] for check in checks]),
            "checks": checks,
        }

    def _downloads(self, path: str) -> Any:
        full = self.root / path
        if not path.endswith(DOWNLOADS) or not full.exists() or full.stat().st_size > SMALL:
            return None
        try:
            return read_json(full)
        except ValueError:  # the hash says that it is damaged
            return None

    def _file(self, record: chain.Record, entry: Entry | None) -> Finding:
        path, md5 = record.path, entry.md5 if entry else None
        size, sha256 = record.bytes, record.sha256
        if record.damage and entry is not None:  # its own record is gone, the archive's is not
            size, sha256 = entry.bytes, entry.sha256
        state, text = self.contents.check(path, size, sha256, md5)
        if state != "unchecked" or is_dropped(self.root / path):
            if record.where:
                return state, text
            if path.startswith("results/"):
                what = "no records beside it and none in the archive; `snakemake --force` its rule"
                return "missing", f"{path}: {what}"
            if state == "ok" and (sha256 := self.contents.sha256(path, given=True)) is not None:
                text = f"{(self.root / path).stat().st_size} bytes, sha256 {sha256[:12]}"
            return state, f"a file from outside the graph: {text}"
        if entry is not None:
            what = f"{entry.bytes} bytes, sha256 {entry.sha256[:12]}"
            return "unchecked", f"{path}: not in the workspace, recorded in the archive ({what})"
        if record.holder != path and record.where == "archive":
            return "unchecked", f"{path}: not in the workspace, recorded with {record.holder}"
        return "missing", f"{path}: expected a file, found none and no record of it; `snakemake {path}`"

    def _archived(self, record: chain.Record) -> list[Finding]:
        """The records beside a file against those in the archive."""
        entry, held = self.archive.get(record.path), self.archive.get(record.holder)
        if record.where == "archive" or not self.archive:
            return []
        keep = advice.record(record.path)
        if held is None:
            return [("unchecked", f"{record.path}: not in the archive yet: `{keep}`")]
        faults = []
        for name, content, recorded in (("settings", record.settings, held.settings), ("run", record.run, held.run)):
            if content is not None and content != recorded:
                keys = ", ".join(key for key, *_ in differing(recorded or {}, content))
                what = f"expected what the archive holds, found other values of {keys}"
                faults.append(f"{record.holder}.{name}.json: {what}")
        if entry is not None and record.sha256 not in (None, entry.sha256):
            what = f"expected sha256 {entry.sha256[:12]}, the archive's, found {record.sha256[:12]} recorded"
            faults.append(f"{record.path}: {what}")
        newer = f"it was made again or edited since: `{keep}` if that is the version to keep, else `lct restore`"
        agreed = "ok", "both JSON records are those of the archive"
        return [("broken", f"{fault}; {newer}") for fault in faults] or [agreed]

    def _manifest(self, record: chain.Record) -> Iterator[Finding]:
        """A manifest against the image set that it stands for."""
        if record.holder == record.path:
            return
        full, held = self.root / record.path, self.records.of(record.holder)
        state, text = self.contents.check(record.holder, held.bytes, held.sha256)
        yield state, f"{record.holder}: {text}" if state == "ok" else text
        if not full.exists():
            return
        remedy = self.contents.remedy(record.path)
        try:
            content = read_json(full, remedy)
            stated = (content["bytes"], content["sha256"])
        except (ValueError, KeyError, TypeError) as error:
            text = f"{record.path}: expected a manifest with `bytes` and `sha256`, found damage ({error})"
            yield "broken", f"{text}; {remedy}"
            return
        if held.sha256 is not None and stated != (held.bytes, held.sha256):
            text = f"{record.path}: expected the {held.bytes} bytes and sha256 {held.sha256[:12]} of {record.holder}"
            yield "broken", f"{text}, found {stated[0]} and {str(stated[1])[:12]}; {remedy}"

    def _inputs(self, record: chain.Record) -> Iterator[Finding]:
        """What a job says it read against what the makers of those files say they wrote."""
        for role, path, read in record.inputs:
            source = self.records.of(path)
            wrote, by = source.sha256, "its record says"
            if wrote is None:
                wrote, by = self.contents.sha256(path, given=not source.where), "it holds"
            text = f"{record.path}: input {role} = {path}: read with sha256 {str(read)[:12]}"
            if wrote is None:
                yield "unchecked", f"{text}, nothing to compare it with"
            elif read != wrote:
                text += f", {by} {wrote[:12]}; {record.path} was made from another version"
                yield "broken", f"{text}: `snakemake {record.path}` makes it anew"
            else:
                yield "ok", f"{role} was read as {path} was written"

    def _settings(self, record: chain.Record) -> list[Finding]:
        """A record against today's configuration and inputs; `disagreements` decides, as it does for Snakemake."""
        configured = of_file(self.planned, record.stage, record.holder)
        recorded = (record.settings or {}).get("settings")
        if recorded is None:
            return []
        if configured is None:
            text = f"{record.path}: settings: the configuration has no such job now, nothing to compare with"
            return [("unchecked", text)]
        again, ignored = f"`{advice.make(record.path)}`", (SETTINGS_CHANGED, self._source_change(record))
        reasons = disagreements([record.holder], configured, self.root)
        stale = [f"{reason}; {again}" for reason in reasons if reason not in ignored]
        if changed := differing(recorded, json.loads(json.dumps(configured))):
            listed = "; ".join(f"{key}: recorded {_short(a)}, configured {_short(b)}" for key, a, b in changed[:6])
            more = f" and {len(changed) - 6} more" if len(changed) > 6 else ""
            stale.append(f"{listed}{more}; {again}, or put the setting back")
        agreed = "ok", "settings are those of the configuration"
        return [("stale", f"{record.path}: stale: {text}") for text in stale] or [agreed]

    def _source_change(self, record: chain.Record) -> str | None:
        recorded, settings = (record.settings or {}).get("source"), (record.settings or {}).get("settings") or {}
        folder = (self.root / record.holder).parent
        return local_source.change(settings, recorded, folder, self.root, self.deep) if recorded else None

    def _source(self, record: chain.Record) -> list[Finding]:
        """A local source against what was read from it: sizes and times, and with `deep` its content."""
        settings = (record.settings or {}).get("settings") or {}
        source = local_source.of_settings(settings) if record.holder == record.path else {}
        if not local_source.is_local(source):
            return []
        path = source["path"]
        if "source" not in record.settings:
            text = f"{record.path}: the record lacks a hash of its source {path}, so nothing says whether that changed"
            return [("unchecked", text)]
        if (change := self._source_change(record)) is not None:
            return [("stale", f"{record.path}: stale: {change}; `{advice.make(record.path)}`, or put the files back")]
        if not local_source.is_here(path, self.root):
            return [("unchecked", f"{record.path}: its source {path} is not on this machine")]
        how = "content" if self.deep else "sizes and times; --deep reads the content"
        return [("ok", f"the source {path} is what was read ({how})")]

    def outdated(self, path: str) -> list[str]:
        """Why a file, or a file that it was made from, is not what today's configuration, inputs and sources make; []
        where it is. Reads records, and hashes nothing that is large."""
        return list(dict.fromkeys(text for name in self._walk(path) for text in self._stale(name)))

    def _stale(self, path: str) -> list[str]:
        record = self.records.of(path)
        texts = [text for state, text in self._settings(record) + self._source(record) if state == "stale"]
        if record.settings is None and path.startswith("results/") and (self.root / path).exists():
            if record.where != "archive":  # whose outputs without records are those that no job reads
                texts.append(f"{path}: no record says how it was made; `{advice.make(path)}`")
        return texts

    def _git(self, record: chain.Record) -> list[Finding]:
        """The revision that made a file."""
        if record.run is None:
            return []
        git = record.run.get("git")
        if not git:
            return [("unchecked", f"{record.path}: code: no git revision recorded, it was not made in a git checkout")]
        revision, is_here = str(git.get("revision"))[:12], self._has_commit(str(git.get("revision")))
        if git.get("dirty"):
            named = f" (diff {git['diff_sha256'][:12]})" if git.get("diff_sha256") else ""
            text = f"{record.path}: made by uncommitted code on top of {revision}{named}; commit it, then make the "
            return [("dirty", f"{text}file again: `snakemake --force {record.path}`")]
        if is_here is None:
            return [("unchecked", f"code: revision {revision}: {checkout_fault(self.root)}")]
        if not is_here:
            text = f"code: revision {revision} is not in this clone; `git fetch --all` may bring it"
            return [("unchecked", text)]
        return [("ok", f"made by revision {revision}, committed")]

    def _dvc(self, path: str, entry: Entry | None) -> list[Finding]:
        """The stage of dvc.lock that makes a file against the archive: what it wrote, read and was set to."""
        stage = self.lock.maker(path) if self.lock else []
        if not stage:
            return []
        repair = f"`git checkout dvc.lock`, or `{advice.record(path)}`"
        if entry is None:
            return [("broken", f"dvc.lock: {path}: in it, but not in the archive; {repair}")]
        faults = []
        for stored in stage:
            recorded = self.archive.get(stored.path)
            if recorded is not None and recorded.md5 is not None and stored.md5 != recorded.md5:
                what = f"expected md5 {recorded.md5[:12]}, the archive's, found {stored.md5[:12]}"
                faults.append(f"{stored.role}: {stored.path}: {what}")
        for name, values in self.lock.params(stage[0].stage).items():
            maker = self.archive.get(name.removesuffix(".settings.json"))
            if maker is not None and (changed := differing(maker.settings or {}, values)):
                keys = ", ".join(key for key, *_ in changed[:6])
                what = f"expected the archive's settings, found other values of {keys}"
                faults.append(f"params of {maker.path}: {what}")
        agreed = "ok", "dvc.lock and the archive agree"
        return [("broken", f"dvc.lock: stage {stage[0].stage}, {fault}; {repair}") for fault in faults] or [agreed]


def _checks(kind: str, findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Findings as JSON; kind: what was looked at, such as "file", "input" or "git"."""
    return [{"kind": kind, "state": state, "text": text} for state, text in findings]


def run_facts(run: dict[str, Any] | None, lock_sha256: str | None) -> dict[str, Any] | None:
    """What a run record says of when, where and by what, the SLURM jobs and the cost of all its attempts, and whether
    this checkout's packages are the same."""
    if run is None:
        return None
    keys = ("started", "finished", "seconds", "cpu_seconds", "peak_memory_bytes", "device", "host", "machine", "python")
    facts = {key: run.get(key) for key in (*keys, "packages", "environment_lock_sha256", "git", "slurm", "command")}
    spent, last = run.get("cost") or {}, (run.get("slurm") or {}).get("SLURM_JOB_ID")
    facts |= {"slurm_jobs": spent.get("jobs") or [last] * (last is not None), "attempts": spent.get("attempts", 1)}
    facts |= {"seconds": spent.get("seconds", run.get("seconds")), "gpu_seconds": spent.get("gpu_seconds")}
    recorded = run.get("environment_lock_sha256")
    return facts | {"same_environment_lock": None if None in (recorded, lock_sha256) else recorded == lock_sha256}


def has_commit(root: Path, revision: str) -> bool | None:
    """Whether a commit is in this clone; None outside a git checkout."""
    if not (revision.isalnum() and revision.isascii()):
        return False
    if checkout_fault(root):
        return None
    return run_git(root, "cat-file", "-e", f"{revision}^{{commit}}").returncode == 0


def differing(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """(dotted key, old, new) of every value that differs; "absent" where one side has no such key."""
    if old == new:
        return []
    pairs = sorted(differences(flatten(old), flatten(new)).items())
    return [(key, *("absent" if value is MISSING else value for value in pair)) for key, pair in pairs]


def equal(a: Any, b: Any) -> bool:
    """Whether two spellings of a metric value are the same number; NaN equals NaN, and none equals NaN."""
    try:
        x, y = (float("nan") if value is None else float(value) for value in (a, b))
    except (TypeError, ValueError):
        return False
    return x == y or (math.isnan(x) and math.isnan(y))


def _cells(tables: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Cell id -> cell of a tables.json."""
    return {
        cell["id"]: cell
        for table in tables.get("tables", ())
        for subtable in table.get("subtables", ())
        for row in (*subtable.get("rows", ()), *subtable.get("floors", ()))
        for cell in (row.get("cells") or {}).values()
    }


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if value != "absent" else "absent"
    return text if len(text) <= 60 else text[:57] + "..."
