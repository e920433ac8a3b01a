"""Figures of the paper beside the box plots: robust losses, couplings, schedules of c, metrics by step, sample grids.

One style for all (lct.report.plotting): colours that differ in lightness, a dash pattern for each, the same
bytes for the same numbers. Nothing is computed here.
"""

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation
from PIL import Image

from lct.report.plotting import LINE, MARKERS, STYLES, box_plots, panels, round_ticks
from lct.report.tables import FigureResult, RunSummary, StageOfC, Tables
from lct.report.tables import by_step as rows_by_step
from lct.report.text import count, number

_METHODS = {"lct": "LCT", "ilct": "iLCT", "ldm": "LDM"}
_NAMES = {"l2": "squared", "pseudo-huber": "pseudo-Huber", "cauchy": "Cauchy", "geman-mcclure": "Geman-McClure"}


def _panels(columns: int, height: float = 3.6, legend: int = 0) -> tuple[Figure, list[Any]]:
    figure, ((*axes,),) = panels(1, columns, height, legend)
    for panel in axes:
        panel.grid()
    return figure, axes


def _legend_below(axes: Any) -> None:
    """The legend of a panel under it: inside, it covers the data."""
    under = axes.transAxes + ScaledTranslation(0, -0.42, axes.figure.dpi_scale_trans)
    narrow = len(axes.figure.axes) > 3
    style = {"borderpad": 0, "handlelength": 2.5 if narrow else 4, "fontsize": 6.5 if narrow else 9}
    axes.legend(loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=under, **style)


def _head(axes: Any, title: str, x: str) -> None:
    """The title says what is on the vertical axis: beside long ticks there is no place for it."""
    axes.set_title(title, loc="left")
    axes.set_xlabel(x)


def losses(numbers: dict[str, Any]) -> Figure:
    """Robust functions of the residual and their derivatives, each at the c of its run."""
    figure, (left, right) = _panels(2, legend=1)
    for i, curve in enumerate(numbers["curves"]):
        colour, dashes = STYLES[i % len(STYLES)]
        label = _NAMES.get(curve["name"], curve["name"])
        style = {"color": colour, "linestyle": dashes, "linewidth": 1.7, "label": label}
        left.plot(numbers["residual"], curve["value"], **style)
        right.plot(numbers["residual"], curve["slope"], **style)
    _head(left, "Loss, as a share of its value at 3 c", "residual in units of c")
    _head(right, "Derivative, as a share of its largest", "residual in units of c")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), handlelength=4)
    return figure


def couplings(numbers: dict[str, Any]) -> Figure:
    """Histograms of pair distances without and with transport, and what of the pairs follows the size of a group."""
    edges = numbers["histograms"]["edges"]
    lines = len(numbers["histograms"]["shares"])
    figure, (left, right) = _panels(2, 3.6 + LINE * lines, lines)
    histograms = sorted(numbers["histograms"]["shares"].items(), key=lambda item: int(item[0]))
    for i, (group, shares) in enumerate(histograms):
        colour, dashes = STYLES[i % len(STYLES)]
        label = "independent pairs" if group == "0" else f"coupled in groups of {group}"
        left.stairs(shares, edges, color=colour, linestyle=dashes, linewidth=1.7, label=label)
    _head(left, "Distances of latents and noise, share of pairs", "distance of a pair, in the mean of independent ones")
    sizes = [coupling["group"] for coupling in numbers["couplings"]]
    places = range(len(sizes))
    base = numbers["couplings"][0]
    for (key, label), (colour, dashes), marker in zip(_MEASURES.items(), STYLES, MARKERS, strict=False):
        values = [c[key] / base[key] if base[key] else math.nan for c in numbers["couplings"]]
        right.plot(places, values, color=colour, linestyle=dashes, marker=marker, markersize=4, label=label)
    right.xaxis.set_major_locator(FixedLocator(list(places)))
    right.set_xticklabels(["none" if size == 0 else str(size) for size in sizes])
    _head(right, "In units of independent pairs", "samples coupled together")
    for axes in (left, right):
        _legend_below(axes)
    return figure


_MEASURES = {"distance": "mean squared distance", "variance": "variance of x near a noisy sample"}


def schedules(data: FigureResult, tables: Tables) -> Figure:
    """c by intervals of each run that has a law of its own, and the residuals measured then; the authors' FID by epoch;
    ours by step where measured."""
    laws: dict[tuple[Any, ...], tuple[str, tuple[StageOfC, ...]]] = {}
    residuals: dict[tuple[Any, ...], tuple[str, list[tuple[float, float]]]] = {}  # of the first run that measured them
    for schedule in tables.schedules:
        if schedule.stages:
            key = tuple((stage.intervals, stage.c) for stage in schedule.stages)
            laws.setdefault(key, (schedule.run, schedule.stages))
            if points := [(stage.intervals, stage.residual) for stage in schedule.stages if stage.residual]:
                residuals.setdefault(key, (schedule.run, points))
    logged: dict[str, list[tuple[int, float]]] = {}
    for entry in data.logged:
        if entry.fid is not None:
            logged.setdefault(entry.label, []).append((entry.epoch, entry.fid))
    adaptive = next((stages for run, stages in laws.values() if _law(tables, run) == "adaptive"), ())
    points = {run: of for (run, *_), of in rows_by_step(row for *_, row in tables.rows).items()}
    ours = {run: of for run, of in points.items() if len(of) >= 2}  # by one sampler and EMA
    labels = {metric.id: metric.label for metric in tables.metrics}
    has_residuals = int(bool(residuals))
    lines = min(2 * len(STYLES), max(len(laws), len(residuals) + 1, len(logged), len(ours)))
    figure, (left, *axes) = _panels(2 + has_residuals + 2 * bool(ours), 3.6 + LINE * lines, lines)
    second, middle, more = axes[0], axes[has_residuals], axes[1 + has_residuals :]
    for i, (run, stages) in enumerate(list(laws.values())[: 2 * len(STYLES)]):
        _line(left, i, _law_name(tables, run, stages), [(stage.intervals, stage.c) for stage in stages])
    _logarithmic(left, "x", sorted({stage.intervals for _, stages in laws.values() for stage in stages}))
    round_ticks(left, left.get_lines())
    _head(left, f"c of the {tables.scale} scale's runs", "intervals s")
    if has_residuals:
        shown = [(_run_name(tables, run), points) for run, points in residuals.values()]
        _draw_residuals(second, shown[: 2 * len(STYLES)], adaptive)
    for i, (label, points) in enumerate(logged.items()):
        _line(middle, i, label, sorted(points))
    if logged:
        _logarithmic(middle, "y", [7, 10, 20, 40, 80])
    _head(middle, "FID by epoch, the authors' log", "epoch")
    for axes, metric in zip(more, ("fd", "recall"), strict=False):
        for i, (run, points) in enumerate(ours.items()):
            measured = [(step, values[metric]) for step, values in points if metric in values]
            _line(axes, i, _run_name(tables, run), measured)
        _head(axes, f"Ours: {labels[metric]} by step", "training step")
    for axes in figure.axes:
        if axes.get_legend_handles_labels()[0]:
            _legend_below(axes)
    return figure


def _draw_residuals(
    axes: Any, runs: list[tuple[str, list[tuple[float, float]]]], adaptive: tuple[StageOfC, ...]
) -> None:
    """RMS of the residual by intervals of each run, and the adaptive c behind its first stage, which has c0."""
    for i, (run, points) in enumerate(runs):
        _line(axes, i, f"{run}: {_power(points)}", points)
    if law := [(stage.intervals, stage.c) for stage in adaptive[1:]]:
        style = {"color": "#8c939b", "linewidth": 4, "alpha": 0.5}
        axes.plot(*zip(*law, strict=True), label=f"adaptive c: {_power(law)}", **style)
    _logarithmic(axes, "x", sorted({s for _, points in runs for s, _ in points}))
    round_ticks(axes, axes.get_lines())
    _head(axes, "RMS of the residual, measured", "intervals s")


def _run_name(tables: Tables, run: str) -> str:
    """Method and dataset of a run; its own name where several runs of the report share them."""
    summary = tables.runs.get(run)
    alike = [other for other in tables.runs.values() if summary and _what(other) == _what(summary)]
    return ", ".join(_what(summary)) if summary and len(alike) == 1 else run


def _what(summary: RunSummary) -> tuple[str, str]:
    return _METHODS.get(summary.method, summary.method), summary.dataset


def _law_name(tables: Tables, run: str, stages: Sequence[StageOfC]) -> str:
    """The law of c that a run follows, and its values."""
    first, last = (number(stage.c) for stage in (stages[0], stages[-1]))
    summary, law = tables.runs.get(run), _law(tables, run) or run
    values = f"c = {first}" if first == last else f"{first} to {last}"
    return f"{law}, {values}" + (f" ({_what(summary)[0]})" if summary else "")


def _law(tables: Tables, run: str) -> str | None:
    """The law that c of a run follows."""
    settings = tables.runs[run].settings if run in tables.runs else {}
    return settings.get("objective", {}).get("scale", {}).get("law")


def _power(points: list[tuple[float, float]]) -> str:
    """The power of s that points (s, y) follow best: least squares of ln y on ln s."""
    if len(points) < 2:
        return "one stage"
    return f"s^{np.polyfit(*np.log(np.array(points)).T, 1)[0]:.2f}"


def _line(axes: Any, place: int, label: str, points: list[tuple[float, float]]) -> None:
    """One series in the style of its place; values that are no numbers are left out."""
    colour, dashes = STYLES[place % len(STYLES)]
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    if finite:
        inside = colour if place < len(STYLES) else "white"  # where the styles begin again
        style = {"color": colour, "linestyle": dashes, "linewidth": 1.6, "markerfacecolor": inside}
        style |= {"marker": MARKERS[place % len(MARKERS)], "markersize": 4}
        axes.plot(*zip(*finite, strict=True), label=_plain(label), **style)


def _plain(name: str) -> str:
    return name.replace("$", r"\$")  # a bare $ would start a formula


def _logarithmic(axes: Any, which: str, ticks: list[float]) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def by_step(points: list[tuple[int, dict[str, float]]], labels: dict[str, str]) -> Figure:
    """Metrics of one run against the step at which its weights were kept. points: (step, metric -> value)."""
    figure, axes = _panels(len(labels), 3.0)
    for panel, (metric, label), (colour, dashes) in zip(axes, labels.items(), STYLES, strict=False):
        finite = [(step, values[metric]) for step, values in points if math.isfinite(values.get(metric, math.nan))]
        if finite:
            panel.plot(*zip(*finite, strict=True), color=colour, linestyle=dashes, marker="o", markersize=4)
        _head(panel, _plain(label), "training step")
    return figure


def grids(pictures: list[tuple[str, bytes]]) -> Figure:
    """Sample grids side by side, their pixels as they are."""
    shown = max(1, len(pictures))
    figure = Figure(figsize=(4.2 * shown, 4.5))
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=0.93, wspace=0.03)
    for axes, (title, content) in zip(figure.subplots(1, shown, squeeze=False)[0], pictures, strict=False):
        axes.set_axis_off()
        with Image.open(io.BytesIO(content)) as image:
            axes.imshow(image.convert("RGB"), interpolation="none")
        axes.set_title(_plain(title), fontsize=9, fontweight="normal")
    if not pictures:
        figure.axes[0].text(0.5, 0.5, "not run", ha="center", va="center", color="#57606a")
        figure.axes[0].set_axis_off()
    return figure


Summary = tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]]  # what was measured; columns and rows of a table
Columns = dict[str, Callable[[dict[str, Any]], str]]  # head -> text of an entry
_BOX: Columns = {
    "Values": lambda box: f"{box['panel']}: {' '.join(box['label'].split())}",
    "pooled": lambda box: count(box["count"]),
    "beyond inner fences": lambda box: f"{number(100 * box['beyond_inner'])} %",
    "beyond outer fences": lambda box: f"{number(100 * box['beyond_outer'])} %",
    "excess kurtosis": lambda box: number(box["excess_kurtosis"]),
    "largest, in SD": lambda box: number(box["max_abs"]),
}
_LOSS: Columns = {
    "Loss": lambda loss: _NAMES.get(loss["name"], loss["name"]),
    "c": lambda loss: number(loss["c"]),
    "residual of the largest derivative, in c": lambda loss: (
        "none: it only grows" if loss["peak"] is None else number(loss["peak"])
    ),
    "derivative at 10 c, share of the largest": lambda loss: number(loss["tail"]),
}
_COUPLING: Columns = {
    "Pairs": lambda pairs: pairs.get("name") or (f"groups of {pairs['group']}" if pairs["group"] else "independent"),
    "mean squared distance per element": lambda pairs: _measure(pairs, "distance"),
    "its SD over pairs": lambda pairs: _measure(pairs, "spread"),
    "mean cosine of latent and noise": lambda pairs: _measure(pairs, "cosine"),
    "variance of x near a noisy sample, per element": lambda pairs: _measure(pairs, "variance"),
}


def _measure(pairs: dict[str, Any], key: str) -> str:
    return number(pairs[key]) if key in pairs else "-"


def _summary(about: str, columns: Columns, entries: Sequence[dict[str, Any]]) -> Summary:
    return about, tuple(columns), tuple(tuple(text(entry) for text in columns.values()) for entry in entries)


def _box_summary(numbers: dict[str, Any]) -> Summary:
    about = f"{count(numbers.get('images'))} images; each network trained for {count(numbers['steps'])} steps"
    return _summary(about, _BOX, numbers["boxes"])


def _loss_summary(numbers: dict[str, Any]) -> Summary:
    about = f"c = {number(numbers['c'])}, the constant 0.00054 sqrt(d) of a latent space of d = {numbers['dimension']}"
    return _summary(about, _LOSS, numbers["curves"])


def _coupling_summary(numbers: dict[str, Any]) -> Summary:
    entries = list(numbers["couplings"])
    if random := numbers.get("random"):
        shape = " x ".join(map(str, random["shape"]))
        entries.append(random | {"name": f"random latents of {shape}, groups of {random['group']}"})
    about = f"{count(numbers['pairs'])} pairs each, of {count(numbers['images'])} training images"
    return _summary(f"{about}; noise level {number(numbers['sigma'])} in the last column", _COUPLING, entries)


DRAWERS: dict[str, Callable[[dict[str, Any]], Figure]] = {
    "box-plots": box_plots,
    "losses": losses,
    "couplings": couplings,
}
SUMMARIES = {"box-plots": _box_summary, "losses": _loss_summary, "couplings": _coupling_summary}
