"""Recomputing what is stored: the recorded command of a job run again, with its outputs in a temporary folder.

Nothing of the project is written. The same device kind, host and versions must give the same bytes. Elsewhere a
tolerance holds, because sums are taken in another order there: float32 activations move by about 1e-6 relative.
"""

import argparse
import dataclasses
import json
import math
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lct.checks import require
from lct.files.atomic import read_json
from lct.files.hashing import sha256_file
from lct.files.records import outputs_below, run_path
from lct.jobs import job
from lct.lineage import cells
from lct.lineage.audit import Auditor, equal
from lct.lineage.chain import MANIFEST, Record, Records
from lct.plan.plan import Plan
from lct.plan.selection import add_selection, overrides

JOBS = ("score", "reference", "sample")  # jobs that may be run again; a training is not among them
RELATIVE = 1e-4  # of a metric's value; another CPU instruction set moves it by 1e-7 (measured), a GPU by more
FLIPS = 2  # images that may change sides in precision and recall (values in [0, 1]), each worth 1 / number of images
GREY = 0.5  # mean absolute difference of recomputed images [grey levels of 256]
FAR, FAR_SHARE = 2, 0.01  # share of values that may differ by more than so many grey levels


@dataclass(frozen=True)
class Outcome:
    """One output, stored and recomputed."""

    path: str
    state: str  # "equal", "within", "differs"
    text: str
    stored: dict[str, Any] | None = None  # values, for a metrics file
    recomputed: dict[str, Any] | None = None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_selection(parser)
    parser.add_argument("--source", choices=("samples", "weights"), default="samples", help="what is recomputed from")
    parser.add_argument("cells", nargs="+", metavar="CELL", help="ids of cells")
    arguments = parser.parse_args()
    cells_of = (Path.cwd(), overrides(arguments), arguments.cells, arguments.source)
    return job.run(lambda: print(json.dumps([*map(dataclasses.asdict, recompute(*cells_of))])))


def recompute(root: Path, config: dict[str, Any], names: list[str], source: str) -> list[Outcome]:
    """Recompute what cells rest on: from "samples" their metrics files, from "weights" their samples. Cells that share
    a job share the work.

    Raises ValueError when inputs are missing or not those that the stored result was made from, or the job fails."""
    plan = Plan(root, config)
    auditor, targets = cells.auditor(plan, root), cells.targets(plan)
    jobs: dict[str, Record] = {}  # command -> an output
    for path in dict.fromkeys(path for name in names for *_, path in targets[name].files):
        record = auditor.records.of(path)
        if source == "weights":
            record = _samples(auditor.records, record)
        command = (record.run or {}).get("command")
        require(command, record.path, "a run record with its command", "none", "`lct restore`")
        jobs.setdefault(json.dumps(command), record)
    return [outcome for command, record in jobs.items() for outcome in _job(auditor, record, json.loads(command))]


def _samples(records: Records, metrics: Record) -> Record:
    for role, path, _ in metrics.inputs:
        if role == "samples":
            return records.of(records.of(path).holder)
    raise ValueError(f"{metrics.path}: expected a metrics file made from samples, found inputs {metrics.inputs}")


def _job(auditor: Auditor, record: Record, command: list[str]) -> list[Outcome]:
    """Run one recorded job again and compare each of its outputs."""
    name = Path(command[0]).stem
    require(name in JOBS, record.path, f"a job of {list(JOBS)}", f"{name!r}", "only these are recomputed")
    paths = {*auditor.archive, *outputs_below(auditor.root, "results")}
    records = {path: auditor.records.of(path) for path in sorted(paths) if not path.endswith(MANIFEST)}
    outputs = {path: of for path, of in records.items() if (of.run or {}).get("command") == command}
    inputs = {path: sha256 for output in outputs.values() for _, path, sha256 in output.inputs}
    _check_inputs(auditor, record, inputs)
    with tempfile.TemporaryDirectory(prefix="lct-recompute-") as folder:
        words = _redirected(command[1:], list(outputs), list(inputs), folder)
        again = [sys.executable, "-m", f"lct.jobs.{name}", *words]
        done = subprocess.run(again, cwd=auditor.root, capture_output=True, text=True, check=False)
        lines = (done.stdout.strip() or done.stderr.strip()).splitlines() or ["no message"]
        text = f"exit code {done.returncode}: {lines[-1]}"
        require(done.returncode == 0, record.path, "its job to run again", text, "correct what it says")
        return [_compare(auditor, output, Path(folder) / path) for path, output in outputs.items()]


def _check_inputs(auditor: Auditor, record: Record, inputs: dict[str, str | None]) -> None:
    for path, sha256 in inputs.items():
        is_here = (auditor.root / path).exists()
        require(is_here, record.path, f"its input {path}", "none in the workspace", "`lct restore` brings it back")
        digest, expected = auditor.contents.hashes(auditor.root / path)[0], f"sha256 {str(sha256)[:12]}"
        what = f"{expected}, which {record.path} was made from"
        require(digest == sha256, path, what, digest[:12], auditor.contents.remedy(path))


def _redirected(words: list[str], outputs: list[str], inputs: list[str], folder: str) -> list[str]:
    """A job's arguments with every output, or folder of outputs, moved into `folder`."""

    def within(word: str, paths: list[str]) -> bool:
        return any(path == word or path.startswith(f"{word.rstrip('/')}/") for path in paths)

    moved = [str(Path(folder) / word) if within(word, outputs) and not within(word, inputs) else word for word in words]
    if moved == words:
        raise ValueError(f"expected the names of {outputs} among the recorded arguments, found none of them")
    return moved


def _compare(auditor: Auditor, stored: Record, remade: Path) -> Outcome:
    path, before = stored.path, auditor.root / stored.path
    if not remade.exists():
        return Outcome(path, "differs", f"{path}: expected the job to write it again, found nothing")
    sha256 = sha256_file(remade)
    if sha256 == stored.sha256:
        return Outcome(path, "equal", f"{path}: the same bytes, sha256 {sha256[:12]}", *_values(remade, remade))
    if not before.exists() or sha256_file(before) != stored.sha256:
        text = f"expected sha256 {str(stored.sha256)[:12]}, found {sha256[:12]}; the stored file is not here to compare"
        return Outcome(path, "differs", f"{path}: {text}")
    within, text = True, "other bytes; what rests on it is compared by its values"
    if before.suffix == ".json":
        within, text = _metrics_difference(read_json(before), read_json(remade))
    elif before.suffix == ".zip":
        within, text = _image_difference(before, remade)
    if why := elsewhere(stored.run or {}, read_json(run_path(remade))):
        verdict = f"{'allowed' if within else 'too much'}: {why}"
    else:
        within, verdict = False, "expected none: the same device kind, host and versions give the same bytes"
    state = "within" if within else "differs"
    return Outcome(path, state, f"{path}: {text}; {verdict}", *_values(before, remade))


def _values(*metrics: Path) -> list[dict[str, Any] | None]:
    return [read_json(path).get("values") if path.suffix == ".json" else None for path in metrics]


def elsewhere(stored: dict[str, Any], rerun: dict[str, Any]) -> str | None:
    """Why bytes may differ between two run records; None where they may not."""
    pairs = [("device", stored.get("device"), rerun.get("device")), ("host", stored.get("host"), rerun.get("host"))]
    pairs.append(("machine", str(stored.get("machine")).partition(",")[0], platform.machine()))
    before, now = stored.get("packages") or {}, rerun.get("packages") or {}
    pairs += [(name, before.get(name), now.get(name)) for name in sorted(before.keys() | now.keys())]
    changed = [f"{name} {old} then, {new} now" for name, old, new in pairs if old != new]
    return ", ".join(changed) or None


def _metrics_difference(before: dict[str, Any], remade: dict[str, Any]) -> tuple[bool, str]:
    """Whether two versions agree within the tolerance, and how far they are apart."""
    allowance = FLIPS / max(int(before.get("num_images") or 1), 1)
    old, new = before.get("values") or {}, remade.get("values") or {}
    wrong, largest = [], 0.0
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if equal(a, b):
            continue
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in (a, b)):
            wrong.append(f"{key} {a!r} then, {b!r} now")
            continue
        largest = max(largest, abs(a - b) / max(abs(a), abs(b)))
        if abs(a - b) > RELATIVE * max(abs(a), abs(b)) + (allowance if 0 <= min(a, b) and max(a, b) <= 1 else 0):
            wrong.append(f"{key} {a!r} then, {b!r} now")
    limit = f"tolerance {RELATIVE:g} relative, and {allowance:g} for shares of images"
    return not wrong, f"largest relative difference {largest:.2g} ({limit}){': ' if wrong else ''}{'; '.join(wrong)}"


def _image_difference(before: Path, remade: Path) -> tuple[bool, str]:
    import numpy as np

    from lct.data.imageset import ImageSet

    with ImageSet(before) as old, ImageSet(remade) as new:
        if len(old) != len(new):
            return False, f"{len(old)} images then, {len(new)} now"
        total, far, values = 0, 0, 0
        for i in range(len(old)):
            apart = np.abs(old[i].astype(np.int16) - new[i].astype(np.int16))
            total, far, values = total + int(apart.sum()), far + int((apart > FAR).sum()), values + apart.size
    mean, share = total / values, far / values
    text = f"images differ by {mean:.2g} grey levels on average (tolerance {GREY:g}), {share:.2%} of the values by"
    return mean <= GREY and share <= FAR_SHARE, f"{text} more than {FAR} (tolerance {FAR_SHARE:.0%})"


if __name__ == "__main__":
    raise SystemExit(main())
