"""The top of the first page: the result in one sentence, a small table, a strip of samples, and what it rests on.

Everything is read from the cells of the first table and from the audits; nothing is measured here.
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lct.claims.judge import Body, judge_part
from lct.config.claims import Comparison
from lct.config.model import REHEARSAL
from lct.report.text import number
from lct.report.view import CellView, Report, RowView, SubtableView

METHODS = ("lct", "ilct")  # the paper's method, and the one that it improves
Pair = tuple[SubtableView, RowView, RowView]  # with a measured row of each method


@dataclass(frozen=True)
class Bar:
    """A measured value among those of its dataset, as shares of the largest."""

    cell: CellView
    row: RowView
    mean: float
    low: float
    high: float


def headline(shown: Report, measured: Body) -> dict[str, Any]:
    """The headline of the first table. measured: what all trainings that are here say about its rows.

    Keys: sentence; seeds, what several trainings of each say, with intervals, empty without two seeds; subtables, the
    columns; lines, (method and evaluations, a Bar or None for each column); shows, the one whose images are shown."""
    subtables = [subtable for subtable in shown.tables[0].subtables if subtable.title]
    rows = list(dict.fromkeys(row.name for subtable in subtables for row in subtable.ours if row.measured))
    columns = [_bars(subtable) for subtable in subtables]
    shows = sorted((s for s in subtables if s.strip), key=lambda s: not any(row.measured for row in s.ours))
    pairs = [(subtable, *(_measured(shown, subtable, method) for method in METHODS)) for subtable in subtables]
    both = [pair for pair in pairs if None not in pair]
    return {
        "sentence": sentence(shown, both),
        "seeds": seeds_sentence(shown, both, measured),
        "subtables": subtables,
        "lines": [(name, [bars.get(name) for bars in columns]) for name in rows],
        "shows": shows[0] if shows else None,
    }


def _bars(subtable: SubtableView) -> dict[str, Bar]:
    """The first metric of every measured row, by its name."""
    cells = {row.name: (row, row.cells[0]) for row in subtable.ours if row.cells[0].data}
    values = {name: [value.value for value in cell.data.values] for name, (_, cell) in cells.items()}
    finite = {name: of for name, of in values.items() if all(math.isfinite(value) for value in of)}
    most = max((max(of) for of in finite.values()), default=0.0) or 1.0
    shares = {name: (cells[name][1].data.shown / most, min(of) / most, max(of) / most) for name, of in finite.items()}
    return {name: Bar(cell, row, *shares.get(name, (0.0, 0.0, 0.0))) for name, (row, cell) in cells.items()}


def sentence(shown: Report, both: Sequence[Pair]) -> str:
    """The result of the first table in numbers, whatever part of it is measured."""
    table, metric = shown.tables[0], shown.data.metrics[0]
    rows = [row for subtable in table.subtables for row in subtable.ours]
    measured = sum(row.measured for row in rows)
    title = table.title.split(".")[0]
    if not measured:
        return f"Nothing is measured yet: 0 of the {len(rows)} rows of {title} have run."
    if shown.data.watermark == REHEARSAL:
        return f"A rehearsal: {measured} of the {len(rows)} rows of {title} have run. What they took: rehearsal.html."
    if not both:
        counted = f"{measured} of the {len(rows)} rows of {title} are measured"
        return f"{counted}; LCT and iLCT in one evaluation are not both among them yet, so nothing is compared."
    values = [(ours.cells[0].data.shown, theirs.cells[0].data.shown) for _, ours, theirs in both]
    printed = [(ours.data.published, theirs.data.published) for _, ours, theirs in both]
    fids = [(ours.fid, theirs.fid) for ours, theirs in printed if ours and theirs and ours.fid and theirs.fid]
    better = operator.lt if metric.better == "lower" else operator.gt
    of = f"{sum(better(*pair) for pair in values)} of {len(both)} dataset{'s' if len(both) > 1 else ''}"
    paper = f"; by FID in the paper on {sum(map(operator.lt, *zip(*fids, strict=True)))} of {len(fids)}" if fids else ""
    whole = "" if measured == len(rows) else f" {measured} of {len(rows)} rows of {title} are measured so far."
    if partial := sum(row.data.status == "partial" for row in rows):
        whole += f" {partial} of them lack{'s' if partial == 1 else ''} a training seed so far."
    named = [f"{number(value)} on {subtable.short}" for (value, _), (subtable, *_) in zip(values, both, strict=True)]
    ours, theirs = f"{metric.label} {_listed(named)}", _listed([number(value) for _, value in values])
    reached = f"LCT reaches {ours} ({metric.better} is better), where iLCT reaches {theirs}"
    return f"In one network evaluation {reached}: LCT is ahead on {of}{paper}.{whole}"


def seeds_sentence(shown: Report, both: Sequence[Pair], measured: Body) -> str:
    """LCT against iLCT in one evaluation over all seeds that are measured, by the rules of the claims."""
    pairs = [(of, Comparison(better=ours.place, worse=theirs.place)) for of, ours, theirs in both]
    parts = [(of.short, judge_part(pair, measured)) for of, pair in pairs]
    judged = [(of, part) for of, part in parts if part.low is not None and min(part.n) > 1]
    if not judged:
        return ""
    counts = sorted({n for _, part in judged for n in part.n})
    ratios = [f"{p.estimate:.2f} on {of} (95 % interval {p.low:.2f} to {p.high:.2f})" for of, p in judged]
    verdicts = {part.verdict: [of for of, other in judged if other.verdict == part.verdict] for _, part in judged}
    outcome = " and ".join(f"{verdict} on {_listed(of)}" for verdict, of in verdicts.items())
    seeds = " to ".join(map(str, (counts[0], counts[-1])[: len(counts)]))
    ratio = f"LCT's {shown.data.metrics[0].label} divided by iLCT's is {_listed(ratios)}"
    return f"Over {seeds} training seeds of each method, {ratio}. The claim that LCT is ahead is {outcome}."


def _measured(shown: Report, subtable: SubtableView, method: str) -> RowView | None:
    """The row of a method in one evaluation; None unless its first metric is measured and finite."""
    for row in subtable.ours:
        run, cell = shown.data.runs.get(row.data.run or ""), row.cells[0]
        if run and run.method == method and row.data.nfe == 1 and cell.data and math.isfinite(cell.data.shown):
            return row
    return None


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def trust(audits: dict[str, Any]) -> dict[str, Any] | None:
    """What the audits of a report's cells say of all of them together; None before the first number.

    Keys: newest, the day of the newest number; commits of the code that measured, newest first; machines; cost; files
    behind the numbers, each checked; faults; unchecked."""
    links = {path: link for cell in audits["cells"] for path, link in cell["links"].items()}
    metrics = {value["metrics"] for cell in audits["cells"] for value in cell["values"]}
    runs = [link["run"] for path, link in links.items() if path in metrics and link["run"]]
    if not runs:
        return None
    runs.sort(key=lambda run: str(run["finished"]), reverse=True)
    commits = [(run.get("git") or {}).get("revision") or "" for run in runs]
    cost, states = audits["cost"], [link["state"] for link in links.values()]
    hours = f"{cost['seconds'] / 3600:.2g} h of jobs"
    machines = [f"{run['host']} ({run['machine']}, {run['device']})" for run in runs]
    return {
        "newest": str(runs[0]["finished"])[:10],
        "commits": list(dict.fromkeys(commit[:12] for commit in commits if commit)),
        "machines": list(dict.fromkeys(machines)),
        "cost": f"{cost['gpu_seconds'] / 3600:.3g} GPU h" if cost["gpu_seconds"] else hours,
        "files": len(states),
        "faults": sum(state not in ("ok", "unchecked") for state in states),
        "unchecked": states.count("unchecked"),
    }
